//! Golden pairs: a folder with plain YAML and a proxy, and what that proxy is sent, one file per xDS type.
//!
//! The path is the product's own, from the text of `input.yaml` to encoded resources; nothing is rebuilt here.

use anyhow::{Context, Result, anyhow};
use model::{Locality, Proxy};
use prost::Message;
use refproxy::core::Config;
use serde_json::{Value, json};
use source::files::{FileContent, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use translate::name_table::{NameInfo, NameTable};
use world::{Batch, World};
use xds::{ConnectionId, TypeUrl, envoy};

/// The types that have a file, and its name.
pub const FILES: [(TypeUrl, &str); 5] = [
    (TypeUrl::Listener, "lds.yaml"),
    (TypeUrl::Route, "rds.yaml"),
    (TypeUrl::Cluster, "cds.yaml"),
    (TypeUrl::Endpoint, "eds.yaml"),
    (TypeUrl::Extension, EXTENSIONS),
];

/// Not there when there are none.
const EXTENSIONS: &str = "ecds.yaml";

/// Host names for the agent; of proxies that ask for them.
pub const NAMES: &str = "nds.yaml";

pub const CALLS: &str = "calls.txt";
pub const PROBLEMS: &str = "problems.txt";

pub const INPUT: &str = "input.yaml";
pub const PROXY: &str = "proxy.yaml";
const CONNECTION: ConnectionId = ConnectionId(1);

/// A mesh of one text and one proxy, with everything that came of it.
#[derive(Debug)]
pub struct Produced {
    /// Per type, resources as proto-JSON, in the order of their names.
    pub resources: BTreeMap<TypeUrl, Vec<Value>>,
    /// `LINE: severity: object: field: reason`; first those of the text, then those that show when objects meet.
    pub problems: Vec<String>,
    /// Empty, or one.
    pub names: Vec<Value>,
    /// The same resources, for the oracle.
    pub config: Config,
}

/// Every golden folder, `FEATURE/CASE`.
pub fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../controller/world/testdata");
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut found: Vec<PathBuf> = entries.map(|it| it.expect("a folder can be listed").path()).collect();
        found.retain(|it| it.is_dir());
        found.sort();
        found
    };
    list(&root).iter().flat_map(|feature| list(feature)).collect()
}

/// What a golden folder comes to.
///
/// # Errors
/// A file that is missing, or a proxy that cannot be read.
pub fn produce_folder(folder: &Path) -> Result<Produced> {
    let read =
        |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| format!("{name} cannot be read"));
    produce(&read(INPUT)?, &proxy(&read(PROXY)?)?)
}

/// A proxy from YAML: `id`, `metadata`, `locality`, as Envoy's `Node` has them.
///
/// # Errors
/// In words, what is wrong with it.
pub fn proxy(text: &str) -> Result<Proxy> {
    let node = crds::yaml::value(text).map_err(|error| anyhow!("proxy.yaml:{}: {}", error.line, error.message))?;
    let id = node["id"].as_str().context("proxy.yaml has no id")?;
    let locality = Locality::parse(node["locality"].as_str().unwrap_or_default());
    Proxy::parse(id, &node["metadata"], locality).map_err(|why| anyhow!("proxy.yaml: {why}"))
}

/// What one proxy is sent of a mesh.
///
/// # Errors
/// A resource that does not decode as its own type.
pub fn produce(input: &str, proxy: &Proxy) -> Result<Produced> {
    produce_last(&[input], proxy)
}

/// What it is sent in the end when the one file of the mesh was written several times.
///
/// # Errors
/// As [`produce`].
pub fn produce_last(versions: &[&str], proxy: &Proxy) -> Result<Produced> {
    let (world, problems) = world(versions, proxy);
    let mut resources = BTreeMap::new();
    let mut config = Config::default();
    for (kind, _) in FILES {
        let mut values = vec![];
        for resource in world.resources(CONNECTION, kind) {
            let bytes = resource.bytes();
            values.push(xds::json::to_json(kind.url(), &bytes).with_context(|| resource.name.to_string())?);
            let name = resource.name.to_string();
            match kind {
                TypeUrl::Listener => config.listeners.push(envoy::Listener::decode(bytes)?),
                TypeUrl::Route => _ = config.routes.insert(name, envoy::RouteConfiguration::decode(bytes)?),
                TypeUrl::Extension => {}
                TypeUrl::Cluster => _ = config.clusters.insert(name, envoy::Cluster::decode(bytes)?),
                _ => _ = config.endpoints.insert(name, envoy::ClusterLoadAssignment::decode(bytes)?),
            }
        }
        resources.insert(kind, values);
    }
    let names = world.resources(CONNECTION, TypeUrl::NameTable);
    let names = names.iter().map(|it| Ok(name_table(&NameTable::decode(it.bytes())?))).collect::<Result<_>>()?;
    Ok(Produced { resources, problems, names, config })
}

/// Envoy's descriptors do not have it.
fn name_table(table: &NameTable) -> Value {
    let line = |(host, it): (&String, &NameInfo)| {
        let of =
            json!({ "ips": it.ips, "registry": it.registry, "shortname": it.shortname, "namespace": it.namespace });
        (host.clone(), of)
    };
    Value::Object(table.table.iter().map(line).collect())
}

fn world(versions: &[&str], proxy: &Proxy) -> (World, Vec<String>) {
    let mut store = Store::new("folder");
    let mut world = World::new();
    world.commit(Batch { proxies: vec![(CONNECTION, Some(proxy.clone()))], ..Batch::default() });
    for text in versions {
        let files = [(PathBuf::from(INPUT), FileContent::Text((*text).to_owned()))];
        world.commit(Batch { objects: store.apply(files.into()).changes, ..Batch::default() });
    }
    let found = world.problems();
    let written = store.problems().iter().map(|it| (it.line.to_string(), &it.problem));
    let all = written.chain(found.iter().map(|it| ("mesh".to_owned(), it)));
    let severity = |problem: &crds::Problem| format!("{:?}", problem.severity()).to_lowercase();
    let problems = all.map(|(at, problem)| format!("{at}: {}: {problem}", severity(problem))).collect();
    (world, problems)
}

impl Produced {
    /// The text of a type's golden file.
    pub fn yaml(&self, kind: TypeUrl) -> String {
        let resources = self.of(kind);
        if kind == TypeUrl::Extension && resources.is_empty() {
            return String::new();
        }
        xds::yaml::to_yaml(&Value::Array(resources.to_vec()))
    }

    /// The text of the names' golden file; empty if the proxy asks for none.
    pub fn names_yaml(&self) -> String {
        if self.names.is_empty() { String::new() } else { xds::yaml::to_yaml(&Value::Array(self.names.clone())) }
    }

    pub fn of(&self, kind: TypeUrl) -> &[Value] {
        self.resources.get(&kind).map(Vec::as_slice).unwrap_or_default()
    }

    /// The resources' names, as the proto-JSON has them.
    pub fn names(&self, kind: TypeUrl) -> Vec<&str> {
        let key = if kind == TypeUrl::Endpoint { "clusterName" } else { "name" };
        self.of(kind).iter().filter_map(|it| it[key].as_str()).collect()
    }

    /// Whether some problem has all of these parts; what was wrong instead, if not.
    ///
    /// # Errors
    /// All problems that there are.
    pub fn has_problem(&self, parts: &[&str]) -> Result<(), String> {
        let found = self.problems.iter().any(|problem| parts.iter().all(|part| problem.contains(part)));
        found.then_some(()).ok_or_else(|| format!("none has all of {parts:?}:\n{}", self.problems.join("\n")))
    }
}

/// What differs, as one block between what is equal above and below; nothing, if nothing does.
pub fn difference(name: &str, golden: &str, produced: &str) -> Option<String> {
    if golden == produced {
        return None;
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (golden.lines().collect(), produced.lines().collect());
    let above = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[above..], &new[above..]);
    let below = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let block = |mark: &str, lines: &[&str]| -> String {
        let shown = &lines[..lines.len() - below];
        let more = shown.len().saturating_sub(LINES_SHOWN_MAX);
        let text: String = shown.iter().take(LINES_SHOWN_MAX).map(|line| format!("{mark} {line}\n")).collect();
        if more > 0 { format!("{text}{mark} and {more} lines more\n") } else { text }
    };
    Some(format!("{name}:{}\n{}{}", above + 1, block("-", old), block("+", new)))
}

/// Of each side of a difference: more is read in an editor.
const LINES_SHOWN_MAX: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_without_what_is_equal() {
        assert_eq!(difference("x", "a\nb\nc\n", "a\nb\nc\n"), None);
        assert_eq!(difference("x", "a\nb\nc\n", "a\nB\nc\n").unwrap(), "x:2\n- b\n+ B\n");
        assert_eq!(difference("x", "a\na\n", "a\n").unwrap(), "x:2\n- a\n");
    }
}
