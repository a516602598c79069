//! Walks a tree by descriptor: every name is looked up in its opened folder, no path is ever used.
//!
//! So neither the depth of the tree nor the length of a path has a limit, and no symbolic link is
//! followed. At most [`FOLDERS_OPEN`] folders are held open: above them the walk finds its way
//! back through `..`, and checks that it got there. Entries of a folder are looked up in the order
//! of their inodes, which lie together in the image.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;
use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

use super::InsideError;
use super::entry::{Inode, Meta};

/// Folders held open at once, far below the usual limit of 1,024 descriptors.
const FOLDERS_OPEN: usize = 64;
/// Names of one folder that are sorted by inode at once: bounds the memory of a huge folder.
const BATCH: usize = 16 * 1024;

/// One entry as the walk meets it.
pub(super) struct Entry<'a> {
    /// Its path from the root of the tree.
    pub path: RawPath,
    /// The folder it is in.
    pub folder: BorrowedFd<'a>,
    /// Its name there; `.` for the root.
    pub name: &'a [u8],
    /// What its inode says.
    pub meta: Result<Meta, Errno>,
    /// What its folder says it is.
    pub hint: Option<EntryKind>,
}

/// What a walk wants of a folder.
pub(super) enum Wanted {
    /// Every entry.
    All,
    /// These names, as far as they exist.
    Only(Vec<Vec<u8>>),
}

/// Who is told of entries: parents before children, in no other order.
pub(super) trait Visit {
    /// What to look at in a folder that was descended into.
    fn wanted(&mut self, folder: &RawPath) -> Wanted;

    /// An entry; whether to descend into it, which is asked of folders only.
    fn entry(&mut self, entry: Entry) -> Result<bool, InsideError>;

    /// A folder, told before as an entry, whose names could not be read, or not all of them.
    fn unreadable(&mut self, folder: &RawPath, errno: Errno) -> Result<(), InsideError>;
}

/// A folder on the way down.
struct Level {
    path: RawPath,
    inode: Inode,
    open: Option<OwnedFd>,
    /// Folders in it that are still to be walked.
    folders: Vec<Vec<u8>>,
}

/// Walks everything below `root` that `visit` wants.
pub(super) fn walk(root: BorrowedFd, visit: &mut impl Visit) -> Result<(), InsideError> {
    let meta = Meta::of(root, b".");
    let inode = meta.map(|meta| meta.inode);
    let entry = Entry { path: RawPath::default(), folder: root, name: b".", meta, hint: Some(EntryKind::Directory) };
    let (true, Ok(inode)) = (visit.entry(entry)?, inode) else { return Ok(()) };
    let mut levels = Vec::new();
    match open_folder(root, b".") {
        Ok(open) => levels.push(read_level(RawPath::default(), inode, open, visit)?),
        Err(errno) => visit.unreadable(&RawPath::default(), errno)?,
    }
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.folders.pop() else {
            let done = levels.pop();
            if let (Some(level), Some(done)) = (levels.last_mut(), done) {
                go_back(level, &done)?;
            }
            continue;
        };
        let path = level.path.join(&name);
        let folder = level.open.as_ref().ok_or(InsideError::Changed)?;
        let opened = open_folder(folder.as_fd(), &name).and_then(|open| {
            let inode = Meta::of(open.as_fd(), b".")?.inode;
            Ok((open, inode))
        });
        match opened {
            Ok((open, inode)) => {
                let next = read_level(path, inode, open, visit)?;
                levels.push(next);
                if let Some(far) = levels.len().checked_sub(FOLDERS_OPEN + 1) {
                    levels[far].open = None;
                }
            }
            Err(errno) => visit.unreadable(&path, errno)?,
        }
    }
    Ok(())
}

/// Opens the folder again that a level far up had to close, from the one below it.
fn go_back(level: &mut Level, below: &Level) -> Result<(), InsideError> {
    if level.open.is_some() {
        return Ok(());
    }
    let below = below.open.as_ref().ok_or(InsideError::Changed)?;
    let open = open_folder(below.as_fd(), b"..").map_err(|_| InsideError::Changed)?;
    let same = Meta::of(open.as_fd(), b".").is_ok_and(|meta| meta.inode == level.inode);
    if !same {
        return Err(InsideError::Changed);
    }
    level.open = Some(open);
    Ok(())
}

fn open_folder(folder: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Tells the entries of an opened folder and collects the folders in it.
fn read_level(path: RawPath, inode: Inode, open: OwnedFd, visit: &mut impl Visit) -> Result<Level, InsideError> {
    let mut level = Level { path, inode, open: None, folders: Vec::new() };
    match visit.wanted(&level.path) {
        Wanted::Only(names) => {
            let batch = names.into_iter().map(|name| (0, name, None)).collect();
            tell(batch, open.as_fd(), &mut level, visit, true)?;
        }
        Wanted::All => {
            if let Err(errno) = read_names(open.as_fd(), |batch| tell(batch, open.as_fd(), &mut level, visit, false))? {
                visit.unreadable(&level.path.clone(), errno)?;
            }
        }
    }
    level.open = Some(open);
    Ok(level)
}

/// Inode number, name, and kind where the folder tells it.
pub(super) type Name = (u64, Vec<u8>, Option<EntryKind>);

/// Reads a folder in batches; the inner error is the folder's own.
pub(super) fn read_names(
    open: BorrowedFd,
    mut tell: impl FnMut(Vec<Name>) -> Result<(), InsideError>,
) -> Result<Result<(), Errno>, InsideError> {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut names = RawDir::new(open, &mut buffer);
    let mut batch = Vec::new();
    let mut outcome = Ok(());
    while let Some(next) = names.next() {
        match next {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    let kind = Some(entry.file_type()).filter(|kind| *kind != FileType::Unknown);
                    batch.push((entry.ino(), name.to_vec(), kind.and_then(super::entry::kind_of)));
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => {
                outcome = Err(errno);
                break;
            }
        }
        if batch.len() >= BATCH {
            tell(std::mem::take(&mut batch))?;
        }
    }
    tell(batch)?;
    Ok(outcome)
}

fn tell(
    mut batch: Vec<Name>,
    folder: BorrowedFd,
    level: &mut Level,
    visit: &mut impl Visit,
    may_be_missing: bool,
) -> Result<(), InsideError> {
    batch.sort_unstable_by_key(|(inode, ..)| *inode);
    for (_, name, hint) in batch {
        let meta = Meta::of(folder, &name);
        if may_be_missing && meta == Err(Errno::NOENT) {
            continue;
        }
        let is_folder = meta.is_ok_and(|meta| meta.kind == EntryKind::Directory);
        let entry = Entry { path: level.path.join(&name), folder, name: &name, meta, hint };
        if visit.entry(entry)? && is_folder {
            level.folders.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mkdirat};

    #[derive(Default)]
    struct Everything {
        paths: Vec<RawPath>,
        unreadable: Vec<RawPath>,
    }

    impl Visit for Everything {
        fn wanted(&mut self, _: &RawPath) -> Wanted {
            Wanted::All
        }

        fn entry(&mut self, entry: Entry) -> Result<bool, InsideError> {
            self.paths.push(entry.path);
            Ok(true)
        }

        fn unreadable(&mut self, folder: &RawPath, _: Errno) -> Result<(), InsideError> {
            self.unreadable.push(folder.clone());
            Ok(())
        }
    }

    fn open(path: &std::path::Path) -> OwnedFd {
        openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_tree_far_deeper_than_a_path_may_be_long_is_walked_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let name = [b'd'; 200];
        let mut at = open(folder.path());
        for _ in 0..150 {
            mkdirat(&at, OsStr::from_bytes(&name), Mode::RWXU).unwrap();
            mkdirat(&at, "aside", Mode::RWXU).unwrap();
            at = open_folder(at.as_fd(), &name).unwrap();
        }
        let mut seen = Everything::default();
        walk(open(folder.path()).as_fd(), &mut seen).unwrap();
        assert_eq!((seen.paths.len(), seen.unreadable.len()), (301, 0));
        assert_eq!(seen.paths.iter().map(|path| path.as_bytes().len()).max(), Some(150 * 201 - 1));
        std::fs::remove_dir_all(folder.path()).unwrap();
    }

    #[test]
    fn parents_come_before_children_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), b"").unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("a/root")).unwrap();
        let mut seen = Everything::default();
        walk(open(folder.path()).as_fd(), &mut seen).unwrap();
        let place = |path: &str| seen.paths.iter().position(|seen| *seen == RawPath::new(path)).unwrap();
        assert!(place("") < place("a") && place("a") < place("a/b") && place("a/b") < place("a/b/c"));
        assert_eq!(seen.paths.len(), 5);
    }

    #[test]
    fn a_huge_folder_is_told_in_batches_without_losing_a_name() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..BATCH + 10 {
            std::fs::File::create(folder.path().join(format!("{number}"))).unwrap();
        }
        let mut seen = Everything::default();
        walk(open(folder.path()).as_fd(), &mut seen).unwrap();
        seen.paths.sort();
        seen.paths.dedup();
        assert_eq!(seen.paths.len(), BATCH + 11);
    }
}
