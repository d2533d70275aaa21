//! Tokens to trees. What Go refuses before a template runs is refused here: unknown functions and variables, blocks
//! that do not match.

use crate::engine::Engine;
use crate::lex::{Located, Token, lex};
use crate::{ParseError, function};

/// Blocks and parentheses inside of each other.
const DEPTH_MAX: usize = 100;

/// One template.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// The text it was written in, for errors.
    pub(crate) file: String,
    pub(crate) nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) kind: NodeKind,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template { name: String, pipe: Option<Pipe> },
    Break,
    Continue,
}

#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) nodes: Vec<Node>,
    pub(crate) otherwise: Vec<Node>,
}

#[derive(Clone, Debug)]
pub(crate) struct Pipe {
    pub(crate) variables: Vec<String>,
    pub(crate) binding: Binding,
    pub(crate) commands: Vec<Command>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    Declare,
    Assign,
}

pub(crate) type Command = Vec<Operand>;

#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`
    Variable(String, Vec<String>),
    Function(String),
    /// `(pipe).a.b`
    Pipe(Box<Pipe>, Vec<String>),
}

impl Tree {
    /// Whether it is nothing but space.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.iter().all(|node| matches!(&node.kind, NodeKind::Text(text) if text.trim().is_empty()))
    }
}

/// The template of that name, and all that the text defines.
pub(crate) fn parse(engine: &Engine, name: &str, text: &str) -> Result<Vec<(String, Tree)>, ParseError> {
    let tokens = lex(name, text)?;
    let last_line = 1 + text.matches('\n').count();
    let mut parser = Parser {
        engine,
        name,
        tokens,
        at: 0,
        last_line,
        variables: vec![String::new()],
        loops: 0,
        depth: 0,
        defined: Vec::new(),
    };
    let (nodes, end) = parser.list()?;
    if let Some(end) = end {
        return parser.error(format!("unexpected {{{{{}}}}}", end.word()));
    }
    parser.define_tree(name.to_owned(), nodes)?;
    Ok(parser.defined)
}

struct Parser<'a> {
    engine: &'a Engine,
    name: &'a str,
    tokens: Vec<Located>,
    at: usize,
    last_line: usize,
    /// Declared and in scope; the first is `$`.
    variables: Vec<String>,
    loops: usize,
    depth: usize,
    defined: Vec<(String, Tree)>,
}

/// What ends a list of nodes.
enum End {
    End,
    Else,
}

impl End {
    fn word(&self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Else => "else",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    If,
    With,
    Range,
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

impl Parser<'_> {
    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(self.last_line, |located| located.line)
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(ParseError { template: self.name.to_owned(), line: self.line(), message: message.into() })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|located| &located.token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.at += 1;
        }
    }

    fn close(&mut self, what: &str) -> Result<()> {
        self.space();
        match self.next() {
            Some(Token::Close) => Ok(()),
            _ => {
                self.at -= 1;
                self.error(format!("unexpected token in {what}"))
            }
        }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_MAX {
            return self.error(format!("more than {DEPTH_MAX} blocks or parentheses inside of each other"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Up to the end of the text, or `end` or `else`, which is consumed up to what follows the word.
    fn list(&mut self) -> Result<(Vec<Node>, Option<End>)> {
        let mut nodes = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.next() {
                None => return Ok((nodes, None)),
                Some(Token::Text(text)) => NodeKind::Text(text),
                Some(_) => {
                    self.space();
                    let word = match self.peek() {
                        Some(Token::Ident(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match word.as_str() {
                        "end" => {
                            self.at += 1;
                            self.close("end")?;
                            return Ok((nodes, Some(End::End)));
                        }
                        "else" => {
                            self.at += 1;
                            return Ok((nodes, Some(End::Else)));
                        }
                        "define" => {
                            self.deeper(Self::define)?;
                            continue;
                        }
                        word => self.deeper(|parser| parser.action(word))?,
                    }
                }
            };
            nodes.push(Node { line, kind });
        }
    }

    fn action(&mut self, word: &str) -> Result<NodeKind> {
        let block = match word {
            "if" => Block::If,
            "with" => Block::With,
            "range" => Block::Range,
            "template" | "block" => {
                self.at += 1;
                return self.template(word == "block");
            }
            "break" | "continue" if !self.engine.has_function(word) => {
                self.at += 1;
                if self.loops == 0 {
                    return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                self.close(word)?;
                return Ok(if word == "break" { NodeKind::Break } else { NodeKind::Continue });
            }
            _ => {
                let pipe = self.pipe(0)?;
                self.close("command")?;
                return Ok(NodeKind::Action(pipe));
            }
        };
        self.at += 1;
        self.block(block)
    }

    fn block(&mut self, block: Block) -> Result<NodeKind> {
        let scope = self.variables.len();
        let pipe = self.pipe(if block == Block::Range { 2 } else { 0 })?;
        self.close(block.word())?;
        self.loops += usize::from(block == Block::Range);
        let (nodes, end) = self.list()?;
        self.loops -= usize::from(block == Block::Range);
        let otherwise = match end {
            None => return self.error("unexpected EOF"),
            Some(End::End) => Vec::new(),
            Some(End::Else) => self.otherwise(block)?,
        };
        self.variables.truncate(scope);
        let branch = Branch { pipe, nodes, otherwise };
        Ok(match block {
            Block::If => NodeKind::If(branch),
            Block::With => NodeKind::With(branch),
            Block::Range => NodeKind::Range(branch),
        })
    }

    /// After `else`: `}} … {{end}}`, or another `if` or `with`, which shares the `end`.
    fn otherwise(&mut self, block: Block) -> Result<Vec<Node>> {
        self.space();
        let line = self.line();
        let word = match self.peek() {
            Some(Token::Ident(word)) => word.clone(),
            _ => String::new(),
        };
        if block != Block::Range && word == block.word() {
            self.at += 1;
            let kind = self.deeper(|parser| parser.block(block))?;
            return Ok(vec![Node { line, kind }]);
        }
        self.close("else")?;
        let (nodes, end) = self.list()?;
        match end {
            Some(End::End) => Ok(nodes),
            Some(End::Else) => self.error("expected end; found {{else}}"),
            None => self.error("unexpected EOF"),
        }
    }

    fn name(&mut self, what: &str) -> Result<String> {
        self.space();
        match self.next() {
            Some(Token::Str(name)) => Ok(name),
            _ => {
                self.at -= 1;
                self.error(format!("unexpected token in {what} clause, expected the name in quotes"))
            }
        }
    }

    /// `define`, and the inside of `block`, have variables and loops of their own.
    fn body(&mut self, name: String) -> Result<()> {
        let variables = std::mem::replace(&mut self.variables, vec![String::new()]);
        let loops = std::mem::take(&mut self.loops);
        let (nodes, end) = self.list()?;
        if !matches!(end, Some(End::End)) {
            return self.error("unexpected EOF, or {{else}}, in a definition");
        }
        (self.variables, self.loops) = (variables, loops);
        self.define_tree(name, nodes)
    }

    /// Of two in one text, one has to be empty.
    fn define_tree(&mut self, name: String, nodes: Vec<Node>) -> Result<()> {
        let tree = Tree { file: self.name.to_owned(), nodes };
        match self.defined.iter().position(|(known, _)| *known == name) {
            None => self.defined.push((name, tree)),
            Some(_) if tree.is_empty() => {}
            Some(i) if self.defined[i].1.is_empty() => self.defined[i].1 = tree,
            Some(_) => return self.error(format!("multiple definition of template {name:?}")),
        }
        Ok(())
    }

    fn define(&mut self) -> Result<()> {
        self.at += 1;
        let name = self.name("define")?;
        self.close("define clause")?;
        self.body(name)
    }

    fn template(&mut self, is_block: bool) -> Result<NodeKind> {
        let name = self.name("template")?;
        self.space();
        let pipe = if self.peek() == Some(&Token::Close) && !is_block { None } else { Some(self.pipe(0)?) };
        self.close("template clause")?;
        if is_block {
            self.body(name.clone())?;
        }
        Ok(NodeKind::Template { name, pipe })
    }

    /// `$x := a b | c d`. With `more`, `$i, $x := …` too.
    fn pipe(&mut self, more: usize) -> Result<Pipe> {
        self.space();
        let (variables, binding) = self.binding(more)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            let command = self.command()?;
            if !commands.is_empty() && !matches!(command.first(), Some(operand) if operand.is_executable()) {
                return self.error("non executable command in pipeline stage 2");
            }
            commands.push(command);
            if self.peek() != Some(&Token::Pipe) {
                break;
            }
            self.at += 1;
        }
        if binding == Binding::Declare {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { variables, binding, commands })
    }

    fn binding(&mut self, more: usize) -> Result<(Vec<String>, Binding)> {
        let start = self.at;
        let mut variables = Vec::new();
        while let Some(Token::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            self.space();
            variables.push(name);
            match self.peek() {
                Some(Token::Comma) if variables.len() < more => {
                    self.at += 1;
                    self.space();
                }
                Some(Token::Comma) if more > 0 || variables.len() == 1 => {
                    return self.error("too many declarations");
                }
                Some(Token::Declare) => {
                    self.at += 1;
                    return Ok((variables, Binding::Declare));
                }
                Some(Token::Assign) => {
                    self.at += 1;
                    return match variables.iter().find(|name| !self.variables.contains(name)) {
                        Some(name) => self.error(format!("undefined variable \"${name}\"")),
                        None => Ok((variables, Binding::Assign)),
                    };
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), Binding::Declare))
    }

    fn command(&mut self) -> Result<Command> {
        let mut operands = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(Token::Pipe | Token::Close | Token::RightParen) | None => break,
                _ => {}
            }
            operands.push(self.operand()?);
            match self.peek() {
                Some(Token::Space | Token::Pipe | Token::Close | Token::RightParen) => {}
                _ => return self.error("unexpected token in operand"),
            }
        }
        match operands.is_empty() {
            true => self.error("missing value for command"),
            false => Ok(operands),
        }
    }

    fn operand(&mut self) -> Result<Operand> {
        let token = self.next();
        let mut operand = match token {
            Some(Token::Ident(word)) => match word.as_str() {
                "true" => Operand::Bool(true),
                "false" => Operand::Bool(false),
                "nil" => Operand::Nil,
                "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block" => {
                    self.at -= 1;
                    return self.error(format!("unexpected <{word}> in operand"));
                }
                _ if self.engine.has_function(&word) || function::is_special(&word) => Operand::Function(word),
                _ => {
                    self.at -= 1;
                    return self.error(format!("function {word:?} not defined"));
                }
            },
            Some(Token::Dot) => Operand::Dot,
            Some(Token::Field(name)) => Operand::Field(vec![name]),
            Some(Token::Variable(name)) => {
                if !self.variables.contains(&name) {
                    self.at -= 1;
                    return self.error(format!("undefined variable \"${name}\""));
                }
                Operand::Variable(name, Vec::new())
            }
            Some(Token::Str(text)) => Operand::Str(text),
            Some(Token::Char(c)) => Operand::Int(i64::from(u32::from(c))),
            Some(Token::Number(text)) => match number(&text) {
                Some(operand) => operand,
                None => {
                    self.at -= 1;
                    return self.error(format!("bad number syntax: {text:?}"));
                }
            },
            Some(Token::LeftParen) => {
                let pipe = self.deeper(|parser| parser.pipe(0))?;
                self.space();
                if self.next() != Some(Token::RightParen) {
                    self.at -= 1;
                    return self.error("unclosed left paren");
                }
                Operand::Pipe(Box::new(pipe), Vec::new())
            }
            _ => {
                self.at -= 1;
                return self.error("unexpected token in operand");
            }
        };
        while let Some(Token::Field(name)) = self.peek() {
            match &mut operand {
                Operand::Field(names) | Operand::Variable(_, names) | Operand::Pipe(_, names) => {
                    names.push(name.clone());
                }
                _ => return self.error(format!("unexpected .{name} after term")),
            }
            self.at += 1;
        }
        Ok(operand)
    }
}

impl Block {
    fn word(self) -> &'static str {
        match self {
            Self::If => "if",
            Self::With => "with",
            Self::Range => "range",
        }
    }
}

impl Operand {
    fn is_executable(&self) -> bool {
        !matches!(self, Self::Bool(_) | Self::Dot | Self::Nil | Self::Int(_) | Self::Float(_) | Self::Str(_))
    }
}

fn number(text: &str) -> Option<Operand> {
    let digits = text.trim_start_matches(['+', '-']);
    if text.len() - digits.len() > 1 || digits.starts_with('_') || digits.ends_with('_') {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    let plain = digits.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    let (radix, rest) = match lower.get(..2) {
        Some("0x") => (16, &plain[2..]),
        Some("0o") => (8, &plain[2..]),
        Some("0b") => (2, &plain[2..]),
        _ if plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|c| c.is_ascii_digit()) => (8, &plain[1..]),
        _ => (10, plain.as_str()),
    };
    if let Ok(value) = i64::from_str_radix(&format!("{sign}{rest}"), radix) {
        return Some(Operand::Int(value));
    }
    if radix != 10 || !plain.bytes().all(|c| c.is_ascii_digit() || b".eE+-".contains(&c)) {
        return None;
    }
    let value: f64 = format!("{sign}{plain}").parse().ok()?;
    if !plain.contains('.') && !lower.contains('e') {
        return None;
    }
    Some(Operand::Float(value))
}
