//! `TypedStruct`: an extension's configuration as JSON, for extensions whose types the sender does not have.
//! envoy-types leaves the two packages out, so the messages and their descriptors stand here.

use crate::envoy;
use prost::{Message, Name};
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// `xds.type.v3.TypedStruct`
#[derive(Clone, PartialEq, Message)]
pub struct TypedStruct {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<envoy::Struct>,
}

/// `udpa.type.v1.TypedStruct`, the older name of the same; Envoy reads both.
#[derive(Clone, PartialEq, Message)]
pub struct UdpaTypedStruct {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<envoy::Struct>,
}

impl Name for TypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "xds.type.v3";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

impl Name for UdpaTypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "udpa.type.v1";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

pub(crate) fn files() -> [FileDescriptorProto; 2] {
    [
        file("xds/type/v3/typed_struct.proto", TypedStruct::PACKAGE),
        file("udpa/type/v1/typed_struct.proto", UdpaTypedStruct::PACKAGE),
    ]
}

fn file(path: &str, package: &str) -> FileDescriptorProto {
    let field = |name: &str, number, kind: Type, type_name: Option<&str>| FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: type_name.map(Into::into),
        ..Default::default()
    };
    let message = DescriptorProto {
        name: Some("TypedStruct".into()),
        field: vec![
            field("type_url", 1, Type::String, None),
            field("value", 2, Type::Message, Some(".google.protobuf.Struct")),
        ],
        ..Default::default()
    };
    FileDescriptorProto {
        name: Some(path.into()),
        package: Some(package.into()),
        dependency: vec!["google/protobuf/struct.proto".into()],
        message_type: vec![message],
        syntax: Some("proto3".into()),
        ..Default::default()
    }
}
