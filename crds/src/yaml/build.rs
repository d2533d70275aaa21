//! From the parser's events to a value and its lines.

use super::{Content, Document, Error, Marks, scalar};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Values that one document may have after its aliases are expanded ("billion laughs"). etcd refuses objects over
/// 1.5 MB, which cannot hold this many.
const VALUES_MAX: usize = 1_000_000;

/// How deep values may nest; Istio's and Kubernetes' objects stay far below.
const DEPTH_MAX: usize = 100;

type Parsed = (Value, Marks);

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Lines before the chunk, so that errors speak of the file.
    lines_before: usize,
    anchors: HashMap<usize, (Parsed, usize)>,
    values: usize,
}

/// Appends the documents of one chunk. An error ends the chunk: what follows cannot be told apart from it.
pub(super) fn documents(chunk: &str, first_line: usize, all: &mut Vec<Document>) {
    let parser = Parser::new_from_str(chunk);
    let mut builder = Builder { parser, lines_before: first_line - 1, anchors: HashMap::new(), values: 0 };
    loop {
        match builder.next_document() {
            Ok(None) => return,
            Ok(Some((Value::Null, _))) => {}
            Ok(Some((value, marks))) => {
                all.push(Document { line: marks.line(), content: Ok(Content { value, marks }) });
            }
            Err(error) => {
                let before = chunk.lines().take_while(|line| line.trim().is_empty() || line.starts_with('#')).count();
                all.push(Document { line: first_line + before, content: Err(error) });
                return;
            }
        }
    }
}

impl<'a> Builder<'a> {
    fn next_document(&mut self) -> Result<Option<Parsed>, Error> {
        loop {
            let (event, span) = self.event()?;
            match event {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart(_) => {
                    (self.anchors, self.values) = (HashMap::new(), 0);
                    let (event, span) = self.event()?;
                    return self.value(event, span, 0).map(Some);
                }
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                _ => return Err(self.error(span, "content outside a document")),
            }
        }
    }

    fn value(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Parsed, Error> {
        self.count(1, span)?;
        if depth > DEPTH_MAX {
            return Err(self.error(span, &format!("values nest deeper than {DEPTH_MAX}")));
        }
        let before = self.values;
        let line = self.line(span);
        let (anchor, parsed) = match event {
            Event::Alias(anchor) => {
                let Some((parsed, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.error(span, "an alias of a value that is not complete"));
                };
                self.count(size, span)?;
                return Ok(parsed);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref()).map_err(|why| self.error(span, &why))?;
                (anchor, (value, Marks::Scalar(line)))
            }
            Event::SequenceStart(anchor, _) => {
                let (mut values, mut marks) = (Vec::new(), Vec::new());
                loop {
                    let (event, span) = self.event()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    let (value, mark) = self.value(event, span, depth + 1)?;
                    values.push(value);
                    marks.push(mark);
                }
                (anchor, (Value::Array(values), Marks::List(line, marks)))
            }
            Event::MappingStart(anchor, _) => (anchor, self.mapping(line, depth)?),
            _ => return Err(self.error(span, "a value is missing")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, (parsed.clone(), self.values - before + 1));
        }
        Ok(parsed)
    }

    fn mapping(&mut self, line: usize, depth: usize) -> Result<Parsed, Error> {
        let (mut map, mut marks) = (Map::new(), Vec::new());
        let mut merged = Vec::new();
        loop {
            let (event, key_span) = self.event()?;
            if event == Event::MappingEnd {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let (key, _) = self.value(event, key_span, depth + 1)?;
            let key = key_text(key).ok_or_else(|| self.error(key_span, "a key must be text"))?;
            let (event, span) = self.event()?;
            let (value, mark) = self.value(event, span, depth + 1)?;
            if is_merge {
                merged.push((value, mark, span));
                continue;
            }
            if map.contains_key(&key) {
                return Err(self.error(key_span, &format!("key {key:?} is already set in this mapping")));
            }
            marks.push((key.clone(), mark.at(self.line(key_span))));
            map.insert(key, value);
        }
        for (value, mark, span) in merged {
            merge(&mut map, &mut marks, value, mark)
                .ok_or_else(|| self.error(span, "<< takes a mapping or a list of mappings"))?;
        }
        Ok((Value::Object(map), Marks::Map(line, marks)))
    }

    fn event(&mut self) -> Result<(Event<'a>, Span), Error> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(Error {
                line: error.marker().line().max(1) + self.lines_before,
                message: format!("not YAML: {}", error.info()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn count(&mut self, values: usize, span: Span) -> Result<(), Error> {
        self.values += values;
        match self.values > VALUES_MAX {
            true => Err(self.error(span, &format!("more than {VALUES_MAX} values after expanding aliases"))),
            false => Ok(()),
        }
    }

    fn line(&self, span: Span) -> usize {
        span.start.line().max(1) + self.lines_before
    }

    fn error(&self, span: Span, message: &str) -> Error {
        Error { line: self.line(span), message: message.to_owned() }
    }
}

impl Marks {
    /// A field is where its key is.
    fn at(self, line: usize) -> Self {
        match self {
            Self::Scalar(_) => Self::Scalar(line),
            Self::List(_, items) => Self::List(line, items),
            Self::Map(_, fields) => Self::Map(line, fields),
        }
    }
}

/// What is merged never replaces what is written, nor what an earlier entry of the list brought.
fn merge(map: &mut Map<String, Value>, marks: &mut Vec<(String, Marks)>, value: Value, mark: Marks) -> Option<()> {
    match (value, mark) {
        (Value::Object(fields), Marks::Map(_, field_marks)) => {
            for ((key, value), mark) in fields.into_iter().zip(field_marks) {
                if !map.contains_key(&key) {
                    map.insert(key, value);
                    marks.push(mark);
                }
            }
            Some(())
        }
        (Value::Array(items), Marks::List(_, item_marks)) => {
            items.into_iter().zip(item_marks).try_for_each(|(item, mark)| match item {
                Value::Object(_) => merge(map, marks, item, mark),
                _ => None,
            })
        }
        _ => None,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str()) {
        Some("str" | "binary") => Ok(Value::String(text.to_owned())),
        Some(suffix @ ("int" | "float" | "bool" | "null")) => {
            let value = scalar::plain(text)?;
            let fits = match suffix {
                "int" => value.is_i64() || value.is_u64(),
                "float" => value.is_number(),
                "bool" => value.is_boolean(),
                _ => value.is_null(),
            };
            if fits { Ok(value) } else { Err(format!("{text:?} is no !!{suffix}")) }
        }
        _ if style == ScalarStyle::Plain => scalar::plain(text),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Keys of JSON are text; sigs.k8s.io/yaml prints numbers and booleans.
fn key_text(key: Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(key.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
