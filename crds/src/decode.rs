//! Text or JSON to typed objects.
