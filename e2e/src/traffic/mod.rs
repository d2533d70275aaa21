//! Live cases: one mesh on real Envoys, and what becomes of requests in it.
//!
//! A file of `e2e/traffic/KIND/NAME.yaml` has the objects that it is about, and a last document `cases`. All files run in
//! one mesh, so their hosts must differ; everything that `mesh.yaml` has is there for all.

mod case;
mod keys;
mod outcome;
mod outside;
mod secure;

pub use case::Case;

use crate::navarch::Navarch;
use anyhow::{Context, Result, ensure};
use case::Cases;
use controller::client::Client;
use keys::Keys;
use outcome::Outcome;
use outside::Outside;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Cases that are under way at a time.
const TOGETHER: usize = 8;
/// Of every sidecar of `navarch up`.
const HTTP_PROXY_PORT: u16 = 15002;
/// The callers of `mesh.yaml`, in whose names requests are sent.
const CALLERS: [&str; 4] = ["client", "other", "scoped", "proxied"];
/// Of their sidecars' listeners, where a case is about one: `from: client:8000`.
const PORTS: [u16; 26] = [
    8000, 8001, 8002, 9000, 9001, 9002, 9003, 9010, 9011, 9012, 9013, 9014, 9015, 9016, 9017, 9018, 9019, 9021, 9022,
    9023, 9024, 9030, 9031, 9032, 9033, 9034,
];
/// Of the gateway, beside 8080.
const GATEWAY_PORTS: [u16; 5] = [8081, 8082, 8083, 8084, 8443];
const MESH: &str = "mesh.yaml";

/// A group of cases: a file.
#[derive(Debug)]
pub struct Group {
    /// `virtual-service/match`
    pub name: String,
    objects: String,
    pub cases: Vec<Case>,
}

/// What became of a case.
#[derive(Debug)]
pub struct Verdict {
    /// `virtual-service/match: a path, exactly`
    pub name: String,
    pub took: Duration,
    /// Empty: it passed.
    pub wrong: Vec<String>,
}

/// Where the files are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traffic")
}

/// Those whose names, or whose cases' names, have `only` in them.
///
/// # Errors
/// A file that cannot be read, named with what is wrong in it.
pub fn groups(folder: &Path, only: Option<&str>) -> Result<Vec<Group>> {
    let mut groups = vec![];
    for kind in listed(folder)?.iter().filter(|it| it.is_dir()) {
        for file in listed(kind)? {
            let name = format!("{}/{}", name(kind), name(&file).trim_end_matches(".yaml"));
            groups.push(group(&name, &file).with_context(|| file.display().to_string())?);
        }
    }
    if let Some(only) = only {
        for group in &mut groups {
            group.cases.retain(|case| format!("{}: {}", group.name, case.name).contains(only));
        }
        groups.retain(|group| !group.cases.is_empty());
    }
    Ok(groups)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|it| Ok(it?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn group(name: &str, file: &Path) -> Result<Group> {
    let text = std::fs::read_to_string(file)?;
    let (objects, cases) = text.rsplit_once("\n---\ncases:").context("its last document is not `cases`")?;
    let Cases { cases } = case::parse(&format!("cases:{cases}"))?;
    ensure!(!cases.is_empty(), "there is no case in it");
    Ok(Group { name: name.to_owned(), objects: objects.to_owned(), cases })
}

/// Runs all cases, and tells each verdict as it is known.
///
/// # Errors
/// When the mesh does not come up, refuses an object or a configuration, or does not end well.
pub fn run(groups: Vec<Group>, mut told: impl FnMut(&Verdict)) -> Result<Vec<Verdict>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mesh = tempfile::tempdir()?;
    let keys = Arc::new(Keys::new()?);
    let outside = runtime.block_on(Outside::start(mesh.path(), &keys))?;
    std::fs::copy(folder().join(MESH), mesh.path().join(MESH))?;
    for group in &groups {
        let file = mesh.path().join(format!("{}.yaml", group.name.replace('/', "-")));
        std::fs::write(file, outside.fill_in(&group.objects))?;
    }
    let mut navarch = Navarch::up(mesh.path())?;
    navarch.ready()?;
    let callers = callers(&navarch, &keys)?;
    let (sender, verdicts) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || -> Result<()> {
        runtime.block_on(async {
            use futures::StreamExt;
            let cases = groups.into_iter().flat_map(|group| {
                let callers = callers.clone();
                group.cases.into_iter().map(move |case| (group.name.clone(), case, callers.clone()))
            });
            let tried = futures::stream::iter(cases).map(|(group, case, callers)| judged(group, case, callers));
            tried.buffer_unordered(TOGETHER).for_each(async |verdict| _ = sender.send(verdict)).await;
        });
        drop(outside);
        Ok(())
    });
    let mut all = vec![];
    for verdict in verdicts {
        told(&verdict);
        all.push(verdict);
    }
    worker.join().map_err(|_| anyhow::anyhow!("the cases' thread has died"))??;
    let status = navarch.terminate()?;
    ensure!(status.success(), "navarch ended with {status}: {}", navarch.stderr());
    ensure!(navarch.nacks.is_empty(), "an Envoy refused its configuration: {:?}", navarch.nacks);
    Ok(all)
}

type Callers = Arc<BTreeMap<String, Caller>>;

/// Where requests in a caller's name are sent to.
struct Caller {
    address: SocketAddr,
    http: Client,
    http2: Client,
    keys: Arc<Keys>,
}

impl Caller {
    fn at(address: SocketAddr, keys: &Arc<Keys>) -> Self {
        let (http, http2) = (Client::through(address), Client::through_in_http2(address));
        Self { address, http, http2, keys: keys.clone() }
    }
}

/// Clients for each caller, and for `gateway`.
fn callers(navarch: &Navarch, keys: &Arc<Keys>) -> Result<Callers> {
    let mut clients = BTreeMap::from([("gateway".to_owned(), Caller::at(navarch.ingress, keys))]);
    for port in GATEWAY_PORTS {
        clients.insert(format!("gateway:{port}"), Caller::at((navarch.ingress.ip(), port).into(), keys));
    }
    for caller in CALLERS {
        let address: IpAddr = navarch.read(&format!("{caller}.address"))?.trim().parse()?;
        clients.insert(caller.to_owned(), Caller::at((address, HTTP_PROXY_PORT).into(), keys));
        for port in PORTS {
            clients.insert(format!("{caller}:{port}"), Caller::at((address, port).into(), keys));
        }
    }
    Ok(Arc::new(clients))
}

async fn judged(group: String, case: Case, callers: Callers) -> Verdict {
    let started = Instant::now();
    let name = format!("{group}: {}", case.name);
    let wrong = match callers.get(&case.from) {
        None => vec![format!("nobody is called {:?}", case.from)],
        Some(caller) => Outcome::judged(&case, caller).await,
    };
    Verdict { name, took: started.elapsed(), wrong }
}
