//! EnvoyFilter (`ValidateEnvoyFilter`). Whether a patch's value is a message of Envoy's is found where it is compiled.

use super::report::Report;
use super::target;
use crate::networking::{ApplyTo, ConfigPatch, EnvoyFilter, Operation, PatchContext};

/// Istio's limit, beyond which a regex matches nothing.
const REGEX_MAX: usize = 1024;
const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

pub(super) fn validate(filter: &EnvoyFilter, report: &mut Report<'_>) {
    let labels = filter.workload_selector.as_ref().map(|it| &it.labels);
    target::validate(("workloadSelector.labels", labels), &filter.target_refs, report);
    for (i, patch) in filter.config_patches.iter().enumerate() {
        config_patch(patch, &format!("spec.configPatches[{i}]"), filter.priority, report);
    }
}

fn config_patch(config: &ConfigPatch, at: &str, priority: i32, report: &mut Report<'_>) {
    if config.apply_to == ApplyTo::Invalid {
        report.error(format!("{at}.applyTo"), "missing applyTo");
    }
    if config.apply_to == ApplyTo::Bootstrap {
        report.warning(format!("{at}.applyTo"), "BOOTSTRAP is not supported any more, by Istio neither");
    }
    if config.r#match.context == PatchContext::Waypoint {
        report.warning(format!("{at}.match.context"), "there are no waypoints, the patch has no effect");
    }
    if config.r#match.context != PatchContext::Waypoint && config.r#match.waypoint.is_some() {
        report.error(format!("{at}.match.waypoint"), "only for the context WAYPOINT");
    }
    matches(config, &format!("{at}.match"), report);
    let Some(patch) = &config.patch else {
        return report.error(format!("{at}.patch"), "missing patch");
    };
    if patch.operation == Operation::Invalid {
        report.error(format!("{at}.patch.operation"), "missing patch operation");
    } else if patch.operation != Operation::Remove && patch.value.is_none() {
        report.error(format!("{at}.patch.value"), "missing patch value for non-remove operation");
    }
    operation(config, patch.operation, at, priority, report);
}

/// Operations that Istio passes over in silence are said here (IST0151 to IST0155).
fn operation(config: &ConfigPatch, operation: Operation, at: &str, priority: i32, report: &mut Report<'_>) {
    use {ApplyTo as A, Operation as O};
    let to = config.apply_to;
    let at = format!("{at}.patch.operation");
    match operation {
        O::Replace
            if !matches!(to, A::HttpFilter | A::NetworkFilter | A::ListenerFilter | A::VirtualHost | A::Invalid) =>
        {
            report.warning(&at, "REPLACE is for filters and virtual hosts, it has no effect here");
        }
        O::Add if to == A::RouteConfiguration => {
            report.warning(&at, "ADD has no effect on ROUTE_CONFIGURATION");
        }
        O::Remove if matches!(to, A::RouteConfiguration | A::ExtensionConfig) => {
            report.warning(&at, "REMOVE has no effect here");
        }
        O::Merge | O::MergeAndReplaceList if to == A::ExtensionConfig => {
            report.warning(&at, "EXTENSION_CONFIG can be added only");
        }
        _ => {}
    }
    let is_relative = matches!(operation, O::InsertBefore | O::InsertAfter | O::Replace | O::Merge | O::Remove);
    let has_version = config.r#match.proxy.as_ref().is_some_and(|it| !it.proxy_version.is_empty());
    if is_relative && priority == 0 && has_version {
        report.warning(
            &at,
            "without a priority, a relative operation for some proxy versions may not be applied during an upgrade",
        );
    }
}

fn matches(config: &ConfigPatch, at: &str, report: &mut Report<'_>) {
    use ApplyTo as A;
    let matcher = &config.r#match;
    if let Some(version) = matcher.proxy.as_ref().map(|it| &it.proxy_version) {
        if version.len() > REGEX_MAX {
            let why = format!("proxyVersion match exceeds {REGEX_MAX} characters and will be ignored");
            report.warning(format!("{at}.proxy.proxyVersion"), why);
        } else {
            report.regex(format!("{at}.proxy.proxyVersion"), version);
        }
    }
    let others = [
        (matcher.listener.is_some(), "listener"),
        (matcher.route_configuration.is_some(), "routeConfiguration"),
        (matcher.cluster.is_some(), "cluster"),
    ];
    let class = match config.apply_to {
        A::Listener | A::FilterChain | A::NetworkFilter | A::HttpFilter | A::ListenerFilter => Some("listener"),
        A::RouteConfiguration | A::VirtualHost | A::HttpRoute => Some("routeConfiguration"),
        A::Cluster => Some("cluster"),
        A::Invalid | A::ExtensionConfig | A::Bootstrap => None,
    };
    for (_, other) in others.iter().filter(|(is_set, of)| *is_set && class.is_some_and(|it| it != *of)) {
        report.error(
            format!("{at}.{other}"),
            format!("{} objects are matched by {}", applied(config), class.unwrap_or_default()),
        );
    }
    if let Some(listener) = &matcher.listener {
        if !listener.port_name.is_empty() {
            report.warning(format!("{at}.listener.portName"), "is deprecated and has no effect");
        }
        listener_filter(config, at, report);
    }
}

fn applied(config: &ConfigPatch) -> &'static str {
    match config.apply_to {
        ApplyTo::Cluster => "cluster",
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => "http route class",
        _ => "listener class",
    }
}

fn listener_filter(config: &ConfigPatch, at: &str, report: &mut Report<'_>) {
    use ApplyTo as A;
    let chain = config.r#match.listener.as_ref().and_then(|it| it.filter_chain.as_ref());
    let Some(filter) = chain.and_then(|it| it.filter.as_ref()) else { return };
    let at = format!("{at}.listener.filterChain.filter");
    if matches!(config.apply_to, A::Listener | A::FilterChain | A::ListenerFilter) {
        report.warning(&at, "filter match has no effect here");
    }
    if filter.name.is_empty() {
        report.error(format!("{at}.name"), "filter match has no name to match on");
    }
    let Some(sub) = &filter.sub_filter else { return };
    let at = format!("{at}.subFilter");
    if config.apply_to != A::HttpFilter {
        report.error(&at, "subfilter match can be used with applyTo HTTP_FILTER only");
    } else if filter.name != HTTP_CONNECTION_MANAGER {
        report.error(&at, format!("subfilter match requires filter match with {HTTP_CONNECTION_MANAGER}"));
    }
    if sub.name.is_empty() {
        report.error(format!("{at}.name"), "subfilter match has no name to match on");
    }
}

#[cfg(test)]
mod tests {
    use crate::{decode, yaml};

    fn problems(spec: &str) -> Vec<String> {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {{name: a}}, spec: {spec}}}"
        );
        let decoded = decode::checked(yaml::value(&text).unwrap());
        decoded.iter().flat_map(|it| &it.problems).map(|it| format!("{}: {}", it.field, it.reason)).collect()
    }

    #[test]
    fn every_rule_of_istios_has_a_case() {
        let patch = |config: &str| format!("{{configPatches: [{{{config}}}]}}");
        let add = "patch: {operation: ADD, value: {name: a}}";
        let matching = |of: &str| patch(&format!("applyTo: HTTP_FILTER, match: {{{of}}}, {add}"));
        let filter = |of: &str| matching(&format!("listener: {{filterChain: {{filter: {{{of}}}}}}}"));
        let hcm = "name: envoy.filters.network.http_connection_manager";
        for (spec, expected) in [
            (patch(&format!("applyTo: CLUSTER, {add}")), ""),
            (filter(&format!("{hcm}, subFilter: {{name: envoy.filters.http.router}}")), ""),
            ("{workloadSelector: {labels: {app: a}}, targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]}".into(), "only one of"),
            ("{targetRefs: [{kind: Gateway}]}".into(), "name and kind"),
            ("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g, namespace: other}]}".into(), "same namespace"),
            (patch(add), "missing applyTo"),
            (patch("applyTo: CLUSTER"), "missing patch"),
            (patch("applyTo: CLUSTER, patch: {value: {}}"), "missing patch operation"),
            (patch("applyTo: CLUSTER, patch: {operation: MERGE}"), "missing patch value"),
            (patch("applyTo: CLUSTER, patch: {operation: CHANGE, value: {}}"), "unknown value \"CHANGE\""),
            (patch(&format!("applyTo: BOOTSTRAP, {add}")), "BOOTSTRAP"),
            (matching("context: WAYPOINT"), "no waypoints"),
            (matching("proxy: {proxyVersion: '('}"), "invalid regex"),
            (matching(&format!("proxy: {{proxyVersion: {}}}", "a".repeat(1025))), "exceeds 1024"),
            (matching("cluster: {name: a}"), "listener class objects are matched by listener"),
            (patch(&format!("applyTo: CLUSTER, match: {{listener: {{name: a}}}}, {add}")), "matched by cluster"),
            (patch(&format!("applyTo: VIRTUAL_HOST, match: {{cluster: {{name: a}}}}, {add}")), "matched by routeConf"),
            (matching("listener: {portName: a}"), "deprecated"),
            (filter("subFilter: {name: a}"), "no name to match on"),
            (filter("name: b, subFilter: {name: a}"), "requires filter match with"),
            (filter(&format!("{hcm}, subFilter: {{}}")), "subfilter match has no name"),
            (patch("applyTo: CLUSTER, patch: {operation: REPLACE, value: {}}"), "REPLACE is for filters"),
            (patch("applyTo: ROUTE_CONFIGURATION, patch: {operation: ADD, value: {}}"), "no effect on ROUTE_CONF"),
            (patch("applyTo: EXTENSION_CONFIG, patch: {operation: MERGE, value: {}}"), "can be added only"),
        ] {
            let found = problems(&spec);
            match expected {
                "" => assert_eq!(found, [""; 0], "{spec}"),
                expected => assert!(found.iter().any(|it| it.contains(expected)), "{spec}: {found:?}"),
            }
        }
    }
}
