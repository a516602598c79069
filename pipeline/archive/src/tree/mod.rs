//! The file tree of a source: read by [`walk`], described by [`meta`], made again by [`apply`].
//!
//! Everything goes by descriptor and name, never by a path that somebody could change in between,
//! and every failure concerns one entry: the walk and the restore go on with the next.

pub mod meta;
