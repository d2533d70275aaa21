//! What talks to an API server, against one that has faults.

#![allow(clippy::unwrap_used)]

mod fake;
mod lease;
mod watch;
