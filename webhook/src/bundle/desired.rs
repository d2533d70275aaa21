//! What a webhook configuration lacks.

use super::Names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(super) const FIELD_MANAGER: &str = "navarch-webhook";

/// Roots of others that stay in a bundle: those of a replica that is being replaced, and of the CA before this one.
/// More would be rubbish kept for ever.
const OTHER_ROOTS_MAX: usize = 2;

/// Certificates as PEM blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roots(Vec<String>);

impl Roots {
    pub(super) fn parse(pem: &str) -> Self {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let bodies = pem.split(BEGIN).skip(1).filter_map(|it| Some(it.split_once(END)?.0));
        let mut blocks: Vec<String> = vec![];
        for body in bodies {
            let lines: Vec<_> = body.split_whitespace().collect();
            let block = format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"));
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        Self(blocks)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bundle that holds all of these, if `there` does not: ours first, then what was there.
    fn missing_in(&self, there: &Self) -> Option<String> {
        // Compared without line breaks: those are the writer's taste.
        let body = |block: &String| block.split_whitespace().collect::<String>();
        let has = |roots: &Self, block: &String| roots.0.iter().any(|it| body(it) == body(block));
        if self.0.iter().all(|it| has(there, it)) {
            return None;
        }
        let others = there.0.iter().filter(|it| !has(self, it)).take(OTHER_ROOTS_MAX);
        Some(self.0.iter().chain(others).map(String::as_str).collect())
    }
}

/// What is known of a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// It refused the object that is always wrong.
    Refusal,
}

/// What to apply to a MutatingWebhookConfiguration; `None`: it is not ours, or lacks nothing.
pub(super) fn injector(configuration: &Value, names: &Names, roots: &Roots) -> Option<Value> {
    let name = configuration["metadata"]["name"].as_str()?;
    let ours = name.starts_with(&names.injection) || name.starts_with("istio-revision-tag-");
    (ours && is_of(configuration, names))
        .then(|| wanted(configuration, "MutatingWebhookConfiguration", roots, Seen::Nothing))?
}

/// What to apply to one of our ValidatingWebhookConfigurations.
pub(super) fn validator(configuration: &Value, roots: &Roots, seen: Seen) -> Option<Value> {
    wanted(configuration, "ValidatingWebhookConfiguration", roots, seen)
}

/// The object that shows whether a validator works; `None`: the configuration is not ours.
pub(super) struct Probe {
    pub(super) object: Value,
}

pub(super) fn probe(configuration: &Value, names: &Names) -> Option<Probe> {
    let name = configuration["metadata"]["name"].as_str().filter(|_| is_of(configuration, names))?;
    let default = name == "istiod-default-validator";
    if !default && name != names.validation {
        return None;
    }
    let mut object = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": "navarch-always-wrong",
            "namespace": names.namespace,
            "annotations": { "internal.istio.io/webhook-always-reject": "true" },
        },
        "spec": {},
    });
    // The default validator looks at objects without the label, a revision's at those with its own.
    if !default {
        object["metadata"]["labels"] = json!({ "istio.io/rev": names.revision() });
    }
    Some(Probe { object })
}

/// Whether objects pass when the validator does not answer.
pub(super) fn is_lenient(configuration: &Value) -> bool {
    webhooks(configuration).iter().any(|it| it["failurePolicy"] == "Ignore")
}

/// The API server's words for a webhook's no, as against one that it could not ask.
pub(super) fn is_refusal(message: &str) -> bool {
    message.contains("denied the request")
}

fn is_of(configuration: &Value, names: &Names) -> bool {
    configuration["metadata"]["labels"]["istio.io/rev"] == names.revision()
}

fn webhooks(configuration: &Value) -> &[Value] {
    configuration["webhooks"].as_array().map_or(&[], Vec::as_slice)
}

/// Server-side apply takes back what a later apply leaves out: so every webhook is named, with all that we own of it.
fn wanted(configuration: &Value, kind: &str, roots: &Roots, seen: Seen) -> Option<Value> {
    if roots.is_empty() {
        return None;
    }
    let mut lacks = false;
    let mut all = vec![];
    for webhook in webhooks(configuration) {
        let there = webhook["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        let pem = STANDARD.decode(there).ok().and_then(|it| String::from_utf8(it).ok()).unwrap_or_default();
        let bundle = match roots.missing_in(&Roots::parse(&pem)) {
            Some(bundle) => {
                lacks = true;
                STANDARD.encode(bundle)
            }
            None => there.to_owned(),
        };
        let mut want = json!({ "name": webhook["name"], "clientConfig": { "caBundle": bundle } });
        if kind == "ValidatingWebhookConfiguration" {
            let strict = webhook["failurePolicy"] == "Fail";
            lacks |= !strict && seen == Seen::Refusal;
            if strict || seen == Seen::Refusal {
                want["failurePolicy"] = "Fail".into();
            }
        }
        all.push(want);
    }
    let meta = &configuration["metadata"];
    lacks.then(|| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            // Who changed it since is not overwritten: the next round looks again.
            "metadata": { "name": meta["name"], "resourceVersion": meta["resourceVersion"] },
            "webhooks": all,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(body: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    fn names(revision: &str) -> Names {
        Names {
            injection: "istio-sidecar-injector".into(),
            validation: "istio-validator-istio-system".into(),
            revision: revision.into(),
            namespace: "istio-system".into(),
        }
    }

    fn configuration(name: &str, revision: &str, bundles: &[&str], policy: &str) -> Value {
        let webhooks: Vec<_> = bundles
            .iter()
            .enumerate()
            .map(|(i, it)| json!({"name": format!("w{i}"), "failurePolicy": policy, "clientConfig": {"caBundle": STANDARD.encode(it)}}))
            .collect();
        let labels = json!({ "istio.io/rev": revision });
        json!({"metadata": {"name": name, "resourceVersion": "7", "labels": labels}, "webhooks": webhooks})
    }

    fn bundle(applied: &Value, i: usize) -> String {
        let bundle = applied["webhooks"][i]["clientConfig"]["caBundle"].as_str().unwrap();
        String::from_utf8(STANDARD.decode(bundle).unwrap()).unwrap()
    }

    #[test]
    fn f38_a_bundle_is_written_only_where_our_root_is_missing() {
        let ours = Roots::parse(&pem("AAAA"));
        let name = "istio-sidecar-injector";
        let right =
            configuration(name, "default", &[&pem("AA\nAA"), &format!("{}{}", pem("BBBB"), pem("AAAA"))], "Fail");
        assert_eq!(injector(&right, &names(""), &ours), None, "both have it, however it is written");
        let empty = configuration(name, "default", &["", &pem("AAAA")], "Fail");
        let applied = injector(&empty, &names(""), &ours).unwrap();
        assert_eq!((bundle(&applied, 0), bundle(&applied, 1)), (pem("AAAA"), pem("AAAA")), "every webhook is named");
        assert_eq!(applied["metadata"], json!({"name": name, "resourceVersion": "7"}));
        assert_eq!(applied["webhooks"][0].as_object().unwrap().len(), 2, "S55: name and caBundle, nothing else");
        assert_eq!(injector(&empty, &names(""), &Roots::default()), None, "no roots, no opinion");
    }

    #[test]
    fn f38_roots_of_a_rotation_stay_together_and_old_ones_do_not_pile_up() {
        let ours = Roots::parse(&pem("NEW="));
        let there = [pem("OLD1"), pem("OLD2"), pem("OLD3")].concat();
        let applied =
            injector(&configuration("istio-sidecar-injector", "default", &[&there], "Fail"), &names(""), &ours)
                .unwrap();
        assert_eq!(bundle(&applied, 0), [pem("NEW="), pem("OLD1"), pem("OLD2")].concat());
        let other = Roots::parse(&pem("OLD1"));
        let again = configuration("istio-sidecar-injector", "default", &[&bundle(&applied, 0)], "Fail");
        assert_eq!(injector(&again, &names(""), &other), None, "two replicas with two roots do not fight");
    }

    #[test]
    fn s55_only_our_own_configurations_are_touched() {
        let ours = Roots::parse(&pem("AAAA"));
        let touched = |name: &str, revision: &str, own: &str| {
            injector(&configuration(name, revision, &[""], "Fail"), &names(own), &ours).is_some()
        };
        assert!(touched("istio-sidecar-injector", "default", ""));
        assert!(touched("istio-sidecar-injector-canary", "canary", "canary"));
        assert!(touched("istio-revision-tag-prod", "canary", "canary"));
        assert!(!touched("istio-sidecar-injector", "canary", ""), "another revision's");
        assert!(!touched("somebody-else", "default", ""));
        let validator = configuration("somebody-else", "default", &[""], "Ignore");
        assert!(probe(&validator, &names("")).is_none());
    }

    #[test]
    fn f37_the_validator_becomes_strict_after_it_refused_and_stays_so() {
        let ours = Roots::parse(&pem("AAAA"));
        let lenient = configuration("istio-validator-istio-system", "default", &[&pem("AAAA")], "Ignore");
        assert_eq!(validator(&lenient, &ours, Seen::Nothing), None);
        assert!(is_lenient(&lenient));
        let applied = validator(&lenient, &ours, Seen::Refusal).unwrap();
        assert_eq!(applied["webhooks"][0]["failurePolicy"], "Fail");
        let strict = configuration("istio-validator-istio-system", "default", &[&pem("BBBB")], "Fail");
        let applied = validator(&strict, &ours, Seen::Nothing).unwrap();
        assert_eq!(applied["webhooks"][0]["failurePolicy"], "Fail", "applying without it would take it back");
        let labels = |name: &str| {
            let it = configuration(name, "default", &[""], "Ignore");
            probe(&it, &names("")).unwrap().object["metadata"]["labels"].clone()
        };
        assert_eq!(labels("istio-validator-istio-system"), json!({"istio.io/rev": "default"}));
        assert_eq!(labels("istiod-default-validator"), Value::Null);
        assert!(is_refusal(
            "admission webhook \"rev.validation.istio.io\" denied the request: configuration is invalid"
        ));
        assert!(!is_refusal("failed calling webhook \"rev.validation.istio.io\": connection refused"));
    }
}
