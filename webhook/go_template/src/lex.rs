//! Text to tokens: text between actions, with trim markers applied, and what is inside of actions.

use crate::ParseError;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    Space,
    Ident(String),
    /// `.name`
    Field(String),
    /// `$name`; the name may be empty
    Variable(String),
    Dot,
    Str(String),
    Char(char),
    Number(String),
    Pipe,
    Comma,
    Declare,
    Assign,
    LeftParen,
    RightParen,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Located {
    pub(crate) token: Token,
    pub(crate) line: usize,
}

struct Lexer<'a> {
    name: &'a str,
    text: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Located>,
}

pub(crate) fn lex(name: &str, text: &str) -> Result<Vec<Located>, ParseError> {
    let mut lexer = Lexer { name, text, at: 0, line: 1, tokens: Vec::new() };
    let mut trim_start = false;
    loop {
        let rest = lexer.rest();
        let Some(open) = rest.find("{{") else {
            lexer.push_text(rest.len(), trim_start, false);
            return Ok(lexer.tokens);
        };
        let after = &rest[open + 2..];
        let trim_end = after.starts_with('-') && after[1..].starts_with(is_space);
        lexer.push_text(open, trim_start, trim_end);
        lexer.skip(2 + usize::from(trim_end));
        trim_start = lexer.action()?;
    }
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self, bytes: usize) {
        self.line += self.text[self.at..self.at + bytes].matches('\n').count();
        self.at += bytes;
    }

    fn push(&mut self, token: Token) {
        self.tokens.push(Located { token, line: self.line });
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { template: self.name.to_owned(), line: self.line, message: message.into() })
    }

    fn push_text(&mut self, bytes: usize, trim_start: bool, trim_end: bool) {
        let mut text = &self.rest()[..bytes];
        if trim_start {
            text = text.trim_start_matches(is_space);
        }
        if trim_end {
            text = text.trim_end_matches(is_space);
        }
        if !text.is_empty() {
            self.push(Token::Text(text.to_owned()));
        }
        self.skip(bytes);
    }

    /// From after `{{` or `{{-`, to after `}}`. Whether the text that follows is trimmed.
    fn action(&mut self) -> Result<bool, ParseError> {
        let rest = self.rest();
        let comment = rest.trim_start_matches(is_space);
        if comment.starts_with("/*") && (comment.len() == rest.len() || self.text[..self.at].ends_with('-')) {
            let Some(end) = comment.find("*/") else { return self.error("unclosed comment") };
            self.skip(rest.len() - comment.len() + end + 2);
            let rest = self.rest();
            let tail = rest.trim_start_matches(is_space);
            let is_trimmed = tail.len() < rest.len() && tail.starts_with("-}}");
            if !is_trimmed && !rest.starts_with("}}") {
                return self.error("comment ends before closing delimiter");
            }
            self.skip(if is_trimmed { rest.len() - tail.len() + 3 } else { 2 });
            return Ok(is_trimmed);
        }
        self.push(Token::Open);
        let mut parens = 0_usize;
        loop {
            let rest = self.rest();
            let tail = rest.trim_start_matches(is_space);
            let is_trimmed = tail.len() < rest.len() && tail.starts_with("-}}");
            if is_trimmed || rest.starts_with("}}") {
                if parens > 0 {
                    return self.error("unclosed left paren");
                }
                self.push(Token::Close);
                self.skip(if is_trimmed { rest.len() - tail.len() + 3 } else { 2 });
                return Ok(is_trimmed);
            }
            if tail.len() < rest.len() {
                self.push(Token::Space);
                self.skip(rest.len() - tail.len());
                continue;
            }
            self.token(&mut parens)?;
        }
    }

    fn token(&mut self, parens: &mut usize) -> Result<(), ParseError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return self.error("unclosed action") };
        let word = |text: &str| text.find(|c: char| !is_word(c)).unwrap_or(text.len());
        let (token, bytes) = match first {
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            ':' => return self.error("expected :="),
            '=' => (Token::Assign, 1),
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            '(' => {
                *parens += 1;
                (Token::LeftParen, 1)
            }
            ')' => {
                let Some(fewer) = parens.checked_sub(1) else { return self.error("unexpected right paren") };
                *parens = fewer;
                (Token::RightParen, 1)
            }
            '"' => return self.quoted(),
            '`' => {
                let Some(end) = rest[1..].find('`') else { return self.error("unterminated raw quoted string") };
                (Token::Str(rest[1..=end].replace('\r', "")), end + 2)
            }
            '\'' => return self.char(),
            '$' => {
                let end = 1 + word(&rest[1..]);
                (Token::Variable(rest[1..end].to_owned()), end)
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => match word(&rest[1..]) {
                0 => (Token::Dot, 1),
                length => (Token::Field(rest[1..=length].to_owned()), length + 1),
            },
            '+' | '-' | '.' | '0'..='9' => {
                let signed = |at: usize| rest[..at].ends_with(['e', 'E', 'p', 'P']) && !rest[..at].starts_with("0x");
                let more = |(at, c): (usize, char)| {
                    is_word(c) || c == '.' || (matches!(c, '+' | '-') && (at == 0 || signed(at)))
                };
                let end = rest.char_indices().find(|found| !more(*found)).map_or(rest.len(), |(at, _)| at);
                (Token::Number(rest[..end].to_owned()), end)
            }
            first if is_word(first) => {
                let end = word(rest);
                (Token::Ident(rest[..end].to_owned()), end)
            }
            other => return self.error(format!("unrecognized character in action: {other:?}")),
        };
        let is_operand = matches!(token, Token::Ident(_) | Token::Field(_) | Token::Variable(_) | Token::Number(_));
        self.push(token);
        self.skip(bytes);
        let next = self.rest().chars().next();
        if is_operand && !next.is_none_or(|c| is_space(c) || ".,|:)(=}".contains(c)) {
            return self.error(format!("bad character {:?}", next.unwrap_or_default()));
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let mut is_escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => {
                    let Some(text) = unquote(&rest[1..at]) else { return self.error("invalid syntax in string") };
                    self.push(Token::Str(text));
                    self.skip(at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.error("unterminated quoted string")
    }

    fn char(&mut self) -> Result<(), ParseError> {
        let rest = self.rest();
        let end = match rest[1..].strip_prefix('\\') {
            Some(tail) => tail.char_indices().skip(1).find(|(_, c)| *c == '\'').map(|(at, _)| at + 2),
            None => rest[1..].find('\'').map(|at| at + 1),
        };
        let Some(end) = end else { return self.error("unterminated character constant") };
        let text = if &rest[1..end] == "\\'" { Some("'".to_owned()) } else { unquote(&rest[1..end]) };
        let mut chars = text.as_deref().unwrap_or_default().chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => {
                self.push(Token::Char(c));
                self.skip(end + 1);
                Ok(())
            }
            _ => self.error("malformed character constant"),
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Go's escapes. Bytes that are not UTF-8 together become the replacement character.
pub(crate) fn unquote(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let c = chars.next()?;
        let mut digits = |count: usize, radix: u32, first: u32| {
            (0..count).try_fold(first, |value, _| value.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?))
        };
        match c {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' | '"' => bytes.push(c as u8),
            'x' => bytes.push(u8::try_from(digits(2, 16, 0)?).ok()?),
            '0'..='7' => bytes.push(u8::try_from(digits(2, 8, c.to_digit(8)?)?).ok()?),
            'u' | 'U' => {
                let code = digits(if c == 'u' { 4 } else { 8 }, 16, 0)?;
                bytes.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).bytes());
            }
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
