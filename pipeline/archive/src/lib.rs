//! Path two: file-level archives.

pub mod sort;

pub mod tree;
