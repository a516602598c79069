//! The folder that is filled by a restore: nothing is ever made outside it.
//!
//! Every entry is made by name in a folder that was opened from the target's root without
//! following a link (openat2(2)). Files are made under a temporary name and renamed when they are
//! whole, so that a name never stands for half a file. What exists stays, unless it may be written over.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat,
    linkat, makedev, mkdirat, mknodat, openat, renameat_with, setxattr, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::InsideError;
use super::entry::{Meta, Xattr};
use super::kernel::open_folder;
use super::open::{open_beneath, split};

/// Zeros of this length, at such a border, become a hole.
const HOLE_BYTES: usize = 4096;

/// An opened target.
pub(super) struct Target {
    root: OwnedFd,
    overwrite: bool,
    /// The folder used last: entries come folder by folder.
    parent: Option<(RawPath, OwnedFd)>,
    is_root_user: bool,
}

impl Target {
    /// Opens the folder `to`, and makes it when it does not exist.
    pub(super) fn open(to: &Path, overwrite: bool) -> Result<Self, InsideError> {
        let failed = |source: io::Error| InsideError::Target { folder: to.to_owned(), source };
        match std::fs::create_dir(to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let root = open_folder(to).map_err(failed)?;
        Ok(Self { root, overwrite, parent: None, is_root_user: rustix::process::geteuid().is_root() })
    }

    /// Whether owners can be given.
    pub(super) fn sets_owners(&self) -> bool {
        self.is_root_user
    }

    fn parent(&mut self, path: &RawPath) -> Result<BorrowedFd<'_>, Errno> {
        let known = self.parent.as_ref().is_some_and(|(known, _)| known == path);
        if !known {
            let open = open_beneath(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.parent = Some((path.clone(), open));
        }
        self.parent.as_ref().map(|(_, open)| open.as_fd()).ok_or(Errno::NOENT)
    }

    /// What stands at `path`, if anything does.
    pub(super) fn find(&mut self, path: &RawPath) -> Result<Option<Meta>, Errno> {
        let found = match split(path) {
            None => Meta::of(self.root.as_fd(), b"."),
            Some((parent, name)) => self.parent(&parent).and_then(|parent| Meta::of(parent, name)),
        };
        match found {
            Ok(meta) => Ok(Some(meta)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Makes a folder; true when it was not there before. What else is there is removed when it may be.
    pub(super) fn make_folder(&mut self, path: &RawPath) -> Result<bool, Errno> {
        let Some((parent, name)) = split(path) else { return Ok(false) };
        let overwrite = self.overwrite;
        let parent = self.parent(&parent)?;
        let name = OsStr::from_bytes(name);
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    return Ok(false);
                }
                if !overwrite {
                    return Err(Errno::EXIST);
                }
                unlinkat(parent, name, AtFlags::empty())?;
                mkdirat(parent, name, Mode::RWXU).map(|()| true)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Makes what is neither file nor folder.
    pub(super) fn make_special(&mut self, path: &RawPath, meta: &Meta, link: Option<&RawPath>) -> Result<(), Errno> {
        let (kind, device) = match meta.kind {
            EntryKind::Symlink => {
                let to = OsStr::from_bytes(link.ok_or(Errno::INVAL)?.as_bytes());
                return self.replace(path, |parent, name| symlinkat(to, parent, name));
            }
            EntryKind::Fifo => (FileType::Fifo, 0),
            EntryKind::CharDevice => (FileType::CharacterDevice, makedev(meta.device.0, meta.device.1)),
            EntryKind::BlockDevice => (FileType::BlockDevice, makedev(meta.device.0, meta.device.1)),
            EntryKind::File | EntryKind::Directory | EntryKind::Socket => return Err(Errno::INVAL),
        };
        self.replace(path, |parent, name| mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device))
    }

    /// Makes `path` another name of `first`, which was restored before.
    pub(super) fn link(&mut self, first: &RawPath, path: &RawPath) -> Result<(), Errno> {
        let handle = open_beneath(self.root.as_fd(), first, OFlags::PATH)?;
        let proc = proc_path(handle.as_fd());
        self.replace(path, |parent, name| linkat(CWD, &proc, parent, name, AtFlags::SYMLINK_FOLLOW))
    }

    fn replace(&mut self, path: &RawPath, make: impl Fn(BorrowedFd, &OsStr) -> Result<(), Errno>) -> Result<(), Errno> {
        let (parent, name) = split(path).ok_or(Errno::EXIST)?;
        let overwrite = self.overwrite;
        let parent = self.parent(&parent)?;
        let name = OsStr::from_bytes(name);
        match make(parent, name) {
            Err(Errno::EXIST) if overwrite => {
                unlinkat(parent, name, AtFlags::empty())?;
                make(parent, name)
            }
            other => other,
        }
    }

    /// Begins a file that gets its name when it is finished.
    pub(super) fn begin_file(&mut self, path: &RawPath) -> Result<Begun, Errno> {
        let (parent, name) = split(path).ok_or(Errno::ISDIR)?;
        let folder = self.parent(&parent)?.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| Errno::IO)?;
        let temporary = format!(".dualsync-restore-{:016x}", u64::from_le_bytes(random)).into_bytes();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder, OsStr::from_bytes(&temporary), flags, Mode::RUSR | Mode::WUSR)?;
        let begun = Begun { folder, temporary, name: name.to_vec(), file: File::from(file), overwrite: self.overwrite };
        Ok(begun)
    }

    /// Gives an entry its owner, attributes, mode and time. Order matters: a new owner takes
    /// capabilities and set-uid bits away, and an ACL changes the mode.
    pub(super) fn dress(&mut self, path: &RawPath, meta: &Meta, xattrs: &[Xattr]) -> Result<(), Errno> {
        let handle = match split(path) {
            None => open_beneath(self.root.as_fd(), path, OFlags::PATH)?,
            Some((parent, name)) => open_beneath(self.parent(&parent)?, &RawPath::new(name), OFlags::PATH)?,
        };
        dress(handle.as_fd(), meta, xattrs, self.is_root_user)
    }
}

/// A file under its temporary name; removed when it is not finished.
pub(super) struct Begun {
    folder: OwnedFd,
    temporary: Vec<u8>,
    name: Vec<u8>,
    file: File,
    overwrite: bool,
}

impl Begun {
    /// Writes a piece; long runs of zeros become holes.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), io::Error> {
        let mut at = offset;
        for piece in bytes.chunks(HOLE_BYTES) {
            if piece.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(piece, at)?;
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Sets the length, dresses the file and gives it its name.
    pub(super) fn finish(self, meta: &Meta, xattrs: &[Xattr], is_root_user: bool) -> Result<(), io::Error> {
        self.file.set_len(meta.size)?;
        dress(self.file.as_fd(), meta, xattrs, is_root_user)?;
        let flags = if self.overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let (from, to) = (OsStr::from_bytes(&self.temporary), OsStr::from_bytes(&self.name));
        renameat_with(&self.folder, from, &self.folder, to, flags)?;
        Ok(())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = unlinkat(&self.folder, OsStr::from_bytes(&self.temporary), AtFlags::empty());
    }
}

/// A path that leads to what a descriptor holds, even to a symbolic link itself.
fn proc_path(handle: BorrowedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

fn dress(handle: BorrowedFd, meta: &Meta, xattrs: &[Xattr], is_root_user: bool) -> Result<(), Errno> {
    let path = proc_path(handle);
    if is_root_user {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        chownat(handle, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    for (name, value) in xattrs {
        // Only root may set trusted.* and security.*; what others cannot set they cannot keep.
        match setxattr(&path, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Err(Errno::PERM) if !is_root_user => {}
            other => other?,
        }
    }
    if meta.kind != EntryKind::Symlink {
        chmod(&path, Mode::from_raw_mode(meta.mode))?;
    }
    let time = Timespec { tv_sec: meta.mtime.seconds(), tv_nsec: meta.mtime.nanos().into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, &path, &times, AtFlags::empty())
}
