//! The house rules that a machine can check, as tests: which crate may know which, what the pure crates may not touch,
//! and what no file may hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which direct dependencies each crate may have. `None`: whatever it needs.
///
/// A new arrow is a decision: add it here, and its reason to the commit and, for a crate of the workspace, to the code
/// map in README.md.
const ARROWS: &[(&str, Option<&[&str]>)] = &[
    ("tables", Some(&["hashbrown", "imbl"])),
    (
        "crds",
        Some(&[
            "schemars",
            "serde",
            "serde_json",
            "serde_ignored",
            "serde_path_to_error",
            "ipnet",
            "regex-syntax",
            "saphyr-parser",
        ]),
    ),
    (
        "xds",
        Some(&[
            "bytes",
            "envoy-types",
            "http",
            "http-body",
            "http-body-util",
            "imbl",
            "prost",
            "prost-reflect",
            "regex",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-stream",
            "tonic",
            "tonic-prost",
            "tower-service",
            "tracing",
            "twox-hash",
        ]),
    ),
    ("model", Some(&["crds", "imbl", "ipnet", "serde_json"])),
    ("translate", Some(&["crds", "model", "xds", "envoy-types", "prost", "ipnet", "regex", "serde_json"])),
    ("world", Some(&["tables", "crds", "model", "translate", "xds", "imbl", "prost"])),
    // kube, and what it takes to give its connections a limit of silence: the API server is a source as the folder is.
    (
        "source",
        Some(&[
            "bytes",
            "crds",
            "futures",
            "http",
            "http-body",
            "k8s-openapi",
            "kube",
            "notify",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tower",
            "tracing",
        ]),
    ),
    // Programs' halves of their own; they may use what the network needs, but not each other, except as said here.
    ("ca", None),
    ("agent", None),
    ("webhook", None),
    ("deploy", None),
    ("go_template", Some(&["base64", "regex", "serde-saphyr", "serde_json", "sha2", "thiserror"])),
    ("refproxy", Some(&["xds", "envoy-types", "prost", "regex"])),
    ("controller", None),
    ("e2e", None),
    ("xtask", Some(&["anyhow", "clap"])),
];

/// Crates that do no I/O, read no clock, no environment and no randomness, and hold no lock (house rule 3).
const PURE: &[&str] = &[
    "webhook/go_template",
    "crds",
    "controller/tables",
    "controller/model",
    "controller/translate",
    "controller/world",
];

/// What a pure crate may not say.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "std::env::",
    "env::var",
    "std::fs",
    "std::io",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "rand::",
    "Mutex",
    "RwLock",
    "println!",
    "tokio::",
];

/// Where a pure crate may say it all the same: file, what, and why.
const IMPURE_ALLOWED: &[(&str, &str, &str)] = &[];

const LINES_MAX: usize = 800;

/// Messages become bytes only where map entries are put in order.
const ENCODERS: &[&str] = &[
    "xds/src/canonical.rs",
    "xds/src/json.rs",
    "xds/src/merge.rs",
    // The envelope around resources that are bytes already; it has no map.
    "xds/src/response.rs",
];

/// What must not be left behind in code.
const LEFTOVERS: &[&str] =
    &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ign", "ore"), concat!("dbg", "!(")];

/// Package registries' hosts: tools know their own, and mirrors differ.
const REGISTRIES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("proxy.golang", ".org"),
];

/// A private key in the repository would sooner or later be somebody's real one (S31).
const PRIVATE_KEYS: &[&str] = &[
    concat!("-----BEGIN PRIVATE", " KEY"),
    concat!("-----BEGIN RSA PRIVATE", " KEY"),
    concat!("-----BEGIN EC PRIVATE", " KEY"),
];

/// Paths of one machine.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tm", "p/w/")];

const GOLDEN: &[&str] = &["input.yaml", "proxy.yaml", "calls.txt", "lds.yaml", "rds.yaml", "cds.yaml", "eds.yaml"];
const GOLDEN_OPTIONAL: &[&str] = &["nds.yaml", "ecds.yaml", "problems.txt"];

#[test]
fn crates_point_one_way() {
    let mut wrong = vec![];
    let arrows: BTreeMap<&str, Option<&[&str]>> = ARROWS.iter().copied().collect();
    for (name, manifest) in crates() {
        let Some(allowed) = arrows.get(name.as_str()) else {
            wrong.push(format!("crate {name}: not in ARROWS; say there what it may depend on"));
            continue;
        };
        let Some(allowed) = allowed else { continue };
        for dependency in dependencies(&manifest).iter().filter(|it| !allowed.contains(&it.as_str())) {
            wrong.push(format!(
                "{name} -> {dependency} is a new arrow; if it is right, add it to ARROWS with its reason"
            ));
        }
    }
    assert_none(&wrong);
}

#[test]
fn pure_crates_touch_nothing_outside() {
    let mut wrong = vec![];
    let mut used = BTreeSet::new();
    for crate_folder in PURE {
        for (path, text) in sources().iter().filter(|(path, _)| path.starts_with(&format!("{crate_folder}/src/"))) {
            for (number, line) in product_code(path, text) {
                for what in IMPURE.iter().filter(|what| says(line, what)) {
                    match IMPURE_ALLOWED.iter().find(|(file, it, _)| file == path && it == what) {
                        Some((file, it, _)) => _ = used.insert((file, it)),
                        None => wrong.push(format!("{path}:{number}: {what} in a pure crate")),
                    }
                }
            }
        }
    }
    let unused = IMPURE_ALLOWED.iter().filter(|(file, what, _)| !used.contains(&(file, what)));
    wrong.extend(unused.map(|(file, what, _)| format!("{file}: {what} is allowed and not used any more")));
    assert_none(&wrong);
}

fn is_base64(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 48 && line.chars().all(|it| it.is_ascii_alphanumeric() || "+/=".contains(it))
}

/// Whether the line has these words, and not only as the end of a longer one (`Operand::`).
fn says(line: &str, what: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(what).any(|(at, _)| !line[..at].ends_with(is_word))
}

#[test]
fn files_are_short_enough_to_read() {
    let sources = sources();
    let long = sources
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(path, lines)| *lines > LINES_MAX && !is_test(path));
    assert_none(
        &long.map(|(path, lines)| format!("{path}: {lines} lines, {LINES_MAX} is the limit")).collect::<Vec<_>>(),
    );
}

#[test]
fn every_crate_and_module_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|(path, text)| {
        // The module under test has said it; files of e2e/tests are programs of their own.
        let tests = path.ends_with("/tests.rs") || path.contains("/src/") && path.contains("/tests/");
        !tests && !text.trim_start().starts_with("//!")
    });
    assert_none(&silent.map(|(path, _)| format!("{path}: opens without //!")).collect::<Vec<_>>());
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let mut wrong = vec![];
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for what in LEFTOVERS.iter().filter(|what| line.contains(**what)) {
                wrong.push(format!("{path}:{}: {what}", number + 1));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn messages_are_encoded_in_one_place() {
    let mut wrong = vec![];
    for (path, text) in sources() {
        if is_test(&path) || ENCODERS.contains(&path.as_str()) {
            continue;
        }
        let lines = product_code(&path, &text).filter(|(_, line)| line.contains(".encode_to_vec("));
        wrong.extend(lines.map(|(number, _)| {
            format!("{path}:{number}: bytes of a message with a map differ from run to run; use xds::canonical")
        }));
    }
    assert_none(&wrong);
}

#[test]
fn the_code_map_names_every_crate() {
    let readme = read(&root().join("README.md"));
    let missing = crates().into_iter().filter(|(name, _)| !readme.contains(&format!("`{name}`")));
    assert_none(&missing.map(|(name, _)| format!("README.md: its code map lacks `{name}`")).collect::<Vec<_>>());
}

#[test]
fn no_file_names_a_registry_or_somebodys_machine() {
    let mut wrong = vec![];
    for path in files().into_iter().filter(|path| path != "Cargo.lock") {
        // What is not text holds no names.
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for what in REGISTRIES.iter().chain(MACHINE_PATHS).filter(|what| line.contains(**what)) {
                wrong.push(format!("{path}:{}: {what}", number + 1));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn s31_no_file_outside_of_test_data_holds_a_private_key() {
    let mut wrong = vec![];
    for path in files().into_iter().filter(|path| !path.contains("/testdata/")) {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for what in PRIVATE_KEYS.iter().filter(|what| text.contains(**what)) {
            // A key has lines of base64; code that only names the frame has none.
            let holds = text.split(*what).skip(1).any(|rest| rest.lines().nth(1).is_some_and(is_base64));
            if holds {
                wrong.push(format!("{path}: {what}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn golden_directories_are_complete() {
    let mut folders: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for path in files().iter().filter(|path| path.starts_with("controller/world/testdata/")).map(Path::new) {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
        folders.entry(folder.to_owned()).or_default().insert(name.to_string_lossy().into_owned());
    }
    assert!(!folders.is_empty(), "there is no golden directory at all");
    let mut wrong = vec![];
    for (folder, names) in &folders {
        let missing = GOLDEN.iter().filter(|name| !names.contains(**name));
        wrong.extend(missing.map(|name| format!("{}: {name} is missing", folder.display())));
        let strange =
            names.iter().filter(|it| !GOLDEN.contains(&it.as_str()) && !GOLDEN_OPTIONAL.contains(&it.as_str()));
        wrong.extend(strange.map(|name| format!("{}: {name} has no meaning here", folder.display())));
    }
    assert_none(&wrong);
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e is a folder of the repository").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of the repository, tracked or about to be, from its root.
fn files() -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("file names are UTF-8");
    // A file that is deleted and not yet committed is listed, too.
    text.lines().filter(|path| root().join(path).is_file()).map(str::to_owned).collect()
}

/// Every Rust file and its text.
fn sources() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    rust.map(|path| (path.clone(), read(&root().join(&path)))).collect()
}

/// Name and manifest of every crate.
fn crates() -> Vec<(String, String)> {
    let manifests = files().into_iter().filter(|path| path.ends_with("/Cargo.toml"));
    let texts = manifests.map(|path| read(&root().join(path)));
    let name = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("name = ")).map(|it| it.trim_matches('"').to_owned())
    };
    texts.map(|text| (name(&text).expect("every crate has a name"), text)).collect()
}

/// Direct dependencies, those of build scripts too, but not those of tests.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut listed = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[') {
            listed = section.ends_with("dependencies]") && !section.ends_with("dev-dependencies]");
        } else if listed {
            found.insert(line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned());
        }
    }
    found
}

/// Tests, examples and build scripts: what is not part of the program.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || ["/tests/", "/testdata/", "/examples/"].iter().any(|it| path.contains(it))
}

/// Numbered lines of code that are neither comments nor tests. Tests come last in a file (house rule 19).
fn product_code<'a>(path: &str, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let code = if is_test(path) { "" } else { text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default() };
    code.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}
