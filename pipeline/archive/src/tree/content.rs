//! Reads a file's content and notices when it is not the file that was seen.
//!
//! A [`Content`] always delivers exactly the bytes its [`Meta`] promises, data extents one after the
//! other, because a tar header with that size is written already: what cannot be read is
//! zeros. Whether the bytes are the truth is said by [`Content::finish`], and only there, so
//! nobody can take a short file for a whole one.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::capture::{Identity, identity, timestamp};
use super::meta::{Extent, Meta};
use super::open_for_reading;
use rustix::io::Errno;

/// What was wrong with a file's content; the words go into the catalog and the facts.
#[derive(Debug, thiserror::Error)]
pub enum ContentProblem {
    /// It could not be opened.
    #[error("cannot be opened")]
    Open(#[source] io::Error),
    /// The name stands for another file now.
    #[error("was replaced by another file before it was read")]
    Replaced,
    /// It was written to.
    #[error("changed while it was read")]
    Changed,
    /// It ended early; zeros stand for the rest.
    #[error("shrank while it was read: {read} of {size} bytes were there")]
    Shrank {
        /// Offset of the first byte that was not there.
        read: u64,
        /// Bytes that should have been there.
        size: u64,
    },
    /// It is longer now than what was read.
    #[error("grew while it was read, from {size} to {now} bytes")]
    Grew {
        /// Bytes that were read.
        size: u64,
        /// Bytes afterwards.
        now: u64,
    },
    /// The disk did not give all of it; zeros stand for what is missing.
    #[error("cannot be read at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ContentProblem {
    /// Whether bytes are missing that were there (`unreadable`), as opposed to a file in motion (`changed`).
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Open(source) => source.raw_os_error() != Some(Errno::NOENT.raw_os_error()),
            Self::Read { .. } => true,
            Self::Replaced | Self::Changed | Self::Shrank { .. } | Self::Grew { .. } => false,
        }
    }
}

/// Where a file was seen: its folder, open, and its name there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    pub(super) identity: Identity,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Content {
    file: OwnedFd,
    meta: Meta,
    rest: std::vec::IntoIter<Extent>,
    current: Extent,
    problem: Option<ContentProblem>,
}

impl Content {
    pub(super) fn open(place: &Place, meta: &Meta) -> Result<Self, ContentProblem> {
        let file = open_for_reading(&*place.folder, &place.name).map_err(ContentProblem::Open)?;
        if identity(&file).map_err(ContentProblem::Open)? != place.identity {
            return Err(ContentProblem::Replaced);
        }
        let rest = meta.data().into_iter();
        let mut content =
            Self { file, meta: meta.clone(), rest, current: Extent { offset: 0, length: 0 }, problem: None };
        content.problem = content.difference();
        Ok(content)
    }

    /// Bytes that reading delivers: the data of all extents.
    pub fn data_bytes(&self) -> u64 {
        self.meta.data().iter().map(|extent| extent.length).sum()
    }

    /// Whether what was read is what the walk saw. Bytes that were not asked for are not missed.
    pub fn finish(mut self) -> Result<(), ContentProblem> {
        match self.problem.take().or_else(|| self.difference()) {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    /// Compares the inode now with the inode as it was captured.
    fn difference(&self) -> Option<ContentProblem> {
        let stat = match rustix::fs::fstat(&self.file) {
            Ok(stat) => stat,
            Err(error) => return Some(ContentProblem::Read { offset: 0, source: error.into() }),
        };
        let size = self.meta.size;
        let now = u64::try_from(stat.st_size).unwrap_or(0);
        let time = |seconds, nanos| timestamp(seconds, u32::try_from(nanos).unwrap_or(u32::MAX));
        if now < size {
            Some(ContentProblem::Shrank { read: now, size })
        } else if now > size {
            Some(ContentProblem::Grew { size, now })
        } else if time(stat.st_mtime, stat.st_mtime_nsec) != self.meta.mtime
            || time(stat.st_ctime, stat.st_ctime_nsec) != self.meta.ctime
        {
            Some(ContentProblem::Changed)
        } else {
            None
        }
    }

    /// Reads at the position, and notes what is missing the first time that something is.
    fn read_data(&mut self, buffer: &mut [u8]) -> usize {
        let offset = self.current.offset;
        loop {
            let missing = match rustix::io::pread(&self.file, &mut *buffer, offset) {
                Ok(0) => ContentProblem::Shrank { read: offset, size: self.meta.size },
                Ok(read) => return read,
                Err(Errno::INTR) => continue,
                Err(error) => ContentProblem::Read { offset, source: error.into() },
            };
            if !matches!(self.problem, Some(ContentProblem::Shrank { .. } | ContentProblem::Read { .. })) {
                self.problem = Some(missing);
            }
            buffer.fill(0);
            return buffer.len();
        }
    }
}

/// The data extents, one after the other. Never fails: see [`Content::finish`].
impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.length == 0 {
            let Some(next) = self.rest.next() else { return Ok(0) };
            self.current = next;
        }
        let wanted = usize::try_from(self.current.length).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.read_data(&mut buffer[..wanted]);
        self.current.offset += read as u64;
        self.current.length -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
