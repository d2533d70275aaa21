//! WasmPlugin and TrafficExtension (`ValidateWasmPlugin`, `ValidateTrafficExtension`).

use super::report::Report;
use super::target;
use crate::extensions::{EnvValueSource, Lua, TrafficExtension, TrafficSelector, Wasm, WasmPlugin};
use std::collections::BTreeSet;

const SCHEMES: [&str; 4] = ["file", "http", "https", "oci"];
const SHA256_CHARACTERS: usize = 64;
const SECRET_NAME_MAX: usize = 253;
const NAME_MAX: usize = 256;
const ENV_MAX: usize = 256;
const ENV_VALUE_MAX: usize = 2048;
const LUA_BYTES_MAX: usize = 64 * 1024;

pub(super) fn wasm_plugin(plugin: &WasmPlugin, report: &mut Report<'_>) {
    if plugin.target_ref.is_some() {
        report.warning("spec.targetRef", "is deprecated, use targetRefs");
    }
    let extension = plugin.extension();
    common(&extension, report);
    if let Some(it) = &extension.wasm {
        wasm(it, "spec", report);
    }
}

pub(super) fn traffic_extension(extension: &TrafficExtension, report: &mut Report<'_>) {
    common(extension, report);
    match (&extension.wasm, &extension.lua) {
        (Some(it), None) => wasm(it, "spec.wasm", report),
        (None, Some(it)) => lua(it, report),
        _ => report.error("spec", "exactly one of wasm or lua must be set"),
    }
}

fn common(extension: &TrafficExtension, report: &mut Report<'_>) {
    let labels = extension.selector.as_ref().map(|it| &it.match_labels);
    target::validate(("selector.matchLabels", labels), &extension.target_refs, report);
    for (i, TrafficSelector { ports, .. }) in extension.r#match.iter().enumerate() {
        for (j, port) in ports.iter().enumerate().filter(|(_, it)| !(1..=65535).contains(&it.number)) {
            let at = format!("spec.match[{i}].ports[{j}].number");
            report.error(at, format!("{} is out of range: 1 to 65535", port.number));
        }
    }
}

fn lua(Lua { inline_code: code }: &Lua, report: &mut Report<'_>) {
    match code.len() {
        0 => report.error("spec.lua.inlineCode", "must be set"),
        1..=LUA_BYTES_MAX => {}
        _ => report.error("spec.lua.inlineCode", "exceeds the maximum of 64KB"),
    }
}

fn wasm(wasm: &Wasm, at: &str, report: &mut Report<'_>) {
    report.check(format!("{at}.url"), url(&wasm.url));
    report.check(format!("{at}.sha256"), sha256(&wasm.sha256));
    if wasm.image_pull_secret.len() > SECRET_NAME_MAX {
        report.error(format!("{at}.imagePullSecret"), format!("must have at most {SECRET_NAME_MAX} characters"));
    }
    if wasm.plugin_name.len() > NAME_MAX {
        report.error(format!("{at}.pluginName"), format!("must have at most {NAME_MAX} characters"));
    }
    if !wasm.verification_key.is_empty() {
        report.warning(format!("{at}.verificationKey"), "has no effect, in Istio neither");
    }
    let (at, env) = (format!("{at}.vmConfig.env"), &wasm.vm_config.env);
    if env.len() > ENV_MAX {
        report.error(&at, format!("at most {ENV_MAX} are allowed"));
    }
    let mut names = BTreeSet::new();
    for (i, variable) in env.iter().enumerate() {
        let at = format!("{at}[{i}]");
        match variable.name.len() {
            0 => report.error(format!("{at}.name"), "must be set"),
            1..=NAME_MAX if names.insert(&variable.name) => {}
            1..=NAME_MAX => report.error(format!("{at}.name"), format!("{:?} is there twice", variable.name)),
            _ => report.error(format!("{at}.name"), format!("must have at most {NAME_MAX} characters")),
        }
        if variable.value_from == EnvValueSource::Host && !variable.value.is_empty() {
            report.error(format!("{at}.value"), "value may only be set when valueFrom is INLINE");
        }
        if variable.value.len() > ENV_VALUE_MAX {
            report.error(format!("{at}.value"), format!("must have at most {ENV_VALUE_MAX} characters"));
        }
    }
}

/// Without a scheme it names an image.
fn url(url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Err("url field needs to be set".into());
    }
    if let Some(wrong) = url.chars().find(|it| it.is_whitespace() || it.is_control()) {
        return Err(format!("failed to parse url: invalid character {wrong:?}"));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("oci", url));
    if !SCHEMES.contains(&scheme) {
        return Err(format!("url contains unsupported scheme: {scheme}"));
    }
    match (scheme, rest.split('/').next().unwrap_or_default(), rest) {
        ("file", _, path) if !path.starts_with('/') => Err("a file:// url needs an absolute path".into()),
        ("http" | "https" | "oci", "", _) => Err("failed to parse url: no host".into()),
        _ => Ok(()),
    }
}

fn sha256(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    if text.len() != SHA256_CHARACTERS {
        return Err(format!("must be {SHA256_CHARACTERS} characters long"));
    }
    match text.bytes().all(|it| matches!(it, b'a'..=b'f' | b'0'..=b'9')) {
        true => Ok(()),
        false => Err("must match [a-f0-9]{64} pattern".into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Reason, decode, yaml};

    fn problems(kind: &str, spec: &str) -> Vec<String> {
        let text =
            format!("{{apiVersion: extensions.istio.io/v1alpha1, kind: {kind}, metadata: {{name: a}}, spec: {spec}}}");
        let decoded = decode::checked(yaml::value(&text).unwrap());
        let all = decoded.iter().flat_map(|it| &it.problems).filter(|it| it.reason != Reason::NotTranslated);
        all.map(|it| format!("{}: {}", it.field, it.reason)).collect()
    }

    fn check(kind: &str, cases: &[(String, &str)]) {
        for (spec, expected) in cases {
            let found = problems(kind, spec);
            match *expected {
                "" => assert_eq!(found, [""; 0], "{spec}"),
                expected => assert!(found.iter().any(|it| it.contains(expected)), "{spec}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_both_kinds_share() {
        let with = |more: &str| format!("{{lua: {{inlineCode: a}}, {more}}}");
        let target = "{group: gateway.networking.k8s.io, kind: Gateway, name: g}";
        check(
            "TrafficExtension",
            &[
                (with("phase: AUTHN, priority: -1, selector: {matchLabels: {app: a}}"), ""),
                (with(&format!("targetRefs: [{target}], match: [{{mode: CLIENT, ports: [{{number: 80}}]}}]")), ""),
                (with(&format!("targetRefs: [{target}], selector: {{}}")), "only one of targetRefs or selector"),
                (with("selector: {matchLabels: {app: '*'}}"), "wildcard"),
                (with("targetRefs: [{kind: Gateway}]"), "name and kind"),
                (with("targetRefs: [{kind: Service, name: g}]"), "no waypoints"),
                (with("targetRefs: [{kind: Gateway, name: g, namespace: other}]"), "same namespace"),
                (with(&format!("targetRefs: [{}]", vec![target; 17].join(", "))), "at most 16"),
                (with("match: [{ports: [{number: 0}]}]"), "spec.match[0].ports[0].number: 0 is out of range"),
                (with("match: [{}, {ports: [{number: 1}, {number: 65536}]}]"), "spec.match[1].ports[1].number"),
                (with("match: [{mode: NOBODY}]"), "unknown value \"NOBODY\""),
                (with("phase: FIRST"), "unknown value \"FIRST\""),
                ("{}".into(), "exactly one of"),
                (with("wasm: {url: a}"), "exactly one of"),
                ("{lua: {}}".into(), "spec.lua.inlineCode: must be set"),
                (format!("{{lua: {{inlineCode: {}}}}}", "a".repeat(65 * 1024)), "exceeds the maximum of 64KB"),
                ("{wasm: {}}".into(), "spec.wasm.url: url field needs to be set"),
            ],
        );
    }

    #[test]
    fn modules() {
        let with = |more: &str| format!("{{url: 'file:///a.wasm', {more}}}");
        let url = |url: &str| format!("{{url: '{url}'}}");
        let env = |env: &str| with(&format!("vmConfig: {{env: [{env}]}}"));
        check(
            "WasmPlugin",
            &[
                (with("pluginName: a, phase: UNSPECIFIED_PHASE, type: NETWORK, failStrategy: FAIL_OPEN"), ""),
                (env("{name: A, value: b}, {name: B, valueFrom: HOST}"), ""),
                (with(&format!("sha256: '{}'", "0a".repeat(32))), ""),
                ("{}".into(), "url field needs to be set"),
                (url("ftp://a/b"), "unsupported scheme: ftp"),
                (url("https:///b"), "failed to parse url"),
                (url("https://a /b"), "invalid character ' '"),
                (url("file://a.wasm"), "absolute path"),
                (with("sha256: abc"), "64 characters"),
                (with(&format!("sha256: {}", "G".repeat(64))), "[a-f0-9]{64}"),
                (with(&format!("imagePullSecret: {}", "a".repeat(254))), "at most 253"),
                (with(&format!("pluginName: {}", "a".repeat(257))), "at most 256"),
                (with("verificationKey: a"), "has no effect"),
                (with("targetRef: {kind: Gateway, name: g}"), "deprecated"),
                (with("imagePullPolicy: Sometimes"), "unknown value"),
                (env("{value: b}"), "spec.vmConfig.env[0].name: must be set"),
                (env("{name: A}, {name: A}"), "\"A\" is there twice"),
                (env("{name: A, valueFrom: HOST, value: b}"), "value may only be set when valueFrom is INLINE"),
                (env(&format!("{{name: {}}}", "a".repeat(257))), "at most 256 characters"),
                (env(&format!("{{name: a, value: {}}}", "a".repeat(2049))), "at most 2048"),
                (env(&(0..257).map(|i| format!("{{name: a{i}}}")).collect::<Vec<_>>().join(", ")), "at most 256 are"),
            ],
        );
    }
}
