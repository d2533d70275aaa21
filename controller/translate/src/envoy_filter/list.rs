//! Operations on a list in which elements are found by name: filters and routes.

use super::{Done, Patch};
use crds::networking::{FilterClass, Operation};
use prost::Message;
use xds::envoy::Any;
use xds::merge::{Lists, merge};

/// Everything but merges. `at` says where the patch's match is in the list; `None`: it does not ask for an element.
pub(super) fn edit<T: Message + Default>(list: &mut Vec<T>, patch: &Patch, at: Option<Option<usize>>) -> bool {
    let end = list.len();
    let position = match (patch.operation, at) {
        (Operation::Add, _) | (Operation::InsertAfter, None) => end,
        (Operation::InsertFirst | Operation::InsertBefore, None) => 0,
        (_, Some(None)) | (Operation::Replace | Operation::Remove, None) => return false,
        (Operation::InsertFirst, Some(Some(_))) => 0,
        (Operation::InsertBefore, Some(Some(at))) => at,
        (Operation::InsertAfter, Some(Some(at))) => at + 1,
        (Operation::Replace, Some(Some(at))) => {
            list[at] = patch.message();
            return true;
        }
        (Operation::Remove, Some(Some(at))) => {
            list.remove(at);
            return true;
        }
        (Operation::Merge | Operation::MergeAndReplaceList | Operation::Invalid, _) => return false,
    };
    list.insert(position, patch.message());
    true
}

/// Where an added filter goes that says of which class it is: what authenticates and authorizes before everything,
/// what counts just before the last one.
pub(super) fn by_class<T: Message + Default>(list: &mut Vec<T>, patch: &Patch) -> bool {
    let position = match (patch.operation, patch.class) {
        (Operation::Add, FilterClass::Authn | FilterClass::Authz) => 0,
        (Operation::Add, FilterClass::Stats) => list.len().saturating_sub(1),
        _ => return false,
    };
    list.insert(position, patch.message());
    true
}

/// `None`: the patch is no merge.
pub(super) fn lists(patch: &Patch) -> Option<Lists> {
    match patch.operation {
        Operation::Merge => Some(Lists::Append),
        Operation::MergeAndReplaceList => Some(Lists::Replace),
        _ => None,
    }
}

/// Merges the configuration of one extension into another's, as messages of their common type.
pub(super) fn merge_any(base: &mut Any, patch: &Any, lists: Lists) -> Done {
    if base.type_url != patch.type_url {
        return Err(format!("a {} cannot be merged into a {}", short(&patch.type_url), short(&base.type_url)));
    }
    let merged = merge(&base.type_url, &base.value, &patch.value, lists).map_err(|error| error.to_string())?;
    base.value = merged;
    Ok(true)
}

fn short(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}
