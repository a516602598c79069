//! The store client of the archive path.
