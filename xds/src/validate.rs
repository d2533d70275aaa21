//! Envoy's own field validation, before a push instead of after it.
//!
//! Envoy refuses a whole response for one field out of bounds. The bounds are in its `.proto` files
//! (`validate.rules`, protoc-gen-validate), thus in the descriptors; here they are applied to encoded messages, and
//! to those inside of any known `Any`. Not checked: rules that Envoy's v3 API hardly uses (e-mail, URI, UUID, timestamps).

mod rule;

use crate::{descriptor, descriptors};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, OneofDescriptor, ReflectMessage, Value,
};
use rule::{Rule, Rules};
use std::{collections::HashMap, sync::OnceLock};

/// A field that Envoy would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `filter_chains[0].filters[1].typed_config<HttpConnectionManager>.stat_prefix`
    pub path: String,
    pub reason: String,
}

/// What Envoy would refuse an encoded message for.
///
/// ```
/// use xds::{TypeUrl, canonical, envoy, validate};
/// let violations = validate(TypeUrl::Cluster.url(), &canonical::encode(&envoy::Cluster::default()));
/// assert_eq!((&*violations[0].path, &*violations[0].reason), ("name", "must be at least 1 characters long"));
/// ```
pub fn validate(type_url: &str, bytes: &[u8]) -> Vec<Violation> {
    let mut check = Check { path: String::new(), found: Vec::new(), depth: 0 };
    match descriptor::message(type_url) {
        Some(descriptor) => check.encoded(descriptor, bytes),
        None => check.refuse(format!("{type_url:?} is no type of Envoy's")),
    }
    check.found
}

/// The rules of one message type.
#[derive(Debug)]
struct MessageRules {
    fields: Vec<(FieldDescriptor, Rules)>,
    required_oneofs: Vec<OneofDescriptor>,
}

fn rules_of(message: &MessageDescriptor) -> Option<&'static MessageRules> {
    static ALL: OnceLock<HashMap<String, MessageRules>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let messages = descriptors().all_messages();
        messages.map(|message| (message.full_name().to_owned(), message_rules(&message))).collect()
    });
    all.get(message.full_name())
}

fn message_rules(message: &MessageDescriptor) -> MessageRules {
    let is_required = |oneof: &OneofDescriptor| {
        let required = descriptors().get_extension_by_name("validate.required");
        required.is_some_and(|required| oneof.options().get_extension(&required).as_bool() == Some(true))
    };
    MessageRules {
        fields: message.fields().map(|field| (field.clone(), Rules::of(&field))).collect(),
        required_oneofs: message.oneofs().filter(is_required).collect(),
    }
}

struct Check {
    path: String,
    found: Vec<Violation>,
    depth: usize,
}

/// Protobuf's own limit; `Any`s inside of each other are not bounded by it.
const DEPTH_MAX: usize = 100;

impl Check {
    fn refuse(&mut self, reason: impl Into<String>) {
        self.found.push(Violation { path: self.path.clone(), reason: reason.into() });
    }

    /// Does something one step further down.
    fn at(&mut self, step: &str, what: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 && !step.starts_with(['[', '<']) {
            self.path.push('.');
        }
        self.path.push_str(step);
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.refuse("is nested too deep");
        } else {
            what(self);
        }
        self.depth -= 1;
        self.path.truncate(length);
    }

    fn encoded(&mut self, descriptor: MessageDescriptor, bytes: &[u8]) {
        match DynamicMessage::decode(descriptor, bytes) {
            Ok(message) => self.message(&message),
            Err(error) => self.refuse(error.to_string()),
        }
    }

    fn message(&mut self, message: &DynamicMessage) {
        let descriptor = message.descriptor();
        if descriptor.full_name() == "google.protobuf.Any" {
            return self.any(message);
        }
        let Some(rules) = rules_of(&descriptor) else { return };
        for oneof in &rules.required_oneofs {
            if !oneof.fields().any(|field| message.has_field(&field)) {
                self.at(oneof.name(), |check| check.refuse("one of its fields is required"));
            }
        }
        for (field, rules) in &rules.fields {
            let is_set = message.has_field(field);
            // The rules of a oneof's member hold only where it is the one that is set.
            let applies = !rules.is_empty() && field.containing_oneof().is_none();
            if is_set || applies {
                self.at(field.name(), |check| check.field(message, field, rules, is_set));
            }
        }
    }

    fn any(&mut self, any: &DynamicMessage) {
        let (url, value) = (any.get_field_by_number(1), any.get_field_by_number(2));
        let url = url.as_ref().and_then(|url| url.as_str()).unwrap_or_default();
        let Some(descriptor) = descriptor::message(url) else { return };
        let Some(bytes) = value.as_ref().and_then(|value| value.as_bytes()) else { return };
        let name = format!("<{}>", descriptor.name());
        self.at(&name, |check| check.encoded(descriptor, bytes));
    }

    fn field(&mut self, message: &DynamicMessage, field: &FieldDescriptor, rules: &Rules, is_set: bool) {
        let value = message.get_field(field);
        match &*value {
            Value::List(items) => self.list(items, field, rules),
            Value::Map(entries) => self.map(entries, field, rules),
            value if is_set || !field.supports_presence() => self.value(value, &field.kind(), rules),
            _ if rules.required => self.refuse("is required"),
            _ => {}
        }
    }

    fn list(&mut self, items: &[Value], field: &FieldDescriptor, rules: &Rules) {
        let none = Rules::default();
        let mut each = &none;
        if let Some(Rule::Repeated { count, items: rules }) = &rules.rule {
            count.check(items.len(), "items").into_iter().for_each(|reason| self.refuse(reason));
            each = rules;
        }
        for (place, item) in items.iter().enumerate() {
            self.at(&format!("[{place}]"), |check| check.value(item, &field.kind(), each));
        }
    }

    fn map(&mut self, entries: &HashMap<MapKey, Value>, field: &FieldDescriptor, rules: &Rules) {
        let none = Rules::default();
        let (mut keys, mut values) = (&none, &none);
        if let Some(Rule::Map { count, keys: k, values: v }) = &rules.rule {
            count.check(entries.len(), "entries").into_iter().for_each(|reason| self.refuse(reason));
            (keys, values) = (k, v);
        }
        let kind = field.kind();
        let Some(entry) = kind.as_message() else { return };
        let mut entries: Vec<(Value, &Value)> =
            entries.iter().map(|(key, value)| (key.clone().into(), value)).collect();
        entries.sort_by_cached_key(|(key, _)| key.to_string());
        for (key, value) in entries {
            self.at(&format!("[{key}]"), |check| {
                check.value(&key, &entry.map_entry_key_field().kind(), keys);
                check.value(value, &entry.map_entry_value_field().kind(), values);
            });
        }
    }

    fn value(&mut self, value: &Value, kind: &Kind, rules: &Rules) {
        let reason = rules.rule.as_ref().and_then(|rule| rule.check(value, kind));
        reason.into_iter().for_each(|reason| self.refuse(reason));
        if let Value::Message(message) = value
            && !rules.skip
        {
            self.message(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TypeUrl, canonical, envoy};
    use prost::{Message, Name};

    fn reasons<M: Message + Name>(message: &M) -> Vec<String> {
        let found = validate(&M::type_url(), &canonical::encode(message));
        found.into_iter().map(|violation| format!("{}: {}", violation.path, violation.reason)).collect()
    }

    fn duration(seconds: i64) -> Option<envoy::Duration> {
        Some(envoy::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn a_good_cluster_passes() {
        let cluster = envoy::Cluster { name: "a".into(), connect_timeout: duration(1), ..Default::default() };
        assert_eq!(reasons(&cluster), Vec::<String>::new());
    }

    #[test]
    fn lengths_durations_enums_and_numbers() {
        let cluster = envoy::Cluster {
            connect_timeout: duration(0),
            lb_policy: 77,
            per_connection_buffer_limit_bytes: None,
            outlier_detection: Some(envoy::OutlierDetection {
                max_ejection_percent: Some(envoy::UInt32Value { value: 101 }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let expected = [
            "name: must be at least 1 characters long",
            "connect_timeout: must be greater than 0s",
            "lb_policy: 77 is no value of the enum",
            "outlier_detection.max_ejection_percent: must be at most 100",
        ];
        assert_eq!(reasons(&cluster), expected);
    }

    #[test]
    fn what_is_required_of_one_choice_is_not_required_of_another() {
        use envoy::route::{RedirectAction, RouteMatch, route::Action, route_match::PathSpecifier};
        let matches = RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() };
        let route = envoy::Route {
            r#match: Some(matches),
            action: Some(Action::Redirect(RedirectAction::default())),
            ..Default::default()
        };
        let host = envoy::VirtualHost {
            name: "h".into(),
            domains: vec!["*".into()],
            routes: vec![route],
            ..Default::default()
        };
        assert_eq!(validate(TypeUrl::VirtualHost.url(), &canonical::encode(&host)), []);
    }

    #[test]
    fn what_is_required_also_inside_of_any() {
        let hcm = envoy::HttpConnectionManager::default();
        let filter = envoy::listener::Filter {
            name: "hcm".into(),
            config_type: Some(envoy::listener::filter::ConfigType::TypedConfig(canonical::any(&hcm))),
        };
        let chain = envoy::FilterChain { filters: vec![filter], ..Default::default() };
        let listener = envoy::Listener { filter_chains: vec![chain], ..Default::default() };
        let at = "filter_chains[0].filters[0].typed_config<HttpConnectionManager>";
        let expected = [
            format!("{at}.route_specifier: one of its fields is required"),
            format!("{at}.stat_prefix: must be at least 1 characters long"),
        ];
        assert_eq!(reasons(&listener), expected);
    }

    #[test]
    fn items_and_headers() {
        let header = |key: &str, value: &str| envoy::HeaderValueOption {
            header: Some(envoy::HeaderValue { key: key.into(), value: value.into(), ..Default::default() }),
            ..Default::default()
        };
        let host = envoy::VirtualHost {
            name: "a".into(),
            request_headers_to_add: vec![
                header("x-ok", "v"),
                header("bad\n", "v"),
                header("x", "a\rb"),
                Default::default(),
            ],
            ..Default::default()
        };
        let expected = [
            "domains: must have at least 1 items",
            "request_headers_to_add[1].header.key: is no HTTP header name",
            "request_headers_to_add[2].header.value: is no HTTP header value",
            "request_headers_to_add[3].header: is required",
        ];
        assert_eq!(reasons(&host), expected);
    }

    #[test]
    fn what_is_no_message_is_refused_and_not_a_panic() {
        assert_eq!(validate("no.Such", b"").len(), 1);
        assert_eq!(validate(TypeUrl::Cluster.url(), &[0xff; 9]).len(), 1);
    }

    #[test]
    fn every_type_can_be_checked() {
        for message in descriptors().all_messages() {
            validate(message.full_name(), b"");
        }
    }
}
