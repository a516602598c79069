//! Path two: file-level archives.
