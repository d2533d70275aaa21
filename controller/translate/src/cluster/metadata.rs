//! `istio` metadata of clusters: which services, which rule, which subset; metrics and `istioctl` read it.

use super::ClusterInput;
use crate::{message, name};
use model::{Location, Service};
use xds::envoy::{Metadata, pb::google::protobuf::Value};

pub(super) fn outbound(input: &ClusterInput<'_>) -> Metadata {
    let ClusterInput { service, subset, rule, .. } = *input;
    let services = message::list_value(vec![service_value(service)]);
    let config =
        rule.and_then(|it| it.objects.first()).map(|it| message::string_value(name::ConfigPath(it).to_string()));
    let subset = subset.map(message::string_value);
    // Istio marks only the cluster of the whole service.
    let external = (service.location == Location::External && subset.is_none()).then(|| message::bool_value(true));
    let fields = [("services", Some(services)), ("config", config), ("subset", subset), ("external", external)];
    message::metadata("istio", message::structure(fields.into_iter().filter_map(|(key, value)| Some((key, value?)))))
}

pub(super) fn inbound(service: &Service) -> Metadata {
    let services = message::list_value(vec![service_value(service)]);
    message::metadata("istio", message::structure([("services", services)]))
}

fn service_value(service: &Service) -> Value {
    message::struct_value([
        ("host", message::string_value(service.key.host.as_str())),
        ("name", message::string_value(name::service_name(service))),
        ("namespace", message::string_value(&*service.key.namespace)),
    ])
}
