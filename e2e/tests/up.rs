//! `navarch up` as a process, with real Envoys: Bookinfo through the ingress gateway, edits under load, broken and
//! vanished input, and the end, which leaves nothing behind.
// Helpers of tests are tests: clippy does not see that outside of functions marked so.
#![allow(clippy::unwrap_used)]

use e2e::navarch::{Answer, LIMIT, Navarch, get};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const ROUTING: &str = "reviews-routing.yaml";

/// So many answers of one kind in a row mean that all proxies have changed.
const STREAK: usize = 20;

fn bookinfo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo")
}

fn up() -> Navarch {
    let mut navarch = Navarch::up(&bookinfo()).unwrap();
    navarch.ready().unwrap();
    navarch
}

/// Ends it, and expects that it was well until then: no Envoy has refused anything.
fn end(navarch: &mut Navarch) {
    let status = navarch.terminate().unwrap();
    assert!(status.success(), "{status}: {}", navarch.stderr());
    assert_eq!(navarch.nacks, Vec::<Value>::new());
}

/// Which pod's reviews a product page shows.
fn reviewer(answer: &Answer) -> Option<&str> {
    let (_, rest) = answer.body.split_once("data-reviews=\"")?;
    rest.split('"').next().filter(|_| answer.status == 200)
}

/// The example's routing with other weights for v1 and v2.
fn weights(routing: &str, v1: u32, v2: u32) -> String {
    let mut left = [v1, v2].into_iter();
    let line = |line: &str| match line.split_once("weight: ") {
        Some((indent, _)) => format!("{indent}weight: {}\n", left.next().unwrap_or_default()),
        None => format!("{line}\n"),
    };
    routing.lines().map(line).collect()
}

/// Asks for product pages until as many in a row as say enough come from one version of reviews.
fn wait_for_reviews(navarch: &Navarch, version: &str) {
    let limit = Instant::now() + LIMIT;
    let mut streak = 0;
    while streak < STREAK {
        assert!(Instant::now() < limit, "{version} does not answer alone within {LIMIT:?}");
        let answer = navarch.get("/productpage").unwrap();
        let reviewer = reviewer(&answer).unwrap_or_else(|| panic!("no reviews: {answer:?}"));
        streak = if reviewer.starts_with(version) { streak + 1 } else { 0 };
    }
}

#[test]
fn bookinfo_answers_and_an_edit_moves_traffic_without_a_failed_request() {
    let mut navarch = up();
    wait_for_reviews(&navarch, "reviews-v1");
    let (ingress, done) = (navarch.ingress, AtomicBool::new(false));
    let load = || {
        let mut asked = 0;
        let mut failed = vec![];
        while !done.load(Ordering::Relaxed) {
            asked += 1;
            match get(ingress, "/productpage") {
                Ok(answer) if reviewer(&answer).is_some() => {}
                other => failed.push(format!("{other:?}")),
            }
        }
        (asked, failed)
    };
    let routing = navarch.read(ROUTING).unwrap();
    let results: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
        let workers = [scope.spawn(load), scope.spawn(load)];
        let edits = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            navarch.save(ROUTING, &weights(&routing, 0, 100)).unwrap();
            wait_for_reviews(&navarch, "reviews-v2");
            navarch.save(ROUTING, &weights(&routing, 100, 0)).unwrap();
            wait_for_reviews(&navarch, "reviews-v1");
        }));
        done.store(true, Ordering::Relaxed);
        let results = workers.into_iter().map(|it| it.join().unwrap()).collect();
        edits.map(|()| results).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    for (asked, failed) in results {
        assert!(asked > STREAK, "only {asked} requests");
        assert!(failed.is_empty(), "{} of {asked} failed: {:?}", failed.len(), failed.first());
    }
    end(&mut navarch);
}

#[test]
fn a_broken_document_is_reported_with_its_line_and_changes_nothing() {
    let mut navarch = up();
    let routing = navarch.read(ROUTING).unwrap();
    navarch.save(ROUTING, &weights(&routing, 0, 0)).unwrap();
    let is_it = |line: &Value| in_file(line, ROUTING).is_some();
    let reported = navarch.next("a problem", is_it).unwrap();
    let problem = in_file(&reported, ROUTING).unwrap();
    assert_eq!(problem["severity"], "error", "{problem}");
    assert_eq!(problem["object"], "VirtualService default/reviews", "{problem}");
    let line = routing.lines().position(|line| line.contains("http:")).unwrap() as u64;
    assert!(problem["line"].as_u64().unwrap() > line, "{problem}");
    wait_for_reviews(&navarch, "reviews-v1");

    // The rest of the folder goes on: another file's edit is in force, and this one's when it is mended.
    navarch.save(ROUTING, &weights(&routing, 0, 100)).unwrap();
    navarch.next("no problem", |line| line["event"] == "problems" && in_file(line, ROUTING).is_none()).unwrap();
    wait_for_reviews(&navarch, "reviews-v2");
    end(&mut navarch);
}

/// The problem that a line reports of a file, if it does.
fn in_file<'a>(line: &'a Value, name: &str) -> Option<&'a Value> {
    let problems = line["problems"].as_array().into_iter().flatten();
    problems.into_iter().find(|problem| problem["file"].as_str().is_some_and(|file| file.ends_with(name)))
}

#[test]
fn a_folder_that_vanishes_leaves_everything_in_force() {
    let mut navarch = up();
    std::fs::remove_dir_all(&navarch.folder).unwrap();
    let stays = |problem: &Value| problem["reason"].as_str().is_some_and(|reason| reason.contains("stay"));
    navarch.next("a problem", |line| line["problems"].as_array().is_some_and(|all| all.iter().any(stays))).unwrap();
    wait_for_reviews(&navarch, "reviews-v1");
    end(&mut navarch);
}

/// The folder's own program serves behind its sidecar, and what it calls through its sidecar is ruled by the folder.
#[test]
fn a_program_of_the_users_own_serves_and_calls_through_its_sidecar() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/up/own-program");
    let mut navarch = Navarch::up(&folder).unwrap();
    navarch.ready().unwrap();
    let answer = navarch.get("/hello").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    for part in ["\"pod\":\"echo-0\"", "\"path\":\"/rewritten\"", "\"x-through\":\"the-sidecar\""] {
        assert!(answer.body.contains(part), "no {part} in {answer:?}");
    }
    end(&mut navarch);
    assert_eq!(navarch.processes(), Vec::<String>::new());
}

/// A rule of the ingress is another team's, who change it by themselves; and a host that nobody has listed is found by
/// its name where the mesh says so.
#[test]
fn a_delegate_is_in_force_and_unknown_hosts_are_resolved_by_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/up/delegate");
    let mut navarch = Navarch::up(&folder).unwrap();
    navarch.ready().unwrap();
    let answer = navarch.get("/").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.starts_with("elsewhere is some.host.localhost:"), "{answer:?}");

    let shows = |path: &str, part: &str| {
        let answer = navarch.get(path).unwrap();
        answer.status == 200 && answer.body.contains(part)
    };
    assert!(shows("/team/one", "\"path\":\"/first\"") && shows("/team/one", "\"x-from\":\"root\""));
    assert!(shows("/team/two", "elsewhere is"), "what the delegate does not match goes to the next rule");
    let team = navarch.read("team.yaml").unwrap();
    navarch.save("team.yaml", &team.replace("/first", "/second")).unwrap();
    let limit = Instant::now() + LIMIT;
    while !shows("/team/one", "\"path\":\"/second\"") {
        assert!(Instant::now() < limit, "the delegate's edit is not in force within {LIMIT:?}");
    }
    end(&mut navarch);
}

#[test]
fn sigterm_leaves_no_process_and_no_file_behind() {
    let mut navarch = up();
    assert!(navarch.processes().len() > 6, "one Envoy for each workload: {:?}", navarch.processes());
    end(&mut navarch);
    assert_eq!(navarch.processes(), Vec::<String>::new());
    assert_eq!(navarch.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_folder_without_objects_is_refused_with_its_name() {
    let empty = tempfile::tempdir().unwrap();
    let mut navarch = Navarch::up(empty.path()).unwrap();
    assert!(!navarch.end().unwrap().success());
    let said = navarch.stderr();
    assert!(said.contains(&*navarch.folder.to_string_lossy()) && said.contains("no .yaml"), "{said}");
    assert_eq!(navarch.files(), Vec::<PathBuf>::new());
}

/// EnvoyFilters of one file, as a list of `configPatches`.
fn envoy_filter(patches: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: lua, namespace: istio-system}}\nspec:\n  workloadSelector: {{labels: {{istio: ingressgateway}}}}\n  configPatches:\n{patches}"
    )
}

/// Where the gateway's HTTP filters are.
const GATEWAY_FILTERS: &str = "  - applyTo: HTTP_FILTER
    match:
      context: GATEWAY
      listener:
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter: {name: envoy.filters.http.router}
";

/// Answers one path by itself.
fn lua(path: &str, status: u16) -> String {
    let code = format!(
        "function envoy_on_request(handle) if handle:headers():get(':path') == '{path}' then handle:respond({{[':status'] = '{status}'}}, 'by lua') end end"
    );
    format!(
        "{{'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, default_source_code: {{inline_string: \"{code}\"}}}}"
    )
}

fn wait_for_status(navarch: &Navarch, path: &str, status: u16) {
    let limit = Instant::now() + LIMIT;
    loop {
        let answer = navarch.get(path).unwrap();
        if answer.status == status {
            return;
        }
        assert!(Instant::now() < limit, "{path}: {answer:?}, not {status}");
    }
}

fn script(name: &str, code: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {{name: {name}, namespace: istio-system}}\nspec:\n  selector: {{matchLabels: {{istio: ingressgateway}}}}\n  lua: {{inlineCode: \"{code}\"}}\n"
    )
}

/// Envoy refuses the script alone: the one before stays, and others of its listener go on, and change.
#[test]
fn a_script_that_does_not_load_is_refused_alone() {
    let mut navarch = up();
    let answers = |status: u16| {
        format!(
            "function envoy_on_request(it) if it:headers():get(':path') == '/by-script' then it:respond({{[':status'] = '{status}'}}, '') end end"
        )
    };
    let another = |status: u16| answers(status).replace("/by-script", "/by-another");
    navarch.save("script.yaml", &script("script", &answers(418))).unwrap();
    navarch.save("another.yaml", &script("another", &another(419))).unwrap();
    wait_for_status(&navarch, "/by-script", 418);
    wait_for_status(&navarch, "/by-another", 419);

    navarch.save("script.yaml", &script("script", "no script at all")).unwrap();
    let nack = navarch.next("a refusal", |line| line["event"] == "nack").unwrap();
    assert_eq!(nack["type"], "ecds", "{nack}");
    assert_eq!(navarch.get("/by-script").unwrap().status, 418);
    // Other scripts change, though the listener does not.
    navarch.save("another.yaml", &script("another", &another(420))).unwrap();
    wait_for_status(&navarch, "/by-another", 420);
    assert_eq!(navarch.get("/by-script").unwrap().status, 418);
    wait_for_reviews(&navarch, "reviews-v1");

    navarch.save("script.yaml", &script("script", &answers(420))).unwrap();
    wait_for_status(&navarch, "/by-script", 420);
    assert!(navarch.nacks.iter().all(|it| it["type"] == "ecds"), "{:?}", navarch.nacks);
    navarch.nacks.clear();
    end(&mut navarch);
}

/// A filter with its configuration in place, and one that takes it by ECDS. What Envoy would refuse beside them is
/// left out and reported, and they stay.
#[test]
fn envoy_filters_change_a_gateway_and_a_wrong_one_changes_nothing() {
    let mut navarch = up();
    wait_for_status(&navarch, "/by-filter", 404);
    let inline = format!(
        "{GATEWAY_FILTERS}    patch: {{operation: INSERT_BEFORE, value: {{name: inline.lua, typed_config: {}}}}}\n",
        lua("/by-filter", 418)
    );
    let discovered = format!(
        "{GATEWAY_FILTERS}    patch:
      operation: INSERT_BEFORE
      value:
        name: discovered.lua
        config_discovery:
          config_source: {{ads: {{}}, resource_api_version: V3}}
          type_urls: [type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua]
  - applyTo: EXTENSION_CONFIG
    match: {{context: GATEWAY}}
    patch: {{operation: ADD, value: {{name: discovered.lua, typed_config: {}}}}}
",
        lua("/by-discovery", 419)
    );
    navarch.save("filter.yaml", &envoy_filter(&(inline.clone() + &discovered))).unwrap();
    wait_for_status(&navarch, "/by-filter", 418);
    wait_for_status(&navarch, "/by-discovery", 419);
    wait_for_reviews(&navarch, "reviews-v1");

    let wrong = "  - applyTo: HTTP_FILTER\n    match: {context: GATEWAY}\n    patch: {operation: ADD, value: {name: last, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}}\n";
    let other = inline.replace("418", "420");
    navarch.save("filter.yaml", &envoy_filter(&format!("{wrong}{other}"))).unwrap();
    let left_out = |problem: &Value| {
        problem["object"] == "EnvoyFilter istio-system/lua"
            && problem["field"] == "spec.configPatches[0]"
            && problem["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("the router must be the last HTTP filter"))
    };
    navarch.next("a problem", |line| line["problems"].as_array().is_some_and(|all| all.iter().any(left_out))).unwrap();
    wait_for_status(&navarch, "/by-filter", 420);
    wait_for_status(&navarch, "/by-discovery", 404);

    std::fs::remove_file(navarch.folder.join("filter.yaml")).unwrap();
    wait_for_status(&navarch, "/by-filter", 404);
    end(&mut navarch);
}
