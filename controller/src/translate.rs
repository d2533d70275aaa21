//! `navarch translate`: the path from folder to Envoy's configuration, without sockets.

use crate::args::{KINDS, Output, Translate};
use crate::envoy::bootstrap::Role;
use crate::tables;
use crate::up::laptop::{self, LowPorts, Network, Objects, Plan, Readiness, Seats, Setup, Workload};
use crate::up::locate;
use anyhow::{Context, Result, bail};
use crds::mesh_config::InterceptionMode;
use model::{Proxy, ProxyKind};
use serde_json::{Map, Value};
use source::files::Folder;
use source::mesh_config::MeshConfigFile;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use world::{Batch, World};
use xds::{ConnectionId, TypeUrl};

/// What an Envoy would get, and what is wrong with the folder.
#[derive(Debug)]
pub struct Translated {
    /// By type's short name, resources in the order of their names.
    pub resources: BTreeMap<TypeUrl, Vec<Value>>,
    pub problems: Vec<locate::Line>,
}

/// The block of addresses that `--up` shows; a run claims a free one.
const EXAMPLE_BLOCK: u8 = 1;

/// Prints to standard output; problems go to standard error.
pub fn run(args: &Translate) -> Result<()> {
    let (world, translated) = translate(args)?;
    if let Some(table) = &args.tables {
        print!("{}", tables::print(&world, table, args.row.as_deref())?);
        return Ok(());
    }
    for problem in &translated.problems {
        eprintln!("{problem}");
    }
    print!("{}", translated.print(args.output)?);
    Ok(())
}

fn translate(args: &Translate) -> Result<(World, Translated)> {
    let (folder, outcome) = Folder::load(&args.dir)?;
    let mut objects: Objects = folder.store().objects().map(|it| (it.key.clone(), it.clone())).collect();
    if let Some(path) = &args.mesh_config {
        laptop::put_mesh_config(&mut objects, MeshConfigFile::open(path)?.object());
    }
    let setup = Setup {
        network: match args.up {
            true => Network::Loopback { block: EXAMPLE_BLOCK, ingress: Some(Ipv4Addr::LOCALHOST) },
            false => Network::Cluster,
        },
        low_ports: LowPorts::Bindable,
        readiness: Readiness::All,
    };
    let plan = laptop::plan(&objects, &setup, &mut Seats::default());
    let workload = find(&plan, &args.proxy)?;
    let mut world = World::new();
    let objects = plan.objects.iter().map(|(key, object)| (key.clone(), Some(object.clone()))).collect();
    world.commit(Batch { objects, ..Batch::default() });
    let interception = match args.up {
        true => InterceptionMode::None,
        false => world.mesh_config().default_config.interception_mode,
    };
    let connection = ConnectionId(1);
    world.commit(Batch { proxies: vec![(connection, Some(proxy(workload, interception)))], ..Batch::default() });
    let found = world.problems().into_iter().map(|it| plan.at_origin(it)).chain(plan.problems.iter().cloned());
    let problems = locate::lines(&args.dir, &outcome.problems, &found.collect::<Vec<_>>());
    let mut resources = BTreeMap::new();
    for kind in KINDS.into_iter().filter(|kind| args.kind.is_none_or(|only| only == *kind)) {
        let mut all = world.resources(connection, kind);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let json =
            all.iter().map(|it| xds::json::to_json(kind.url(), &it.bytes()).with_context(|| it.name.to_string()));
        resources.insert(kind, json.collect::<Result<Vec<_>>>()?);
    }
    Ok((world, Translated { resources, problems }))
}

impl Translated {
    pub fn print(&self, output: Output) -> Result<String> {
        let lists = self.resources.iter().map(|(kind, all)| (kind.short().to_owned(), Value::Array(all.clone())));
        let value = Value::Object(lists.collect::<Map<_, _>>());
        Ok(match output {
            Output::Yaml => xds::yaml::to_yaml(&value),
            Output::Json => serde_json::to_string_pretty(&value)? + "\n",
        })
    }
}

/// By pod or Deployment, in any namespace if none is said and only one has the name.
fn find<'a>(plan: &'a Plan, name: &str) -> Result<&'a Workload> {
    let is_meant = |it: &&Workload| {
        let qualified = |own: &str| name == own || name == format!("{own}.{}", it.key.namespace);
        qualified(&it.key.name) || qualified(&it.deployment)
    };
    let found: Vec<&Workload> = plan.workloads.values().filter(is_meant).collect();
    let all = || plan.workloads.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let Some(first) = found.first() else {
        bail!("no proxy {name:?}; there are: {}", all());
    };
    if found.iter().any(|it| it.key.namespace != first.key.namespace) {
        bail!("{name:?} is in several namespaces; say NAME.NAMESPACE, one of: {}", all());
    }
    Ok(first)
}

fn proxy(workload: &Workload, interception: InterceptionMode) -> Proxy {
    Proxy {
        kind: match workload.role {
            Role::Sidecar => ProxyKind::Sidecar,
            Role::Gateway => ProxyKind::Router,
        },
        name: workload.key.name.as_str().into(),
        namespace: workload.key.namespace.as_str().into(),
        ips: vec![workload.addresses.pod.into()],
        labels: Arc::new(workload.labels.clone()),
        ports: Default::default(),
        interception,
        http_proxy_port: None,
        low_ports: model::LowPorts::Bound,
        locality: Arc::default(),
        node: None,
        service_account: None,
        certificates: model::Certificates::None,
        dns_capture: model::DnsCapture::Off,
        version: None,
        metadata: Arc::default(),
    }
}

/// For tests and tools: everything of one proxy.
pub fn everything(dir: &Path, proxy: &str) -> Result<Translated> {
    let args = Translate {
        dir: dir.to_owned(),
        proxy: proxy.to_owned(),
        kind: None,
        output: Output::Json,
        mesh_config: None,
        up: false,
        tables: None,
        row: None,
    };
    Ok(translate(&args)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bookinfo() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo")
    }

    fn names(translated: &Translated, kind: TypeUrl) -> Vec<&str> {
        translated.resources[&kind].iter().filter_map(|it| it["name"].as_str()).collect()
    }

    #[test]
    fn a_sidecar_of_bookinfo_has_istios_names() {
        let page = everything(&bookinfo(), "productpage-v1").unwrap();
        assert_eq!(page.problems, []);
        let clusters = names(&page, TypeUrl::Cluster);
        for name in [
            "outbound|9080|v2|reviews.default.svc.cluster.local",
            "outbound|9080||details.default.svc.cluster.local",
            "inbound|9080||",
            "PassthroughCluster",
            "BlackHoleCluster",
        ] {
            assert!(clusters.contains(&name), "{name} is missing in {clusters:?}");
        }
        assert_eq!(names(&page, TypeUrl::Route), ["80", "9080"]);
        assert!(names(&page, TypeUrl::Listener).contains(&"virtualOutbound"));
    }

    #[test]
    fn the_gateway_is_found_by_its_name() {
        let gateway = everything(&bookinfo(), "istio-ingressgateway").unwrap();
        assert_eq!(names(&gateway, TypeUrl::Route), ["http.8080"]);
        assert_eq!(names(&gateway, TypeUrl::Listener), ["0.0.0.0_8080"]);
    }

    #[test]
    fn an_unknown_proxy_is_an_error_that_lists_those_there_are() {
        let why = everything(&bookinfo(), "nobody").unwrap_err().to_string();
        assert!(why.contains("reviews-v3-0.default") && why.contains("istio-ingressgateway-0.istio-system"), "{why}");
    }

    #[test]
    fn one_type_can_be_asked_for_and_printed_either_way() {
        let args = Translate {
            dir: bookinfo(),
            proxy: "reviews-v1.default".into(),
            kind: Some(TypeUrl::Cluster),
            output: Output::Yaml,
            mesh_config: None,
            up: true,
            tables: None,
            row: None,
        };
        let translated = translate(&args).unwrap().1;
        assert_eq!(translated.resources.keys().copied().collect::<Vec<_>>(), [TypeUrl::Cluster]);
        let json: Value = serde_json::from_str(&translated.print(Output::Json).unwrap()).unwrap();
        assert_eq!(json["cds"].as_array().unwrap().len(), translated.resources[&TypeUrl::Cluster].len());
        assert!(translated.print(Output::Yaml).unwrap().starts_with("cds:\n"));
    }
}
