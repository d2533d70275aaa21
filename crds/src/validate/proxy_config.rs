//! ProxyConfig (`ValidateProxyConfig`), and what no pod could have: the API server would refuse every pod it applies to.

use super::report::Report;
use super::rule;
use crate::networking::ProxyConfig;

pub(super) fn validate(config: &ProxyConfig, report: &mut Report<'_>) {
    if let Some(selector) = &config.selector {
        report.check("spec.selector.matchLabels", rule::selector(&selector.match_labels));
        if selector.match_labels.is_empty() {
            report.warning("spec.selector", "selects nothing: leave it out for the whole namespace");
        }
    }
    if config.concurrency.is_some_and(|it| it < 0) {
        report.error("spec.concurrency", "concurrency must be greater than or equal to 0");
    }
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric() || "_.-".contains(it));
    for name in config.environment_variables.keys().filter(|it| !is_name(it)) {
        report.error("spec.environmentVariables", format!("{name:?} is not the name of an environment variable"));
    }
    let is_tag = |text: &str| text.chars().all(|it| it.is_ascii_alphanumeric() || "_.-".contains(it));
    if let Some(image) = config.image.as_ref().filter(|it| !is_tag(&it.image_type)) {
        report.error("spec.image.imageType", format!("{:?} cannot end a tag", image.image_type));
    }
}

#[cfg(test)]
mod tests {
    use crate::{decode, yaml};

    fn problems(spec: &str) -> Vec<String> {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1beta1, kind: ProxyConfig, metadata: {{name: a}}, spec: {spec}}}"
        );
        let decoded = decode::checked(yaml::value(&text).unwrap());
        decoded.iter().flat_map(|it| &it.problems).map(|it| format!("{}: {}", it.field, it.reason)).collect()
    }

    #[test]
    fn what_no_pod_could_have_is_refused() {
        for (spec, expected) in [
            ("{}", None),
            ("{concurrency: 0, image: {imageType: distroless}, environmentVariables: {A_B: ''}}", None),
            ("{selector: {matchLabels: {app: a}}}", None),
            ("{selector: {}}", Some("spec.selector: selects nothing: leave it out for the whole namespace")),
            (
                "{selector: {matchLabels: {app: 'a*'}}}",
                Some("spec.selector.matchLabels: wildcard is not supported in selector: app=a*"),
            ),
            ("{concurrency: -1}", Some("spec.concurrency: concurrency must be greater than or equal to 0")),
            (
                "{environmentVariables: {A=B: c}}",
                Some("spec.environmentVariables: \"A=B\" is not the name of an environment variable"),
            ),
            ("{image: {imageType: 'a b'}}", Some("spec.image.imageType: \"a b\" cannot end a tag")),
            ("{imageType: debug}", Some("spec.imageType: unknown field, ignored")),
        ] {
            assert_eq!(problems(spec), Vec::from_iter(expected), "{spec}");
        }
    }
}
