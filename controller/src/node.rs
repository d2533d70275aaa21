//! A proxy, from the node that opens its stream.

/// The error is one sentence for the client whose node it is.
pub(crate) fn proxy_of(node: &xds::envoy::core::Node) -> Result<model::Proxy, String> {
    let node = xds::Node::parse(node).map_err(|why| why.to_string())?;
    let locality = node.locality.map_or_else(model::Locality::default, |it| model::Locality {
        region: it.region,
        zone: it.zone,
        subzone: it.sub_zone,
    });
    model::Proxy::parse(&node.id, &node.metadata, locality)
}
