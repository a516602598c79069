//! The newest manifest of each target as this host remembers it: how a rolled-back store is noticed.
//!
//! One small file a target under `state/anchors`, replaced whole. An anchor only moves forward; one that
//! is lost is learned again from the next listing, and the other target's manifests remember it too.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dualsync_model::job::Anchor;

/// An anchor could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the remembered manifest {} could not be {what}", path.display())]
pub struct AnchorError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

/// What is remembered of `target`; a file that is not there or not whole is nothing.
pub fn read(folder: &Path, target: &str) -> Result<Option<Anchor>, AnchorError> {
    let path = file(folder, target);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AnchorError { path, what: "read", source }),
    }
}

/// Remembers `anchor` unless a newer one is remembered already.
pub fn advance(folder: &Path, target: &str, anchor: &Anchor) -> Result<(), AnchorError> {
    if read(folder, target)?.is_some_and(|known| known.sequence >= anchor.sequence) {
        return Ok(());
    }
    let path = file(folder, target);
    replace(&path, anchor).map_err(|source| AnchorError { path, what: "written", source })
}

/// Goes back to `newest`, or to nothing, when `leaves` says that the remembered manifest is deleted on purpose.
pub fn release(
    folder: &Path,
    target: &str,
    leaves: impl Fn(&Anchor) -> bool,
    newest: Option<&Anchor>,
) -> Result<(), AnchorError> {
    if !read(folder, target)?.is_some_and(|known| leaves(&known)) {
        return Ok(());
    }
    let path = file(folder, target);
    let done = match newest {
        Some(newest) => replace(&path, newest),
        None => std::fs::remove_file(&path).and_then(|()| sync_folder(&path)),
    };
    done.map_err(|source| AnchorError { path, what: "written", source })
}

/// Writes beside, syncs, renames: after a crash either the old or the new one is there.
fn replace(path: &Path, anchor: &Anchor) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut stream = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    stream.write_all(&serde_json::to_vec(anchor)?)?;
    stream.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn file(folder: &Path, target: &str) -> PathBuf {
    folder.join(format!("{target}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(sequence: u64) -> Anchor {
        Anchor { sequence, sha256: format!("{sequence:064x}") }
    }

    #[test]
    fn an_anchor_only_moves_forward() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), "paris").unwrap(), None);
        for (learned, expected) in [(3, 3), (2, 3), (3, 3), (7, 7)] {
            advance(folder.path(), "paris", &anchor(learned)).unwrap();
            assert_eq!(read(folder.path(), "paris").unwrap(), Some(anchor(expected)));
        }
        assert_eq!(read(folder.path(), "frankfurt").unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn an_anchor_that_is_deleted_on_purpose_gives_way_and_no_other_does() {
        let folder = tempfile::tempdir().unwrap();
        let seventh = |known: &Anchor| known.sequence == 7;
        release(folder.path(), "paris", seventh, None).unwrap();
        advance(folder.path(), "paris", &anchor(8)).unwrap();
        release(folder.path(), "paris", seventh, Some(&anchor(6))).unwrap();
        assert_eq!(read(folder.path(), "paris").unwrap(), Some(anchor(8)));
        advance(folder.path(), "frankfurt", &anchor(7)).unwrap();
        release(folder.path(), "frankfurt", seventh, Some(&anchor(6))).unwrap();
        assert_eq!(read(folder.path(), "frankfurt").unwrap(), Some(anchor(6)));
        advance(folder.path(), "frankfurt", &anchor(7)).unwrap();
        release(folder.path(), "frankfurt", seventh, None).unwrap();
        assert_eq!(read(folder.path(), "frankfurt").unwrap(), None);
    }

    #[test]
    fn a_broken_file_is_learned_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("paris.json"), "{\"sequence\":").unwrap();
        assert_eq!(read(folder.path(), "paris").unwrap(), None);
        advance(folder.path(), "paris", &anchor(1)).unwrap();
        assert_eq!(read(folder.path(), "paris").unwrap(), Some(anchor(1)));
    }
}
