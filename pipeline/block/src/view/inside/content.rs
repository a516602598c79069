//! Reads the content of files in the order in which it is stored.
//!
//! The walk meets files by folder; read that way, each would cost a request to the store. So the
//! walk only notes where each file begins, the notes are sorted outside memory, and the files are
//! read along the device, which the view turns into long fetches.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dualsync_model::fact::Fact;
use dualsync_model::path::RawPath;
use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::{Errno, pread};
use serde::{Deserialize, Serialize};

use super::InsideError;
use super::entry::Inode;
use super::extents::physical_at;
use super::mount::Tree;
use super::open::open_beneath;
use crate::view::sort::{Sorted, Sorter};

/// A file whose content is to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Noted {
    /// What is known of it.
    pub fact: Box<Fact>,
    /// Names with the same inode come one after the other.
    pub inode: Inode,
}

/// Collects files and gives them back by place.
pub(super) struct StorageOrder {
    sorter: Sorter,
}

impl StorageOrder {
    pub(super) fn new(folder: &Path) -> Self {
        Self { sorter: Sorter::new(folder) }
    }

    /// Notes a file. Its place is its first extent; where the file system does not tell, the
    /// inode's number, since files made together lie together. Of the names of one inode those
    /// that are `first` come before the others.
    pub(super) fn note(&mut self, tree: &Tree, noted: &Noted, first: bool) -> Result<(), InsideError> {
        let place = open_file(tree, &noted.fact.path).ok().and_then(|file| physical_at(&file, 0));
        let inode = noted.inode;
        let mut key = place.unwrap_or(inode.number).to_be_bytes().to_vec();
        key.extend_from_slice(&inode.volume.0.to_be_bytes());
        key.extend_from_slice(&inode.volume.1.to_be_bytes());
        key.extend_from_slice(&inode.number.to_be_bytes());
        key.push(u8::from(!first));
        // The path last, so that equal trees are read in equal order.
        key.extend_from_slice(noted.fact.path.as_bytes());
        let value = serde_json::to_vec(noted).map_err(|error| InsideError::Output(error.into()))?;
        Ok(self.sorter.add(key, value)?)
    }

    /// The files by place.
    pub(super) fn finish(self) -> Result<impl Iterator<Item = Result<Noted, InsideError>>, InsideError> {
        let sorted: Sorted = self.sorter.finish()?;
        Ok(sorted.map(|record| {
            let (_, value) = record?;
            serde_json::from_slice(&value).map_err(|error| InsideError::Output(error.into()))
        }))
    }
}

/// Files opened ahead, and bytes of them that the kernel is asked for ahead.
const FILES_AHEAD: usize = 64;
const BYTES_AHEAD: u64 = 8 << 20;

/// A file whose turn has come.
pub(super) struct Opened {
    /// What is known of it.
    pub noted: Noted,
    /// It, open.
    pub file: Result<OwnedFd, Errno>,
}

/// Opens files before their turn and asks the kernel for their content, so that the image's blocks are fetched and inflated
/// while an earlier file is hashed. Only for files that are all going to be read: what is asked for is paid for.
pub(super) struct Ahead<'a, I> {
    tree: &'a Tree,
    files: I,
    opened: VecDeque<Opened>,
    bytes: u64,
}

impl<'a, I: Iterator<Item = Result<Noted, InsideError>>> Ahead<'a, I> {
    pub(super) fn new(tree: &'a Tree, files: I) -> Self {
        Self { tree, files, opened: VecDeque::new(), bytes: 0 }
    }

    fn look_ahead(&mut self) -> Result<(), InsideError> {
        while self.opened.len() < FILES_AHEAD && self.bytes < BYTES_AHEAD {
            let Some(noted) = self.files.next().transpose()? else { break };
            let file = open_file(self.tree, &noted.fact.path);
            // A further name of the same inode is not read again.
            let is_read = self.opened.back().is_none_or(|last| last.noted.inode != noted.inode);
            if let Some(length) = NonZeroU64::new(noted.fact.size.min(BYTES_AHEAD)).filter(|_| is_read)
                && let Ok(file) = &file
            {
                let _ = fadvise(file, 0, Some(length), Advice::WillNeed);
            }
            self.bytes += noted.fact.size;
            self.opened.push_back(Opened { noted, file });
        }
        Ok(())
    }
}

impl<I: Iterator<Item = Result<Noted, InsideError>>> Iterator for Ahead<'_, I> {
    type Item = Result<Opened, InsideError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.look_ahead() {
            return Some(Err(error));
        }
        let opened = self.opened.pop_front()?;
        self.bytes -= opened.noted.fact.size;
        Some(Ok(opened))
    }
}

/// Opens a file of the tree for reading.
pub(super) fn open_file(tree: &Tree, path: &RawPath) -> Result<OwnedFd, Errno> {
    open_beneath(tree.root(), path, OFlags::RDONLY | OFlags::NONBLOCK)
}

/// Content that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    /// Where on the device, when that is known.
    pub at: Option<u64>,
    /// What the system said.
    pub errno: Errno,
}

impl From<Errno> for Unread {
    fn from(errno: Errno) -> Self {
        Self { at: None, errno }
    }
}

/// Reads `size` bytes of an opened file in pieces, and gives each to `take` with its offset.
pub(super) fn read_all(
    file: impl AsFd,
    size: u64,
    buffer: &mut [u8],
    mut take: impl FnMut(u64, &[u8]) -> Result<(), InsideError>,
) -> Result<Result<(), Unread>, InsideError> {
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    let mut offset = 0;
    while offset < size {
        let most = usize::try_from(size - offset).unwrap_or(buffer.len()).min(buffer.len());
        match pread(&file, &mut buffer[..most], offset) {
            // A mounted image does not change: a file that ends early is a broken one.
            Ok(0) => return Ok(Err(Unread { at: physical_at(&file, offset), errno: Errno::IO })),
            Ok(count) => {
                let end = offset + count as u64;
                if let Some(length) = NonZeroU64::new((size - end.min(size)).min(BYTES_AHEAD)) {
                    let _ = fadvise(&file, end, Some(length), Advice::WillNeed);
                }
                take(offset, &buffer[..count])?;
                offset = end;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Ok(Err(Unread { at: physical_at(&file, offset), errno })),
        }
    }
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(Ok(()))
}
