//! Lists and maps. Maps are changed in place where sprig does it.

use super::{ANY, Result, Row, items, map, string, text_of};
use crate::exec::Spent;
use crate::value::{Map, Val};
use std::rc::Rc;

pub(super) const TABLE: &[Row] = &[
    ("list", 0, ANY, |spent, a| listed(spent, a.to_vec())),
    ("tuple", 0, ANY, |spent, a| listed(spent, a.to_vec())),
    ("append", 2, 2, |spent, a| listed(spent, items(a, 0)?.iter().chain([&a[1]]).cloned().collect())),
    ("push", 2, 2, |spent, a| listed(spent, items(a, 0)?.iter().chain([&a[1]]).cloned().collect())),
    ("prepend", 2, 2, |spent, a| listed(spent, [&a[1]].into_iter().chain(items(a, 0)?).cloned().collect())),
    ("concat", 0, ANY, |spent, a| {
        let all = (0..a.len()).map(|i| items(a, i)).collect::<Result<Vec<_>>>()?;
        listed(spent, all.concat())
    }),
    ("first", 1, 1, |_, a| Ok(items(a, 0)?.first().cloned().unwrap_or(Val::Nil))),
    ("last", 1, 1, |_, a| Ok(items(a, 0)?.last().cloned().unwrap_or(Val::Nil))),
    ("rest", 1, 1, |spent, a| listed(spent, items(a, 0)?.iter().skip(1).cloned().collect())),
    ("initial", 1, 1, |spent, a| {
        let all = items(a, 0)?;
        listed(spent, all[..all.len().saturating_sub(1)].to_vec())
    }),
    ("reverse", 1, 1, |spent, a| listed(spent, items(a, 0)?.iter().rev().cloned().collect())),
    ("compact", 1, 1, |spent, a| listed(spent, items(a, 0)?.iter().filter(|item| item.is_true()).cloned().collect())),
    ("uniq", 1, 1, |spent, a| {
        let mut all: Vec<Val> = Vec::new();
        for item in items(a, 0)? {
            if !contains(spent, &all, item)? {
                all.push(item.clone());
            }
        }
        listed(spent, all)
    }),
    ("without", 1, ANY, |spent, a| {
        let mut all = Vec::new();
        for item in items(a, 0)? {
            if !contains(spent, &a[1..], item)? {
                all.push(item.clone());
            }
        }
        listed(spent, all)
    }),
    ("has", 2, 2, |spent, a| match &a[1] {
        Val::Missing | Val::Nil => Ok(Val::Bool(false)),
        _ => Ok(Val::Bool(contains(spent, items(a, 1)?, &a[0])?)),
    }),
    ("deepEqual", 2, 2, |spent, a| Ok(Val::Bool(deep_equal(spent, &a[0], &a[1])?))),
    ("dict", 0, ANY, |spent, a| {
        let pairs = a.chunks(2).map(|pair| {
            let value = pair.get(1).cloned().unwrap_or_else(|| Val::str(""));
            Ok((text_of(spent, &pair[0])?.into(), value))
        });
        Ok(Val::map(pairs.collect::<Result<Vec<_>>>()?))
    }),
    ("get", 2, 2, |_, a| Ok(map(a, 0)?.get(string(a, 1)?).unwrap_or_else(|| Val::str("")))),
    ("set", 3, 3, |spent, a| {
        let target = map(a, 0)?;
        refuse_cycle(spent, target, &a[2])?;
        target.insert(string(a, 1)?.into(), a[2].clone());
        Ok(a[0].clone())
    }),
    ("unset", 2, 2, |_, a| {
        map(a, 0)?.remove(string(a, 1)?);
        Ok(a[0].clone())
    }),
    ("hasKey", 2, 2, |_, a| Ok(Val::Bool(map(a, 0)?.get(string(a, 1)?).is_some()))),
    ("pluck", 1, ANY, |spent, a| {
        let key = string(a, 0)?;
        let found = (1..a.len()).map(|i| Ok(map(a, i)?.get(key))).collect::<Result<Vec<_>>>()?;
        listed(spent, found.into_iter().flatten().collect())
    }),
    ("keys", 0, ANY, |spent, a| {
        let maps = (0..a.len()).map(|i| map(a, i)).collect::<Result<Vec<_>>>()?;
        listed(spent, maps.into_iter().flat_map(|map| map.entries()).map(|(key, _)| Val::Str(key)).collect())
    }),
    ("values", 1, 1, |spent, a| listed(spent, map(a, 0)?.entries().into_iter().map(|(_, value)| value).collect())),
    ("pick", 1, ANY, |spent, a| select(spent, a, Selection::Pick)),
    ("omit", 1, ANY, |spent, a| select(spent, a, Selection::Omit)),
    ("dig", 3, ANY, |_, a| dig(a)),
    ("merge", 1, ANY, |spent, a| merge_all(spent, a, Merge::Fill)),
    ("mustMerge", 1, ANY, |spent, a| merge_all(spent, a, Merge::Fill)),
    ("mergeOverwrite", 1, ANY, |spent, a| merge_all(spent, a, Merge::Overwrite)),
    ("mustMergeOverwrite", 1, ANY, |spent, a| merge_all(spent, a, Merge::Overwrite)),
    ("deepCopy", 1, 1, |spent, a| copy(spent, &a[0])),
    ("mustDeepCopy", 1, 1, |spent, a| copy(spent, &a[0])),
];

fn listed(spent: &Spent<'_>, items: Vec<Val>) -> Result {
    spent.charge(items.len().saturating_mul(2))?;
    Ok(Val::list(items))
}

fn contains(spent: &Spent<'_>, all: &[Val], wanted: &Val) -> Result<bool> {
    for item in all {
        if deep_equal(spent, item, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Integers of both kinds are equal, which they are not in Go: here numbers in data need no `int`.
fn deep_equal(spent: &Spent<'_>, one: &Val, two: &Val) -> Result<bool> {
    spent.charge(1)?;
    Ok(match (one, two) {
        (Val::Missing | Val::Nil, Val::Missing | Val::Nil) => true,
        (Val::Bool(one), Val::Bool(two)) => one == two,
        (Val::Float(one), Val::Float(two)) => one == two,
        (Val::Str(one), Val::Str(two)) => one == two,
        (Val::List(one), Val::List(two)) => {
            let (one, two) = (one.items(), two.items());
            let mut pairs = one.iter().zip(two);
            let same =
                || pairs.try_fold(true, |same, (one, two)| Ok::<_, String>(same && deep_equal(spent, one, two)?));
            one.len() == two.len() && spent.deeper(same)?
        }
        (Val::Map(one), Val::Map(two)) => {
            let (one, two) = (one.entries(), two.entries());
            let mut pairs = one.iter().zip(&two);
            let same = || {
                pairs.try_fold(true, |same, ((key, one), (other, two))| {
                    Ok::<_, String>(same && key == other && deep_equal(spent, one, two)?)
                })
            };
            one.len() == two.len() && spent.deeper(same)?
        }
        _ => one.integer().is_some() && one.integer() == two.integer(),
    })
}

/// A map inside of itself could not be printed, nor ever be freed.
fn refuse_cycle(spent: &Spent<'_>, target: &Rc<Map>, value: &Val) -> Result<()> {
    spent.charge(1)?;
    match value {
        Val::Map(map) if Rc::ptr_eq(map, target) => Err("a map cannot contain itself".into()),
        Val::Map(map) => {
            spent.deeper(|| map.entries().iter().try_for_each(|(_, item)| refuse_cycle(spent, target, item)))
        }
        Val::List(list) => spent.deeper(|| list.items().iter().try_for_each(|item| refuse_cycle(spent, target, item))),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Selection {
    Pick,
    Omit,
}

fn select(spent: &Spent<'_>, arguments: &[Val], selection: Selection) -> Result {
    let keys = (1..arguments.len()).map(|i| string(arguments, i)).collect::<Result<Vec<_>>>()?;
    let entries = map(arguments, 0)?.entries();
    spent.charge(entries.len().saturating_mul(keys.len()))?;
    let wanted = selection == Selection::Pick;
    Ok(Val::map(entries.into_iter().filter(|(key, _)| keys.contains(&&**key) == wanted)))
}

/// `dig "a" "b" default map`
fn dig(arguments: &[Val]) -> Result {
    let last = arguments.len() - 1;
    let mut value = Val::Map(map(arguments, last)?.clone());
    for i in 0..last - 1 {
        let Val::Map(map) = &value else { return Err("dig: a key leads into something that is no map".into()) };
        match map.get(string(arguments, i)?) {
            Some(next) => value = next,
            None => return Ok(arguments[last - 1].clone()),
        }
    }
    Ok(value)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Merge {
    /// What is set and not empty stays.
    Fill,
    Overwrite,
}

fn merge_all(spent: &Spent<'_>, arguments: &[Val], how: Merge) -> Result {
    let target = map(arguments, 0)?;
    for i in 1..arguments.len() {
        merge(spent, target, map(arguments, i)?, how)?;
    }
    Ok(arguments[0].clone())
}

fn merge(spent: &Spent<'_>, target: &Rc<Map>, source: &Rc<Map>, how: Merge) -> Result<()> {
    for (key, value) in source.entries() {
        spent.charge(1)?;
        match (target.get(&key), &value) {
            (_, Val::Missing | Val::Nil) if how == Merge::Fill => {}
            (Some(Val::Map(old)), Val::Map(new)) if !Rc::ptr_eq(&old, new) => {
                spent.deeper(|| merge(spent, &old, new, how))?;
            }
            (Some(old), _) if how == Merge::Fill && old.is_true() => {}
            _ => {
                refuse_cycle(spent, target, &value)?;
                target.insert(key, value);
            }
        }
    }
    Ok(())
}

fn copy(spent: &Spent<'_>, value: &Val) -> Result {
    spent.charge(1)?;
    match value {
        Val::List(list) => {
            let items = || list.items().iter().map(|item| copy(spent, item)).collect::<Result<Vec<_>>>();
            Ok(Val::list(spent.deeper(items)?))
        }
        Val::Map(map) => {
            let entry = |(key, item): (Rc<str>, Val)| Ok((key, copy(spent, &item)?));
            let entries = || map.entries().into_iter().map(entry).collect::<Result<Vec<_>>>();
            Ok(Val::map(spent.deeper(entries)?))
        }
        other => Ok(other.clone()),
    }
}
