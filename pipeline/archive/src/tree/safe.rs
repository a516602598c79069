//! Reaches entries below a target directory and nothing else.
//!
//! Names of a catalog are foreign data, and other processes may plant links in the target while a
//! restore runs. So a folder is always found from the target's descriptor, by the kernel's own rule
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, and what is made in it is named by one component.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use dualsync_model::path::RawPath;

/// Bytes of path in one call; the kernel takes less than 4,096.
const STEP_BYTES_MAX: usize = 4000;

/// Folders kept open: entries come by folder, or at least near each other.
const FOLDERS_MAX: usize = 128;

/// Why an entry is not reached.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// A path that is not one below the target: `..`, `.`, an empty or absurd component, NUL.
    #[error("'{0}' does not lie in the tree that is restored")]
    Outside(RawPath),
    /// A link or file stands where a directory should be.
    #[error("the way to '{0}' leads over something that is no directory")]
    Diverted(RawPath),
    /// The folder cannot be opened.
    #[error("cannot open the folder of '{path}'")]
    Folder {
        /// The entry.
        path: RawPath,
        /// Why.
        source: io::Error,
    },
}

/// The directory that entries are made in.
#[derive(Debug)]
pub struct Target {
    root: Arc<OwnedFd>,
    folders: Mutex<HashMap<Vec<u8>, Arc<OwnedFd>>>,
}

impl Target {
    /// Opens a directory that exists; the way to it may go through links, as the user typed it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { root: Arc::new(root), folders: Mutex::default() })
    }

    /// The target itself.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The folder of an entry, and its name there; the name of the root is `.`.
    pub fn folder<'p>(&self, path: &'p RawPath) -> Result<(Arc<OwnedFd>, &'p [u8]), ReachError> {
        let bytes = path.as_bytes();
        if path.is_root() {
            return Ok((Arc::clone(&self.root), b"."));
        }
        if !bytes.split(|byte| *byte == b'/').all(is_plain) {
            return Err(ReachError::Outside(path.clone()));
        }
        let Some(slash) = bytes.iter().rposition(|byte| *byte == b'/') else {
            return Ok((Arc::clone(&self.root), bytes));
        };
        let (folder, name) = (&bytes[..slash], &bytes[slash + 1..]);
        let opened = self.open_folder(folder).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => ReachError::Diverted(path.clone()),
            error => ReachError::Folder { path: path.clone(), source: error.into() },
        })?;
        Ok((opened, name))
    }

    fn open_folder(&self, folder: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = folders.get(folder) {
            return Ok(Arc::clone(known));
        }
        let mut opened: Option<OwnedFd> = None;
        for step in steps(folder) {
            let from = opened.as_ref().unwrap_or(&self.root);
            opened = Some(open_beneath(from, step)?);
        }
        let opened = Arc::new(opened.ok_or(Errno::INVAL)?);
        if folders.len() >= FOLDERS_MAX {
            folders.clear();
        }
        folders.insert(folder.to_vec(), Arc::clone(&opened));
        Ok(opened)
    }
}

/// Whether `name` means an entry of its folder, on every file system of Linux.
fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= 255 && name != b"." && name != b".." && !name.contains(&0)
}

/// Cuts a path at slashes into stretches that the kernel takes.
fn steps(mut path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if path.is_empty() {
            return None;
        }
        if path.len() <= STEP_BYTES_MAX {
            return Some(std::mem::take(&mut path));
        }
        // Components have at most 255 bytes, so there is a slash in this stretch.
        let cut = path[..STEP_BYTES_MAX].iter().rposition(|byte| *byte == b'/')?;
        let step = &path[..cut];
        path = &path[cut + 1..];
        Some(step)
    })
}

fn open_beneath(from: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(from, path, flags, Mode::empty(), rules) {
        // Before Linux 5.6, or forbidden in an old container: one component at a time is as safe.
        Err(Errno::NOSYS | Errno::PERM) => open_by_component(from, path, flags),
        opened => opened,
    }
}

fn open_by_component(from: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut opened: Option<OwnedFd> = None;
    for name in path.split(|byte| *byte == b'/') {
        let from = opened.as_ref().unwrap_or(from).as_fd();
        opened = Some(rustix::fs::openat(from, name, flags, Mode::empty())?);
    }
    opened.ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn target() -> (tempfile::TempDir, Target) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("in/a/b")).unwrap();
        fs::write(folder.path().join("in/file"), "").unwrap();
        for (name, to) in [("up", ".."), ("absolute", "/"), ("inside", "a")] {
            symlink(to, folder.path().join("in").join(name)).unwrap();
        }
        let target = Target::open(&folder.path().join("in")).unwrap();
        (folder, target)
    }

    #[test]
    fn a_path_below_the_target_is_reached() {
        let (folder, target) = target();
        let path = RawPath::new("a/b/new");
        let (found, name) = target.folder(&path).unwrap();
        rustix::fs::mkdirat(&found, name, Mode::RWXU).unwrap();
        assert!(folder.path().join("in/a/b/new").is_dir());
        assert_eq!(target.folder(&RawPath::default()).unwrap().1, b".");
    }

    #[test]
    fn a_path_out_of_the_target_is_refused() {
        let (_folder, target) = target();
        for path in ["..", "../x", "a/../../x", "/etc/passwd", "a//b", "a/", "./x", "a/\0", &"x".repeat(256)] {
            let error = target.folder(&RawPath::new(path)).unwrap_err();
            assert!(matches!(error, ReachError::Outside(_)), "{path}: {error}");
        }
    }

    #[test]
    fn links_on_the_way_are_refused_even_when_they_lead_inside() {
        let (folder, target) = target();
        for path in ["up/x", "absolute/etc/x", "inside/b/x", "file/x", "a/up/x"] {
            symlink("..", folder.path().join("in/a/up")).ok();
            let error = target.folder(&RawPath::new(path)).unwrap_err();
            assert!(matches!(error, ReachError::Diverted(_)), "{path}: {error}");
        }
        let missing = target.folder(&RawPath::new("missing/x")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot open the folder of 'missing/x'");
    }

    #[test]
    fn the_way_by_components_refuses_the_same() {
        let (_folder, target) = target();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        assert!(open_by_component(target.root(), b"a/b", flags).is_ok());
        for path in [&b"up"[..], b"inside/b", b"absolute/etc", b"file"] {
            assert_eq!(open_by_component(target.root(), path, flags).unwrap_err(), Errno::NOTDIR);
        }
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_cut_at_slashes() {
        let path = vec!["d"; 9000].join("/");
        let steps: Vec<_> = steps(path.as_bytes()).collect();
        assert!(steps.iter().all(|step| step.len() <= STEP_BYTES_MAX && !step.is_empty()));
        assert_eq!(steps.join(&b'/'), path.as_bytes());
    }
}
