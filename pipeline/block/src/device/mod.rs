//! Reads a source as it lies on the disk: a block device past the page cache, an image file through it.
//!
//! [`Source`] promises that a read returns the bytes of the medium. A device is opened with
//! `O_DIRECT`, and where that is refused its cache is flushed and dropped first: read plainly, a
//! mounted device gives back last night's cached blocks after a file was overwritten in place. An
//! image file has one cache, which is read ahead and given back. Every failure names the path and
//! the offset. It decides nothing about content: what is free or unchanged is asked elsewhere.

mod buffer;
mod ioctl;

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, OFlags, SeekFrom, fadvise, seek};
use rustix::io::{Errno, pread};

pub use self::buffer::{ALIGNMENT, AlignedBuf};

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It could not be opened, or not asked for its size.
    #[error("cannot open '{path}'")]
    Open {
        /// The source.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A device was announced and something else is there, or the other way round. Reading a
    /// device like a file would return stale bytes, so nothing is guessed.
    #[error("'{path}' is not {expected}")]
    WrongKind {
        /// The source.
        path: PathBuf,
        /// What the job says it is.
        expected: &'static str,
    },
    /// `O_DIRECT` is refused, and so is dropping the cache.
    #[error("'{path}' takes neither direct reads nor a flush of its cache, so stale bytes cannot be ruled out")]
    Cached {
        /// The source.
        path: PathBuf,
        /// Why the flush was refused.
        source: io::Error,
    },
    /// The medium or the system refused a read.
    #[error("cannot read {length} bytes at offset {offset} of '{path}'")]
    Read {
        /// The source.
        path: PathBuf,
        /// Where the failed part begins.
        offset: u64,
        /// How much was asked for.
        length: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The source ended early: it shrank after it was opened.
    #[error("'{path}' ends at offset {offset}, though it had {size_bytes} bytes when it was opened")]
    Short {
        /// The source.
        path: PathBuf,
        /// Where the bytes end.
        offset: u64,
        /// Its size when it was opened.
        size_bytes: u64,
    },
    /// The size is not what it was.
    #[error("'{path}' has {now} bytes, and had {before} when it was opened")]
    SizeChanged {
        /// The source.
        path: PathBuf,
        /// Bytes when it was opened.
        before: u64,
        /// Bytes now.
        now: u64,
    },
    /// The caller asked for a range that cannot be read: beyond the end, or off the sectors of a device.
    #[error("{length} bytes at offset {offset} lie beyond the {size_bytes} bytes of '{path}', or off its sectors")]
    Range {
        /// The source.
        path: PathBuf,
        /// Asked offset.
        offset: u64,
        /// Asked length.
        length: usize,
        /// Size of the source.
        size_bytes: u64,
    },
}

/// How the bytes come past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A device with `O_DIRECT`; offsets and lengths are multiples of the sector.
    Direct { sector_bytes: u64 },
    /// A device whose cache was dropped at opening, and is dropped again behind every read.
    Flushed,
    /// An image file.
    Buffered,
}

/// An opened source of a size that must not change.
#[derive(Debug)]
pub struct Source {
    file: File,
    path: PathBuf,
    size_bytes: u64,
    way: Way,
}

impl Source {
    /// Opens a block device (`is_device`) or an image file for reading.
    ///
    /// # Errors
    /// [`DeviceError::WrongKind`] when `is_device` does not fit what is there.
    pub fn open(path: &Path, is_device: bool) -> Result<Self, DeviceError> {
        let opened = if is_device { Self::open_direct(path)? } else { Self::open_image(path)? };
        match opened {
            Some(source) => Ok(source),
            None => Self::open_flushed(path),
        }
    }

    /// `None` when the device knows no direct reads.
    fn open_direct(path: &Path) -> Result<Option<Self>, DeviceError> {
        let file = match open_with(path, OFlags::DIRECT) {
            Err(DeviceError::Open { source, .. }) if is_invalid(&source) => return Ok(None),
            other => other?,
        };
        expect_device(&file, path, true)?;
        let sector_bytes = rustix::fs::ioctl_blksszget(&file).map_err(open_error(path))?.into();
        let source = Self::sized(file, path, Way::Direct { sector_bytes })?;
        // Some drivers take the flag and refuse the first read.
        let mut probe = AlignedBuf::new(ALIGNMENT);
        probe.set_len(usize::try_from(source.size_bytes).unwrap_or(ALIGNMENT).min(ALIGNMENT));
        match source.read_at(0, &mut probe) {
            Err(DeviceError::Read { source, .. }) if is_invalid(&source) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(Some(source)),
        }
    }

    /// A device without direct reads: its cached pages are dropped, so that the reads that follow
    /// fetch from the medium.
    fn open_flushed(path: &Path) -> Result<Self, DeviceError> {
        let file = open_with(path, OFlags::empty())?;
        expect_device(&file, path, true)?;
        ioctl::flush_buffers(&file)
            .map_err(|errno| DeviceError::Cached { path: path.to_owned(), source: errno.into() })?;
        Self::sized(file, path, Way::Flushed)
    }

    fn open_image(path: &Path) -> Result<Option<Self>, DeviceError> {
        let file = open_with(path, OFlags::empty())?;
        expect_device(&file, path, false)?;
        // Advice: a file system that does not take it is read without it.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        Self::sized(file, path, Way::Buffered).map(Some)
    }

    fn sized(file: File, path: &Path, way: Way) -> Result<Self, DeviceError> {
        let size_bytes = seek(&file, SeekFrom::End(0)).map_err(open_error(path))?;
        Ok(Self { file, path: path.to_owned(), size_bytes, way })
    }

    /// Bytes of the source when it was opened.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `buffer` up to its length with the bytes from `offset` on. On a device both are
    /// multiples of its sector. After an error the buffer's content means nothing.
    pub fn read_at(&self, offset: u64, buffer: &mut AlignedBuf) -> Result<(), DeviceError> {
        self.check_range(offset, buffer.len())?;
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            match pread(&self.file, &mut buffer[filled..], at) {
                Ok(0) => {
                    let size_bytes = self.size_bytes;
                    return Err(DeviceError::Short { path: self.path.clone(), offset: at, size_bytes });
                }
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let (path, length) = (self.path.clone(), buffer.len() - filled);
                    return Err(DeviceError::Read { path, offset: at, length, source: errno.into() });
                }
            }
        }
        if !matches!(self.way, Way::Direct { .. })
            && let Some(length) = NonZeroU64::new(buffer.len() as u64)
        {
            // The pages are not needed again; a source must not push a server's own cache out.
            let _ = fadvise(&self.file, offset, Some(length), Advice::DontNeed);
        }
        Ok(())
    }

    fn check_range(&self, offset: u64, length: usize) -> Result<(), DeviceError> {
        let inside = offset.checked_add(length as u64).is_some_and(|end| end <= self.size_bytes);
        let on_sectors = match self.way {
            Way::Direct { sector_bytes } => {
                offset.is_multiple_of(sector_bytes) && (length as u64).is_multiple_of(sector_bytes)
            }
            Way::Flushed | Way::Buffered => true,
        };
        if inside && on_sectors {
            return Ok(());
        }
        Err(DeviceError::Range { path: self.path.clone(), offset, length, size_bytes: self.size_bytes })
    }

    /// The next range at or after `offset` that may hold data; what lies before it is a hole and
    /// reads as zeros. `None` when only holes follow. A device, or a file system that knows no
    /// holes, is one range of data.
    pub fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>, DeviceError> {
        if offset >= self.size_bytes {
            return Ok(None);
        }
        if self.way != Way::Buffered {
            return Ok(Some(offset..self.size_bytes));
        }
        let failed =
            |errno: Errno| DeviceError::Read { path: self.path.clone(), offset, length: 0, source: errno.into() };
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return self.check_size().map(|()| None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..self.size_bytes)),
            Err(errno) => return Err(failed(errno)),
        };
        let end = seek(&self.file, SeekFrom::Hole(start)).map_err(failed)?;
        Ok((start < self.size_bytes).then(|| start..end.min(self.size_bytes)))
    }

    /// That the source still has the size it was opened with; to be asked after the last read,
    /// since a source that grew would otherwise be a point without its end.
    pub fn check_size(&self) -> Result<(), DeviceError> {
        let now = seek(&self.file, SeekFrom::End(0)).map_err(open_error(&self.path))?;
        if now == self.size_bytes {
            return Ok(());
        }
        Err(DeviceError::SizeChanged { path: self.path.clone(), before: self.size_bytes, now })
    }
}

fn open_with(path: &Path, flags: OFlags) -> Result<File, DeviceError> {
    // Non-blocking, so that a FIFO in the place of an image is refused instead of waited for.
    let flags = i32::try_from((flags | OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0);
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|source| DeviceError::Open { path: path.to_owned(), source })
}

fn expect_device(file: &File, path: &Path, is_device: bool) -> Result<(), DeviceError> {
    let kind = file.metadata().map_err(|source| DeviceError::Open { path: path.to_owned(), source })?.file_type();
    let (fits, expected) =
        if is_device { (kind.is_block_device(), "a block device") } else { (kind.is_file(), "an image file") };
    if fits { Ok(()) } else { Err(DeviceError::WrongKind { path: path.to_owned(), expected }) }
}

fn open_error(path: &Path) -> impl FnOnce(Errno) -> DeviceError {
    let path = path.to_owned();
    |errno| DeviceError::Open { path, source: errno.into() }
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

#[cfg(test)]
mod tests;
