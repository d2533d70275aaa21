//! What is wrong with an object: a value, never an error. One shape for source, webhook, status and CLI.

use crate::object::ObjectKey;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object is in force, but something in it has no effect or surprises.
    Warning,
    /// The object, or the part of it that `field` names, is not in force.
    Error,
}

/// One mistake: which object, which field of it (`spec.http[0].route[1].destination.subset`; empty means the
/// whole object) and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    pub object: ObjectKey,
    pub field: String,
    pub reason: Reason,
}

/// Why. One variant for each mistake that code or tests tell apart; the rest carry their sentence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The document is not YAML, or its shape is not that of its kind.
    Malformed(String),
    UnknownKind(String),
    UnknownField,
    UnknownEnumValue(String),
    /// Fails a rule of Istio's validation (<https://istio.io/latest/docs/reference/config/>).
    Invalid(String),
    /// RE2 would refuse the regex.
    InvalidRegex(String),
    /// Accepted by Istio, and not translated by this version.
    NotTranslated,
    /// Accepted, and has no effect or is deprecated.
    Ineffective(String),
    UnknownGateway(String),
    UnknownHost(String),
    UnknownSubset {
        host: String,
        subset: String,
    },
    UnknownPort {
        host: String,
        port: u32,
    },
    /// Another object already rules this host.
    Shadowed {
        host: String,
        by: ObjectKey,
    },
    /// Envoy refuses one domain in two virtual hosts; the first keeps it.
    DuplicateDomain {
        domain: String,
        owner: String,
    },
    PortConflict {
        address: String,
        with: String,
    },
    /// Envoy's own field validation would refuse the resource.
    EnvoyWouldReject {
        resource: String,
        violation: String,
    },
}

impl Reason {
    pub fn severity(&self) -> Severity {
        match self {
            Self::UnknownField
            | Self::NotTranslated
            | Self::Ineffective(_)
            | Self::UnknownGateway(_)
            | Self::UnknownHost(_)
            | Self::UnknownSubset { .. }
            | Self::UnknownPort { .. }
            | Self::Shadowed { .. }
            | Self::DuplicateDomain { .. } => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::Invalid(why) | Self::Ineffective(why) => f.write_str(why),
            Self::UnknownKind(kind) => write!(f, "unknown kind {kind}"),
            Self::UnknownField => f.write_str("unknown field, ignored"),
            Self::UnknownEnumValue(why) => f.write_str(why),
            Self::InvalidRegex(why) => write!(f, "invalid regex (RE2): {why}"),
            Self::NotTranslated => f.write_str("not translated by this version of navarch, has no effect"),
            Self::UnknownGateway(name) => write!(f, "no Gateway {name} exists"),
            Self::UnknownHost(host) => write!(f, "host {host} is not known to the mesh"),
            Self::UnknownSubset { host, subset } => {
                write!(f, "subset {subset} of {host} is defined by no DestinationRule")
            }
            Self::UnknownPort { host, port } => write!(f, "host {host} has no port {port}"),
            Self::Shadowed { host, by } => write!(f, "host {host} is already ruled by {by}, the older one wins"),
            Self::DuplicateDomain { domain, owner } => write!(f, "domain {domain} already belongs to {owner}"),
            Self::PortConflict { address, with } => write!(f, "{address} is already taken by {with}"),
            Self::EnvoyWouldReject { resource, violation } => {
                write!(f, "Envoy would reject {resource}: {violation}; it is left out")
            }
        }
    }
}

impl Problem {
    pub fn new(object: &ObjectKey, field: impl Into<String>, reason: Reason) -> Self {
        Self { object: object.clone(), field: field.into(), reason }
    }

    pub fn severity(&self) -> Severity {
        self.reason.severity()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}: {}", self.object, self.reason),
            field => write!(f, "{}: {field}: {}", self.object, self.reason),
        }
    }
}
