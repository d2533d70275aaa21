//! Whether a well-formed object is allowed: the rules of Istio's webhook
//! (<https://github.com/istio/istio/tree/master/pkg/config/validation>), of the CRDs' own schemas, and the list of
//! fields that this version accepts without translating them.
//!
//! An error means that Istio would refuse the object; a warning that it is in force with a remark.

pub(crate) mod mesh_config;

use crate::{Object, Problem};

/// Istio's rules. Nothing here looks at other objects.
pub fn object(object: &Object) -> Vec<Problem> {
    let _ = object;
    Vec::new()
}

/// Fields that are set and have no effect in this version.
pub fn untranslated(object: &Object) -> Vec<Problem> {
    let _ = object;
    Vec::new()
}
