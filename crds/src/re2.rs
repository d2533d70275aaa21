//! Whether RE2, Envoy's regex engine, accepts a pattern: <https://github.com/google/re2/wiki/Syntax>.
//!
//! Rust's own engine is no judge of that: it refuses `\C` and `\Q..\E`, and accepts `\u1234`, `[a&&b]` and nested
//! classes. Nothing is matched here; the parser only follows RE2's (`re2/parse.cc`, Perl syntax, as Envoy uses it)
//! closely enough to give its verdict, and estimates the size of the program.

mod class;

/// Istio's limit on patterns (`validateStringRegexp`), in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// RE2's limit on counted repetition, nested ones multiplied.
const REPEAT_MAX: u64 = 1000;

/// `re2.max_program_size.error_level` as Istio's bootstrap sets it (Envoy's own default is 100).
const PROGRAM_SIZE_MAX: u64 = 32_768;

/// Says why RE2 would refuse the pattern.
pub fn check(pattern: &str) -> Result<(), String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("regex is too large, max length allowed is {PATTERN_BYTES_MAX}"));
    }
    let mut parser = Parser { rest: pattern.chars().collect(), at: 0, names: Vec::new() };
    let size = parser.alternation()?;
    if parser.at < parser.rest.len() {
        return Err(format!("unexpected ): {pattern}"));
    }
    match size.program > PROGRAM_SIZE_MAX {
        true => Err(format!("the program of this regex is larger than {PROGRAM_SIZE_MAX} instructions")),
        false => Ok(()),
    }
}

/// What an expression costs: instructions (a lower bound), and the product of nested repetitions.
#[derive(Clone, Copy, Default)]
struct Size {
    program: u64,
    repeat: u64,
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    names: Vec<String>,
}

/// What stands before the next token, as far as repetition cares.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Nothing,
    Atom(Size),
    /// An atom with its operator: a second operator is an error in RE2, not a possessive match as in PCRE.
    Repeated,
}

impl PartialEq for Size {
    fn eq(&self, other: &Self) -> bool {
        (self.program, self.repeat) == (other.program, other.repeat)
    }
}

impl Parser {
    /// Up to the end or an unmatched `)`.
    fn alternation(&mut self) -> Result<Size, String> {
        let mut total = Size { program: 0, repeat: 1 };
        let mut last = Last::Nothing;
        while let Some(c) = self.peek(0) {
            let start = self.at;
            if c == ')' {
                break;
            }
            if c == '|' {
                self.at += 1;
                total.program += 1;
                last = Last::Nothing;
                continue;
            }
            if let Some((min, max)) = self.repetition()? {
                let Last::Atom(atom) = last else {
                    let operator: String = self.rest[start..self.at].iter().collect();
                    return Err(match last {
                        Last::Nothing => format!("no argument for repetition operator: {operator}"),
                        _ => format!("bad repetition operator: {operator}"),
                    });
                };
                let times = max.unwrap_or(min).max(1);
                let repeat = atom.repeat * if times >= 2 { times } else { 1 };
                if repeat > REPEAT_MAX {
                    return Err(format!("repetition of more than {REPEAT_MAX}"));
                }
                total.program += atom.program * (times - 1) + 1;
                total.repeat = total.repeat.max(repeat);
                last = Last::Repeated;
                continue;
            }
            let Some(atom) = self.atom()? else { continue };
            total.program += atom.program;
            total.repeat = total.repeat.max(atom.repeat);
            last = Last::Atom(atom);
        }
        Ok(total)
    }

    /// A repetition operator, with the `?` that makes it lazy. A `{` that counts nothing is a literal.
    fn repetition(&mut self) -> Result<Option<(u64, Option<u64>)>, String> {
        let bounds = match self.peek(0) {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.counts() {
                Some(((min, max), length)) => {
                    let text: String = self.rest[self.at..self.at + length].iter().collect();
                    if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
                        return Err(format!("invalid repetition size: {text}"));
                    }
                    self.at += length - 1;
                    (min, max)
                }
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.at += 1;
        if self.peek(0) == Some('?') {
            self.at += 1;
        }
        Ok(Some(bounds))
    }

    /// `{n}`, `{n,}` or `{n,m}` and its length. RE2 reads `{,m}` and numbers with leading zeros as text.
    #[allow(clippy::type_complexity)]
    fn counts(&self) -> Option<((u64, Option<u64>), usize)> {
        let end = self.rest[self.at..].iter().position(|c| *c == '}')?;
        let text: String = self.rest[self.at + 1..self.at + end].iter().collect();
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let has_leading_zero = text.len() > 1 && text.starts_with('0');
            (is_number && !has_leading_zero).then(|| text.parse().unwrap_or(u64::MAX))
        };
        let bounds = match text.split_once(',') {
            None => number(&text).map(|n| (n, Some(n)))?,
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        Some((bounds, end + 1))
    }

    /// One thing that can be repeated; `None` for flags, which are nothing by themselves.
    fn atom(&mut self) -> Result<Option<Size>, String> {
        let one = |program| Some(Size { program, repeat: 1 });
        let c = self.next().expect("the caller saw a character");
        match c {
            '(' => self.group(),
            '[' => self.class().map(one),
            '\\' => self.escape(),
            // One instruction a byte; any character is a class of several UTF-8 ranges.
            '.' => Ok(one(10)),
            c => Ok(one(c.len_utf8() as u64)),
        }
    }

    fn group(&mut self) -> Result<Option<Size>, String> {
        let start = self.at - 1;
        if self.peek(0) == Some('?') {
            self.at += 1;
            let named = match (self.peek(0), self.peek(1), self.peek(2)) {
                (Some('P'), Some('<'), _) => 2,
                (Some('<'), Some('=' | '!'), _) => return Err(self.perl(start, 2)),
                (Some('<'), ..) => 1,
                _ => 0,
            };
            match named {
                0 => {
                    if !self.flags(start)? {
                        return Ok(None);
                    }
                }
                length => {
                    self.at += length;
                    self.name(start)?;
                }
            }
        }
        let inner = self.alternation()?;
        if self.next() != Some(')') {
            return Err("missing closing )".into());
        }
        Ok(Some(Size { program: inner.program + 2, repeat: inner.repeat }))
    }

    /// `i-s:` before a group's content (true) or `i-s)` for what follows (false).
    fn flags(&mut self, start: usize) -> Result<bool, String> {
        let (mut negated, mut any) = (false, false);
        loop {
            match self.next() {
                Some('i' | 'm' | 's' | 'U') => any = true,
                Some('-') if !negated => (negated, any) = (true, false),
                Some(end @ (':' | ')')) if any || !negated => return Ok(end == ':'),
                Some(_) => return Err(self.perl(start, 0)),
                None => return Err("missing closing )".into()),
            }
        }
    }

    fn perl(&self, start: usize, more: usize) -> String {
        let end = (self.at + more).min(self.rest.len());
        let text: String = self.rest[start..end].iter().collect();
        format!("invalid perl operator: {text}")
    }

    fn name(&mut self, start: usize) -> Result<(), String> {
        let mut name = String::new();
        loop {
            match self.next() {
                Some('>') if !name.is_empty() => break,
                Some(c) if c == '_' || c.is_alphanumeric() => name.push(c),
                _ => {
                    let text: String = self.rest[start..self.at].iter().collect();
                    return Err(format!("invalid named capture group: {text}"));
                }
            }
        }
        if self.names.contains(&name) {
            return Err(format!("duplicate capture group name: {name}"));
        }
        self.names.push(name);
        Ok(())
    }

    fn escape(&mut self) -> Result<Option<Size>, String> {
        let one = |program| Ok(Some(Size { program, repeat: 1 }));
        match self.peek(0) {
            None => Err("trailing \\ at end of expression".into()),
            Some('A' | 'z' | 'b' | 'B' | 'C' | 'd' | 'D' | 's' | 'S' | 'w' | 'W') => {
                self.at += 1;
                one(1)
            }
            Some('Q') => {
                self.at += 1;
                self.quoted()
            }
            Some('p' | 'P') => {
                self.unicode_group()?;
                // A group is dozens of UTF-8 ranges.
                one(50)
            }
            Some(_) => {
                let c = self.escaped_char()?;
                one(c.len_utf8() as u64)
            }
        }
    }

    /// The text up to `\E`. An operator after it applies to the last character.
    fn quoted(&mut self) -> Result<Option<Size>, String> {
        let start = self.at;
        loop {
            match (self.peek(0), self.peek(1)) {
                (None, _) => break,
                (Some('\\'), Some('E')) => break,
                _ => self.at += 1,
            }
        }
        let program = self.rest[start..self.at].iter().map(|c| c.len_utf8() as u64).sum();
        self.at = (self.at + 2).min(self.rest.len());
        Ok((program > 0).then_some(Size { program, repeat: 1 }))
    }

    /// An escape that stands for one character, inside or outside a class.
    fn escaped_char(&mut self) -> Result<char, String> {
        let Some(c) = self.next() else { return Err("trailing \\ at end of expression".into()) };
        let bad = || Err(format!("invalid escape sequence: \\{c}"));
        match c {
            '1'..='7' if !matches!(self.peek(0), Some('0'..='7')) => bad(),
            '0'..='7' => {
                let mut value = c.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    if let Some(digit) = self.peek(0).and_then(|c| c.to_digit(8)) {
                        value = value * 8 + digit;
                        self.at += 1;
                    }
                }
                char::from_u32(value).map_or_else(bad, Ok)
            }
            'x' => self.hexadecimal().map_or_else(bad, Ok),
            'a' | 'f' | 'n' | 'r' | 't' | 'v' => Ok('\n'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => bad(),
        }
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let digits: String = match self.next()? {
            '{' => {
                let end = self.rest[self.at..].iter().position(|c| *c == '}')?;
                let digits = self.rest[self.at..self.at + end].iter().collect();
                self.at += end + 1;
                digits
            }
            first => [first, self.next()?].into_iter().collect(),
        };
        let is_hexadecimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_hexadecimal.then(|| u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32))?
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        Some(c)
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_re2_accepts_is_accepted() {
        for pattern in [
            "",
            "a",
            "^/reviews/[0-9]+$",
            ".*",
            "(?i)foo",
            "(?i:foo)bar",
            "(?i-s)a",
            "(?P<name>a)",
            "(?<name>a)",
            r"\C",
            r"\Qa.b*\E+",
            r"\Qnever ended",
            r"\pN",
            r"\p{Greek}\P{^Lu}",
            r"\z",
            r"\A\b\B",
            r"\x7f\x{10FFFF}\123\0",
            r"\.\-\_\/",
            "[]a]",
            "[^]a]",
            "[a-z-9]",
            "[[:alpha:][:^digit:]]",
            r"[\d\s\pL-]",
            "a{2}",
            "a{2,}?",
            "a{,2}",
            "a{",
            "a{x}",
            "a{1000}",
            "^*",
            "a||b",
            "()",
            "(|a)*",
            "(a*)*",
            "(a{10}){100}",
            "ä+",
        ] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused_with_its_reason() {
        for (pattern, why) in [
            ("*", "no argument for repetition operator: *"),
            ("a|*", "no argument"),
            ("(*)", "no argument"),
            ("a**", "bad repetition operator: *"),
            ("a++", "bad repetition operator: +"),
            ("a{2}{3}", "bad repetition operator"),
            ("a{1001}", "invalid repetition size: {1001}"),
            ("a{99999999999999999999}", "invalid repetition size"),
            ("a{3,2}", "invalid repetition size: {3,2}"),
            ("(a{100}){100}", "repetition of more than 1000"),
            ("(", "missing closing )"),
            ("(a", "missing closing )"),
            ("a)", "unexpected )"),
            ("[a", "missing closing ]"),
            ("[z-a]", "invalid character class range: z-a"),
            ("[[:nope:]]", "invalid character class range: [:nope:]"),
            ("(?=a)", "invalid perl operator: (?="),
            ("(?!a)", "invalid perl operator: (?!"),
            ("(?<=a)", "invalid perl operator: (?<="),
            ("(?<!a)", "invalid perl operator: (?<!"),
            ("(?>a)", "invalid perl operator: (?>"),
            ("(?#a)", "invalid perl operator: (?#"),
            ("(?x)a", "invalid perl operator: (?x"),
            ("(?P=name)", "invalid perl operator: (?P"),
            ("(?P<>a)", "invalid named capture group"),
            ("(?P<a>b)(?P<a>c)", "duplicate capture group name: a"),
            (r"(a)\1", r"invalid escape sequence: \1"),
            (r"\8", r"invalid escape sequence: \8"),
            (r"\Z", r"invalid escape sequence: \Z"),
            (r"\G", r"invalid escape sequence: \G"),
            (r"\e", r"invalid escape sequence: \e"),
            (r"\u1234", r"invalid escape sequence: \u"),
            (r"\h", r"invalid escape sequence: \h"),
            (r"\xg1", r"invalid escape sequence: \x"),
            (r"[\b]", r"invalid escape sequence: \b"),
            (r"[a-\d]", r"invalid escape sequence: \d"),
            (r"\p{Klingon}", "invalid character class range: Klingon"),
            ("a\\", "trailing \\"),
        ] {
            let found = check(pattern).expect_err(pattern);
            assert!(found.contains(why), "{pattern}: {found}");
        }
    }

    #[test]
    fn size_is_limited_as_istio_limits_it() {
        assert!(check(&"a".repeat(1024)).is_ok());
        assert_eq!(check(&"a".repeat(1025)).unwrap_err(), "regex is too large, max length allowed is 1024");
        let large = format!("({}){{200}}", "a".repeat(1000));
        assert!(check(&large).unwrap_err().contains("32768 instructions"));
    }

    #[test]
    fn deep_nesting_ends() {
        assert!(check(&"(".repeat(1024)).is_err());
        assert!(check(&format!("{}{}", "(".repeat(512), ")".repeat(512))).is_ok());
    }
}
