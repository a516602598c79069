//! Makes entries below a target so that an interrupted restore leaves nothing half made.
//!
//! A file is made without a name, in the folder where it belongs: its inode lies beside its neighbours'. It gets its content,
//! owner, attributes, mode and times, and then its name. Where the file system has no such files, and for links and nodes,
//! there are passing names in a folder of the restore's own, [`super::staging`], and a rename: either
//! way an entry is whole or absent under its own name. A directory is made open to its owner only,
//! and [`Applier::dress`] gives it what was captured after everything in it is made, the deepest first.
//! Nothing that exists is touched unless [`Existing::Replace`] says so.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, makedev};
use rustix::io::Errno;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;

use super::attributes::{self, Node, Shortfalls};
use super::capture::{Captured, capture, proc_path};
use super::meta::Meta;
use super::nameless::{link_open, nameless};
use super::safe::{ReachError, Target};
use super::staging::{STAGING, Staging};
use crate::digest::Digest;

/// Why an entry is not made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Its place is not in the target.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// Something is in its place and may not be replaced.
    #[error("'{0}' exists already")]
    Exists(RawPath),
    /// It has no link target, no device number, or a name that the restore needs for itself.
    #[error("'{path}' {what}")]
    Impossible {
        /// The entry.
        path: RawPath,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file system refuses.
    #[error("cannot {step} '{path}'")]
    Step {
        /// What was tried.
        step: &'static str,
        /// The entry.
        path: RawPath,
        /// Why.
        source: io::Error,
    },
}

/// What happens to an entry that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is and the new one is refused; directories are used.
    Keep,
    /// It is replaced, in one step; directories are used and get what was captured.
    Replace,
}

/// Makes entries in one target.
#[derive(Debug)]
pub struct Applier {
    target: Target,
    staging: Staging,
    existing: Existing,
    shortfalls: Shortfalls,
}

impl Applier {
    /// Prepares `root`, a directory that exists. What an earlier restore left half made is removed; where
    /// the target was empty when that began, everything in it may be replaced.
    pub fn new(root: &Path, existing: Existing) -> Result<Self, ApplyError> {
        Self::prepare(root, existing, false)
    }

    /// The same, and what was fetched of files in parts is gone on with.
    pub fn going_on(root: &Path, existing: Existing) -> Result<Self, ApplyError> {
        Self::prepare(root, existing, true)
    }

    fn prepare(root: &Path, existing: Existing, goes_on: bool) -> Result<Self, ApplyError> {
        let at = |step| move |source: io::Error| ApplyError::Step { step, path: RawPath::default(), source };
        let target = Target::open(root).map_err(at("open the target"))?;
        let staging = Staging::open(target.root(), goes_on).map_err(at("make the staging folder in"))?;
        let existing = if staging.is_fresh() { Existing::Replace } else { existing };
        Ok(Self { target, staging, existing, shortfalls: Shortfalls::default() })
    }

    /// What happens to entries that are there: as it was asked for, or more where all came from restores.
    pub fn existing(&self) -> Existing {
        self.existing
    }

    /// What could not be applied so far.
    pub fn shortfalls(&self) -> &Shortfalls {
        &self.shortfalls
    }

    /// What is at `path`, without its attributes; `None` for nothing.
    pub fn look(&self, path: &RawPath) -> Result<Option<Meta>, ApplyError> {
        let (folder, name) = self.target.folder(path)?;
        match capture(folder.as_fd(), name, 0) {
            Ok(Captured { meta, .. }) => Ok(Some(meta)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ApplyError::Step { step: "look at", path: path.clone(), source }),
        }
    }

    /// Whether two names are there and mean one file.
    pub fn are_one(&self, first: &RawPath, second: &RawPath) -> bool {
        let identity = |path| {
            let (folder, name) = self.target.folder(path).ok()?;
            capture(folder.as_fd(), name, 0).ok().map(|found| found.identity)
        };
        identity(first).is_some_and(|first| identity(second) == Some(first))
    }

    /// Opens a regular file that is there, for comparison.
    pub fn open(&self, path: &RawPath) -> Result<OwnedFd, ApplyError> {
        let (folder, name) = self.target.folder(path)?;
        super::open_for_reading(&*folder, name).map_err(|source| ApplyError::Step {
            step: "open",
            path: path.clone(),
            source,
        })
    }

    /// Makes a directory, open to its owner only. `false`: it was there, and stays what it is.
    pub fn directory(&self, path: &RawPath) -> Result<bool, ApplyError> {
        let (folder, name) = self.place(path)?;
        let made = if path.is_root() { Err(Errno::EXIST) } else { rustix::fs::mkdirat(&*folder, name, Mode::RWXU) };
        if made != Err(Errno::EXIST) {
            return done("make the directory", path, made).map(|()| true);
        }
        let there = open_node(&folder, name).and_then(|node| {
            let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&node)?.st_mode) == FileType::Directory;
            match (is_directory, self.existing) {
                (true, Existing::Keep) => Ok(false),
                // The owner's bits are needed until it is dressed.
                (true, Existing::Replace) => rustix::fs::chmod(proc_path(node.as_fd()), Mode::RWXU).map(|()| true),
                (false, Existing::Keep) => Err(Errno::EXIST),
                (false, Existing::Replace) => {
                    rustix::fs::unlinkat(&*folder, name, AtFlags::empty())?;
                    rustix::fs::mkdirat(&*folder, name, Mode::RWXU).map(|()| true)
                }
            }
        });
        match there {
            Ok(ours) => Ok(ours),
            Err(error) => done("make the directory", path, Err(error)).map(|()| false),
        }
    }

    /// Gives an entry what was captured: a directory, after everything in it was made.
    pub fn dress(&self, path: &RawPath, meta: &Meta) -> Result<(), ApplyError> {
        let (folder, name) = self.place(path)?;
        let node = open_node(&folder, name);
        let node = node.map_err(|error| step("finish", path, error))?;
        attributes::apply(&Node::path(&node), path, meta, &self.shortfalls);
        Ok(())
    }

    /// Makes a symbolic link, a FIFO or a device node. Sockets are not made: nobody would listen.
    pub fn node(&self, path: &RawPath, meta: &Meta) -> Result<(), ApplyError> {
        let impossible = |what| ApplyError::Impossible { path: path.clone(), what };
        let device =
            || meta.device.map(|(major, minor)| makedev(major, minor)).ok_or(impossible("has no device number"));
        let (kind, device) = match meta.kind {
            EntryKind::Symlink => (FileType::Symlink, 0),
            EntryKind::Fifo => (FileType::Fifo, 0),
            EntryKind::CharDevice => (FileType::CharacterDevice, device()?),
            EntryKind::BlockDevice => (FileType::BlockDevice, device()?),
            EntryKind::File | EntryKind::Directory | EntryKind::Socket => {
                return Err(impossible("is no link, FIFO or device"));
            }
        };
        let passing = self.staging.passing_name();
        let made = match (kind, &meta.link_target) {
            (FileType::Symlink, None) => return Err(impossible("has no link target")),
            (FileType::Symlink, Some(target)) => {
                rustix::fs::symlinkat(target.as_bytes(), self.staging.folder(), &*passing)
            }
            _ => rustix::fs::mknodat(self.staging.folder(), &*passing, kind, Mode::RUSR | Mode::WUSR, device),
        };
        done("make", path, made)?;
        self.settle(&passing, path, meta)
    }

    /// Begins a regular file of `size` bytes, all of them a hole.
    pub fn begin_file(self: &Arc<Self>, path: &RawPath, size: u64) -> Result<Staged, ApplyError> {
        let (folder, _) = self.place(path)?;
        let (file, name) = match nameless(&folder).map_err(|error| step("make the file", path, error))? {
            Some(file) => (file, None),
            None => self.named(path)?,
        };
        let staged =
            Staged { applier: Arc::clone(self), file, name, path: path.clone(), stays: false, is_begun: false };
        rustix::fs::ftruncate(&staged.file, size).map_err(|error| step("make room for", path, error))?;
        Ok(staged)
    }

    /// Makes a file under a passing name.
    fn named(&self, path: &RawPath) -> Result<(OwnedFd, Option<String>), ApplyError> {
        let name = self.staging.passing_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.staging.folder(), &*name, flags, Mode::RUSR | Mode::WUSR);
        Ok((file.map_err(|error| step("make the file", path, error))?, Some(name)))
    }

    /// Begins a file in parts without holes, or goes on with what an interrupted restore left of it. Whatever is in it has to be
    /// proved again; it stays when this restore is interrupted, too.
    pub fn begin_parted(self: &Arc<Self>, path: &RawPath, size: u64, content: Digest) -> Result<Staged, ApplyError> {
        let name = Staging::name_of_parted(content);
        let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.staging.folder(), &*name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| step("make the file", path, error))?;
        let found = rustix::fs::fstat(&file).map_err(|error| step("look at", path, error))?;
        rustix::fs::ftruncate(&file, size).map_err(|error| step("make room for", path, error))?;
        let is_begun = found.st_blocks > 0;
        Ok(Staged { applier: Arc::clone(self), file, name: Some(name), path: path.clone(), stays: true, is_begun })
    }

    /// Makes `path` another name of `first`, which was made by this restore or is known to be right.
    pub fn link(&self, first: &RawPath, path: &RawPath) -> Result<(), ApplyError> {
        let (first_folder, first_name) = self.target.folder(first)?;
        let passing = self.staging.passing_name();
        let made = rustix::fs::linkat(&*first_folder, first_name, self.staging.folder(), &*passing, AtFlags::empty());
        done("link", path, made)?;
        self.move_to(&passing, path)
    }

    /// Ends the restore: the staging folder goes, then the target itself gets what was captured of the
    /// root (in this order, since the first changes its time), and everything is durable.
    pub fn finish(&self, root: Option<&Meta>) -> Result<(), ApplyError> {
        let path = RawPath::default();
        let removed = self.staging.remove(self.target.root());
        removed.map_err(|source| ApplyError::Step {
            step: "remove the staging folder of",
            path: path.clone(),
            source,
        })?;
        root.map_or(Ok(()), |meta| self.dress(&path, meta))?;
        rustix::fs::syncfs(self.target.root()).map_err(|error| step("sync the target", &path, error))
    }

    /// The place of an entry, unless it is the restore's own folder.
    fn place<'p>(&self, path: &'p RawPath) -> Result<(Arc<OwnedFd>, &'p [u8]), ApplyError> {
        if path.as_bytes().split(|byte| *byte == b'/').next() == Some(STAGING.as_bytes()) {
            return Err(ApplyError::Impossible {
                path: path.clone(),
                what: "has the name of the restore's own folder",
            });
        }
        Ok(self.target.folder(path)?)
    }

    fn settle(&self, passing: &str, path: &RawPath, meta: &Meta) -> Result<(), ApplyError> {
        let node =
            open_node(self.staging.folder(), passing.as_bytes()).map_err(|error| step("open again", path, error))?;
        attributes::apply(&Node::path(&node), path, meta, &self.shortfalls);
        self.move_to(passing, path)
    }

    /// Gives a file that has no name the one it is to have.
    fn name(&self, file: &OwnedFd, path: &RawPath) -> Result<(), ApplyError> {
        let (folder, name) = self.place(path)?;
        match link_open(file, &folder, name) {
            // Only a rename replaces in one step.
            Err(Errno::EXIST) if self.existing == Existing::Replace => {
                let passing = self.staging.passing_name();
                done("put in place", path, link_open(file, self.staging.folder(), passing.as_bytes()))?;
                self.move_to(&passing, path)
            }
            linked => done("put in place", path, linked),
        }
    }

    /// Renames to the final name; whatever happens, the passing name is gone afterwards.
    fn move_to(&self, passing: &str, path: &RawPath) -> Result<(), ApplyError> {
        let moved = self.place(path).and_then(|(folder, name)| {
            let moved = match self.existing {
                Existing::Replace => rustix::fs::renameat(self.staging.folder(), passing, &*folder, name),
                Existing::Keep => self.rename_to_nothing(passing, &folder, name),
            };
            done("put in place", path, moved)
        });
        // Renaming one name of a file over another does nothing, and so does a failure.
        let _ = rustix::fs::unlinkat(self.staging.folder(), passing, AtFlags::empty());
        moved
    }

    fn rename_to_nothing(&self, passing: &str, folder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        match rustix::fs::renameat_with(self.staging.folder(), passing, folder, name, RenameFlags::NOREPLACE) {
            // Some network file systems do not know the flag; a new name for a file never replaces one.
            Err(Errno::INVAL) => rustix::fs::linkat(self.staging.folder(), passing, folder, name, AtFlags::empty()),
            renamed => renamed,
        }
    }
}

/// A file that is being written; dropped before [`Staged::finish`] it leaves nothing, or what a resumed restore goes on with.
#[derive(Debug)]
pub struct Staged {
    applier: Arc<Applier>,
    file: OwnedFd,
    /// Its passing name, if it has one.
    name: Option<String>,
    path: RawPath,
    /// It is left where it is: it was put in its place, or the next restore goes on with it.
    stays: bool,
    is_begun: bool,
}

impl Staged {
    /// What an interrupted restore left of it, to be read beside; `None` where there is nothing.
    pub fn begun(&self) -> Option<File> {
        let file = self.is_begun.then(|| self.file.try_clone().ok()).flatten()?;
        Some(File::from(file))
    }

    /// Where the file will be.
    pub fn path(&self) -> &RawPath {
        &self.path
    }

    /// Writes at an offset; what is never written stays a hole.
    pub fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<(), ApplyError> {
        while !bytes.is_empty() {
            let written = match rustix::io::pwrite(&self.file, bytes, offset) {
                Err(Errno::INTR) => continue,
                Ok(0) => Err(Errno::NOSPC),
                other => other,
            };
            let written = written.map_err(|error| step("write", &self.path, error))?;
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }

    /// Reads back at an offset; 0 at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, ApplyError> {
        loop {
            match rustix::io::pread(&self.file, &mut *buffer, offset) {
                Err(Errno::INTR) => {}
                read => return read.map_err(|error| step("read back", &self.path, error)),
            }
        }
    }

    /// Gives the file what was captured and puts it in its place.
    pub fn finish(mut self, meta: &Meta) -> Result<(), ApplyError> {
        self.stays = true;
        attributes::apply(&Node::open(&self.file), &self.path, meta, &self.applier.shortfalls);
        match &self.name {
            Some(passing) => self.applier.move_to(passing, &self.path),
            None => self.applier.name(&self.file, &self.path),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let (false, Some(name)) = (self.stays, &self.name) {
            let _ = rustix::fs::unlinkat(self.applier.staging.folder(), &**name, AtFlags::empty());
        }
    }
}

fn step(step: &'static str, path: &RawPath, error: Errno) -> ApplyError {
    ApplyError::Step { step, path: path.clone(), source: error.into() }
}

fn done(what: &'static str, path: &RawPath, result: Result<(), Errno>) -> Result<(), ApplyError> {
    result.map_err(|error| match error {
        Errno::EXIST | Errno::NOTEMPTY | Errno::ISDIR => ApplyError::Exists(path.clone()),
        error => step(what, path, error),
    })
}

/// The entry itself, never what it points to.
fn open_node(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests;
