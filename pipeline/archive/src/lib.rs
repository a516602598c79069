//! Path two: the file tree as tar members in sealed volumes.
//!
//! A library and the program `dualsync-archive`. It promises that a copy exists only when everything it
//! names is stored, that what could not be read as it should is said so, and that stock tools open what it
//! stores (`age`, `zstd`, `tar`, `sha256sum`, `minisign`). It shares no code with the block path but
//! `dualsync-model`. The modules stand in reading order; each uses only those below it.

#![expect(clippy::missing_panics_doc, reason = "expect() stands only where it cannot fail, and says why")]

pub mod program;

pub mod failure;

pub mod input;

pub mod backup;
pub mod evidence;
pub mod list;
pub mod prune;

pub mod marks;
pub mod runs;

pub mod restore;

pub mod facts;

pub mod check;

pub mod globs;

pub mod contents;

pub mod listing;

pub mod damage;

pub mod kept;
pub mod points;
pub mod repo;

pub mod events;

pub mod keys;

pub mod manifest;

pub mod catalog;
pub mod tree;

pub mod volume;

pub mod refs;

pub mod hidden;
pub mod shadow;

pub mod objects;

pub mod record;

pub mod sort;
pub mod spool;

pub mod inside;
pub mod minisign;
pub mod seal;

pub mod codec;
pub mod deadline;
pub mod digest;

pub mod buffers;
pub mod heap;

pub mod format;

#[cfg(test)]
mod sample;
