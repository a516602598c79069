//! Which parts of an ext2, ext3 or ext4 file system are certainly free, so that a copy may leave them out.
//!
//! [`Allocation::read`] answers only when nothing speaks against it: a known set of features, a
//! clean state, an empty journal, every checksum right, every bitmap in agreement with its
//! descriptor, and all of that unchanged when it looks again. Anything else is a [`Doubt`], after
//! which the whole source is read. It never looks at files, and needs no mount.

mod allocation;
mod checksum;
mod group;
mod superblock;

use std::ops::Range;

pub use self::allocation::Allocation;
use crate::device::{ALIGNMENT, AlignedBuf, DeviceError, Source};

/// Why nothing may be left out of the copy. Never a failure of the backup: it reads more.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    /// The source holds something else, or nothing.
    #[error("the source holds no ext2, ext3 or ext4 file system")]
    NotExt,
    /// A feature that this code does not know may put data anywhere.
    #[error("the file system has features that are not known here ({field} {bits:#x})")]
    Feature {
        /// Which of the three feature words.
        field: &'static str,
        /// The bits that are not known.
        bits: u32,
    },
    /// The state is not clean, or the journal holds what the bitmaps do not show yet.
    #[error("the file system is not clean: {0}")]
    NotClean(&'static str),
    /// A checksum contradicts its bytes.
    #[error("the checksum of {what} {number} is wrong")]
    Checksum {
        /// What it protects.
        what: &'static str,
        /// Which one.
        number: u64,
    },
    /// A number cannot be right.
    #[error("{what} {number} makes no sense")]
    Nonsense {
        /// What was read.
        what: &'static str,
        /// Its value, or the group it belongs to.
        number: u64,
    },
    /// The file system changed while it was looked at.
    #[error("the file system changed while it was read")]
    Changed,
    /// The medium could not be read.
    #[error("the file system's own records cannot be read")]
    Read(#[from] DeviceError),
}

/// Reads small records of a source in windows, so that neighbouring bitmaps cost one read.
struct Window<'a> {
    source: &'a Source,
    buffer: AlignedBuf,
    range: Range<u64>,
}

impl<'a> Window<'a> {
    const BYTES: usize = 256 * 1024;

    fn new(source: &'a Source) -> Self {
        Self { source, buffer: AlignedBuf::new(Self::BYTES), range: 0..0 }
    }

    /// The bytes at `offset`; `length` is at most half a window.
    fn get(&mut self, offset: u64, length: usize) -> Result<&[u8], Doubt> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.source.size_bytes());
        let end = end.ok_or(Doubt::Nonsense { what: "the place of a record, byte", number: offset })?;
        if offset < self.range.start || end > self.range.end {
            let start = offset - offset % ALIGNMENT as u64;
            let filled = (self.source.size_bytes() - start).min(Self::BYTES as u64);
            // A window that fails to fill holds nothing.
            self.range = 0..0;
            self.buffer.set_len(usize::try_from(filled).unwrap_or(Self::BYTES));
            self.source.read_at(start, &mut self.buffer)?;
            self.range = start..start + filled;
        }
        let from = usize::try_from(offset - self.range.start).unwrap_or(usize::MAX);
        self.buffer
            .get(from..from.saturating_add(length))
            .ok_or(Doubt::Nonsense { what: "the length of a record, bytes", number: length as u64 })
    }
}

/// Little-endian numbers out of on-disk records; 0 beyond their end.
trait Fields {
    fn u16_at(&self, offset: usize) -> u16;
    fn u32_at(&self, offset: usize) -> u32;
}

impl Fields for [u8] {
    fn u16_at(&self, offset: usize) -> u16 {
        self.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes))
    }

    fn u32_at(&self, offset: usize) -> u32 {
        self.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}
