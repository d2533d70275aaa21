//! The tables by stage, and each stage's part of a commit: target ← keys, tables read, function.

mod catalog;
mod inputs;
mod names;
mod outbound;
mod scopes;
mod sides;

pub(crate) use catalog::Catalog;
pub(crate) use inputs::Inputs;
pub(crate) use names::NamesStage;
pub(crate) use outbound::{Outbound, SeenSet};
pub(crate) use scopes::{OwnMember, Scopes};
pub(crate) use sides::{Sides, sets};
