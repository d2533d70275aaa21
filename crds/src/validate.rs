//! Istio validation.
