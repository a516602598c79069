//! Opens what the walk has seen, by its path, without trusting the path: no link is followed,
//! nothing above the root is reached, and no length is too long (openat2(2)).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use dualsync_model::path::RawPath;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Longest piece of a path given to the kernel at once; its own limit is 4,096 with the NUL.
const PIECE_BYTES: usize = 4000;

/// How every piece is resolved.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` below `root`.
pub(super) fn open_beneath(root: BorrowedFd, path: &RawPath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.is_root() {
        return openat(root, ".", flags, Mode::empty());
    }
    let mut rest = path.as_bytes();
    let mut at: Option<OwnedFd> = None;
    loop {
        let (piece, next) = cut(rest);
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        let way = if next.is_empty() { flags } else { OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC };
        let opened = loop {
            match openat2(from, OsStr::from_bytes(piece), way, Mode::empty(), RESOLVE) {
                // Something was renamed meanwhile, somewhere: asked again, it is.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => break other?,
            }
        };
        if next.is_empty() {
            return Ok(opened);
        }
        (at, rest) = (Some(opened), next);
    }
}

/// The parent of `path` and its last name; the root has none.
pub(super) fn split(path: &RawPath) -> Option<(RawPath, &[u8])> {
    let bytes = path.as_bytes();
    if bytes.is_empty() {
        return None;
    }
    let slash = bytes.iter().rposition(|byte| *byte == b'/');
    Some(slash.map_or((RawPath::default(), bytes), |at| (RawPath::new(&bytes[..at]), &bytes[at + 1..])))
}

/// A first piece of whole names, at most [`PIECE_BYTES`] long, and what follows it.
fn cut(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= PIECE_BYTES {
        return (path, &[]);
    }
    // A name has at most 255 bytes, so there is a slash.
    match path[..PIECE_BYTES].iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mkdirat};

    #[test]
    fn a_path_of_any_length_is_opened_and_a_link_never() {
        let folder = tempfile::tempdir().unwrap();
        let root = openat(CWD, folder.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let mut path = RawPath::default();
        let mut at = root.try_clone().unwrap();
        for _ in 0..60 {
            let name = [b'n'; 255];
            mkdirat(&at, OsStr::from_bytes(&name), Mode::RWXU).unwrap();
            path = path.join(&name);
            at = open_beneath(at.as_fd(), &RawPath::new(name), OFlags::RDONLY).unwrap();
        }
        rustix::fs::symlinkat("/etc", &at, "etc").unwrap();
        open_beneath(root.as_fd(), &path, OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
        for escape in ["etc", "etc/passwd"] {
            let path = path.join(escape.as_bytes());
            assert_eq!(open_beneath(root.as_fd(), &path, OFlags::RDONLY).map(drop), Err(Errno::LOOP));
        }
        assert_eq!(open_beneath(root.as_fd(), &RawPath::new("../x"), OFlags::RDONLY).map(drop), Err(Errno::XDEV));
        std::fs::remove_dir_all(folder.path()).unwrap();
    }

    #[test]
    fn a_path_splits_into_parent_and_name() {
        let check = |path: &str, expected: Option<(&str, &str)>| {
            let path = RawPath::new(path);
            let found = split(&path).map(|(parent, name)| (parent, name.to_vec()));
            assert_eq!(found, expected.map(|(parent, name)| (RawPath::new(parent), name.as_bytes().to_vec())));
        };
        check("", None);
        check("a", Some(("", "a")));
        check("a/b/c", Some(("a/b", "c")));
    }
}
