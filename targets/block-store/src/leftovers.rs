//! Removes the `.tmp-` files of writes that were cut off: no listing shows them, and they fill a disk.
//!
//! A file goes when nothing was written to it for a day and no living writer holds its lock. The day is
//! counted by the clock that stamps the files, that of a NAS for instance. Were a writer asleep for longer
//! and its lock lost (a file server that was started anew), its rename finds no file and its put fails:
//! a run more, never a copy less.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::contract::TEMPORARY;

/// Nothing was written to a leftover for this long.
const QUIET_S: i64 = 86_400;

/// Says that the file being written is alive, until it is closed or the process ends.
///
/// Not every network file system has locks: then the day alone must do.
pub(crate) fn hold(file: &File) {
    if let Err(error) = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        tracing::debug!(%error, "an unfinished object cannot be locked");
    }
}

/// Removes the leftovers below `base`; `fresh` is the name of a new temporary file for finding out the time.
pub(crate) fn clear(base: &OwnedFd, fresh: &str) -> Result<u64, io::Error> {
    let now = time_of_files(base, fresh)?;
    let mut removed = 0;
    let mut folders = vec![".".to_owned()];
    while let Some(path) = folders.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let folder = match rustix::fs::openat2(base, path.as_str(), flags, Mode::empty(), inside) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(errno.into()),
        };
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if name != "." && name != ".." => folders.push(format!("{path}/{name}")),
                FileType::RegularFile if name.starts_with(TEMPORARY) && now - stat.st_mtime >= QUIET_S => {
                    removed += u64::from(remove(&folder, name)?);
                }
                _ => {}
            }
        }
    }
    Ok(removed)
}

/// The time by the clock that stamps files here.
fn time_of_files(base: &OwnedFd, fresh: &str) -> Result<i64, io::Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(base.as_fd(), fresh, flags, Mode::RUSR | Mode::WUSR)?;
    let time = rustix::fs::fstat(&file)?.st_mtime;
    rustix::fs::unlinkat(base, fresh, AtFlags::empty())?;
    Ok(time)
}

/// Removes the file unless somebody holds it.
fn remove(folder: &OwnedFd, name: &str) -> Result<bool, io::Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Ok(false);
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn file(path: &std::path::Path, days_old: u64) -> File {
        let file = File::create(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days_old * 86_400 + 10)).unwrap();
        file
    }

    #[test]
    fn only_old_leftovers_that_nobody_holds_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("packs/ab");
        std::fs::create_dir_all(&inner).unwrap();
        drop(file(&inner.join(".tmp-old"), 1));
        drop(file(&folder.path().join(".tmp-old"), 40));
        drop(file(&inner.join(".tmp-young"), 0));
        drop(file(&inner.join("object"), 40));
        let held = file(&inner.join(".tmp-held"), 2);
        hold(&held);
        let base = OwnedFd::from(File::open(folder.path()).unwrap());
        assert_eq!(clear(&base, ".tmp-now").unwrap(), 2);
        let left = |path: &std::path::Path| {
            let mut names: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(left(&inner), [".tmp-held", ".tmp-young", "object"]);
        assert_eq!(left(folder.path()), ["packs"]);
        drop(held);
        assert_eq!(clear(&base, ".tmp-now").unwrap(), 1, "its writer is gone");
    }
}
