//! Values: what wins, what is warned of, and that Istio's names are known.

use deploy::chart::Chart;
use deploy::manifest::{Request, Warning};
use deploy::value;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn request(files: &[&str], set: &[&str]) -> (deploy::manifest::Installation, Vec<String>) {
    let files = files.iter().enumerate().map(|(i, text)| (format!("{i}.yaml"), (*text).to_owned())).collect();
    let request = Request { files, set: set.iter().map(|&s| s.to_owned()).collect(), ..Request::default() };
    let (installation, warnings) = request.installation().expect("valid values");
    (installation, warnings.iter().map(Warning::to_string).collect())
}

#[test]
fn set_wins_over_files_later_files_over_earlier_ones_and_all_over_the_profile() {
    let (installation, warnings) = request(
        &["profile: demo\ntraceSampling: 50\nglobal: {hub: a, tag: x}", "values:\n  global: {hub: b}"],
        &["values.global.tag=y", "hub=c"],
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(installation.gateways, ["istio-ingressgateway", "istio-egressgateway"]);
    assert_eq!(installation.values["traceSampling"], 50);
    assert_eq!(installation.values["autoscaleEnabled"], false, "the profile's");
    assert_eq!(installation.values["global"]["hub"], "c");
    assert_eq!(installation.values["global"]["tag"], "y");
}

#[test]
fn an_istio_operator_is_taken_as_values() {
    let operator = "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: x}
spec:
  profile: minimal
  hub: h
  revision: canary
  namespace: mesh
  meshConfig: {accessLogFile: /dev/stdout}
  components:
    ingressGateways: [{name: mine, enabled: true}]
    cni: {enabled: true}
  values: {pilot: {env: {A: b}}}
";
    let (installation, warnings) = request(&[operator], &[]);
    assert_eq!((installation.namespace.as_str(), installation.revision.as_str()), ("mesh", "canary"));
    assert_eq!(installation.gateways, ["mine"]);
    assert_eq!(
        installation.values,
        json!({"pilot": {"env": {"A": "b"}}, "global": {"hub": "h"}, "meshConfig": {"accessLogFile": "/dev/stdout"}})
    );
    assert_eq!(warnings, ["components.cni has no effect: navarch installs base, the control plane and gateways"]);
}

#[test]
fn names_that_do_nothing_are_warned_of() {
    for (argument, expected) in [
        ("meshconfig.accessLogFile=x", "there is no value meshconfig, did you mean meshConfig?"),
        ("global.proxy.loglevel=x", "there is no value global.proxy.loglevel, did you mean global.proxy.logLevel?"),
        ("pilot.replicas=2", "there is no value pilot.replicas"),
        (
            "gateways.istio-ingressgateway.servise.type=x",
            "there is no value gateways.istio-ingressgateway.servise, did you mean gateways.istio-ingressgateway.service?",
        ),
        ("gateways.other.kind=x", "gateways.other: no such gateway is installed (profiles default and demo have some)"),
        ("taint.enabled=true", "taint has no effect: there is no node agent whose arrival nodes would wait for"),
    ] {
        assert_eq!(request(&[], &[argument]).1, [expected]);
    }
    for argument in [
        "meshConfig.anything.at.all=1",
        "env.X=1",
        "gateways.securityContext.runAsUser=1",
        "global.proxy.resources.limits.cpu=1",
    ] {
        assert_eq!(request(&[], &[argument]).1, [""; 0], "{argument}");
    }
}

#[test]
fn a_profile_that_does_not_exist_is_refused() {
    let request = Request { profile: Some("ambient".into()), ..Request::default() };
    let error = request.installation().expect_err("no such profile");
    assert_eq!(error.to_string(), "profile \"ambient\" does not exist; profiles: default, minimal, demo");
}

#[test]
fn every_value_of_istios_charts_is_known_or_said_to_have_no_effect() {
    for (chart, file) in [
        (Chart::Base, "base-values.yaml"),
        (Chart::Istiod, "istio-discovery-values.yaml"),
        (Chart::Gateway, "gateway-values.yaml"),
    ] {
        let Some(path) = compat(&format!("istio/charts/{file}")) else { return };
        let mut theirs = value::parse(file, &std::fs::read_to_string(path).expect("it can be read")).expect("YAML");
        let theirs = theirs["_internal_defaults_do_not_set"].take();
        let own = chart.defaults().expect("values");
        let warnings = match chart {
            Chart::Gateway => value::unknown(&theirs, &own, chart.open()).into_iter().map(Warning::Unknown).collect(),
            Chart::Base | Chart::Istiod => {
                let files = vec![(file.to_owned(), theirs.to_string())];
                Request { files, ..Request::default() }.installation().expect("valid values").1
            }
        };
        let unknown: Vec<_> = warnings.iter().filter(|warning| matches!(warning, Warning::Unknown(_))).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn the_charts_versions_are_the_programs() {
    for chart in [Chart::Base, Chart::Istiod, Chart::Gateway] {
        let text = chart.files().iter().find(|(path, _)| *path == "Chart.yaml").expect("a Chart.yaml").1;
        let description: Value = value::parse("Chart.yaml", text).expect("YAML");
        assert_eq!(description["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(description["appVersion"], env!("CARGO_PKG_VERSION"));
    }
    assert_eq!(Chart::Istiod.defaults().expect("values")["global"]["tag"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_file_of_a_chart_is_in_the_program() {
    for chart in [Chart::Base, Chart::Istiod, Chart::Gateway] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts").join(chart.name());
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path.strip_prefix(&root).expect("inside").display().to_string()),
                }
            }
        }
        files.sort();
        let mut embedded: Vec<_> = chart.files().iter().map(|(path, _)| (*path).to_owned()).collect();
        embedded.sort();
        assert_eq!(embedded, files, "{}", chart.name());
    }
}

/// A file of the compatibility data, where there is such a folder.
fn compat(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("NAVARCH_COMPAT_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let path = root.join(file);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}
