//! The engine from outside: histories, promises, dumps.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dump;
mod history;
mod rules;
mod toy;
