//! What a template is parsed and rendered with.

use crate::exec;
use crate::function;
use crate::parse::{self, Tree};
use crate::{ParseError, RenderError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

type Function = dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync;

/// Functions and options. Cheap to clone.
#[derive(Clone, Default)]
pub struct Engine {
    functions: BTreeMap<String, Arc<Function>>,
    methods: BTreeMap<String, Arc<Function>>,
    pub(crate) missing_key: MissingKey,
    pub(crate) no_value: Option<Arc<str>>,
    pub(crate) numbers: Numbers,
    pub(crate) limits: Limits,
}

/// What a key is that a map does not have (Go's option `missingkey`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingKey {
    /// Prints as `<no value>`, and so does everything inside of it.
    #[default]
    Default,
    /// A nil: prints as `<no value>`; to look into it is an error. What Helm does.
    Zero,
    Error,
}

/// What the numbers in the data are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// Integers are integers.
    #[default]
    Exact,
    /// All are float64, as in Helm's `values.yaml`: 1000000 prints as 1e+06, and `eq 1 .number` fails.
    Float,
}

/// What a rendering may cost. A template that needs more fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of output, of every buffer by itself.
    pub output: usize,
    /// Templates, parentheses, blocks and values inside of each other.
    pub depth: usize,
    /// Steps: nodes that are executed, functions called, items and 8 bytes of text handled.
    pub steps: u64,
}

impl Default for Limits {
    /// Istio's largest template is 20 KiB and takes some thousand steps. The depth fits into a thread's 2 MiB.
    fn default() -> Self {
        Self { output: 8 << 20, depth: 100, steps: 10_000_000 }
    }
}

impl Engine {
    pub fn new() -> Self {
        Self::default()
    }

    /// As Helm renders charts: what is missing is nil, and nil prints as nothing.
    pub fn helm() -> Self {
        Self::new().missing_key(MissingKey::Zero).no_value("")
    }

    /// Adds a function, or replaces one.
    #[must_use]
    pub fn function(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        self.functions.insert(name.into(), Arc::new(function));
        self
    }

    /// Adds a method: `.a.Get "x"` calls `Get` with `.a` and `"x"`, unless `.a` is a map that has the key `Get`.
    #[must_use]
    pub fn method(
        mut self,
        name: impl Into<String>,
        method: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        self.methods.insert(name.into(), Arc::new(method));
        self
    }

    #[must_use]
    pub fn missing_key(mut self, missing_key: MissingKey) -> Self {
        self.missing_key = missing_key;
        self
    }

    /// What nil prints as, instead of `<no value>`.
    #[must_use]
    pub fn no_value(mut self, text: impl Into<Arc<str>>) -> Self {
        self.no_value = Some(text.into());
        self
    }

    #[must_use]
    pub fn numbers(mut self, numbers: Numbers) -> Self {
        self.numbers = numbers;
        self
    }

    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Parses a first text. More can be added to the template.
    pub fn parse(&self, name: &str, text: &str) -> Result<Template, ParseError> {
        let mut template = Template { engine: self.clone(), trees: BTreeMap::new() };
        template.add(name, text)?;
        Ok(template)
    }

    pub(crate) fn custom(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.get(name)
    }

    pub(crate) fn method_of(&self, name: &str) -> Option<&Arc<Function>> {
        self.methods.get(name)
    }

    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name) || function::exists(name)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("functions", &self.functions.keys())
            .field("methods", &self.methods.keys())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Texts that were parsed together: each can use what the others define.
#[derive(Clone, Debug)]
pub struct Template {
    pub(crate) engine: Engine,
    pub(crate) trees: BTreeMap<String, Arc<Tree>>,
}

impl Template {
    /// Parses a text with Go's and sprig's functions alone.
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        Engine::new().parse(name, text)
    }

    /// Parses one more text. What it defines takes the place of what has that name, unless it is empty.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), ParseError> {
        for (name, tree) in parse::parse(&self.engine, name, text)? {
            if !tree.is_empty() || !self.trees.contains_key(&name) {
                self.trees.insert(name, Arc::new(tree));
            }
        }
        Ok(())
    }

    /// The templates there are, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.trees.keys().map(String::as_str)
    }

    pub fn render(&self, name: &str, data: &Value) -> Result<String, RenderError> {
        exec::render(self, name, data)
    }
}
