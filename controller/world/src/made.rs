//! A resource as a row: encoded, with what was wrong on the way.

use crds::{ObjectKey, Problem, Reason};
use std::sync::Arc;
use translate::Translated;
use xds::envoy::{Cluster, Listener, VirtualHost};
use xds::{Resource, TypeUrl, Violation};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Made {
    /// `None`: Envoy would refuse it, so it is left out alone.
    pub(crate) resource: Option<Arc<Resource>>,
    pub(crate) problems: Vec<Problem>,
}

/// Messages that Envoy names by a field.
pub(crate) trait Named: prost::Message + prost::Name {
    const TYPE: TypeUrl;
    fn name(&self) -> &str;
}

impl Named for Cluster {
    const TYPE: TypeUrl = TypeUrl::Cluster;
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Listener {
    const TYPE: TypeUrl = TypeUrl::Listener;
    fn name(&self) -> &str {
        &self.name
    }
}

/// A message as an entry of a layer.
pub(crate) fn entry(message: &impl Named) -> (Arc<str>, Option<Arc<Resource>>) {
    let resource = Resource::whole(message.name(), message);
    (resource.name.clone(), Some(Arc::new(resource)))
}

impl Made {
    /// As [`Made::checked`], of what may turn out to need no resource at all.
    pub(crate) fn optional<M: Named>(made: Translated<Option<M>>, owner: &ObjectKey) -> Self {
        match made.resource {
            Some(resource) => Self::checked(Translated { resource, problems: made.problems }, true, owner),
            None => Self { resource: None, problems: made.problems },
        }
    }

    /// Encodes, and where users' own values went in, asks Envoy's field rules first: one bad resource would make
    /// Envoy refuse the others of its response too.
    pub(crate) fn checked<M: Named>(made: Translated<M>, users: bool, owner: &ObjectKey) -> Self {
        let resource = Resource::whole(made.resource.name(), &made.resource);
        let mut problems = made.problems;
        let violations = if users { xds::validate(M::TYPE.url(), &resource.bytes()) } else { vec![] };
        let refused = violations.first().map(|violation| Reason::EnvoyWouldReject {
            resource: resource.name.to_string(),
            violation: describe(violation),
        });
        let good = refused.is_none();
        problems.extend(refused.map(|reason| Problem::new(owner, "", reason)));
        Self { resource: good.then(|| Arc::new(resource)), problems }
    }
}

fn describe(violation: &Violation) -> String {
    format!("{} {}", violation.path, violation.reason)
}

/// Takes out of a virtual host the routes that Envoy would refuse: each alone, with a problem of its VirtualService.
/// `None`: the rest is refused too.
pub(crate) fn checked_host(
    mut host: VirtualHost,
    owner: &ObjectKey,
    problems: &mut Vec<Problem>,
) -> Option<VirtualHost> {
    loop {
        let violations = xds::validate(TypeUrl::VirtualHost.url(), &xds::canonical::encode(&host));
        let Some(violation) = violations.first() else { return Some(host) };
        let index = violation.path.strip_prefix("routes[").and_then(|it| it.split(']').next()?.parse::<usize>().ok());
        let bad = index.filter(|at| *at < host.routes.len()).map(|at| host.routes.remove(at));
        let resource = match &bad {
            Some(route) => format!("route {:?} of {}", route.name, host.name),
            None => host.name.clone(),
        };
        let reason = Reason::EnvoyWouldReject { resource, violation: describe(violation) };
        problems.push(Problem::new(owner, "", reason));
        bad?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::Kind;
    use xds::envoy::route::{RedirectAction, RouteMatch, route::Action, route_match::PathSpecifier};
    use xds::envoy::{Cluster, Route};

    fn owner() -> ObjectKey {
        ObjectKey::new(Kind::VirtualService, "n", "v")
    }

    fn route(name: &str, redirect: RedirectAction) -> Route {
        let path_specifier = Some(PathSpecifier::Prefix("/".into()));
        Route {
            name: name.into(),
            r#match: Some(RouteMatch { path_specifier, ..Default::default() }),
            action: Some(Action::Redirect(redirect)),
            ..Default::default()
        }
    }

    #[test]
    fn a_route_that_envoy_would_refuse_is_left_out_alone() {
        let bad = RedirectAction { host_redirect: "a\nb".into(), ..Default::default() };
        let host = VirtualHost {
            name: "h".into(),
            domains: vec!["*".into()],
            routes: vec![
                route("good", RedirectAction::default()),
                route("bad", bad),
                route("last", RedirectAction::default()),
            ],
            ..Default::default()
        };
        let mut problems = vec![];
        let host = checked_host(host, &owner(), &mut problems).expect("the rest is good");
        assert_eq!(host.routes.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["good", "last"], "{problems:?}");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().contains("host_redirect"), "{}", problems[0]);
    }

    #[test]
    fn a_cluster_that_envoy_would_refuse_is_left_out_with_its_owner_named() {
        let made = Made::checked(Translated::flawless(Cluster::default()), true, &owner());
        assert_eq!(made.resource, None);
        assert!(made.problems[0].to_string().contains("VirtualService n/v"), "{}", made.problems[0]);
    }
}
