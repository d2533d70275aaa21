//! YAML as `kubectl` reads it, with the line of every field.
//!
//! `kubectl` splits a file at its `---` lines first and parses each document alone, so one that cannot be parsed takes
//! no other with it. Scalars follow sigs.k8s.io/yaml (go-yaml 2), which is YAML 1.1: an unquoted `yes`, `on` or `y` is
//! a boolean, `010` is 8, keys become strings, `<<` merges. Two things are stricter here, because both hide mistakes:
//! a key written twice is an error (as in the API server's strict validation), and a document may not expand its
//! aliases without bound.

mod build;
mod scalar;

use serde_json::Value;
use std::fmt;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// 1-based line of the first content.
    pub line: usize,
    pub content: Result<Content, Error>,
}

/// A document that could be parsed: the value, and where its parts are.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub value: Value,
    marks: Marks,
}

/// Why a document is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// The lines of a value's parts; same shape as the value.
#[derive(Clone, Debug, PartialEq)]
enum Marks {
    Scalar(usize),
    List(usize, Vec<Self>),
    Map(usize, Vec<(String, Self)>),
}

impl Content {
    /// The line of the field at `path` (`spec.http[0].route`), or of its nearest parent that is written.
    ///
    /// ```
    /// let documents = crds::yaml::documents("spec:\n  hosts:\n  - a\n  - b\n");
    /// let content = documents[0].content.as_ref().unwrap();
    /// assert_eq!(content.line_of("spec.hosts[1]"), 4);
    /// assert_eq!(content.line_of("spec.http[0].name"), 1);
    /// ```
    pub fn line_of(&self, path: &str) -> usize {
        self.marks.line_of(path)
    }
}

impl Marks {
    fn line(&self) -> usize {
        match self {
            Self::Scalar(line) | Self::List(line, _) | Self::Map(line, _) => *line,
        }
    }

    /// Keys may contain dots (`app.kubernetes.io/name`), so the longest key that fits is followed.
    fn line_of(&self, path: &str) -> usize {
        let child = match self {
            Self::Scalar(_) => None,
            Self::List(_, items) => path.strip_prefix('[').and_then(|rest| {
                let (index, rest) = rest.split_once(']')?;
                Some((items.get(index.parse::<usize>().ok()?)?, rest))
            }),
            Self::Map(_, fields) => {
                let fits = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
                fields
                    .iter()
                    .filter(|(key, _)| !key.is_empty())
                    .filter_map(|(key, marks)| Some((key, marks, path.strip_prefix(key.as_str())?)))
                    .filter(|(_, _, rest)| fits(rest))
                    .max_by_key(|(key, ..)| key.len())
                    .map(|(_, marks, rest)| (marks, rest))
            }
        };
        match child {
            Some((marks, rest)) => marks.line_of(rest.strip_prefix('.').unwrap_or(rest)),
            None => self.line(),
        }
    }
}

/// Splits a file into documents and parses each. Documents without content (only comments, `null`) are left out.
pub fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut all = Vec::new();
    for (line, chunk) in chunks(text) {
        build::documents(chunk, line, &mut all);
    }
    all
}

/// The only document of a text; nothing at all reads as null.
pub fn value(text: &str) -> Result<Value, Error> {
    let mut documents = documents(text);
    match documents.len() {
        0 => Ok(Value::Null),
        1 => documents.remove(0).content.map(|content| content.value),
        _ => Err(Error { line: documents[1].line, message: "more than one document".into() }),
    }
}

/// The text between `---` lines, with the line number each begins at. A `---` followed by content on the same line is
/// left to the parser.
fn chunks(text: &str) -> Vec<(usize, &str)> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let is_separator = line.strip_prefix("---").is_some_and(|rest| {
            let rest = rest.trim();
            rest.is_empty() || rest.starts_with('#')
        });
        if is_separator {
            chunks.push((start_line, &text[start..offset]));
            (start, start_line) = (offset + line.len(), i + 2);
        }
        offset += line.len();
    }
    chunks.push((start_line, &text[start..]));
    chunks
}

#[cfg(test)]
mod tests;
