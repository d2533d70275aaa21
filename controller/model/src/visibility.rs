//! `exportTo`: which namespaces see an object (`*` all, `.` its own, `~` none, or names).

use crate::Namespace;
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    Public,
    /// Empty: nobody.
    Only(BTreeSet<Namespace>),
}

impl Visibility {
    /// `defaults` is the mesh's default for the kind, used when `export_to` is empty. `*` beats all else.
    pub fn new(export_to: &[String], defaults: &[String], own: &Namespace) -> Self {
        let list = if export_to.is_empty() { defaults } else { export_to };
        if list.is_empty() || list.iter().any(|it| it == "*") {
            return Self::Public;
        }
        Self::Only(
            list.iter()
                .filter(|it| *it != "~")
                .map(|it| if it == "." { own.clone() } else { it.as_str().into() })
                .collect(),
        )
    }

    pub fn allows(&self, namespace: &str) -> bool {
        match self {
            Self::Public => true,
            Self::Only(names) => names.contains(namespace),
        }
    }
}
