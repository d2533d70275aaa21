//! Equal messages become equal bytes.
//!
//! prost keeps a protobuf map in a `HashMap` and writes it in whatever order that has today; nested `Any`s carry
//! those bytes into the equality of what contains them. A version that is a hash of such bytes would differ
//! between replicas and restarts, and every reconnect would send the world again. So map entries are put in
//! order of their keys, on the wire, in place: the order is all that can differ, the length cannot.

use crate::{
    descriptor::{descriptors, message_name},
    envoy,
    wire::{self, Field, Scalar},
};
use prost::{Message, Name};
use prost_reflect::{Kind, MessageDescriptor};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::OnceLock,
};

/// The canonical encoding of a message.
///
/// ```
/// use xds::{canonical, envoy};
/// let value = |n: f64| envoy::Value { kind: Some(envoy::value::Kind::NumberValue(n)) };
/// let fields = |names: &[&str]| envoy::Struct { fields: names.iter().map(|n| (n.to_string(), value(1.0))).collect() };
/// assert_eq!(canonical::encode(&fields(&["a", "b", "c"])), canonical::encode(&fields(&["c", "a", "b"])));
/// ```
pub fn encode<M: Message + Name>(message: &M) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    if let Some(shape) = shapes().by_name.get(M::full_name().as_str()) {
        arrange(*shape, &mut bytes, 0);
    }
    bytes
}

/// A message in an `Any`, encoded canonically.
pub fn any<M: Message + Name>(message: &M) -> envoy::Any {
    envoy::Any { type_url: M::type_url(), value: encode(message) }
}

/// Puts an encoded message in canonical order; nothing happens to a type that is not known.
pub fn in_place(type_url: &str, bytes: &mut [u8]) {
    if let Some(shape) = shapes().by_name.get(message_name(type_url)) {
        arrange(*shape, bytes, 0);
    }
}

/// Where in the messages of one type something may have to be put in order.
#[derive(Debug, Default)]
struct Shape {
    /// Sorted by field number; fields that cannot lead to a map are left out.
    fields: Box<[(u32, Part)]>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Message(ShapeId),
    /// A map, and the shape of its values if that needs order, too.
    Map(Option<ShapeId>),
}

type ShapeId = usize;
const ANY: ShapeId = 0;
const ANY_NAME: &str = "google.protobuf.Any";

#[derive(Debug)]
struct Shapes {
    shapes: Vec<Shape>,
    /// Only the types that may need order: the others are done as soon as they are encoded.
    by_name: HashMap<Box<str>, ShapeId>,
}

fn shapes() -> &'static Shapes {
    static SHAPES: OnceLock<Shapes> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let messages: Vec<MessageDescriptor> = descriptors().all_messages().filter(|m| !m.is_map_entry()).collect();
        let unordered = unordered(&messages);
        let names = messages.iter().map(MessageDescriptor::full_name);
        let names =
            std::iter::once(ANY_NAME).chain(names.filter(|name| *name != ANY_NAME && unordered.contains(*name)));
        let by_name: HashMap<Box<str>, ShapeId> = names.enumerate().map(|(id, name)| (name.into(), id)).collect();
        let mut shapes: Vec<Shape> = by_name.iter().map(|_| Shape::default()).collect();
        for message in &messages {
            if let Some(id) = by_name.get(message.full_name()) {
                shapes[*id] = shape(message, &by_name);
            }
        }
        Shapes { shapes, by_name }
    })
}

/// The names of all messages that contain a map or an `Any`, however deep.
fn unordered(messages: &[MessageDescriptor]) -> HashSet<&str> {
    let mut containers: HashMap<String, Vec<&str>> = HashMap::new();
    let mut reached: Vec<&str> = Vec::new();
    for message in messages {
        let name = message.full_name();
        if name == ANY_NAME || message.fields().any(|field| field.is_map()) {
            reached.push(name);
        }
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind() {
                containers.entry(inner.full_name().to_owned()).or_default().push(name);
            }
        }
    }
    let mut found = HashSet::new();
    while let Some(name) = reached.pop() {
        if found.insert(name) {
            reached.extend(containers.get(name).into_iter().flatten());
        }
    }
    found
}

fn shape(message: &MessageDescriptor, by_name: &HashMap<Box<str>, ShapeId>) -> Shape {
    let of = |kind: Kind| kind.as_message().and_then(|inner| by_name.get(inner.full_name()).copied());
    let part = |field: &prost_reflect::FieldDescriptor| {
        let kind = field.kind();
        if !field.is_map() {
            return of(kind).map(Part::Message);
        }
        let entry = kind.as_message().cloned();
        Some(Part::Map(entry.and_then(|entry| of(entry.map_entry_value_field().kind()))))
    };
    let mut fields: Vec<_> = message.fields().filter_map(|field| Some((field.number(), part(&field)?))).collect();
    fields.sort_by_key(|(number, _)| *number);
    Shape { fields: fields.into() }
}

/// Protobuf's own limit.
const DEPTH_MAX: usize = 100;

fn arrange(id: ShapeId, bytes: &mut [u8], depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    if id == ANY {
        return arrange_any(bytes, depth);
    }
    let shape = &shapes().shapes[id];
    // Entries of one map that follow each other; prost writes all of them so.
    let mut run: Vec<Entry> = Vec::new();
    let mut run_of = 0;
    let mut at = 0;
    while let Some(Field { number, value, end }) = wire::field(bytes, at) {
        let part = shape.fields.binary_search_by_key(&number, |(number, _)| *number).map(|found| shape.fields[found].1);
        if number != run_of {
            sort(bytes, &mut run);
            run_of = number;
        }
        if let (Ok(part), Scalar::Bytes(content)) = (part, value) {
            match part {
                Part::Message(inner) => arrange(inner, &mut bytes[content], depth + 1),
                Part::Map(values) => run.push(entry(bytes, at..end, content, values, depth)),
            }
        }
        at = end;
    }
    sort(bytes, &mut run);
}

fn arrange_any(bytes: &mut [u8], depth: usize) {
    let (Some(url), Some(value)) = (wire::bytes_of(bytes, 1), wire::bytes_of(bytes, 2)) else { return };
    let shape = std::str::from_utf8(&bytes[url]).ok().and_then(|url| shapes().by_name.get(message_name(url)));
    if let Some(shape) = shape {
        arrange(*shape, &mut bytes[value], depth + 1);
    }
}

struct Entry {
    whole: Range<usize>,
    key: Range<usize>,
}

fn entry(bytes: &mut [u8], whole: Range<usize>, content: Range<usize>, values: Option<ShapeId>, depth: usize) -> Entry {
    const KEY: u32 = 1;
    const VALUE: u32 = 2;
    let mut key = content.start..content.start;
    let mut at = content.start;
    while let Some(field) = wire::field(&bytes[..content.end], at) {
        match (field.number, field.value) {
            (KEY, Scalar::Bytes(range)) => key = range,
            (KEY, _) => key = at..field.end,
            (VALUE, Scalar::Bytes(range)) => {
                if let Some(inner) = values {
                    arrange(inner, &mut bytes[range], depth + 1);
                }
            }
            _ => {}
        }
        at = field.end;
    }
    Entry { whole, key }
}

fn sort(bytes: &mut [u8], run: &mut Vec<Entry>) {
    if !run.is_sorted_by(|a, b| bytes[a.key.clone()] <= bytes[b.key.clone()]) {
        let start = run[0].whole.start;
        run.sort_by(|a, b| bytes[a.key.clone()].cmp(&bytes[b.key.clone()]));
        let sorted: Vec<u8> = run.iter().flat_map(|entry| &bytes[entry.whole.clone()]).copied().collect();
        bytes[start..start + sorted.len()].copy_from_slice(&sorted);
    }
    run.clear();
}
