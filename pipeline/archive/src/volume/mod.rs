//! Volumes: tar members in frames, sealed, stored whole.

pub mod reader;

pub mod content;

pub mod member;
