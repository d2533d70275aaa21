//! PeerAuthentication (`ValidatePeerAuthentication`).

use super::report::Report;
use super::rule;
use crate::security::PeerAuthentication;

pub(super) fn validate(policy: &PeerAuthentication, report: &mut Report<'_>) {
    let labels = policy.selector.as_ref().map(|it| &it.match_labels);
    if let Some(labels) = labels {
        report.check("spec.selector.matchLabels", rule::selector(labels));
    }
    if policy.port_level_mtls.is_empty() {
        return;
    }
    if labels.is_none_or(|it| it.is_empty()) {
        report.error("spec.portLevelMtls", "mesh/namespace peer authentication cannot have port level mTLS");
    }
    for port in policy.port_level_mtls.keys() {
        let number = port.parse().map_err(|_| format!("{port:?} is no port number"));
        report.check(format!("spec.portLevelMtls.{port}"), number.and_then(rule::port));
    }
}

#[cfg(test)]
mod tests {
    use crate::{decode, yaml};

    fn problems(spec: &str) -> Vec<String> {
        let text = format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: a}}, spec: {spec}}}"
        );
        let decoded = decode::checked(yaml::value(&text).unwrap());
        decoded.iter().flat_map(|it| &it.problems).map(|it| format!("{}: {}", it.field, it.reason)).collect()
    }

    #[test]
    fn ports_need_a_selector_and_a_number() {
        assert_eq!(problems("{mtls: {mode: STRICT}}"), [""; 0]);
        assert_eq!(problems("{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: DISABLE}}}"), [""; 0]);
        let found = problems("{portLevelMtls: {8080: {mode: DISABLE}}}");
        assert!(found[0].contains("cannot have port level mTLS"), "{found:?}");
        for port in ["0", "65536", "http"] {
            let found =
                problems(&format!("{{selector: {{matchLabels: {{app: a}}}}, portLevelMtls: {{{port}: {{}}}}}}"));
            assert_eq!(found.len(), 1, "{port}: {found:?}");
            assert!(found[0].starts_with(&format!("spec.portLevelMtls.{port}: ")), "{found:?}");
        }
        let found = problems("{mtls: {mode: SOMETIMES}, mutual: {}}");
        assert!(found.iter().any(|it| it.starts_with("spec.mtls.mode: unknown value \"SOMETIMES\"")), "{found:?}");
    }
}
