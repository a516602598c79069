//! File trees: read by [`walk`], described by [`meta`], files read by [`content`]; made again by [`apply`].
//!
//! Everything goes by descriptor and name, never by a path that somebody could change in between,
//! and every failure concerns one entry: a walk goes on with the next.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub mod meta;

pub mod walk;

pub mod content;

pub mod layout;

pub mod apply;

pub mod attributes;

pub mod safe;

mod capture;
mod extents;
mod nameless;
mod staging;

#[cfg(test)]
pub(crate) mod nasty;

/// Opens `name` of `directory` (itself, for the empty name) for reading. It never follows a link, blocks on
/// a FIFO or, where the caller may decide that, leaves an access time behind.
fn open_for_reading(directory: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let name = if name.is_empty() { b"." } else { name };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Somebody else's file, and no right to leave no trace.
        Err(Errno::PERM) => Ok(rustix::fs::openat(&directory, name, flags, Mode::empty())?),
        opened => Ok(opened?),
    }
}
