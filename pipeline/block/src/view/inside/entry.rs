//! One entry of the mounted tree: what statx(2), readlink(2) and listxattr(2) tell of it.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use aws_lc_rs::digest::{Context, SHA256};
use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::path::RawPath;
use dualsync_model::time::Timestamp;
use rustix::fs::{
    AtFlags, FileType, Statx, StatxFlags, lgetxattr, lgetxattr_query, llistxattr, llistxattr_query, readlinkat, statx,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// What an inode says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub kind: EntryKind,
    pub size: u64,
    pub mtime: Timestamp,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub device: (u32, u32),
    pub links: u32,
    /// Names the inode on this file system.
    pub inode: Inode,
}

/// An inode; btrfs numbers them anew in each subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Inode {
    pub volume: (u32, u32),
    pub number: u64,
}

impl Meta {
    /// Asks about `name` in `folder`, never through a symbolic link.
    pub(super) fn of(folder: BorrowedFd, name: &[u8]) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        Self::from_statx(&statx(folder, OsStr::from_bytes(name), flags, StatxFlags::BASIC_STATS)?)
    }

    /// Of an entry whose inode cannot be read.
    pub(super) fn unknown(hint: Option<EntryKind>) -> Self {
        Self {
            kind: hint.unwrap_or(EntryKind::File),
            size: 0,
            mtime: Timestamp::default(),
            mode: 0,
            uid: 0,
            gid: 0,
            device: (0, 0),
            links: 1,
            inode: Inode { volume: (0, 0), number: 0 },
        }
    }

    fn from_statx(stat: &Statx) -> Result<Self, Errno> {
        let mode = u32::from(stat.stx_mode);
        let time = stat.stx_mtime;
        Ok(Self {
            kind: kind_of(FileType::from_raw_mode(mode)).ok_or(Errno::INVAL)?,
            size: stat.stx_size,
            mtime: Timestamp::new(time.tv_sec, time.tv_nsec).ok_or(Errno::INVAL)?,
            mode: mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            links: stat.stx_nlink,
            inode: Inode { volume: (stat.stx_dev_major, stat.stx_dev_minor), number: stat.stx_ino },
        })
    }
}

/// What a directory calls a kind of entry.
pub(super) fn kind_of(kind: FileType) -> Option<EntryKind> {
    Some(match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Socket => EntryKind::Socket,
        FileType::Unknown => return None,
    })
}

/// A fact of `path` with everything but content; `whole_seconds` where the mount knows no more.
///
/// # Errors
/// When a part of it cannot be read, with what is known without that part.
pub(super) fn fact(
    folder: BorrowedFd,
    name: &[u8],
    path: RawPath,
    meta: &Meta,
    whole_seconds: bool,
) -> Result<Fact, (Box<Fact>, Errno)> {
    let mut fact = bare_fact(path, meta, whole_seconds);
    if meta.kind == EntryKind::Symlink {
        match readlinkat(folder, OsStr::from_bytes(name), Vec::new()) {
            Ok(target) => fact.link_target = Some(RawPath::new(target.into_bytes())),
            Err(errno) => return Err((Box::new(fact), errno)),
        }
    }
    match xattrs(folder, name) {
        Ok(all) => fact.xattrs = Some(digest(&all)),
        // Listed and not given: this side may not read it.
        Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
        Err(errno) => return Err((Box::new(fact), errno)),
    }
    Ok(fact)
}

/// What an inode alone tells.
pub(super) fn bare_fact(path: RawPath, meta: &Meta, whole_seconds: bool) -> Fact {
    let is_device = matches!(meta.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    Fact {
        path,
        kind: meta.kind,
        size: if matches!(meta.kind, EntryKind::File | EntryKind::Symlink) { meta.size } else { 0 },
        mtime: if whole_seconds { meta.mtime.whole_second() } else { meta.mtime },
        mtime_whole_seconds: whole_seconds,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        link_target: None,
        device: is_device.then_some(meta.device),
        xattrs: None,
        hard_link: (meta.kind != EntryKind::Directory && meta.links > 1).then_some(meta.inode.number),
        sha256: None,
        state: FactState::Good,
    }
}

/// Name and value of an extended attribute.
pub(super) type Xattr = (Vec<u8>, Vec<u8>);

/// Names and values of all extended attributes, by name.
///
/// The path goes through the folder's descriptor and ends in one name, so that it is never too
/// long and never follows a link.
pub(super) fn xattrs(folder: BorrowedFd, name: &[u8]) -> Result<Vec<Xattr>, Errno> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let path = OsStr::from_bytes(&path);
    let list = match grown(|| llistxattr_query(path), |buffer| llistxattr(path, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut names: Vec<_> = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let value = |name: &[u8]| {
        let name = OsStr::from_bytes(name);
        grown(|| lgetxattr_query(path, name), |buffer| lgetxattr(path, name, buffer))
    };
    names.into_iter().map(|name| Ok((name.to_vec(), value(name)?))).collect()
}

/// Calls `fill` with a buffer that is large enough, asking `query` for its size when it was not.
fn grown(
    query: impl Fn() -> Result<usize, Errno>,
    fill: impl Fn(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 512];
    loop {
        match fill(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => buffer.resize(query()?.max(buffer.len() + 1), 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// The digest that docs/worker-protocol.md defines; empty without attributes.
pub(super) fn digest(all: &[Xattr]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut context = Context::new(&SHA256);
    for bytes in all.iter().flat_map(|(name, value)| [name, value]) {
        // The kernel's limit is 64 KiB each.
        context.update(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        context.update(bytes);
    }
    hex(context.finish().as_ref())
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_digest_of_attributes_is_the_documented_one() {
        assert_eq!(digest(&[]), "");
        let all = [(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), Vec::new())];
        let mut bytes = Vec::new();
        for part in [&b"user.a"[..], b"1", b"user.b", b""] {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(part);
        }
        assert_eq!(digest(&all), hex(aws_lc_rs::digest::digest(&SHA256, &bytes).as_ref()));
    }

    #[test]
    fn an_entry_of_each_kind_tells_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), b"abc").unwrap();
        std::fs::hard_link(folder.path().join("file"), folder.path().join("again")).unwrap();
        std::os::unix::fs::symlink("to/nowhere", folder.path().join("link")).unwrap();
        let open = std::fs::File::open(folder.path()).unwrap();
        let fact_of = |name: &[u8]| {
            let meta = Meta::of(open.as_fd(), name).unwrap();
            fact(open.as_fd(), name, RawPath::new(name), &meta, false).unwrap()
        };
        let (file, again, link) = (fact_of(b"file"), fact_of(b"again"), fact_of(b"link"));
        assert_eq!((file.kind, file.size), (EntryKind::File, 3));
        assert!(file.hard_link.is_some() && file.hard_link == again.hard_link);
        assert_eq!(link.link_target, Some(RawPath::new("to/nowhere")));
        assert_eq!((link.size, link.hard_link), (10, None));
        assert_eq!(Meta::of(open.as_fd(), b"missing"), Err(Errno::NOENT));
    }
}
