//! The values a template works with: Go's, as far as JSON and sprig make them.
//!
//! Maps are shared and can change (`set`), as in Go. They cannot contain themselves: [`Map::insert`]'s callers check.

use crate::engine::Numbers;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub(crate) enum Val {
    /// What a map does not have, with `missingkey=default`.
    Missing,
    Nil,
    Bool(bool),
    /// Go's `int`: literals, `len`, `int`.
    Int(i64),
    /// Go's `int64`: data, arithmetic.
    Int64(i64),
    Float(f64),
    Str(Rc<str>),
    List(Rc<List>),
    Map(Rc<Map>),
}

#[derive(Debug, Default)]
pub(crate) struct List(Vec<Val>);

/// In the order of keys, which is that of `range`.
#[derive(Debug, Default)]
pub(crate) struct Map(RefCell<BTreeMap<Rc<str>, Val>>);

impl Val {
    pub(crate) fn str(text: impl Into<Rc<str>>) -> Self {
        Self::Str(text.into())
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(List(items)))
    }

    pub(crate) fn map(entries: impl IntoIterator<Item = (Rc<str>, Self)>) -> Self {
        Self::Map(Rc::new(Map(RefCell::new(entries.into_iter().collect()))))
    }

    pub(crate) fn of(value: &Value, numbers: Numbers) -> Self {
        match value {
            Value::Null => Self::Nil,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match (numbers, number.as_i64()) {
                (Numbers::Exact, Some(integer)) => Self::Int64(integer),
                _ => Self::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Self::str(text.as_str()),
            Value::Array(items) => Self::list(items.iter().map(|item| Self::of(item, numbers)).collect()),
            Value::Object(map) => {
                Self::map(map.iter().map(|(key, value)| (key.as_str().into(), Self::of(value, numbers))))
            }
        }
    }

    pub(crate) fn is_nil(&self) -> bool {
        matches!(self, Self::Missing | Self::Nil)
    }

    /// Go's truth: neither zero nor empty.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Int64(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(list) => !list.0.is_empty(),
            Self::Map(map) => !map.0.borrow().is_empty(),
        }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Int(value) | Self::Int64(value) => Some(*value),
            _ => None,
        }
    }

    /// What `%T` prints.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Int64(_) => "int64",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
        }
    }

    /// What reflection calls it.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "invalid",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            other => other.type_name(),
        }
    }
}

impl List {
    pub(crate) fn items(&self) -> &[Val] {
        &self.0
    }
}

impl Map {
    pub(crate) fn get(&self, key: &str) -> Option<Val> {
        self.0.borrow().get(key).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// A copy of the entries, in order: the map may change while they are looked at.
    pub(crate) fn entries(&self) -> Vec<(Rc<str>, Val)> {
        self.0.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(crate) fn insert(&self, key: Rc<str>, value: Val) {
        // The old value is dropped when the map is not borrowed any more.
        let _old = self.0.borrow_mut().insert(key, value);
    }

    pub(crate) fn remove(&self, key: &str) {
        let _old = self.0.borrow_mut().remove(key);
    }
}

/// Values as deep as a template made them are taken apart in a loop, because the stack has an end.
fn dismantle(mut rest: Vec<Val>) {
    while let Some(value) = rest.pop() {
        match value {
            Val::List(list) => {
                if let Ok(mut list) = Rc::try_unwrap(list) {
                    rest.append(&mut list.0);
                }
            }
            Val::Map(map) => {
                if let Ok(map) = Rc::try_unwrap(map) {
                    rest.extend(mem::take(&mut *map.0.borrow_mut()).into_values());
                }
            }
            _ => {}
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if self.0.iter().any(|item| matches!(item, Val::List(_) | Val::Map(_))) {
            dismantle(mem::take(&mut self.0));
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let map = self.0.get_mut();
        if map.values().any(|item| matches!(item, Val::List(_) | Val::Map(_))) {
            dismantle(mem::take(map).into_values().collect());
        }
    }
}
