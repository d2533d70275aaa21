//! One patch of an EnvoyFilter, made ready to be applied.

use super::Context;
use crds::networking::{ApplyTo, ConfigPatch, EnvoyFilter, FilterClass, ObjectMatch, Operation};
use crds::{ObjectKey, Problem, Reason};
use prost::Message;
use regex::Regex;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use xds::json;

/// Beyond it a regex matches nothing, as in Istio.
const REGEX_MAX: usize = 1024;

/// A patch whose value is Envoy's message already.
#[derive(Debug)]
pub struct Patch {
    /// Equal for equal patches of the same object, so that what was made with it can be told from what was made with
    /// its next version.
    pub id: Arc<str>,
    pub(super) owner: ObjectKey,
    pub(super) index: usize,
    pub(super) apply_to: ApplyTo,
    pub(super) operation: Operation,
    pub(super) class: FilterClass,
    pub(super) matcher: ObjectMatch,
    version: Version,
    /// Canonical.
    pub(super) value: Vec<u8>,
}

#[derive(Debug)]
enum Version {
    Any,
    None,
    Matching(Regex),
}

/// What a patch may ask of a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// `ISTIO_VERSION` of its metadata.
    pub version: Option<&'a str>,
    /// The texts of its metadata.
    pub metadata: &'a BTreeMap<String, String>,
}

impl PartialEq for Patch {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Patch {
    /// Those of an object. What cannot be applied is left out, with a problem.
    pub fn all(owner: &ObjectKey, filter: &EnvoyFilter) -> (Vec<Arc<Self>>, Vec<Problem>) {
        let mut problems = vec![];
        let patches = filter.config_patches.iter().enumerate();
        let patches = patches.filter_map(|(index, config)| Self::new(owner, index, config, &mut problems)).collect();
        (patches, problems)
    }

    fn new(owner: &ObjectKey, index: usize, config: &ConfigPatch, problems: &mut Vec<Problem>) -> Option<Arc<Self>> {
        let patch = config.patch.as_ref()?;
        let url = message_of(config.apply_to)?;
        let at = format!("spec.configPatches[{index}].patch.value");
        let mut problem = |reason| problems.push(Problem::new(owner, &at, reason));
        let value = match &patch.value {
            Some(value) if patch.operation != Operation::Remove => match json::from_json_of_any_version(url, value) {
                Ok((value, None)) => value,
                Ok((value, Some(remark))) => {
                    problem(Reason::Ineffective(format!("{remark}; the field is passed over")));
                    value
                }
                Err(error) => {
                    problem(Reason::Invalid(error.to_string()));
                    return None;
                }
            },
            _ => vec![],
        };
        let mut hasher = DefaultHasher::new();
        (format!("{config:?}"), &value).hash(&mut hasher);
        let id = format!("{}/{}[{index}]@{:016x}", owner.namespace, owner.name, hasher.finish());
        Some(Arc::new(Self {
            id: id.into(),
            owner: owner.clone(),
            index,
            apply_to: config.apply_to,
            operation: effective(config.apply_to, patch.operation),
            class: patch.filter_class,
            matcher: config.r#match.clone(),
            version: version(config),
            value,
        }))
    }

    pub fn selects(&self, client: Client<'_>) -> bool {
        let version = match &self.version {
            Version::Any => true,
            Version::None => false,
            Version::Matching(regex) => client.version.is_some_and(|it| regex.is_match(it)),
        };
        let metadata = self.matcher.proxy.as_ref().map(|it| &it.metadata).into_iter().flatten();
        version && metadata.into_iter().all(|(key, value)| client.metadata.get(key) == Some(value))
    }

    /// Whether it is for resources that are used there.
    pub fn is_for(&self, context: Context) -> bool {
        context.is(self.matcher.context)
    }

    /// What is wrong with it.
    pub fn problem(&self, reason: Reason) -> Problem {
        Problem::new(&self.owner, format!("spec.configPatches[{}]", self.index), reason)
    }

    /// Nothing of any proxy that it selects matched it.
    pub fn unmatched(&self) -> Problem {
        let why = "matches nothing that its proxies have; names are those of Envoy's configuration dump";
        self.problem(Reason::Ineffective(why.into()))
    }

    pub(super) fn message<M: Message + Default>(&self) -> M {
        // Its bytes were made as this message.
        M::decode(&*self.value).unwrap_or_default()
    }
}

fn message_of(apply_to: ApplyTo) -> Option<&'static str> {
    Some(match apply_to {
        ApplyTo::Listener => "envoy.config.listener.v3.Listener",
        ApplyTo::FilterChain => "envoy.config.listener.v3.FilterChain",
        ApplyTo::NetworkFilter => "envoy.config.listener.v3.Filter",
        ApplyTo::ListenerFilter => "envoy.config.listener.v3.ListenerFilter",
        ApplyTo::HttpFilter => "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        ApplyTo::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
        ApplyTo::VirtualHost => "envoy.config.route.v3.VirtualHost",
        ApplyTo::HttpRoute => "envoy.config.route.v3.Route",
        ApplyTo::Cluster => "envoy.config.cluster.v3.Cluster",
        ApplyTo::ExtensionConfig => "envoy.config.core.v3.TypedExtensionConfig",
        ApplyTo::Invalid | ApplyTo::Bootstrap => return None,
    })
}

/// What has no order is added, wherever it was to be put.
fn effective(apply_to: ApplyTo, operation: Operation) -> Operation {
    use {ApplyTo as A, Operation as O};
    let has_order = matches!(apply_to, A::HttpFilter | A::NetworkFilter | A::ListenerFilter | A::HttpRoute);
    match operation {
        O::InsertAfter | O::InsertBefore | O::InsertFirst if !has_order => O::Add,
        other => other,
    }
}

fn version(config: &ConfigPatch) -> Version {
    let pattern = config.r#match.proxy.as_ref().map(|it| it.proxy_version.as_str()).unwrap_or_default();
    match pattern {
        "" => Version::Any,
        long if long.len() > REGEX_MAX => Version::None,
        pattern => Regex::new(pattern).map_or(Version::None, Version::Matching),
    }
}
