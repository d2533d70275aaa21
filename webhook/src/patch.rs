//! What changed, as RFC 6902.

use serde_json::Value;

/// The operations that make `from` into `to`. The patch is applied once more before it leaves: a pod that would come
/// out differently is an error here and not a surprise in the cluster.
pub(crate) fn diff(from: &Value, to: &Value) -> Result<json_patch::Patch, String> {
    let patch = json_patch::diff(from, to);
    let mut applied = from.clone();
    json_patch::patch(&mut applied, &patch).map_err(|error| format!("the patch cannot be applied: {error}"))?;
    match applied == *to {
        true => Ok(patch),
        false => Err("the patch does not lead to the injected pod".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_with_slashes_and_lists_of_other_lengths_are_patched() {
        let from = json!({"a": {"x/y~z": "1"}, "l": [{"n": 1}, {"n": 2}]});
        let to =
            json!({"a": {"x/y~z": "2", "prometheus.io/port": "15020"}, "l": [{"n": 0}, {"n": 1}, {"n": 2}], "b": null});
        let patch = diff(&from, &to).unwrap();
        assert!(!patch.0.is_empty());
        assert!(diff(&to, &to).unwrap().0.is_empty());
    }
}
