//! The objects in a folder, in the order of a bucket.
//!
//! opendal's lister is not used for folders: it follows a link to a folder, and panics about it in
//! builds with debug assertions. Here a link is no object and leads nowhere, and only
//! folders in which something asked for can lie are opened.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dualsync_model::time::Timestamp;

use crate::contract::{Key, ObjectInfo, UNFINISHED};

/// What is asked for: keys that begin with a text and come after another.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The text that keys begin with.
    pub(crate) prefix: String,
    /// The text that keys come after.
    pub(crate) after: Option<String>,
}

impl Asked {
    fn object(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && self.after.as_deref().is_none_or(|after| after < key)
    }

    /// Whether something asked for can lie in `folder`, a path with a slash at its end.
    fn folder(&self, folder: &str) -> bool {
        folder.starts_with(&self.prefix) || self.prefix.starts_with(folder)
    }
}

/// The objects below `top` that are asked for, by the bytes of their keys; a missing `top` has none.
pub(crate) fn objects(top: &Path, asked: &Asked) -> io::Result<Vec<ObjectInfo>> {
    let mut found = Vec::new();
    look_into(top, "", asked, &mut found)?;
    found.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(found)
}

/// `path` is where `folder` lies below the top: empty, or with a slash at its end. A key has at most
/// 1,024 bytes, so this goes at most 512 folders deep.
fn look_into(folder: &Path, path: &str, asked: &Asked, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
    let Some(entries) = unless_gone(fs::read_dir(folder))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let Some(key) = key_of(path, &entry) else { continue };
        // Of the entry itself: a link is not followed.
        let Some(meta) = unless_gone(entry.metadata())? else { continue };
        let below = format!("{key}/");
        if meta.is_file() && asked.object(key.as_str()) {
            found.push(info(key, &meta));
        } else if meta.is_dir() && asked.folder(&below) {
            look_into(&entry.path(), &below, asked, found)?;
        }
    }
    Ok(())
}

/// The files below `top` that a put began to write, did not finish, and last touched before `before`.
pub(crate) fn unfinished(top: &Path, before: Timestamp) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![top.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Some(entries) = unless_gone(fs::read_dir(folder))? else { continue };
        for entry in entries {
            let entry = entry?;
            let Some(meta) = unless_gone(entry.metadata())? else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.is_file()
                && entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes())
                && Timestamp::from_seconds(meta.mtime()).seconds_since(before) < 0
            {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn key_of(path: &str, entry: &DirEntry) -> Option<Key> {
    Key::new(format!("{path}{}", entry.file_name().to_str()?)).ok()
}

/// What vanishes while it is looked at was not there.
fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn info(key: Key, meta: &Metadata) -> ObjectInfo {
    let nanos = u32::try_from(meta.mtime_nsec()).unwrap_or_default();
    ObjectInfo { key, size: meta.len(), modified: Timestamp::new(meta.mtime(), nanos).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_put_left_long_ago_is_left_over() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("volumes/web")).unwrap();
        for name in ["repo.json", "volumes/web/.unfinished-00", "volumes/web/00000.tar.age", ".unfinished-01"] {
            fs::write(top.path().join(name), b"").unwrap();
        }
        let now = Timestamp::from_seconds(fs::metadata(top.path()).unwrap().mtime());
        assert!(unfinished(top.path(), now.plus_seconds(-100)).unwrap().is_empty());
        let mut found = unfinished(top.path(), now.plus_seconds(100)).unwrap();
        found.sort();
        assert_eq!(found, [top.path().join(".unfinished-01"), top.path().join("volumes/web/.unfinished-00")]);
    }

    #[test]
    fn folders_are_opened_only_on_the_way() {
        let check = |prefix: &str, folder: &str, expected| {
            let asked = Asked { prefix: prefix.to_owned(), after: None };
            assert_eq!(asked.folder(folder), expected, "{folder} for {prefix}");
        };
        check("", "points/", true);
        check("po", "points/", true);
        check("points", "points/", true);
        check("points/web/2", "points/", true);
        check("points/web/2", "points/web/", true);
        check("points/web/2", "points/web/2026/", true);
        check("points/web/2", "points/mail/", false);
        check("points/", "points-old/", false);
    }
}
