//! The store client of the block path.
