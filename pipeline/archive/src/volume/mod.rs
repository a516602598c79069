//! Volumes: tar members in frames, sealed, stored whole.

pub mod content;
pub mod reader;
