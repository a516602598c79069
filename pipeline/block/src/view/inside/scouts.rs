//! Looks at folders ahead of the walk, several at once, so that the walk does not wait for each one alone.
//!
//! The records of a file system lie scattered over the image, and each costs a request to the store. A scout reads the names
//! of a folder and asks about each, and throws away what it saw: the kernel keeps it, and the walk that comes behind finds it
//! there. So what is told, and in which order, is the walk's alone, and what a scout could not read the walk
//! meets itself. Only for walks that look at everything: then nothing is fetched that is not needed.
//!
//! Scouts are never more than [`LEAD`] entries ahead, or the kernel would forget what they saw. They retire at the first
//! error: which damage stands in the way of which entry is told by its being met last.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;
use rustix::fs::{OFlags, readlinkat};
use rustix::io::Errno;

use super::entry::Meta;
use super::open::open_beneath;
use super::walk::{Name, read_names};

/// Folders looked at at the same time.
const SCOUTS: usize = 12;
/// Entries that scouts may be ahead of the walk: some 40 MiB of the kernel's memory.
const LEAD: u64 = 32 * 1024;
/// Bytes of folders that wait for a scout; the walk finds folders that nobody looked at itself.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Entries of the walk between two looks at who waits.
const STEPS: u64 = 256;

/// What scouts and walk know of each other.
pub(super) struct Scouts {
    state: Mutex<State>,
    changed: Condvar,
    over: AtomicBool,
}

/// When the walk comes to a folder: the place among its siblings of each folder on the way down. The walk takes the
/// last one first, and all that is below it before the next.
type Turn = Vec<u32>;

#[derive(Debug, Default)]
struct State {
    /// Folders to look at.
    waiting: BTreeMap<Turn, RawPath>,
    waiting_bytes: usize,
    /// Scouts that look at a folder now, and may find more.
    at_work: usize,
    /// Entries that scouts saw, and those that the walk told.
    seen: u64,
    walked: u64,
}

impl State {
    /// The folder that the walk comes to first, unless it is too far ahead.
    fn take(&mut self) -> Option<(Turn, RawPath)> {
        if self.seen >= self.walked + LEAD {
            return None;
        }
        let (turn, folder) = self.waiting.pop_first()?;
        self.waiting_bytes -= bytes_of(&turn, &folder);
        self.at_work += 1;
        Some((turn, folder))
    }
}

impl Scouts {
    fn new() -> Self {
        let waiting = BTreeMap::from([(Turn::new(), RawPath::default())]);
        let state = State { waiting, ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new(), over: AtomicBool::new(false) }
    }

    /// Runs `work` with scouts below `root` ahead of it, which end with it.
    pub(super) fn ahead_of<T>(root: BorrowedFd, work: impl FnOnce(&Self) -> T) -> T {
        let scouts = Self::new();
        thread::scope(|scope| {
            for _ in 0..SCOUTS {
                // Without a thread more the walk is slower, and nothing else.
                let _ = thread::Builder::new().spawn_scoped(scope, || scouts.look_around(root));
            }
            let done = work(&scouts);
            scouts.retire();
            done
        })
    }

    /// The walk has told `walked` entries in all.
    pub(super) fn follow(&self, walked: u64) {
        if walked.is_multiple_of(STEPS) {
            self.lock().walked = walked;
            self.changed.notify_all();
        }
    }

    fn retire(&self) {
        self.over.store(true, Ordering::Relaxed);
        // Under the lock, so that nobody is between looking and waiting.
        drop(self.lock());
        self.changed.notify_all();
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn look_around(&self, root: BorrowedFd) {
        while let Some((turn, folder)) = self.next() {
            if self.look_at(root, &turn, &folder).is_err() {
                self.retire();
            }
            self.lock().at_work -= 1;
            self.changed.notify_all();
        }
    }

    /// The next folder, as soon as there is one that is not too far ahead.
    fn next(&self) -> Option<(Turn, RawPath)> {
        let mut state = self.lock();
        loop {
            if self.is_over() || (state.waiting.is_empty() && state.at_work == 0) {
                return None;
            }
            if let Some(next) = state.take() {
                return Some(next);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn look_at(&self, root: BorrowedFd, turn: &Turn, path: &RawPath) -> Result<(), Errno> {
        let folder = open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let (mut looked, mut found) = (Ok(()), 0);
        let read = read_names(folder.as_fd(), |batch| {
            if looked.is_ok() {
                looked = self.look_at_names(folder.as_fd(), batch).map(|(seen, names)| {
                    let folders = names.iter().map(|name| {
                        found += 1;
                        ([turn.as_slice(), &[u32::MAX - found]].concat(), path.join(name))
                    });
                    self.tell(seen, folders);
                });
            }
            Ok(())
        });
        // The outer error is that of the closure, which has none.
        read.unwrap_or(Ok(())).and(looked)
    }

    /// How many names there are, and those of folders, in the order in which the walk finds them.
    fn look_at_names(&self, folder: BorrowedFd, mut batch: Vec<Name>) -> Result<(u64, Vec<Vec<u8>>), Errno> {
        batch.sort_unstable_by_key(|(inode, ..)| *inode);
        let (seen, mut folders) = (batch.len() as u64, Vec::new());
        for (_, name, _) in batch {
            if self.is_over() {
                break;
            }
            match Meta::of(folder, &name)?.kind {
                EntryKind::Directory => folders.push(name),
                // A long target has a block of its own.
                EntryKind::Symlink => drop(readlinkat(folder, OsStr::from_bytes(&name), Vec::new())?),
                _ => {}
            }
        }
        Ok((seen, folders))
    }

    fn tell(&self, seen: u64, folders: impl Iterator<Item = (Turn, RawPath)>) {
        let mut state = self.lock();
        state.seen += seen;
        for (turn, folder) in folders {
            let bytes = state.waiting_bytes + bytes_of(&turn, &folder);
            if bytes <= WAITING_BYTES_MAX {
                state.waiting_bytes = bytes;
                state.waiting.insert(turn, folder);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers and paths: whatever panicked, they are still advice.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(turn: &Turn, folder: &RawPath) -> usize {
    turn.len() * size_of::<u32>() + folder.as_bytes().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::inside::InsideError;
    use crate::view::inside::walk::{Entry, Visit, Wanted, walk};
    use rustix::fs::{CWD, Mode, openat};
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    /// The folders in the order in which a walk descends into them.
    #[derive(Default)]
    struct Folders(Vec<RawPath>, u64);

    impl Visit for Folders {
        fn wanted(&mut self, folder: &RawPath) -> Wanted {
            self.0.push(folder.clone());
            Wanted::All
        }

        fn entry(&mut self, _: Entry) -> Result<bool, InsideError> {
            self.1 += 1;
            Ok(true)
        }

        fn unreadable(&mut self, folder: &RawPath, errno: Errno) -> Result<(), InsideError> {
            panic!("{folder}: {errno}")
        }
    }

    fn open(path: &Path) -> OwnedFd {
        openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    /// Three levels of folders with files and links among them, made in an order that is not that of their names.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for number in 0..60 {
            let folder = root.path().join(format!("{}/{}/{}", number * 7 % 5, number * 11 % 13, number));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), b"x").unwrap();
            std::os::unix::fs::symlink("/".repeat(100), folder.join("link")).unwrap();
        }
        root
    }

    #[test]
    fn a_scout_takes_the_folders_in_the_order_of_the_walk_whatever_others_do() {
        let tree = tree();
        let root = open(tree.path());
        let mut walked = Folders::default();
        walk(root.as_fd(), &mut walked).unwrap();
        assert!(walked.0.len() > 100, "{}", walked.0.len());
        for at_once in [1, 5] {
            let scouts = Scouts::new();
            let mut taken = Vec::new();
            loop {
                let batch: Vec<_> = std::iter::from_fn(|| scouts.lock().take()).take(at_once).collect();
                if batch.is_empty() {
                    break;
                }
                // The one that began last is done first.
                for (turn, folder) in batch.iter().rev() {
                    scouts.look_at(root.as_fd(), turn, folder).unwrap();
                }
                taken.extend(batch);
            }
            taken.sort();
            let taken: Vec<_> = taken.into_iter().map(|(_, folder)| folder).collect();
            assert_eq!(taken, walked.0, "{at_once} at once");
            let state = scouts.lock();
            // The walk tells the root, too.
            assert_eq!((state.seen + 1, state.waiting_bytes), (walked.1, 0));
        }
    }

    #[test]
    fn scouts_end_with_the_tree_and_with_the_walk() {
        let tree = tree();
        let root = open(tree.path());
        let mut walked = Folders::default();
        Scouts::ahead_of(root.as_fd(), |scouts| {
            scouts.look_around(root.as_fd());
            assert!(!scouts.is_over() && scouts.lock().waiting.is_empty());
            walk(root.as_fd(), &mut walked).unwrap();
        });
        assert_eq!(Scouts::ahead_of(root.as_fd(), |_| 7), 7, "a walk that gives up does not wait for its scouts");
    }

    #[test]
    fn nobody_is_further_ahead_than_the_lead_and_the_walk_lets_them_go_on() {
        let scouts = Scouts::new();
        scouts.lock().seen = LEAD;
        assert!(scouts.lock().take().is_none());
        scouts.follow(STEPS - 1);
        assert!(scouts.lock().take().is_none());
        scouts.follow(STEPS);
        assert_eq!(scouts.lock().take(), Some((Turn::new(), RawPath::default())));
    }

    #[test]
    fn folders_that_nobody_can_remember_are_left_to_the_walk() {
        let scouts = Scouts::new();
        let long = RawPath::new("x".repeat(1 << 20));
        scouts.tell(9, (0..9).map(|n| (vec![n], long.clone())));
        let state = scouts.lock();
        assert_eq!(state.waiting.len(), 1 + 3);
        assert!(state.waiting_bytes <= WAITING_BYTES_MAX);
    }

    #[test]
    fn an_error_ends_all_scouting() {
        let tree = tree();
        let root = open(tree.path());
        let scouts = Scouts::new();
        scouts.tell(0, [(vec![0], RawPath::new("not there"))].into_iter());
        scouts.look_around(root.as_fd());
        assert!(scouts.is_over() && scouts.next().is_none());
        assert!(!scouts.lock().waiting.is_empty(), "the walk goes on alone");
    }
}
