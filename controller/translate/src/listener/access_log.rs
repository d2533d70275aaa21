//! Access logs that MeshConfig asks for: `accessLogFile`, `accessLogFormat`, `accessLogEncoding`.

use crate::message;
use crds::mesh_config::{AccessLogEncoding, MeshConfig};
use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ResponseFlagFilter, access_log::ConfigType, access_log_filter::FilterSpecifier,
};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, JsonFormatOptions, SubstitutionFormatString, TypedExtensionConfig, data_source::Specifier,
    substitution_format_string::Format,
};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat};
use envoy_types::pb::envoy::extensions::formatter::{
    cel::v3::Cel, metadata::v3::Metadata, req_without_query::v3::ReqWithoutQuery,
};
use envoy_types::pb::google::protobuf::{self as pb, value::Kind};
use serde_json::Value;

/// The log of an HTTP connection manager or TCP proxy; none unless `accessLogFile` is set.
pub(super) fn file(mesh: &MeshConfig) -> Vec<AccessLog> {
    if mesh.access_log_file.is_empty() {
        return vec![];
    }
    let config = FileAccessLog {
        path: mesh.access_log_file.clone(),
        access_log_format: Some(AccessLogFormat::LogFormat(format(mesh))),
    };
    vec![AccessLog {
        name: "envoy.access_loggers.file".into(),
        config_type: Some(ConfigType::TypedConfig(message::any(&config))),
        filter: None,
    }]
}

/// The log of a listener: only of connections that no filter chain wanted, all others have the chain's own log.
pub(super) fn of_listener(mesh: &MeshConfig) -> Vec<AccessLog> {
    if mesh.disable_envoy_listener_log {
        return vec![];
    }
    let no_route = ResponseFlagFilter { flags: vec!["NR".into()] };
    let filter = AccessLogFilter { filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(no_route)) };
    file(mesh).into_iter().map(|log| AccessLog { filter: Some(filter.clone()), ..log }).collect()
}

fn format(mesh: &MeshConfig) -> SubstitutionFormatString {
    let custom = mesh.access_log_format.as_str();
    match mesh.access_log_encoding {
        AccessLogEncoding::Text => {
            let text = if custom.is_empty() { TEXT.to_owned() } else { with_newline(custom) };
            SubstitutionFormatString {
                formatters: formatters(&text),
                format: Some(Format::TextFormatSource(DataSource {
                    specifier: Some(Specifier::InlineString(text)),
                    ..Default::default()
                })),
                ..Default::default()
            }
        }
        AccessLogEncoding::Json => {
            // A format that is not a JSON object is ignored (Istio: "default log format will be used").
            let parsed = serde_json::from_str(custom).ok();
            let fields = parsed.and_then(|it| if let Value::Object(map) = it { Some(map) } else { None });
            let text = if fields.is_some() { custom } else { "" };
            SubstitutionFormatString {
                formatters: formatters(text),
                format: Some(Format::JsonFormat(fields.map_or_else(default_json, json_struct))),
                json_format_options: Some(JsonFormatOptions::default()),
                ..Default::default()
            }
        }
    }
}

/// Istio ends every line itself.
fn with_newline(text: &str) -> String {
    match text.ends_with('\n') {
        true => text.to_owned(),
        false => format!("{text}\n"),
    }
}

/// Operators that Envoy knows only with their extension.
fn formatters(text: &str) -> Vec<TypedExtensionConfig> {
    let used = |operator: &str| text.contains(operator);
    let mut list = vec![];
    if used("%REQ_WITHOUT_QUERY") {
        list.push(message::typed_extension("envoy.formatter.req_without_query", &ReqWithoutQuery {}));
    }
    if used("%METADATA") {
        list.push(message::typed_extension("envoy.formatter.metadata", &Metadata {}));
    }
    if used("%CEL") {
        list.push(message::typed_extension("envoy.formatter.cel", &Cel::default()));
    }
    list
}

fn default_json() -> pb::Struct {
    message::structure(JSON.iter().map(|(key, operator)| (*key, message::string_value(*operator))))
}

fn json_struct(map: serde_json::Map<String, Value>) -> pb::Struct {
    pb::Struct { fields: map.into_iter().map(|(key, value)| (key, json_value(value))).collect() }
}

fn json_value(value: Value) -> pb::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(it) => Kind::BoolValue(it),
        Value::Number(it) => Kind::NumberValue(it.as_f64().unwrap_or_default()),
        Value::String(it) => Kind::StringValue(it),
        Value::Array(list) => Kind::ListValue(pb::ListValue { values: list.into_iter().map(json_value).collect() }),
        Value::Object(map) => Kind::StructValue(json_struct(map)),
    };
    pb::Value { kind: Some(kind) }
}

/// Istio's default line (`pilot/pkg/model/telemetry_logging.go`); log pipelines parse it.
const TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

const JSON: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn mesh(encoding: AccessLogEncoding, format: &str) -> MeshConfig {
        MeshConfig {
            access_log_file: "/dev/stdout".into(),
            access_log_encoding: encoding,
            access_log_format: format.into(),
            ..Default::default()
        }
    }

    fn written(mesh: &MeshConfig) -> SubstitutionFormatString {
        let log = file(mesh).remove(0);
        let Some(ConfigType::TypedConfig(any)) = log.config_type else { panic!("no config") };
        let config = FileAccessLog::decode(any.value.as_slice()).unwrap();
        assert_eq!(config.path, "/dev/stdout");
        let Some(AccessLogFormat::LogFormat(format)) = config.access_log_format else { panic!("no format") };
        format
    }

    fn text(format: &SubstitutionFormatString) -> &str {
        match &format.format {
            Some(Format::TextFormatSource(DataSource { specifier: Some(Specifier::InlineString(text)), .. })) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_file_no_log() {
        assert_eq!(file(&MeshConfig::default()), []);
        assert_eq!(of_listener(&MeshConfig::default()), []);
    }

    #[test]
    fn text_is_istios_default_or_the_users_line_with_its_formatters() {
        let default = written(&mesh(AccessLogEncoding::Text, ""));
        assert!(text(&default).starts_with("[%START_TIME%] \"%REQ(:METHOD)% "));
        assert!(text(&default).ends_with(" %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"));
        assert_eq!(default.formatters, []);
        let own = written(&mesh(AccessLogEncoding::Text, "%REQ_WITHOUT_QUERY(:PATH)% %CEL(request.path)%"));
        assert_eq!(text(&own), "%REQ_WITHOUT_QUERY(:PATH)% %CEL(request.path)%\n");
        let names: Vec<_> = own.formatters.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["envoy.formatter.req_without_query", "envoy.formatter.cel"]);
    }

    #[test]
    fn json_is_istios_default_or_the_users_object() {
        for (format, expected) in [
            ("", ("start_time", "%START_TIME%", 24)),
            ("nonsense", ("start_time", "%START_TIME%", 24)),
            ("[1]", ("start_time", "%START_TIME%", 24)),
            (r#"{"when": "%START_TIME%"}"#, ("when", "%START_TIME%", 1)),
        ] {
            let Some(Format::JsonFormat(object)) = written(&mesh(AccessLogEncoding::Json, format)).format else {
                panic!("{format}: not JSON")
            };
            let (key, value, count) = expected;
            assert_eq!(object.fields.len(), count, "{format}");
            assert_eq!(object.fields[key], message::string_value(value), "{format}");
        }
    }

    #[test]
    fn listeners_log_only_what_no_chain_wanted() {
        let mesh = mesh(AccessLogEncoding::Text, "");
        let log = &of_listener(&mesh)[0];
        let Some(FilterSpecifier::ResponseFlagFilter(flags)) = &log.filter.as_ref().unwrap().filter_specifier else {
            panic!("no filter")
        };
        assert_eq!(flags.flags, ["NR"]);
        assert_eq!(of_listener(&MeshConfig { disable_envoy_listener_log: true, ..mesh }), []);
    }
}
