//! Commented example configurations.
