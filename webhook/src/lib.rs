//! Admission: sidecars injected into pods, wrong configuration refused.
