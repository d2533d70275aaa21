//! `semverCompare`, with the constraints that charts write.

use std::cmp::Ordering;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
    /// How many of the three numbers were written, and were no `x`.
    given: usize,
}

pub(super) fn compare(constraint: &str, version: &str) -> Result<bool, String> {
    let version = Version::parse(version).filter(|version| version.given > 0).ok_or("Invalid Semantic Version")?;
    for alternative in constraint.split("||") {
        if all(alternative, &version)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// All of the constraints between commas or spaces.
fn all(constraints: &str, version: &Version) -> Result<bool, String> {
    let hyphen: Vec<&str> = constraints.split(" - ").collect();
    let constraints = match hyphen.as_slice() {
        [from, to] => format!(">={} <={}", from.trim(), to.trim()),
        _ => constraints.to_owned(),
    };
    let mut operator = String::new();
    let mut result = true;
    for word in constraints.split([',', ' ']).filter(|word| !word.is_empty()) {
        let digits = word.trim_start_matches(['=', '!', '<', '>', '~', '^']);
        operator.push_str(&word[..word.len() - digits.len()]);
        if digits.is_empty() {
            continue;
        }
        let wanted = Version::parse(digits).ok_or_else(|| format!("improper constraint: {constraints}"))?;
        result &= matches(&operator, &wanted, version)?;
        operator.clear();
    }
    Ok(result)
}

fn matches(operator: &str, wanted: &Version, version: &Version) -> Result<bool, String> {
    // A prerelease is only meant where one is named.
    if !version.pre.is_empty() && wanted.pre.is_empty() {
        return Ok(false);
    }
    let order = version.order(wanted);
    let same = |count: usize| version.numbers[..count] == wanted.numbers[..count];
    let is_partial = wanted.given < 3;
    Ok(match operator {
        "" | "=" if is_partial => same(wanted.given),
        "" | "=" => order == Ordering::Equal,
        "!=" if is_partial => !same(wanted.given),
        "!=" => order != Ordering::Equal,
        ">" if is_partial => order == Ordering::Greater && !same(wanted.given),
        ">" => order == Ordering::Greater,
        ">=" | "=>" => order != Ordering::Less,
        "<" => order == Ordering::Less,
        "<=" | "=<" if is_partial => order == Ordering::Less || same(wanted.given),
        "<=" | "=<" => order != Ordering::Greater,
        "~" | "~>" => order != Ordering::Less && same(wanted.given.min(2)),
        "^" => {
            let first = wanted.numbers.iter().position(|number| *number > 0).unwrap_or(2);
            order != Ordering::Less && same((first + 1).min(wanted.given.max(1)))
        }
        other => return Err(format!("improper constraint: {other}")),
    })
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, _build) = text.split_once('+').unwrap_or((text, ""));
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let mut numbers = [0; 3];
        let mut given = 0;
        for (i, part) in core.split('.').enumerate() {
            let slot = numbers.get_mut(i)?;
            if matches!(part, "x" | "X" | "*") {
                break;
            }
            *slot = part.parse().ok()?;
            given = i + 1;
        }
        let pre = pre.map_or_else(Vec::new, |pre| pre.split('.').map(str::to_owned).collect());
        Some(Self { numbers, pre, given })
    }

    fn order(&self, other: &Self) -> Ordering {
        let pre = |version: &Self| version.pre.is_empty();
        self.numbers.cmp(&other.numbers).then(pre(self).cmp(&pre(other))).then_with(|| {
            let pairs = self.pre.iter().zip(&other.pre);
            let order = pairs.map(|(one, two)| match (one.parse::<u64>(), two.parse::<u64>()) {
                (Ok(one), Ok(two)) => one.cmp(&two),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                _ => one.cmp(two),
            });
            let first = order.into_iter().find(|order| *order != Ordering::Equal);
            first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
        })
    }
}
