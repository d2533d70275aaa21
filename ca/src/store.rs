//! Where the CA's bundle comes from: files mounted from `cacerts`, or a self-signed root kept in a Secret that all
//! replicas share. Publishes an [`Authority`] and keeps it right.
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::authority::{self, Authority};
use crate::bundle::{Bundle, BundleError, CACERTS_FILES, Files};
use crate::clock::{Clock, unix_s};
use crate::key::KeyKind;
use crate::metrics::Metrics;
use crate::rotate::{self, Decision};

mod kube;

pub use self::kube::KubeStore;

/// Bytes that may be a key: wiped when dropped, never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(Zeroizing<Vec<u8>>);

impl Bytes {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bytes({} redacted)", self.0.len())
    }
}

/// The Secrets of our namespace, or a test's.
pub trait Store: Send + Sync {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, AccessError>>;
    /// Fails with [`AccessError::Conflict`] when it is there already.
    fn create<'a>(&'a self, name: &'a str, files: &'a Files) -> BoxFuture<'a, Result<(), AccessError>>;
    /// Fails with [`AccessError::Conflict`] when it is not of `version` any more.
    fn replace<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
        files: &'a Files,
    ) -> BoxFuture<'a, Result<(), AccessError>>;
}

/// A Secret as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: String,
    pub files: Files,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("somebody else was faster")]
    Conflict,
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}

/// Why there is no authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("{place}: {error}")]
    Bundle { place: String, error: BundleError },
    #[error("{place}: {error}")]
    Access { place: String, error: AccessError },
    #[error("{place}: {error}")]
    Files { place: String, error: String },
    #[error("making a root: {0}")]
    Make(BundleError),
}

/// Istio's settings of the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `ROOT_CA_DIR`. When it holds a bundle, that is used.
    pub folder: PathBuf,
    /// The self-signed root's organization: the trust domain.
    pub organization: String,
    pub key: KeyKind,
    /// `CITADEL_SELF_SIGNED_CA_CERT_TTL`.
    pub root_ttl: Duration,
    /// `CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE`.
    pub grace_percent: u32,
    /// Where a self-signed root is kept.
    pub secret: SecretChoice,
    pub signing: authority::Options,
}

/// `USE_CACERTS_FOR_SELF_SIGNED_CA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretChoice {
    #[default]
    IstioCaSecret,
    /// `cacerts`, unless `istio-ca-secret` is there already (S26).
    Cacerts,
}

impl Options {
    pub fn new(organization: impl Into<String>) -> Self {
        Self {
            folder: PathBuf::from("./etc/cacerts"),
            organization: organization.into(),
            key: KeyKind::P256,
            root_ttl: Duration::from_secs(10 * 365 * 24 * 3600),
            grace_percent: 20,
            secret: SecretChoice::default(),
            signing: authority::Options::default(),
        }
    }
}

/// Keeps the authority right for as long as it runs.
pub struct Keeper {
    store: Arc<dyn Store>,
    options: Options,
    clock: Clock,
    metrics: Arc<Metrics>,
    source: Source,
    seen: Files,
    authority: watch::Sender<Arc<Authority>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Folder,
    Secret(&'static str),
}

impl Keeper {
    /// Finds a bundle or makes one. An incomplete or bad one is an error: a mesh must not get another root by mistake.
    pub async fn open(
        store: Arc<dyn Store>,
        options: Options,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let now = clock.now();
        let (source, seen, bundle) = match from_folder(&options)? {
            Some((files, bundle)) => {
                bundle.check_time(now).map_err(|error| options.folder_error(error))?;
                if files.contains_key(ISTIO_GENERATED) && options.secret == SecretChoice::Cacerts {
                    let name = secret_name(&*store, options.secret).await?;
                    let (files, bundle) = from_secret(&*store, name, &options, now).await?;
                    (Source::Secret(name), files, bundle)
                } else {
                    (Source::Folder, files, bundle)
                }
            }
            None => {
                let name = secret_name(&*store, options.secret).await?;
                let (files, bundle) = from_secret(&*store, name, &options, now).await?;
                (Source::Secret(name), files, bundle)
            }
        };
        let first = Arc::new(Authority::new(bundle, options.signing.clone()));
        let keeper =
            Self { store, options, clock, metrics, source, seen, authority: watch::Sender::new(first.clone()) };
        keeper.announce(&first, "the CA is ready");
        Ok(keeper)
    }

    /// The authority of the moment.
    pub fn authority(&self) -> watch::Receiver<Arc<Authority>> {
        self.authority.subscribe()
    }

    /// Looks after files and Secret until dropped.
    pub async fn run(mut self) {
        let pause = match self.source {
            Source::Folder => FOLDER_INTERVAL,
            Source::Secret(_) => SECRET_INTERVAL,
        };
        loop {
            tokio::time::sleep(pause).await;
            if let Err(error) = self.step().await {
                tracing::warn!(target: "ca::store", %error, "the CA's bundle stays as it is");
            }
        }
    }

    /// One look. On any error the authority stays.
    pub async fn step(&mut self) -> Result<(), StoreError> {
        match self.source {
            Source::Folder => self.look_at_folder(),
            Source::Secret(name) => self.look_at_secret(name).await,
        }
    }

    fn look_at_folder(&mut self) -> Result<(), StoreError> {
        let files = read_folder(&self.options)?;
        if files == self.seen {
            return Ok(());
        }
        let checked = Bundle::from_files(&files).and_then(|bundle| {
            let bundle = bundle.ok_or(BundleError::Incomplete("ca-cert.pem"))?;
            bundle.check_time(self.clock.now())?;
            self.authority.borrow().bundle().may_become(&bundle)?;
            Ok(bundle)
        });
        // Seen also when it is bad: it is told once, and not looked at again before it changes.
        self.seen = files;
        match checked {
            Ok(bundle) => {
                self.publish(bundle);
                Ok(())
            }
            Err(error) => {
                self.metrics.root_bundle_refused.increment();
                Err(self.options.folder_error(error))
            }
        }
    }

    async fn look_at_secret(&mut self, name: &'static str) -> Result<(), StoreError> {
        let access = |error| StoreError::Access { place: place(name), error };
        let Some(stored) = self.store.get(name).await.map_err(access)? else {
            // Whoever deletes it may want a new root with the next start; until then the mesh keeps the one it trusts.
            return Err(StoreError::Bundle { place: place(name), error: BundleError::Incomplete("ca-key.pem") });
        };
        let now = self.clock.now();
        let changed = stored.files != self.seen;
        let renewal =
            match load(&stored.files, name).and_then(|bundle| Ok((renewal(&bundle, &self.options, now)?, bundle))) {
                Ok((Some(renewed), _)) => Some(renewed),
                Ok((None, bundle)) if changed => {
                    bundle.check_time(now).map_err(|error| StoreError::Bundle { place: place(name), error })?;
                    self.seen = stored.files;
                    self.publish(bundle);
                    return Ok(());
                }
                Ok((None, _)) => None,
                Err(error) => {
                    if changed {
                        self.metrics.root_bundle_refused.increment();
                        self.seen = stored.files;
                    }
                    return Err(error);
                }
            };
        let Some(renewed) = renewal else { return Ok(()) };
        let files = merged(&stored.files, &renewed).map_err(StoreError::Make)?;
        match self.store.replace(name, &stored.version, &files).await {
            Ok(()) => {
                self.seen = files;
                self.publish(renewed);
                Ok(())
            }
            // The other replica renewed it: its root is the root, and the next look takes it.
            Err(AccessError::Conflict) => Ok(()),
            Err(error) => Err(access(error)),
        }
    }

    fn publish(&self, bundle: Bundle) {
        // All replicas must follow the Secret they share, whatever was put there; files are held to more.
        if self.authority.borrow().bundle().may_become(&bundle).is_err() {
            tracing::warn!(
                target: "ca::store",
                "the new root is unrelated to the old one: workloads do not trust each other before all have new certificates"
            );
        }
        let next = Arc::new(Authority::new(bundle, self.options.signing.clone()));
        self.announce(&next, "the CA's bundle has changed");
        self.authority.send_replace(next);
    }

    fn announce(&self, authority: &Authority, text: &str) {
        let bundle = authority.bundle();
        let first_root = bundle.roots.first().map_or(SystemTime::UNIX_EPOCH, |root| root.facts.not_after);
        self.metrics.expiry(unix_s(first_root), unix_s(bundle.chain_end()));
        let (roots, left_out) = (bundle.roots.len(), bundle.roots_left_out);
        let end_s = unix_s(bundle.chain_end());
        tracing::info!(target: "ca::store", source = ?self.source, roots, left_out, end_s, "{text}");
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keeper").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Options {
    fn folder_error(&self, error: BundleError) -> StoreError {
        StoreError::Bundle { place: self.folder.display().to_string(), error }
    }
}

fn from_folder(options: &Options) -> Result<Option<(Files, Bundle)>, StoreError> {
    let files = read_folder(options)?;
    let bundle = Bundle::from_files(&files).map_err(|error| options.folder_error(error))?;
    Ok(bundle.map(|bundle| (files, bundle)))
}

/// Whatever there is of the files of a bundle. Read anew each time, as kubelet swaps the whole folder by a symlink.
fn read_folder(options: &Options) -> Result<Files, StoreError> {
    let mut files = Files::new();
    for name in CACERTS_FILES.into_iter().chain([ISTIO_GENERATED]) {
        let path = options.folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => {
                files.insert(name.to_owned(), Bytes::new(bytes));
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
            Err(error) => {
                return Err(StoreError::Files { place: path.display().to_string(), error: error.to_string() });
            }
        }
    }
    Ok(files)
}

async fn secret_name(store: &dyn Store, choice: SecretChoice) -> Result<&'static str, StoreError> {
    match choice {
        SecretChoice::IstioCaSecret => Ok(ISTIO_CA_SECRET),
        SecretChoice::Cacerts => {
            let found = store.get(ISTIO_CA_SECRET).await;
            let found = found.map_err(|error| StoreError::Access { place: place(ISTIO_CA_SECRET), error })?;
            Ok(if found.is_some() { ISTIO_CA_SECRET } else { CACERTS })
        }
    }
}

/// Reads the Secret, or makes a root and stores it: whichever replica is first decides, the others read (F30).
async fn from_secret(
    store: &dyn Store,
    name: &'static str,
    options: &Options,
    now: SystemTime,
) -> Result<(Files, Bundle), StoreError> {
    let access = |error| StoreError::Access { place: place(name), error };
    let mut conflict = AccessError::Conflict;
    for _ in 0..CONFLICTS_MAX {
        let stored = store.get(name).await.map_err(access)?;
        let attempt = match &stored {
            Some(stored) => {
                let bundle = load(&stored.files, name)?;
                match renewal(&bundle, options, now)? {
                    None => {
                        bundle.check_time(now).map_err(|error| StoreError::Bundle { place: place(name), error })?;
                        return Ok((stored.files.clone(), bundle));
                    }
                    Some(renewed) => {
                        let files = merged(&stored.files, &renewed).map_err(StoreError::Make)?;
                        (store.replace(name, &stored.version, &files).await, files, renewed)
                    }
                }
            }
            None => {
                let made = Bundle::self_signed(options.key, options.root_ttl, &options.organization, now);
                let made = made.map_err(StoreError::Make)?;
                let mut files = made.to_files().map_err(StoreError::Make)?;
                if name == CACERTS {
                    files.insert(ISTIO_GENERATED.to_owned(), Bytes::default());
                }
                (store.create(name, &files).await, files, made)
            }
        };
        match attempt {
            (Ok(()), files, bundle) => return Ok((files, bundle)),
            (Err(error @ AccessError::Conflict), ..) => conflict = error,
            (Err(error), ..) => return Err(access(error)),
        }
    }
    Err(access(conflict))
}

fn load(files: &Files, name: &str) -> Result<Bundle, StoreError> {
    let error = |error| StoreError::Bundle { place: place(name), error };
    Bundle::from_files(files).map_err(error)?.ok_or_else(|| error(BundleError::Incomplete("ca-cert.pem")))
}

/// The renewed bundle, if it is a root of ours and its time has come.
fn renewal(bundle: &Bundle, options: &Options, now: SystemTime) -> Result<Option<Bundle>, StoreError> {
    let facts = &bundle.signing.facts;
    if !bundle.intermediates.is_empty()
        || rotate::decide(facts.not_before, facts.not_after, now, options.grace_percent) == Decision::Keep
    {
        return Ok(None);
    }
    bundle.renewed(options.root_ttl, now).map(Some).map_err(StoreError::Make)
}

/// What was in the Secret, with the bundle's files replaced.
fn merged(old: &Files, bundle: &Bundle) -> Result<Files, BundleError> {
    let mut files: BTreeMap<_, _> = old.clone();
    files.extend(bundle.to_files()?);
    Ok(files)
}

fn place(name: &str) -> String {
    format!("Secret {name}")
}

pub const ISTIO_CA_SECRET: &str = "istio-ca-secret";
pub const CACERTS: &str = "cacerts";
/// The key that marks a `cacerts` of istiod's own making.
const ISTIO_GENERATED: &str = "istio-generated";
/// Each one lost means another replica has written in between; there are a handful of them.
const CONFLICTS_MAX: usize = 8;
/// Seven small files.
const FOLDER_INTERVAL: Duration = Duration::from_secs(5);
/// One GET; a root that another replica renewed has years to be noticed.
const SECRET_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
