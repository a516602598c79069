//! Path two: file-level archives.

pub mod tree;
