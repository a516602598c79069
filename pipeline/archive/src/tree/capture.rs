//! Reads everything that [`Meta`] keeps of one entry, through one descriptor; or, at a glance, what stat tells of it.
//!
//! For all of it the entry is opened with `O_PATH | O_NOFOLLOW` first, and stat, link target and attributes all
//! come from that descriptor: they belong to one inode even when the name moves meanwhile. Nothing
//! is opened for reading, so no device reacts and no FIFO blocks, except a file with fewer
//! blocks than its size, whose holes are looked up.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags, makedev};
use rustix::io::Errno;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;
use dualsync_model::time::Timestamp;

use super::meta::{Meta, Xattr};
use super::{extents, open_for_reading};

/// All attributes of one entry together; ext4 and xfs hold far less, and a catalog line stays bounded.
const XATTR_BYTES_MAX: usize = 1 << 20;

/// An inode of this host, to notice that a name means another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// One entry as it was found.
pub(super) struct Captured {
    pub(super) meta: Meta,
    pub(super) identity: Identity,
    /// Something else is mounted here.
    pub(super) mount_point: bool,
    /// Why `meta.xattrs` is `None`, where they were asked for.
    pub(super) xattr_error: Option<io::Error>,
}

/// What one call tells of `name` of `directory`, the empty name being `directory` itself: everything but link target, attributes
/// and extents. Each of these leaves another ctime behind when it changes.
pub(super) fn glance(directory: BorrowedFd<'_>, name: &[u8], file_system: u64) -> io::Result<Captured> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    described(&rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)?, file_system)
}

/// Captures `name` of `directory`; the empty name is `directory` itself.
pub(super) fn capture(directory: BorrowedFd<'_>, name: &[u8], file_system: u64) -> io::Result<Captured> {
    let opened;
    let entry = if name.is_empty() {
        directory
    } else {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        opened = rustix::fs::openat(directory, name, flags, Mode::empty())?;
        rustix::fd::AsFd::as_fd(&opened)
    };
    let stat = rustix::fs::statx(entry, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)?;
    let mut found = described(&stat, file_system)?;
    match xattrs(entry) {
        Ok(xattrs) => found.meta.xattrs = Some(xattrs),
        Err(error) => found.xattr_error = Some(error),
    }
    let meta = &mut found.meta;
    if meta.kind == EntryKind::Symlink {
        let target = rustix::fs::readlinkat(entry, c"", Vec::new())?.into_bytes();
        meta.size = target.len() as u64;
        meta.link_target = Some(RawPath::new(target));
    }
    if meta.kind == EntryKind::File && stat.stx_blocks.saturating_mul(512) < meta.size {
        // Not being allowed to look means that the content cannot be read either, which is said then.
        meta.extents = open_for_reading(directory, name).and_then(|file| extents::of(&file, meta.size)).unwrap_or(None);
    }
    Ok(found)
}

/// What stat tells.
fn described(stat: &Statx, file_system: u64) -> io::Result<Captured> {
    let kind = kind_of(stat)?;
    let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let meta = Meta {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: if matches!(kind, EntryKind::File | EntryKind::Symlink) { stat.stx_size } else { 0 },
        mtime: timestamp(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: timestamp(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        inode: stat.stx_ino,
        links: u64::from(stat.stx_nlink),
        file_system,
        device: is_device.then_some((stat.stx_rdev_major, stat.stx_rdev_minor)),
        link_target: None,
        xattrs: None,
        extents: None,
    };
    Ok(Captured {
        identity: Identity { device: makedev(stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino },
        mount_point: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        meta,
        xattr_error: None,
    })
}

/// Who an open file or directory is.
pub(super) fn identity(file: &OwnedFd) -> io::Result<Identity> {
    let stat = rustix::fs::fstat(file)?;
    Ok(Identity { device: stat.st_dev, inode: stat.st_ino })
}

fn kind_of(stat: &Statx) -> io::Result<EntryKind> {
    Ok(match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Socket => EntryKind::Socket,
        FileType::Unknown => return Err(io::Error::other("an inode of an unknown type")),
    })
}

/// A broken inode can hold any number of nanoseconds; ext4 has been seen to return more than a second of them.
pub(super) fn timestamp(seconds: i64, nanos: u32) -> Timestamp {
    Timestamp::new(seconds, nanos).unwrap_or(Timestamp::from_seconds(seconds))
}

/// All attributes that listxattr(2) shows, sorted by name.
fn xattrs(entry: BorrowedFd<'_>) -> io::Result<Vec<Xattr>> {
    let path = proc_path(entry);
    let mut total = 0;
    let mut xattrs = Vec::new();
    for name in list_xattrs(entry)? {
        let value = match grown(|buffer| match buffer {
            None => rustix::fs::getxattr_query(&*path, &*name),
            Some(buffer) => rustix::fs::getxattr(&*path, &*name, buffer),
        }) {
            // Removed since it was listed.
            Err(Errno::NODATA) => continue,
            value => value?,
        };
        total += name.len() + value.len();
        if total > XATTR_BYTES_MAX {
            return Err(io::Error::other("more than 1 MiB of extended attributes"));
        }
        xattrs.push(Xattr { name, value });
    }
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(xattrs)
}

/// Names of all attributes. `O_PATH` descriptors are refused by flistxattr(2), but their link in `/proc`
/// leads to the very inode, symbolic links included.
pub(super) fn list_xattrs(entry: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let path = proc_path(entry);
    split_names(|buffer| match buffer {
        None => rustix::fs::listxattr_query(&*path),
        Some(buffer) => rustix::fs::listxattr(&*path, buffer),
    })
}

/// The names that a call of the family of listxattr(2) gives; none where the file system has none.
pub(super) fn split_names(ask: impl FnMut(Option<&mut [u8]>) -> Result<usize, Errno>) -> Result<Vec<Vec<u8>>, Errno> {
    let names = match grown(ask) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The path of an open descriptor, for the calls that know no descriptors of the `O_PATH` kind.
pub(super) fn proc_path(entry: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", entry.as_raw_fd())
}

/// Asks for a size, then for the bytes, again when they grew in between.
fn grown(mut ask: impl FnMut(Option<&mut [u8]>) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    loop {
        let size = ask(None)?;
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; size];
        match ask(Some(&mut bytes)) {
            Ok(size) => {
                bytes.truncate(size);
                return Ok(bytes);
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
        }
    }
}
