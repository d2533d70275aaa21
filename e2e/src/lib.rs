//! Tests of the whole: golden pairs with their call tables, real Envoys, real processes. Knows every crate; nothing
//! knows it.
