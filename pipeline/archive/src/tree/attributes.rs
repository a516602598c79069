//! Gives an entry the owner, attributes, mode and times that were captured.
//!
//! The order matters: a change of owner clears set-id bits and capabilities, an ACL sets group bits
//! of the mode, and a file that is read-only takes no attributes from its owner. So: owner,
//! attributes, mode, times. What the caller is not allowed to set is a [`Shortfall`]: counted
//! and told once, since a restore without root would otherwise print a line for each file.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;

use super::capture::{list_xattrs, proc_path, split_names};
use super::meta::{Meta, Xattr};

/// Set-user-id and set-group-id: dangerous on a file that belongs to somebody else than it did.
const SET_ID: u32 = 0o6000;

/// A kind of thing that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortfall {
    /// The owner or group.
    Owner,
    /// Set-id bits, left out because the owner is another one.
    SetId,
    /// The mode.
    Mode,
    /// Attributes of one name space (`security`, `system`, `trusted`, `user`).
    Attributes(String),
    /// The time of the last change.
    Time,
}

impl std::fmt::Display for Shortfall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner => f.write_str("the owner"),
            Self::SetId => f.write_str("the set-id bits"),
            Self::Mode => f.write_str("the mode"),
            Self::Attributes(space) => write!(f, "attributes of the name space '{space}'"),
            Self::Time => f.write_str("the time"),
        }
    }
}

/// Everything that could not be applied: how often, and the first entry with its reason.
#[derive(Debug, Default)]
pub struct Shortfalls(Mutex<BTreeMap<Shortfall, (u64, RawPath, String)>>);

impl Shortfalls {
    fn note(&self, path: &RawPath, shortfall: Shortfall, reason: impl std::fmt::Display) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(shortfall).or_insert_with(|| (0, path.clone(), reason.to_string())).0 += 1;
    }

    /// One sentence for each kind, with the first entry it happened to.
    pub fn sentences(&self) -> Vec<(RawPath, String)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sentence = |(kind, (count, path, reason)): (&Shortfall, &(u64, RawPath, String))| {
            let entries = if *count == 1 { "entry" } else { "entries" };
            (path.clone(), format!("{kind} could not be set on {count} {entries}, '{path}' the first: {reason}"))
        };
        all.iter().map(sentence).collect()
    }
}

/// An entry, by a descriptor.
pub(super) enum Node<'a> {
    /// A file that is open.
    Open(BorrowedFd<'a>),
    /// Any entry, by an `O_PATH` descriptor. Most calls refuse one, but take its link in `/proc`, which leads to the very inode.
    Path(BorrowedFd<'a>, String),
}

impl<'a> Node<'a> {
    /// An open file.
    pub(super) fn open(file: &'a impl AsFd) -> Self {
        Self::Open(file.as_fd())
    }

    /// What an `O_PATH` descriptor stands for.
    pub(super) fn path(node: &'a impl AsFd) -> Self {
        Self::Path(node.as_fd(), proc_path(node.as_fd()))
    }

    fn descriptor(&self) -> BorrowedFd<'a> {
        match self {
            Self::Open(file) | Self::Path(file, _) => *file,
        }
    }

    fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(file) => rustix::fs::fchmod(file, mode),
            Self::Path(_, link) => rustix::fs::chmod(&**link, mode),
        }
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Open(file) => rustix::fs::futimens(file, times),
            Self::Path(_, link) => rustix::fs::utimensat(CWD, &**link, times, AtFlags::empty()),
        }
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>, Errno> {
        match self {
            Self::Open(file) => split_names(|buffer| match buffer {
                None => rustix::fs::flistxattr_query(file),
                Some(buffer) => rustix::fs::flistxattr(file, buffer),
            }),
            Self::Path(node, _) => list_xattrs(*node),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(file) => rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()),
            Self::Path(_, link) => rustix::fs::setxattr(&**link, name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(file) => rustix::fs::fremovexattr(file, name),
            Self::Path(_, link) => rustix::fs::removexattr(&**link, name),
        }
    }
}

/// Applies `meta` to an entry.
pub(super) fn apply(node: &Node<'_>, path: &RawPath, meta: &Meta, shortfalls: &Shortfalls) {
    let owned = match own(node.descriptor(), meta) {
        Ok(()) => true,
        Err(error) => {
            shortfalls.note(path, Shortfall::Owner, error);
            false
        }
    };
    if let Some(wanted) = &meta.xattrs {
        set_xattrs(node, path, wanted, shortfalls);
    }
    if meta.kind != EntryKind::Symlink {
        let mut mode = meta.mode;
        if !owned && mode & SET_ID != 0 && meta.kind != EntryKind::Directory {
            mode &= !SET_ID;
            shortfalls.note(path, Shortfall::SetId, "the owner is another one");
        }
        if let Err(error) = node.chmod(Mode::from_raw_mode(mode)) {
            shortfalls.note(path, Shortfall::Mode, io::Error::from(error));
        }
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: meta.mtime.seconds(), tv_nsec: meta.mtime.nanos().into() },
    };
    if let Err(error) = node.set_times(&times) {
        shortfalls.note(path, Shortfall::Time, io::Error::from(error));
    }
}

fn own(node: BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
    let stat = rustix::fs::fstat(node)?;
    if (stat.st_uid, stat.st_gid) == (meta.uid, meta.gid) {
        return Ok(());
    }
    // The kernel takes all ones for "leave it": no inode can have that owner.
    if meta.uid == u32::MAX || meta.gid == u32::MAX {
        return Err(io::Error::from(Errno::INVAL));
    }
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    match rustix::fs::chownat(node, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH) {
        // Without privilege a member of the group can still be given it.
        Err(Errno::PERM) if rustix::fs::chownat(node, c"", None, Some(gid), AtFlags::EMPTY_PATH).is_ok() => {
            if stat.st_uid == meta.uid { Ok(()) } else { Err(Errno::PERM.into()) }
        }
        result => Ok(result?),
    }
}

/// Makes the attributes exactly `wanted`: ACLs inherited from the folder go, since they were not captured.
fn set_xattrs(node: &Node<'_>, path: &RawPath, wanted: &[Xattr], shortfalls: &Shortfalls) {
    let space = |name: &[u8]| String::from_utf8_lossy(name.split(|byte| *byte == b'.').next().unwrap_or(name)).into();
    for present in node.xattrs().unwrap_or_default() {
        // What the security module of this host gave is this host's.
        if !present.starts_with(b"security.")
            && wanted.iter().all(|xattr| xattr.name != present)
            && let Err(error) = node.remove_xattr(&present)
        {
            shortfalls.note(path, Shortfall::Attributes(space(&present)), io::Error::from(error));
        }
    }
    for Xattr { name, value } in wanted {
        if let Err(error) = node.set_xattr(name, value) {
            shortfalls.note(path, Shortfall::Attributes(space(name)), io::Error::from(error));
        }
    }
}
