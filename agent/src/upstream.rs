//! The way to the control plane: a channel per attempt, with what vouches for this pod at that moment. Roots, token and
//! certificate are read anew each time (F33).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ca::clock::Clock;
use ca::tls::ClientError;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use zeroize::Zeroizing;

use crate::certificate::Workload;
use crate::environment::{ControlPlaneAuth, Roots, Server};

/// What vouches for this pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The workload's own certificate: istiod need not ask anybody (F1).
    Certificate,
    /// The projected token.
    Token,
    /// Nothing, on a plaintext connection: a token would be everybody's.
    Nothing,
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("the token {}: {why}", path.display())]
    Token { path: PathBuf, why: std::io::Error },
    #[error("the token {} is empty or too long", .0.display())]
    TokenSize(PathBuf),
    #[error("the roots {}: {why}", path.display())]
    Roots { path: PathBuf, why: std::io::Error },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the server's address: {0}")]
    Address(#[from] http::uri::InvalidUri),
}

/// One server of the control plane.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) server: Server,
    /// What relative paths are relative to.
    pub(crate) directory: PathBuf,
    pub(crate) token: PathBuf,
    pub(crate) workload: watch::Receiver<Option<Arc<Workload>>>,
    pub(crate) clock: Clock,
}

/// A projected token is 1 to 2 KiB; servers refuse larger headers anyway.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Where distributions keep what they trust.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Upstream {
    /// The certificate while it is good; every second attempt the token, in case the certificate is what is refused.
    pub(crate) fn credential(&self, attempt: u32) -> Credential {
        if self.server.auth == ControlPlaneAuth::None {
            return Credential::Nothing;
        }
        let now = self.clock.now();
        let good = self.workload.borrow().as_ref().is_some_and(|it| now >= it.not_before && now < it.not_after);
        if good && (attempt.is_multiple_of(2) || !self.directory.join(&self.token).exists()) {
            Credential::Certificate
        } else {
            Credential::Token
        }
    }

    pub(crate) fn bearer(&self, credential: Credential) -> Result<Option<Zeroizing<String>>, UpstreamError> {
        if credential != Credential::Token {
            return Ok(None);
        }
        let path = self.directory.join(&self.token);
        let token = std::fs::read_to_string(&path).map(Zeroizing::new);
        let token = token.map_err(|why| UpstreamError::Token { path: path.clone(), why })?;
        let token = Zeroizing::new(token.trim().to_owned());
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(UpstreamError::TokenSize(path));
        }
        Ok(Some(token))
    }

    /// A new channel: nothing of earlier settings can be in use on it.
    pub(crate) fn channel(&self, credential: Credential) -> Result<Channel, UpstreamError> {
        if self.server.auth == ControlPlaneAuth::None {
            let endpoint = Endpoint::from(format!("http://{}", self.server.address).parse::<http::Uri>()?);
            return Ok(endpoint.connect_lazy());
        }
        let roots = roots(&self.server.roots, &self.directory)?;
        let workload = match credential {
            Credential::Certificate => self.workload.borrow().clone(),
            Credential::Token | Credential::Nothing => None,
        };
        let certificate = workload.as_ref().map(|it| (it.chain.as_str(), &it.key));
        let config = Arc::new(ca::tls::client_config(&roots, certificate)?);
        Ok(ca::tls::channel(&self.server.address, &self.server.name, Arc::new(move || Ok(Arc::clone(&config))))?)
    }
}

fn roots(of: &Roots, directory: &Path) -> Result<String, UpstreamError> {
    let path = match of {
        Roots::File(path) => directory.join(path),
        Roots::System => {
            let found = SYSTEM_ROOTS.into_iter().map(Path::new).find(|path| path.exists());
            found.unwrap_or_else(|| Path::new(SYSTEM_ROOTS[0])).to_owned()
        }
    };
    std::fs::read_to_string(&path).map_err(|why| UpstreamError::Roots { path, why })
}
