//! Walks a tree in the order of [`RawPath`]: each directory, then its entries sorted by raw bytes.
//!
//! A [`Walk`] never stops at an entry: what vanished, is forbidden or unreadable comes out as a
//! [`WalkProblem`] with its path. It stays on one file system, follows no link, knows no limit of depth or
//! length of paths, and keeps a fixed number of directories open. Memory holds the names of the
//! directories on the way down, up to [`NAMES_BYTES_MAX`], beyond which they are spilled.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;

use super::capture::{Identity, capture, glance, identity};
use super::content::{Content, ContentProblem, Place};
use super::meta::Meta;
use super::open_for_reading;
use crate::sort::{SortError, Sorted, Sorter};

/// Names in memory, of all directories on the way down together.
const NAMES_BYTES_MAX: usize = 32 << 20;

/// What one directory may keep in memory when its ancestors have taken all of it.
const NAMES_BYTES_MIN: usize = 256 << 10;

/// Directories kept open on the way down; higher ones are found again through `..`.
const OPEN_MAX: usize = 32;

/// Bytes of directory entries asked of the kernel at once.
const GETDENTS_BYTES: usize = 64 << 10;

/// What could not be learned about one entry.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} '{path}'")]
pub struct WalkProblem {
    /// What was tried.
    pub step: Step,
    /// On which entry.
    pub path: RawPath,
    /// What came back.
    pub source: io::Error,
}

impl WalkProblem {
    /// Whether the entry was deleted or moved away since its name was read.
    pub fn is_vanished(&self) -> bool {
        self.source.raw_os_error() == Some(Errno::NOENT.raw_os_error())
    }
}

/// A step of looking at an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its inode.
    Stat,
    /// Its extended attributes.
    ReadAttributes,
    /// Its names, for a directory; those that were read come all the same.
    List,
    /// Another file system is mounted there: it belongs to another source.
    CrossInto,
    /// Its directory was moved while the walk was below it.
    FindAgain,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stat => "stat",
            Self::ReadAttributes => "read the extended attributes of",
            Self::List => "list",
            Self::CrossInto => "cross into the file system mounted at",
            Self::FindAgain => "find again the directory of",
        })
    }
}

/// The tree cannot be walked at all.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// Its root is not there or no directory.
    #[error("cannot open the tree {}", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// Names of a huge directory could not be spilled.
    #[error(transparent)]
    Spill(#[from] SortError),
}

/// One entry.
#[derive(Debug)]
pub struct Walked {
    /// Where, relative to the root, which is the empty path.
    pub path: RawPath,
    /// What, or why that is unknown.
    pub meta: Result<Meta, WalkProblem>,
    /// What went wrong beside: `meta` is good but its attributes are unknown, or its names incomplete.
    pub problems: Vec<WalkProblem>,
    place: Option<Place>,
    is_glance: bool,
}

impl Walked {
    /// Whether `meta` is only what stat tells, and [`Walked::look_closely`] would tell more.
    pub fn is_glance(&self) -> bool {
        self.is_glance
    }

    /// Makes what was seen at a glance all that a walk tells.
    pub fn look_closely(&mut self) {
        let is_glance = std::mem::take(&mut self.is_glance);
        let (true, Some(place), Ok(meta)) = (is_glance, &self.place, &self.meta) else { return };
        let path = &self.path;
        let problem = |step, source| WalkProblem { step, path: path.clone(), source };
        match capture(place.folder.as_fd(), &place.name, meta.file_system) {
            Ok(found) if found.identity == place.identity => {
                let unread = found.xattr_error.map(|error| problem(Step::ReadAttributes, error));
                self.problems.extend(unread);
                self.meta = Ok(found.meta);
            }
            // Another one by now: what the glance saw vanished.
            Ok(_) => self.meta = Err(problem(Step::Stat, Errno::NOENT.into())),
            Err(error) => self.meta = Err(problem(Step::Stat, error)),
        }
    }

    /// Opens the content of a regular file; [`ContentProblem::Replaced`] for anything else.
    pub fn open_content(&self) -> Result<Content, ContentProblem> {
        match (&self.place, &self.meta) {
            (Some(place), Ok(meta)) if meta.kind == EntryKind::File => Content::open(place, meta),
            _ => Err(ContentProblem::Replaced),
        }
    }
}

/// A running walk; an iterator over everything in the tree, the root first.
pub struct Walk<'a> {
    excluded: Box<dyn Fn(&RawPath) -> bool + Send + 'a>,
    spill: PathBuf,
    root: Arc<OwnedFd>,
    root_identity: Identity,
    file_system: u64,
    levels: Vec<Level>,
    begun: bool,
    glances: bool,
}

/// A directory on the way down.
struct Level {
    path: RawPath,
    identity: Identity,
    /// `None` while it is too far up, or lost.
    directory: Option<Arc<OwnedFd>>,
    names: std::iter::Peekable<Sorted>,
    names_bytes: usize,
}

impl<'a> Walk<'a> {
    /// Begins a walk of `root`. What `excluded` is true for is left out with all that is below;
    /// the names of huge directories are sorted in the folder `spill`.
    pub fn new(root: &Path, spill: &Path, excluded: impl Fn(&RawPath) -> bool + Send + 'a) -> Result<Self, WalkError> {
        let wrong = |source: io::Error| WalkError::Root { path: root.to_owned(), source };
        let directory = open_root(root).map_err(wrong)?;
        let root_identity = identity(&directory).map_err(wrong)?;
        let fsid = rustix::fs::fstatvfs(&directory).map_err(|error| wrong(error.into()))?.f_fsid;
        Ok(Self {
            excluded: Box::new(excluded),
            spill: spill.to_owned(),
            root: Arc::new(directory),
            root_identity,
            // Device numbers change from snapshot to snapshot, this does not (ext4, btrfs: from the UUID).
            file_system: if fsid == 0 { root_identity.device } else { fsid },
            levels: Vec::new(),
            begun: false,
            glances: false,
        })
    }

    /// Asks the kernel once of each entry, and leaves out what stat does not tell: see [`Walked::look_closely`].
    #[must_use]
    pub fn at_a_glance(self) -> Self {
        Self { glances: true, ..self }
    }

    fn visit_root(&mut self) -> Result<Walked, WalkError> {
        let root = Arc::clone(&self.root);
        self.visit(RawPath::default(), Some(&root), b"")
    }

    /// Looks at one entry, and goes down into it when it is a directory.
    fn visit(&mut self, path: RawPath, folder: Option<&Arc<OwnedFd>>, name: &[u8]) -> Result<Walked, WalkError> {
        let problem = |step, source| WalkProblem { step, path: path.clone(), source };
        let lost = || problem(Step::FindAgain, Errno::NOENT.into());
        let failed = |problem| {
            let (path, problems) = (path.clone(), Vec::new());
            Walked { path, meta: Err(problem), problems, place: None, is_glance: false }
        };
        let Some(folder) = folder else { return Ok(failed(lost())) };
        let look = if self.glances { glance } else { capture };
        let found = match look(folder.as_fd(), name, self.file_system) {
            Ok(found) => found,
            Err(error) => return Ok(failed(problem(Step::Stat, error))),
        };
        let foreign = !path.is_root() && (found.mount_point || found.identity.device != self.root_identity.device);
        let is_directory = found.meta.kind == EntryKind::Directory;
        let crossing = || problem(Step::CrossInto, Errno::XDEV.into());
        if foreign && !is_directory {
            return Ok(failed(crossing()));
        }
        let mut problems: Vec<_> =
            found.xattr_error.map(|error| problem(Step::ReadAttributes, error)).into_iter().collect();
        if foreign {
            problems.push(crossing());
        } else if is_directory {
            problems.extend(self.descend(&path, folder, name, found.identity)?.map(|error| problem(Step::List, error)));
        }
        let place = Place { folder: Arc::clone(folder), name: name.to_vec(), identity: found.identity };
        Ok(Walked { path, meta: Ok(found.meta), problems, place: Some(place), is_glance: self.glances })
    }

    /// Makes `name` the level whose entries come next; gives back why not all of its names are known.
    fn descend(
        &mut self,
        path: &RawPath,
        folder: &Arc<OwnedFd>,
        name: &[u8],
        seen: Identity,
    ) -> Result<Option<io::Error>, SortError> {
        let opened = open_for_reading(&**folder, name)
            .and_then(|directory| if identity(&directory)? == seen { Ok(directory) } else { Err(Errno::NOENT.into()) });
        let directory = match opened {
            Ok(directory) => directory,
            Err(error) => return Ok(Some(error)),
        };
        let held: usize = self.levels.iter().map(|level| level.names_bytes).sum();
        let mut names = Sorter::new(&self.spill, NAMES_BYTES_MAX.saturating_sub(held).max(NAMES_BYTES_MIN));
        let error = list(&directory, &mut names)?;
        let names_bytes = names.memory_bytes();
        let level = Level {
            path: path.clone(),
            identity: seen,
            directory: Some(Arc::new(directory)),
            names: names.finish()?.peekable(),
            names_bytes,
        };
        self.levels.push(level);
        if let Some(far) = self.levels.len().checked_sub(OPEN_MAX + 1) {
            self.levels[far].directory = None;
        }
        Ok(error)
    }

    /// Leaves the deepest level and opens its parent again where it was closed.
    fn ascend(&mut self) {
        let left = self.levels.pop().and_then(|left| left.directory);
        let Some(parent) = self.levels.last() else { return };
        if parent.directory.is_some() {
            return;
        }
        let seen = parent.identity;
        let above = left.and_then(|directory| open_for_reading(&*directory, b"..").ok());
        let found = above.filter(|found| identity(found).is_ok_and(|found| found == seen)).or_else(|| self.come_down());
        if let Some(parent) = self.levels.last_mut() {
            parent.directory = found.map(Arc::new);
        }
    }

    /// The deepest level's directory, by its names from the root: the way when the one below it was moved.
    fn come_down(&self) -> Option<OwnedFd> {
        let mut directory = self.root.try_clone().ok()?;
        for level in self.levels.iter().skip(1) {
            let name = level.path.as_bytes().rsplit(|byte| *byte == b'/').next()?;
            directory = open_for_reading(&directory, name).ok()?;
            if identity(&directory).ok()? != level.identity {
                return None;
            }
        }
        Some(directory)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Walked, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(self.visit_root());
        }
        loop {
            let level = self.levels.last_mut()?;
            let name = match level.names.next() {
                Some(Ok(record)) => record.key,
                Some(Err(error)) => return Some(Err(error.into())),
                None => {
                    self.ascend();
                    continue;
                }
            };
            // A name renamed during the listing can come twice.
            while level.names.next_if(|next| next.as_ref().is_ok_and(|next| next.key == name)).is_some() {}
            let path = level.path.join(&name);
            if !(self.excluded)(&path) {
                let folder = level.directory.clone();
                return Some(self.visit(path, folder.as_ref(), &name));
            }
        }
    }
}

/// Opens the root, by preference as a private copy of its mount without the mounts below it: then the
/// directories that other mounts cover can be seen, as they can in the image of the device.
fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if let Ok(tree) = rustix::mount::open_tree(CWD, root, clone)
        && let Ok(directory) = open_for_reading(&tree, b"")
    {
        return Ok(directory);
    }
    // Without the privilege, or on an old kernel: mounts below are in the way and reported.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open_for_reading(rustix::fs::openat(CWD, root, flags, Mode::empty())?, b"")
}

/// Pushes all names of a directory; gives back what kept it from reading on.
fn list(directory: &OwnedFd, names: &mut Sorter) -> Result<Option<io::Error>, SortError> {
    let mut buffer = vec![MaybeUninit::uninit(); GETDENTS_BYTES];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Ok(entry) => names.push(entry.file_name().to_bytes(), b"")?,
            Err(Errno::INTR) => {}
            Err(error) => return Ok(Some(error.into())),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
