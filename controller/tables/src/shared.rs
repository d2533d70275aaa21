//! A row's value, shared between the tables and whoever took it out of them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A row's value. Equal means the same row value, *by pointer*: a commit never replaces a value by an equal
/// one, so rows that hold other rows compare at no cost. (A → B → A costs a computation, never an error.)
///
/// ```
/// use tables::Shared;
/// let one = Shared::new(vec![1]);
/// assert_eq!(one, one.clone());
/// assert_ne!(one, Shared::new(vec![1]));
/// assert_eq!(*one, [1]);
/// ```
pub struct Shared<V: ?Sized>(Arc<V>);

impl<V> Shared<V> {
    pub fn new(value: V) -> Self {
        Self(Arc::new(value))
    }
}

impl<V: ?Sized> Shared<V> {
    /// The same value as an `Arc`, for consumers that know nothing of tables.
    pub fn arc(&self) -> Arc<V> {
        self.0.clone()
    }
}

impl<V: ?Sized> Clone for Shared<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: ?Sized> PartialEq for Shared<V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<V: ?Sized> Eq for Shared<V> {}

impl<V: ?Sized> Deref for Shared<V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.0
    }
}

impl<V: ?Sized + fmt::Debug> fmt::Debug for Shared<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
