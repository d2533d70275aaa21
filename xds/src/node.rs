//! Who is on the other end of a stream.

use crate::envoy;
use serde_json::{Map, Number, Value};

/// The parts of Envoy's `Node` that configuration can depend on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub id: String,
    pub cluster: String,
    /// A JSON object, with keys in order.
    pub metadata: Value,
    pub locality: Option<envoy::Locality>,
    pub user_agent_name: String,
    /// `1.40.0`, whichever way the node says it; empty if it does not.
    pub user_agent_version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Rule X1.
    #[error("the first request has no node.id")]
    NoId,
    #[error("node metadata is nested more than {METADATA_DEPTH_MAX} deep")]
    TooDeep,
}

/// Envoy's own limit for nested messages, and what keeps hostile metadata from using up the stack.
const METADATA_DEPTH_MAX: usize = 50;

impl Node {
    pub fn parse(node: &envoy::core::Node) -> Result<Self, NodeError> {
        use envoy::core::node::UserAgentVersionType::{UserAgentBuildVersion, UserAgentVersion};
        if node.id.is_empty() {
            return Err(NodeError::NoId);
        }
        let version = match &node.user_agent_version_type {
            Some(UserAgentVersion(version)) => version.clone(),
            Some(UserAgentBuildVersion(build)) => build.version.as_ref().map_or_else(String::new, |version| {
                format!("{}.{}.{}", version.major_number, version.minor_number, version.patch)
            }),
            None => String::new(),
        };
        Ok(Self {
            id: node.id.clone(),
            cluster: node.cluster.clone(),
            metadata: node
                .metadata
                .as_ref()
                .map_or_else(|| Ok(Value::Object(Map::new())), |fields| object(fields, 0))?,
            locality: node.locality.clone(),
            user_agent_name: node.user_agent_name.clone(),
            user_agent_version: version,
        })
    }
}

fn object(fields: &envoy::Struct, depth: usize) -> Result<Value, NodeError> {
    let mut sorted: Vec<_> = fields.fields.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let fields = sorted.into_iter().map(|(name, field)| Ok((name.clone(), value(field, depth + 1)?)));
    Ok(Value::Object(fields.collect::<Result<_, NodeError>>()?))
}

fn value(value: &envoy::Value, depth: usize) -> Result<Value, NodeError> {
    use envoy::value::Kind;
    if depth > METADATA_DEPTH_MAX {
        return Err(NodeError::TooDeep);
    }
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::NumberValue(number)) => number_value(*number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::StructValue(fields)) => object(fields, depth)?,
        Some(Kind::ListValue(list)) => {
            let items = list.values.iter().map(|item| self::value(item, depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
    })
}

/// Protobuf has doubles only; a whole number is shown as one, as it was written.
fn number_value(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy::value::Kind;

    fn field(kind: Kind) -> envoy::Value {
        envoy::Value { kind: Some(kind) }
    }

    #[test]
    fn metadata_becomes_json() {
        let labels = envoy::Struct { fields: [("app".into(), field(Kind::StringValue("web".into())))].into() };
        let fields = [
            ("LABELS".into(), field(Kind::StructValue(labels))),
            ("PORT".into(), field(Kind::NumberValue(8080.0))),
            ("RATIO".into(), field(Kind::NumberValue(0.5))),
            ("LIST".into(), field(Kind::ListValue(envoy::ListValue { values: vec![field(Kind::BoolValue(true))] }))),
        ];
        let metadata = Some(envoy::Struct { fields: fields.into() });
        let node = Node::parse(&envoy::core::Node { id: "n".into(), metadata, ..Default::default() }).unwrap();
        let expected = r#"{"LABELS":{"app":"web"},"LIST":[true],"PORT":8080,"RATIO":0.5}"#;
        assert_eq!(node.metadata.to_string(), expected);
    }

    #[test]
    fn metadata_of_any_depth_does_not_overflow() {
        let deep = (0..10_000).fold(field(Kind::BoolValue(true)), |inner, _| {
            field(Kind::ListValue(envoy::ListValue { values: vec![inner] }))
        });
        let metadata = Some(envoy::Struct { fields: [("deep".into(), deep)].into() });
        let node = envoy::core::Node { id: "n".into(), metadata, ..Default::default() };
        assert_eq!(Node::parse(&node), Err(NodeError::TooDeep));
        // Dropping so deep a message recurses, too; no decoder builds one.
        std::mem::forget(node);
    }
}
