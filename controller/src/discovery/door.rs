//! The door of the xDS server: nobody gets a stream without a credential, and the stream carries who it was given to.
//! It stands before anything of the request is read (S1, S10).

use super::metrics::Metrics;
use ca::authenticate::{Authenticator, Refusal};
use futures::future::BoxFuture;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;
use xds::server::AdsService;

/// The aggregated discovery service behind its door.
#[derive(Clone)]
pub(crate) struct Guarded {
    pub(crate) service: AdsService,
    pub(crate) authenticator: Authenticator,
    pub(crate) metrics: Arc<Metrics>,
}

impl tonic::server::NamedService for Guarded {
    const NAME: &'static str = <AdsService as tonic::server::NamedService>::NAME;
}

impl Service<http::Request<Body>> for Guarded {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let mut it = self.clone();
        Box::pin(async move {
            let peer = ca::tls::peer(request.extensions());
            match it.authenticator.authenticate(request.headers(), peer.as_deref()).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    it.service.call(request).await
                }
                Err(refusal) => {
                    it.metrics.authentication_failed();
                    Ok(status(refusal).into_http())
                }
            }
        })
    }
}

/// A client that cannot be reviewed now is told to come again; a permanent answer would keep it away.
pub(crate) fn status(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Unauthenticated(text) => Status::unauthenticated(text),
        Refusal::Unavailable(text) => Status::unavailable(text),
    }
}
