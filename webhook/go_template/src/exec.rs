//! Runs trees.

use crate::RenderError;
use crate::engine::{Engine, MissingKey, Template};
use crate::function;
use crate::parse::{self, Binding, Branch, Command, Node, NodeKind, Operand, Pipe, Tree};
use crate::value::Val;
use crate::{format, json};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What all templates of one rendering share: the engine, and what has been spent.
pub(crate) struct Spent<'a> {
    pub(crate) engine: &'a Engine,
    steps: Cell<u64>,
    depth: Cell<usize>,
}

impl Spent<'_> {
    /// Pays for some work, before it is done.
    pub(crate) fn charge(&self, steps: usize) -> Result<(), String> {
        let spent = self.steps.get().saturating_add(steps as u64);
        self.steps.set(spent);
        match spent > self.engine.limits.steps {
            true => Err(format!("takes more than {} steps", self.engine.limits.steps)),
            false => Ok(()),
        }
    }

    /// Pays for a text, before it is made.
    pub(crate) fn charge_text(&self, bytes: usize) -> Result<(), String> {
        if bytes > self.engine.limits.output {
            return Err(format!("makes a text of more than {} bytes", self.engine.limits.output));
        }
        self.charge(1 + bytes / 8)
    }

    pub(crate) fn deeper<T, E: From<String>>(&self, go: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let depth = self.depth.get();
        if depth >= self.engine.limits.depth {
            return Err(format!("more than {} levels deep", self.engine.limits.depth).into());
        }
        self.depth.set(depth + 1);
        let result = go();
        self.depth.set(depth);
        result
    }
}

pub(crate) fn render(template: &Template, name: &str, data: &Value) -> Result<String, RenderError> {
    let engine = &template.engine;
    let spent = Spent { engine, steps: Cell::new(0), depth: Cell::new(0) };
    let dot = Val::of(data, engine.numbers);
    Trees { spent: &spent, trees: &template.trees }.execute(name, dot).map_err(|failure| match failure {
        Failure::Located(error) => *error,
        Failure::Text(message) => RenderError { template: name.to_owned(), line: 0, message },
    })
}

/// A set of templates that see each other.
struct Trees<'a> {
    spent: &'a Spent<'a>,
    trees: &'a BTreeMap<String, Arc<Tree>>,
}

enum Failure {
    Located(Box<RenderError>),
    Text(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Text(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::Text(message.to_owned())
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

impl Trees<'_> {
    fn execute(&self, name: &str, dot: Val) -> Result<String> {
        let Some(tree) = self.trees.get(name) else { return Err(format!("template {name:?} not defined").into()) };
        let mut state = State {
            trees: self,
            name,
            file: &tree.file,
            variables: vec![(String::new(), dot.clone())],
            out: String::new(),
        };
        self.spent.deeper(|| state.nodes(&dot, &tree.nodes))?;
        Ok(state.out)
    }
}

/// One execution of one template.
struct State<'a> {
    trees: &'a Trees<'a>,
    name: &'a str,
    file: &'a str,
    variables: Vec<(String, Val)>,
    out: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl State<'_> {
    fn write(&mut self, text: &str) -> Result<()> {
        self.spent().charge(1 + text.len() / 8)?;
        let limit = self.spent().engine.limits.output;
        if self.out.len() + text.len() > limit {
            return Err(format!("the output is longer than {limit} bytes").into());
        }
        self.out.push_str(text);
        Ok(())
    }

    fn spent(&self) -> &Spent<'_> {
        self.trees.spent
    }

    fn nodes(&mut self, dot: &Val, nodes: &[Node]) -> Result<Flow> {
        for node in nodes {
            let flow = self.node(dot, node).map_err(|failure| match failure {
                Failure::Text(message) => Failure::Located(Box::new(RenderError {
                    template: self.file.to_owned(),
                    line: node.line,
                    message: format!("executing {:?}: {message}", self.name),
                })),
                located => located,
            })?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, dot: &Val, node: &Node) -> Result<Flow> {
        self.spent().charge(1)?;
        match &node.kind {
            NodeKind::Text(text) => self.write(text)?,
            NodeKind::Action(pipe) => self.action(dot, pipe)?,
            NodeKind::Break => return Ok(Flow::Break),
            NodeKind::Continue => return Ok(Flow::Continue),
            NodeKind::Template { name, pipe } => self.template(dot, name, pipe.as_ref())?,
            NodeKind::If(branch) => return self.branch(dot, branch, None),
            NodeKind::With(branch) => return self.branch(dot, branch, Some(())),
            NodeKind::Range(branch) => return self.range(dot, branch),
        }
        Ok(Flow::Next)
    }

    fn action(&mut self, dot: &Val, pipe: &Pipe) -> Result<()> {
        let value = self.pipe(dot, pipe)?;
        if !pipe.variables.is_empty() {
            return Ok(());
        }
        match (&value, &self.spent().engine.no_value) {
            (Val::Str(text), _) => self.write(text),
            (Val::Missing | Val::Nil, Some(text)) => self.write(&text.clone()),
            (Val::Missing | Val::Nil, None) => self.write("<no value>"),
            _ => {
                let text = format::plain(self.spent(), &value)?;
                self.write(&text)
            }
        }
    }

    fn template(&mut self, dot: &Val, name: &str, pipe: Option<&Pipe>) -> Result<()> {
        let inner = pipe.map_or(Ok(Val::Nil), |pipe| self.pipe(dot, pipe))?;
        let text = self.trees.execute(name, inner)?;
        self.write(&text)
    }

    /// `if`, and `with` if the value is the new dot.
    fn branch(&mut self, dot: &Val, branch: &Branch, with: Option<()>) -> Result<Flow> {
        let scope = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let flow = self.nested(|state| match (value.is_true(), with) {
            (true, Some(())) => state.nodes(&value, &branch.nodes),
            (true, None) => state.nodes(dot, &branch.nodes),
            (false, _) => state.nodes(dot, &branch.otherwise),
        });
        self.variables.truncate(scope);
        flow
    }

    fn nested<T>(&mut self, go: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let spent = self.trees.spent;
        spent.deeper(|| go(self))
    }

    fn range(&mut self, dot: &Val, branch: &Branch) -> Result<Flow> {
        let scope = self.variables.len();
        let value = self.pipe_value(dot, &branch.pipe)?;
        if branch.pipe.binding == Binding::Declare {
            self.variables.extend(branch.pipe.variables.iter().map(|name| (name.clone(), Val::Nil)));
        }
        let items: Box<dyn Iterator<Item = (Val, Val)>> = match value {
            Val::Missing | Val::Nil => Box::new(std::iter::empty()),
            Val::Int(count) | Val::Int64(count) => Box::new((0..count).map(|i| (Val::Int(i), Val::Int(i)))),
            Val::List(list) => {
                Box::new((0..list.items().len()).map(move |i| (Val::Int(i as i64), list.items()[i].clone())))
            }
            Val::Map(map) => {
                self.spent().charge(map.len())?;
                Box::new(map.entries().into_iter().map(|(key, value)| (Val::Str(key), value)))
            }
            other => {
                let text = format::plain(self.spent(), &other)?;
                return Err(format!("range can't iterate over {text}").into());
            }
        };
        let result = self.nested(|state| state.each(items, dot, branch));
        self.variables.truncate(scope);
        result
    }

    fn each(&mut self, items: Box<dyn Iterator<Item = (Val, Val)>>, dot: &Val, branch: &Branch) -> Result<Flow> {
        let mut is_empty = true;
        for (key, item) in items {
            is_empty = false;
            self.spent().charge(1)?;
            let scope = self.variables.len();
            match branch.pipe.variables.as_slice() {
                [] => {}
                [one] => self.set(one, item.clone()),
                [first, second, ..] => {
                    self.set(first, key);
                    self.set(second, item.clone());
                }
            }
            let flow = self.nodes(&item, &branch.nodes)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        if is_empty { self.nodes(dot, &branch.otherwise) } else { Ok(Flow::Next) }
    }

    fn set(&mut self, name: &str, value: Val) {
        if let Some((_, variable)) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            *variable = value;
        }
    }

    fn variable(&self, name: &str) -> Result<Val> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable: ${name}").into())
    }

    fn pipe(&mut self, dot: &Val, pipe: &Pipe) -> Result<Val> {
        let value = self.pipe_value(dot, pipe)?;
        for name in &pipe.variables {
            match pipe.binding {
                Binding::Declare => self.variables.push((name.clone(), value.clone())),
                Binding::Assign => self.set(name, value.clone()),
            }
        }
        Ok(value)
    }

    fn pipe_value(&mut self, dot: &Val, pipe: &Pipe) -> Result<Val> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        Ok(value.unwrap_or(Val::Nil))
    }

    /// `last` is what the command before it in the pipe made: the last argument.
    fn command(&mut self, dot: &Val, command: &Command, last: Option<Val>) -> Result<Val> {
        self.spent().charge(1)?;
        let Some((first, rest)) = command.split_first() else { return Ok(Val::Nil) };
        let has_arguments = !rest.is_empty() || last.is_some();
        match first {
            Operand::Function(name) => self.call(dot, name, rest, last),
            Operand::Field(names) => self.fields(dot, dot.clone(), names, rest, last),
            Operand::Variable(name, names) if !names.is_empty() => {
                let variable = self.variable(name)?;
                self.fields(dot, variable, names, rest, last)
            }
            Operand::Pipe(pipe, names) if !names.is_empty() => {
                let value = self.nested(|state| state.pipe(dot, pipe))?;
                self.fields(dot, value, names, rest, last)
            }
            _ if has_arguments => Err("can't give argument to non-function".into()),
            Operand::Nil => Err("nil is not a command".into()),
            other => self.operand(dot, other),
        }
    }

    fn operand(&mut self, dot: &Val, operand: &Operand) -> Result<Val> {
        Ok(match operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => Val::Nil,
            Operand::Bool(value) => Val::Bool(*value),
            Operand::Int(value) => Val::Int(*value),
            Operand::Float(value) => Val::Float(*value),
            Operand::Str(text) => {
                self.spent().charge(text.len() / 8)?;
                Val::str(text.as_str())
            }
            Operand::Variable(name, names) if names.is_empty() => self.variable(name)?,
            Operand::Field(names) => self.fields(dot, dot.clone(), names, &[], None)?,
            Operand::Variable(name, names) => {
                let variable = self.variable(name)?;
                self.fields(dot, variable, names, &[], None)?
            }
            Operand::Function(name) => self.call(dot, name, &[], None)?,
            Operand::Pipe(pipe, names) => {
                let value = self.nested(|state| state.pipe(dot, pipe))?;
                self.fields(dot, value, names, &[], None)?
            }
        })
    }

    /// `value.a.b`; the last name may be a method with arguments.
    fn fields(
        &mut self,
        dot: &Val,
        value: Val,
        names: &[String],
        arguments: &[Operand],
        last: Option<Val>,
    ) -> Result<Val> {
        let mut value = value;
        for (i, name) in names.iter().enumerate() {
            let is_last = i + 1 == names.len();
            let known = match &value {
                Val::Map(map) => map.get(name),
                _ => None,
            };
            if known.is_none()
                && let Some(method) = self.spent().engine.method_of(name).cloned()
            {
                let (rest, last) = if is_last { (arguments, last.clone()) } else { (&[][..], None) };
                let mut all = vec![value];
                all.extend(self.arguments(dot, rest, last)?);
                value = self.foreign(name, &*method, &all)?;
                continue;
            }
            if is_last && (!arguments.is_empty() || last.is_some()) {
                return Err(format!("{name} is not a method but has arguments").into());
            }
            value = match known {
                Some(known) => known,
                None => self.absent(&value, name)?,
            };
        }
        Ok(value)
    }

    fn absent(&self, value: &Val, name: &str) -> Result<Val> {
        let missing_key = self.spent().engine.missing_key;
        match (value, missing_key) {
            (Val::Map(_) | Val::Missing, MissingKey::Default) => Ok(Val::Missing),
            (Val::Map(_), MissingKey::Zero) => Ok(Val::Nil),
            (Val::Map(_), MissingKey::Error) => Err(format!("map has no entry for key {name:?}").into()),
            (Val::Missing | Val::Nil, _) => Err(format!("nil pointer evaluating interface {{}}.{name}").into()),
            (other, _) => Err(format!("can't evaluate field {name} in type {}", other.type_name()).into()),
        }
    }

    fn arguments(&mut self, dot: &Val, operands: &[Operand], last: Option<Val>) -> Result<Vec<Val>> {
        let mut all = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            all.push(self.operand(dot, operand)?);
        }
        all.extend(last);
        Ok(all)
    }

    fn call(&mut self, dot: &Val, name: &str, operands: &[Operand], last: Option<Val>) -> Result<Val> {
        if matches!(name, "and" | "or") && self.spent().engine.custom(name).is_none() {
            return self.short_circuit(dot, name == "or", operands, last);
        }
        let arguments = self.arguments(dot, operands, last)?;
        if let Some(custom) = self.spent().engine.custom(name).cloned() {
            return self.foreign(name, &*custom, &arguments);
        }
        let calling = |message: String| Failure::Text(format!("error calling {name}: {message}"));
        match name {
            "include" => self.include(&arguments),
            "tpl" => self.tpl(&arguments),
            _ => function::call(self.spent(), name, &arguments).map_err(calling),
        }
    }

    fn short_circuit(&mut self, dot: &Val, until: bool, operands: &[Operand], last: Option<Val>) -> Result<Val> {
        let mut value = None;
        for operand in operands {
            let next = self.operand(dot, operand)?;
            if next.is_true() == until {
                return Ok(next);
            }
            value = Some(next);
        }
        last.or(value).ok_or_else(|| "wrong number of args for and, or: want at least 1 got 0".into())
    }

    /// A function or method of the crate's user.
    fn foreign(
        &self,
        name: &str,
        function: &dyn Fn(&[Value]) -> std::result::Result<Value, String>,
        arguments: &[Val],
    ) -> Result<Val> {
        let spent = self.spent();
        let values: std::result::Result<Vec<Value>, String> =
            arguments.iter().map(|argument| json::to_value(spent, argument)).collect();
        let value = values.and_then(|values| function(&values));
        let value = value.map_err(|message| Failure::Text(format!("error calling {name}: {message}")))?;
        json::charge(spent, &value)?;
        Ok(Val::of(&value, spent.engine.numbers))
    }

    fn include(&self, arguments: &[Val]) -> Result<Val> {
        let [Val::Str(name), dot] = arguments else { return Err("include wants a name and a value".into()) };
        let text = self.trees.execute(name, dot.clone())?;
        Ok(Val::str(text))
    }

    fn tpl(&self, arguments: &[Val]) -> Result<Val> {
        let [Val::Str(text), dot] = arguments else { return Err("tpl wants a text and a value".into()) };
        let spent = self.trees.spent;
        spent.charge(text.len() + self.trees.trees.len())?;
        let parsed = parse::parse(spent.engine, self.name, text).map_err(|error| error.to_string())?;
        let mut trees = self.trees.trees.clone();
        for (name, tree) in parsed {
            trees.insert(name, Arc::new(tree));
        }
        let text = Trees { spent, trees: &trees }.execute(self.name, dot.clone())?;
        Ok(Val::str(text))
    }
}
