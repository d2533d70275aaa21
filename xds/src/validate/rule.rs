//! The rules of one field, read from its options.

use crate::descriptors;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value};
use regex::Regex;

#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) required: bool,
    /// Do not look inside of the message.
    pub(super) skip: bool,
    pub(super) rule: Option<Rule>,
}

#[derive(Debug)]
pub(super) enum Rule {
    Number(Bounds),
    Duration(Bounds),
    Text(Box<Text>),
    Bytes(Count),
    Enum { defined_only: bool, bounds: Bounds },
    Bool(bool),
    Any { one_of: Vec<String>, none_of: Vec<String> },
    Repeated { count: Count, items: Box<Rules> },
    Map { count: Count, keys: Box<Rules>, values: Box<Rules> },
}

#[derive(Debug, Default)]
pub(super) struct Bounds {
    equal: Option<f64>,
    below: Option<f64>,
    at_most: Option<f64>,
    above: Option<f64>,
    at_least: Option<f64>,
    one_of: Vec<f64>,
    none_of: Vec<f64>,
    ignore_zero: bool,
    unit: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Count {
    min: Option<u64>,
    max: Option<u64>,
    ignore_empty: bool,
}

#[derive(Debug, Default)]
pub(super) struct Text {
    characters: Count,
    bytes: Count,
    equal: Option<String>,
    pattern: Option<Regex>,
    prefix: Option<String>,
    suffix: Option<String>,
    contains: Option<String>,
    not_contains: Option<String>,
    one_of: Vec<String>,
    none_of: Vec<String>,
    header: Option<Header>,
    ignore_empty: bool,
}

#[derive(Clone, Copy, Debug)]
enum Header {
    Name { strict: bool },
    Value { strict: bool },
}

impl Rules {
    pub(super) fn of(field: &FieldDescriptor) -> Self {
        let Some(extension) = descriptors().get_extension_by_name("validate.rules") else { return Self::default() };
        let options = field.options();
        if !options.has_extension(&extension) {
            return Self::default();
        }
        options.get_extension(&extension).as_message().map(Self::read).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rule.is_none() && !self.required
    }

    fn read(rules: &DynamicMessage) -> Self {
        let mut read = Self::default();
        for (field, value) in rules.fields() {
            let Some(of) = value.as_message() else { continue };
            let is = |name| of.get_field_by_name(name).is_some_and(|flag| flag.as_bool() == Some(true));
            // Of messages, durations and `Any`s alike.
            read.required |= is("required");
            match field.name() {
                "message" => read.skip = is("skip"),
                name => read.rule = Rule::read(name, of),
            }
        }
        read
    }

    fn at(of: &DynamicMessage, name: &str) -> Box<Self> {
        let set = of.has_field_by_name(name).then(|| of.get_field_by_name(name)).flatten();
        Box::new(set.and_then(|rules| rules.as_message().map(Self::read)).unwrap_or_default())
    }
}

impl Rule {
    fn read(kind: &str, of: &DynamicMessage) -> Option<Self> {
        Some(match kind {
            "string" => Self::Text(Box::new(Text::read(of))),
            "bytes" => Self::Bytes(Count::read(of, "min_len", "max_len")),
            "enum" => Self::Enum { defined_only: flag(of, "defined_only"), bounds: Bounds::read(of, "") },
            "bool" => Self::Bool(set(of, "const")?.as_bool()?),
            "any" => Self::Any { one_of: texts(of, "in"), none_of: texts(of, "not_in") },
            "duration" => Self::Duration(Bounds::read(of, "s")),
            "repeated" => {
                Self::Repeated { count: Count::read(of, "min_items", "max_items"), items: Rules::at(of, "items") }
            }
            "map" => Self::Map {
                count: Count::read(of, "min_pairs", "max_pairs"),
                keys: Rules::at(of, "keys"),
                values: Rules::at(of, "values"),
            },
            "timestamp" => return None,
            _ => Self::Number(Bounds::read(of, "")),
        })
    }

    /// Why the value is not allowed.
    pub(super) fn check(&self, value: &Value, kind: &Kind) -> Option<String> {
        match self {
            Self::Number(bounds) => bounds.check(number(unwrapped(value).as_ref().unwrap_or(value))?),
            Self::Duration(bounds) => bounds.check(number(value)?),
            Self::Text(text) => text.check(unwrapped(value).as_ref().unwrap_or(value).as_str()?),
            Self::Bytes(count) => count.check(unwrapped(value).as_ref().unwrap_or(value).as_bytes()?.len(), "bytes"),
            Self::Enum { defined_only, bounds } => {
                let number = value.as_enum_number()?;
                let is_defined = kind.as_enum().is_none_or(|kind| kind.get_value(number).is_some());
                let undefined = *defined_only && !is_defined;
                undefined.then(|| format!("{number} is no value of the enum")).or_else(|| bounds.check(number.into()))
            }
            Self::Bool(must_be) => {
                let is = unwrapped(value).as_ref().unwrap_or(value).as_bool()?;
                (is != *must_be).then(|| format!("must be {must_be}"))
            }
            Self::Any { one_of, none_of } => {
                let url = value.as_message()?.get_field_by_number(1)?;
                let url = url.as_str()?;
                let is_wrong = (!one_of.is_empty() && !one_of.iter().any(|allowed| allowed == url))
                    || none_of.iter().any(|other| other == url);
                is_wrong.then(|| format!("{url:?} is not allowed here"))
            }
            Self::Repeated { .. } | Self::Map { .. } => None,
        }
    }
}

impl Bounds {
    fn read(of: &DynamicMessage, unit: &'static str) -> Self {
        let bound = |name| set(of, name).as_ref().and_then(number);
        let numbers = |name| match set(of, name) {
            Some(Value::List(items)) => items.iter().filter_map(number).collect(),
            _ => Vec::new(),
        };
        Self {
            equal: bound("const"),
            below: bound("lt"),
            at_most: bound("lte"),
            above: bound("gt"),
            at_least: bound("gte"),
            one_of: numbers("in"),
            none_of: numbers("not_in"),
            ignore_zero: flag(of, "ignore_empty"),
            unit,
        }
    }

    fn check(&self, value: f64) -> Option<String> {
        if self.ignore_zero && value == 0.0 {
            return None;
        }
        let unit = self.unit;
        let says = |bound: Option<f64>, holds: fn(f64, f64) -> bool, words: &str| {
            bound.filter(|bound| !holds(value, *bound)).map(|bound| format!("must be {words} {bound}{unit}"))
        };
        says(self.equal, |value, bound| value == bound, "equal to")
            .or_else(|| says(self.below, |value, bound| value < bound, "less than"))
            .or_else(|| says(self.at_most, |value, bound| value <= bound, "at most"))
            .or_else(|| says(self.above, |value, bound| value > bound, "greater than"))
            .or_else(|| says(self.at_least, |value, bound| value >= bound, "at least"))
            .or_else(|| {
                let is_wrong =
                    (!self.one_of.is_empty() && !self.one_of.contains(&value)) || self.none_of.contains(&value);
                is_wrong.then(|| format!("{value}{unit} is not allowed"))
            })
    }
}

impl Count {
    fn read(of: &DynamicMessage, min: &str, max: &str) -> Self {
        let bound = |name| set(of, name).and_then(|bound| bound.as_u64());
        Self { min: bound(min), max: bound(max), ignore_empty: flag(of, "ignore_empty") }
    }

    pub(super) fn check(&self, length: usize, of: &str) -> Option<String> {
        let length = length as u64;
        let verb = if of == "items" || of == "entries" { "must have" } else { "must be" };
        let end = if verb == "must be" { " long" } else { "" };
        if self.ignore_empty && length == 0 {
            return None;
        }
        let short = self.min.filter(|min| length < *min).map(|min| format!("{verb} at least {min} {of}{end}"));
        short.or_else(|| self.max.filter(|max| length > *max).map(|max| format!("{verb} at most {max} {of}{end}")))
    }
}

impl Text {
    fn read(of: &DynamicMessage) -> Self {
        let text = |name| set(of, name).and_then(|text| text.as_str().map(str::to_owned));
        let strict = set(of, "strict").and_then(|strict| strict.as_bool()) != Some(false);
        let header = match set(of, "well_known_regex").and_then(|regex| regex.as_enum_number()) {
            Some(1) => Some(Header::Name { strict }),
            Some(2) => Some(Header::Value { strict }),
            _ => None,
        };
        Self {
            characters: Count::read(of, "min_len", "max_len"),
            bytes: Count::read(of, "min_bytes", "max_bytes"),
            equal: text("const"),
            // Envoy's own patterns are RE2, which this is a dialect of.
            pattern: text("pattern").and_then(|pattern| Regex::new(&pattern).ok()),
            prefix: text("prefix"),
            suffix: text("suffix"),
            contains: text("contains"),
            not_contains: text("not_contains"),
            one_of: texts(of, "in"),
            none_of: texts(of, "not_in"),
            header,
            ignore_empty: flag(of, "ignore_empty"),
        }
    }

    fn check(&self, text: &str) -> Option<String> {
        if self.ignore_empty && text.is_empty() {
            return None;
        }
        let unless = |holds: bool, reason: String| (!holds).then_some(reason);
        let given = |wanted: &Option<String>, holds: fn(&str, &str) -> bool, words: &str| {
            wanted.as_ref().and_then(|wanted| unless(holds(text, wanted), format!("must {words} {wanted:?}")))
        };
        self.characters
            .check(text.chars().count(), "characters")
            .or_else(|| self.bytes.check(text.len(), "bytes"))
            .or_else(|| given(&self.equal, |text, wanted| text == wanted, "be"))
            .or_else(|| given(&self.prefix, |text, wanted| text.starts_with(wanted), "start with"))
            .or_else(|| given(&self.suffix, |text, wanted| text.ends_with(wanted), "end with"))
            .or_else(|| given(&self.contains, |text, wanted| text.contains(wanted), "contain"))
            .or_else(|| given(&self.not_contains, |text, other| !text.contains(other), "not contain"))
            .or_else(|| {
                let pattern = self.pattern.as_ref()?;
                unless(pattern.is_match(text), format!("must match {:?}", pattern.as_str()))
            })
            .or_else(|| {
                let is_allowed = self.one_of.is_empty() || self.one_of.iter().any(|allowed| allowed == text);
                unless(
                    is_allowed && !self.none_of.iter().any(|other| other == text),
                    format!("{text:?} is not allowed"),
                )
            })
            .or_else(|| self.header.and_then(|header| header.check(text)))
    }
}

impl Header {
    /// The patterns of protoc-gen-validate's `KnownRegex`.
    fn check(self, text: &str) -> Option<String> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_|~`".contains(&byte);
        let breaks = |byte: u8| matches!(byte, b'\0' | b'\n' | b'\r');
        let control = |byte: u8| (byte.is_ascii_control() && byte != b'\t') || byte == 0x7f;
        let (holds, reason) = match self {
            Self::Name { strict: true } => {
                let name = text.strip_prefix(':').unwrap_or(text);
                (!name.is_empty() && name.bytes().all(token), "is no HTTP header name")
            }
            Self::Name { strict: false } => (!text.bytes().any(breaks), "is no HTTP header name"),
            Self::Value { strict: true } => (!text.bytes().any(control), "is no HTTP header value"),
            Self::Value { strict: false } => (!text.bytes().any(breaks), "is no HTTP header value"),
        };
        (!holds).then(|| reason.to_owned())
    }
}

/// A rule that is there; proto2 defaults are none.
fn set(of: &DynamicMessage, name: &str) -> Option<Value> {
    of.has_field_by_name(name).then(|| of.get_field_by_name(name).map(std::borrow::Cow::into_owned)).flatten()
}

fn flag(of: &DynamicMessage, name: &str) -> bool {
    set(of, name).and_then(|flag| flag.as_bool()) == Some(true)
}

fn texts(of: &DynamicMessage, name: &str) -> Vec<String> {
    match set(of, name) {
        Some(Value::List(items)) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// A number, or a duration in seconds.
fn number(value: &Value) -> Option<f64> {
    Some(match value {
        Value::I32(number) | Value::EnumNumber(number) => (*number).into(),
        Value::U32(number) => (*number).into(),
        Value::I64(number) => *number as f64,
        Value::U64(number) => *number as f64,
        Value::F32(number) => (*number).into(),
        Value::F64(number) => *number,
        Value::Message(duration) => {
            let part = |number| duration.get_field_by_number(number);
            part(1)?.as_i64()? as f64 + f64::from(part(2)?.as_i32()?) / 1e9
        }
        _ => return None,
    })
}

/// The value in a `UInt32Value` and its like, to which rules of a `uint32` apply.
fn unwrapped(value: &Value) -> Option<Value> {
    let message = value.as_message()?;
    let descriptor = message.descriptor();
    let is_wrapper = descriptor.package_name() == "google.protobuf" && descriptor.name().ends_with("Value");
    is_wrapper.then(|| message.get_field_by_number(1).map(std::borrow::Cow::into_owned)).flatten()
}
