//! Texts of variables as Go reads them.

use std::time::Duration;

/// `24h`, `1h30m`, `500ms`, `1.5s`: Go's durations without a sign; also plain `0`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(agent::environment::text::duration("1h30m"), Some(Duration::from_secs(5400)));
/// assert_eq!(agent::environment::text::duration("5"), None);
/// ```
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_bytes = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_bytes);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Go's `strconv.ParseBool`.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The downward API's form of labels and annotations: `key="value"` lines, the value quoted as Go quotes.
pub fn podinfo(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        Some((key.to_owned(), unquoted(value)))
    })
}

/// Go's `%q`: JSON's escapes, and `\a \v \xNN \UNNNNNNNN` besides.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return text.to_owned() };
    let mut bytes: Vec<u8> = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.next().unwrap_or('\\');
        let mut number = |digits: usize| {
            let hex: String = rest.by_ref().take(digits).collect();
            u32::from_str_radix(&hex, 16).unwrap_or_default()
        };
        match escape {
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'v' => bytes.push(11),
            'x' => bytes.push(u8::try_from(number(2)).unwrap_or_default()),
            'u' | 'U' => {
                let code = number(if escape == 'u' { 4 } else { 8 });
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, milliseconds) in [
            ("24h", Some(86_400_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1500)),
            ("100ms", Some(100)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("5d", None),
            ("-5s", None),
            ("s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn the_downward_apis_files_are_read() {
        let text = "app=\"reviews\"\nnote=\"a \\\"b\\\"\\n\\u00e9\\xc3\\xa9=c\"\nbad line\n";
        let read: Vec<_> = podinfo(text).collect();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read, [pair("app", "reviews"), pair("note", "a \"b\"\néé=c")]);
    }
}
