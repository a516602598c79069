//! What a restore writes to: an image file with holes, or a device.
//!
//! A new image is born full of holes, so zeros cost nothing; a device or an older image is never
//! taken for blank, its zeros are written. Nothing that exists is touched without being told to,
//! and a device that is mounted or held is refused by the kernel (`O_EXCL`).

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use dualsync_model::job::Shape;
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};

/// Bytes of zeros written at once where the kernel cannot do it.
const ZERO_BYTES: usize = 1 << 20;

/// Why a target cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Something is there already.
    #[error("'{0}' exists, and nothing is restored over existing data without being told to")]
    Exists(PathBuf),
    /// It is not what the job says.
    #[error("'{path}' is not {expected}")]
    OtherKind {
        /// The target.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// The device is too small.
    #[error("'{path}' has {has} bytes, the point needs {needs}")]
    TooSmall {
        /// The device.
        path: PathBuf,
        /// Its size.
        has: u64,
        /// The image's size.
        needs: u64,
    },
    /// No room.
    #[error("no space is left for '{path}', which has {bytes} bytes in all")]
    Full {
        /// The target.
        path: PathBuf,
        /// The image's size.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Any other failure.
    #[error("cannot {operation} '{path}'")]
    Io {
        /// What failed.
        operation: &'static str,
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An opened target.
#[derive(Debug)]
pub struct Sink {
    file: File,
    path: PathBuf,
    size_bytes: u64,
    shape: Shape,
    is_blank: bool,
}

impl Sink {
    /// Opens or creates what `shape` says at `path`, for an image of `size_bytes`.
    pub fn open(path: &Path, shape: Shape, size_bytes: u64, resume: bool, overwrite: bool) -> Result<Self, SinkError> {
        let io = |operation| move |source| SinkError::Io { operation, path: path.to_owned(), source };
        let exists = path.try_exists().map_err(io("look at"))?;
        if exists && !resume && !overwrite {
            return Err(SinkError::Exists(path.to_owned()));
        }
        let is_new = !exists && shape == Shape::Image;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let flags = if shape == Shape::Device { OFlags::EXCL } else { OFlags::NONBLOCK };
        let flags = i32::try_from((flags | OFlags::CLOEXEC).bits()).unwrap_or(0);
        if is_new {
            options.create_new(true).mode(0o600);
        } else {
            options.custom_flags(flags);
        }
        let mut file = options.open(path).map_err(io("open"))?;
        let kind = file.metadata().map_err(io("look at"))?.file_type();
        let (fits, expected) = match shape {
            Shape::Device => (kind.is_block_device(), "a block device"),
            Shape::Image | Shape::Tree => (kind.is_file(), "an image file"),
        };
        if !fits {
            return Err(SinkError::OtherKind { path: path.to_owned(), expected });
        }
        if shape == Shape::Device {
            let has = file.seek(SeekFrom::End(0)).map_err(io("look at"))?;
            if has < size_bytes {
                return Err(SinkError::TooSmall { path: path.to_owned(), has, needs: size_bytes });
            }
        } else {
            if !resume {
                file.set_len(0).map_err(io("empty"))?;
            }
            file.set_len(size_bytes).map_err(io("size"))?;
        }
        let is_blank = shape == Shape::Image && (is_new || !resume);
        Ok(Self { file, path: path.to_owned(), size_bytes, shape, is_blank })
    }

    /// Whether everything not written yet is zeros.
    pub fn is_blank(&self) -> bool {
        self.is_blank
    }

    /// Writes a block.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed("write", source))
    }

    /// Makes `length` bytes zeros.
    pub fn write_zeros(&self, offset: u64, length: u64) -> Result<(), SinkError> {
        let flags = match self.shape {
            // A hole in an image; on a device BLKZEROOUT, which never leaves old bytes.
            Shape::Image | Shape::Tree => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Shape::Device => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        };
        if fallocate(&self.file, flags, offset, length).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; ZERO_BYTES];
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
            self.write(at, &zeros[..count])?;
            at += count as u64;
        }
        Ok(())
    }

    /// After `Ok` everything is on the medium, and what is read next comes from there.
    pub fn sync(&self) -> Result<(), SinkError> {
        self.file.sync_all().map_err(|source| self.failed("flush", source))?;
        // Advice: where it is not taken, the re-read proves the cache's bytes.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        if self.shape == Shape::Image
            && let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty())
        {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|source| self.failed("flush the folder of", source))?;
        }
        Ok(())
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> SinkError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                SinkError::Full { path, bytes: self.size_bytes, source }
            }
            _ => SinkError::Io { operation, path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn nothing_that_exists_is_touched_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.img");
        std::fs::write(&path, b"precious").unwrap();
        assert!(matches!(Sink::open(&path, Shape::Image, 4096, false, false), Err(SinkError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let sink = Sink::open(&path, Shape::Image, 4096, true, false).unwrap();
        assert!(!sink.is_blank());
        assert_eq!(&std::fs::read(&path).unwrap()[..8], b"precious", "a resume keeps what is there");
        let sink = Sink::open(&path, Shape::Image, 4096, false, true).unwrap();
        assert!(sink.is_blank());
        assert_eq!(std::fs::read(&path).unwrap(), vec![0; 4096]);
    }

    #[test]
    fn a_new_image_is_sparse_and_zeros_become_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.img");
        let sink = Sink::open(&path, Shape::Image, 64 << 20, false, false).unwrap();
        assert!(sink.is_blank());
        sink.write(1 << 20, &vec![7; 8 << 20]).unwrap();
        sink.write_zeros(2 << 20, 7 << 20).unwrap();
        sink.sync().unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(meta.len(), 64 << 20);
        assert!(meta.blocks() * 512 <= 2 << 20, "{} sectors", meta.blocks());
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes[1 << 20..2 << 20].iter().all(|byte| *byte == 7));
        assert!(bytes[2 << 20..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_wrong_kind_of_target_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"x").unwrap();
        let error = Sink::open(&path, Shape::Device, 1, false, true).unwrap_err();
        assert!(matches!(error, SinkError::OtherKind { expected: "a block device", .. } | SinkError::Io { .. }));
        assert!(Sink::open(folder.path(), Shape::Image, 1, false, true).is_err());
        let missing = folder.path().join("missing");
        assert!(Sink::open(&missing, Shape::Device, 1, false, true).is_err());
        assert!(!missing.exists());
    }
}
