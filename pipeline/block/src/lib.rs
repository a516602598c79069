//! Path one: block snapshots.
