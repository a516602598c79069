//! Lists the objects below a folder, as a bucket would.
//!
//! It descends only where the wanted prefix leads, follows no link, and passes over unfinished
//! objects, over everything that is no regular file, and over names that are no key. What vanishes
//! while it looks is not listed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use dualsync_model::time::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::contract::{Key, ObjectInfo};

/// Every object whose key begins with `prefix` and lies behind `after`, by the bytes of the keys.
pub(crate) fn objects(base: &OwnedFd, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, io::Error> {
    let mut found = Vec::new();
    // Folders still to read, by path with a slash at the end; depth is bounded by the length of a key.
    let mut folders = vec![String::new()];
    while let Some(path) = folders.pop() {
        let Some(folder) = open_folder(base, &path)? else { continue };
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Ok(key) = Key::new(format!("{path}{name}")) else { continue };
            let Some(stat) = look(&folder, name)? else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if leads_to(key.as_str(), prefix) => folders.push(format!("{key}/")),
                FileType::RegularFile if is_wanted(key.as_str(), prefix, after) => found.push(info(key, &stat)),
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

fn open_folder(base: &OwnedFd, path: &str) -> Result<Option<OwnedFd>, io::Error> {
    let name = if path.is_empty() { "." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(base, name, flags, Mode::empty(), inside) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn look(folder: impl AsFd, name: &str) -> Result<Option<Stat>, io::Error> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether keys below the folder `path` can begin with `prefix`.
fn leads_to(path: &str, prefix: &str) -> bool {
    match prefix.strip_prefix(path) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => path.starts_with(prefix),
    }
}

fn is_wanted(key: &str, prefix: &str, after: Option<&str>) -> bool {
    key.starts_with(prefix) && after.is_none_or(|after| key > after)
}

fn info(key: Key, stat: &Stat) -> ObjectInfo {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let modified = Timestamp::new(stat.st_mtime, nanos).unwrap_or_default();
    ObjectInfo { key, size: u64::try_from(stat.st_size).unwrap_or(0), modified }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_on_the_way_to_the_prefix_are_read() {
        let check = |path, prefix, expected| assert_eq!(leads_to(path, prefix), expected, "{path} for {prefix}");
        check("packs", "", true);
        check("packs", "pa", true);
        check("packs", "packs", true);
        check("packs", "packs/ab", true);
        check("packs/ab", "packs/a", true);
        check("packs", "packs-old/ab", false);
        check("maps", "packs/", false);
    }
}
