//! The file that holds the repository key: read through its reference, made once by `init`.
//!
//! A new file has mode 0600, is written whole before it has its name, and never replaces one; only a rotation puts a
//! new key in the place of an old one, which it keeps beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use dualsync_block_store::secret::{SecretError, resolve_secret};
use dualsync_model::secret::SecretRef;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::keys::{KeyId, NotAKey, RepositoryKey};
use crate::seal::{NoRandomness, random_bytes};
use crate::secret::Secret;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The reference leads nowhere.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It leads to something else.
    #[error("the secret {reference} cannot be used")]
    NotAKey {
        /// Where it is.
        reference: SecretRef,
        /// What was expected.
        source: NotAKey,
    },
    /// It leads to a key of a slot, and the repository key itself is needed.
    #[error("the secret {0} opens a slot or manifests only: this needs the repository key itself")]
    NotRaw(SecretRef),
    /// A new key cannot be written to this kind of reference.
    #[error("{0} has no key yet, and only a `file:` reference can be given one")]
    NotAFile(SecretRef),
    /// The new file could not be written.
    #[error("cannot write the key file '{path}'")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No key could be drawn.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Reads the repository key, and nothing else.
pub async fn read(reference: &SecretRef) -> Result<RepositoryKey, KeyFileError> {
    match read_any(reference).await? {
        Secret::Raw(key) => Ok(key),
        _ => Err(KeyFileError::NotRaw(reference.clone())),
    }
}

/// Reads whatever opens the repository, or a part of it.
pub async fn read_any(reference: &SecretRef) -> Result<Secret, KeyFileError> {
    let secret = resolve_secret(reference).await?;
    let wrong = |source| KeyFileError::NotAKey { reference: reference.clone(), source };
    let text = std::str::from_utf8(secret.expose_secret()).map_err(|_| wrong(NotAKey))?;
    Secret::from_text(text).map_err(wrong)
}

/// Writes a file of `text`, which must not exist; only its owner can read it.
pub fn write_text(path: &Path, text: &str) -> Result<(), KeyFileError> {
    write_new_text(path, text).map_err(|source| KeyFileError::Write { path: path.to_owned(), source })
}

/// Whether `reference` is a file that does not exist.
pub fn is_absent(reference: &SecretRef) -> bool {
    matches!(reference, SecretRef::File(path) if matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound))
}

/// Draws a key and writes it where `reference` points; what is there already stays.
pub fn create(reference: &SecretRef) -> Result<(RepositoryKey, PathBuf), KeyFileError> {
    let SecretRef::File(path) = reference else { return Err(KeyFileError::NotAFile(reference.clone())) };
    let key = RepositoryKey::new(random_bytes()?);
    write_new(path, &key).map_err(|source| KeyFileError::Write { path: path.clone(), source })?;
    Ok((key, path.clone()))
}

/// Where a rotation keeps the new key until the store knows it: beside the old one.
pub fn draft_of(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

/// Where a rotation keeps the old key.
pub fn kept_of(path: &Path, old: KeyId) -> PathBuf {
    with_suffix(path, &format!(".{old}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The key that an unfinished rotation left beside `reference`; `None` when there is none.
pub async fn read_draft(reference: &SecretRef) -> Result<Option<RepositoryKey>, KeyFileError> {
    let SecretRef::File(path) = reference else { return Ok(None) };
    let draft = SecretRef::File(draft_of(&real(path)));
    if is_absent(&draft) { Ok(None) } else { read(&draft).await.map(Some) }
}

/// The file behind a link: what is written beside a key lies where the key itself is.
pub fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Writes a new key to `path`, which must not exist; owned by whoever owns `beside`, where that is named.
pub fn write(path: &Path, key: &RepositoryKey, beside: Option<&Path>) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Write { path: path.to_owned(), source };
    write_new(path, key).map_err(failed)?;
    let Some(beside) = beside else { return Ok(()) };
    let old = fs::metadata(beside).map_err(failed)?;
    let new = fs::metadata(path).map_err(failed)?;
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(path, Some(old.uid()), Some(old.gid())).map_err(failed)?;
    }
    Ok(())
}

/// Puts the draft in the place of the key at `path` and keeps that one under its id; gives where.
///
/// A crash between any two lines leaves a key at `path`, the old one or the new one, and the other beside it.
pub fn replace(path: &Path, old: &RepositoryKey) -> Result<PathBuf, KeyFileError> {
    let kept = kept_of(path, old.id());
    let failed = |source| KeyFileError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::hard_link(path, &kept) {
        // Kept before a crash; what else could have this name is looked at by nobody.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(failed)?,
    }
    let sync = || File::open(folder).and_then(|folder| folder.sync_all());
    sync().map_err(failed)?;
    fs::rename(draft_of(path), path).and_then(|()| sync()).map_err(failed)?;
    Ok(kept)
}

fn write_new(path: &Path, key: &RepositoryKey) -> io::Result<()> {
    let text = Zeroizing::new(format!(
        "# dualsync block repository key. Whoever has it reads every copy; without it no copy can be read.\n\
         # Keep a second one away from this host (the recovery sheet).\n# key id: {}\n{}\n",
        key.id(),
        *key.to_line()
    ));
    write_new_text(path, &text)
}

fn write_new_text(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        // A link fails where a name exists; a rename would replace another key.
        .and_then(|()| fs::hard_link(&temporary, path));
    fs::remove_file(&temporary)?;
    written?;
    // A power cut here must not lose the key of a repository that `init` is about to make.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn a_new_key_is_private_reads_back_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/block.key");
        let reference = SecretRef::File(path.clone());
        assert!(is_absent(&reference));
        let (key, _) = create(&reference).unwrap();
        assert!(!is_absent(&reference));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(read(&reference).await.unwrap().id(), key.id());
        assert!(matches!(create(&reference), Err(KeyFileError::Write { .. })));
        assert_eq!(read(&reference).await.unwrap().id(), key.id());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing temporary stays");
    }

    #[tokio::test]
    async fn a_file_that_is_no_key_is_named_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("block.key");
        fs::write(&path, "hunter2").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = read(&SecretRef::File(path)).await.err().unwrap();
        let text = crate::fetch::sentence(&error);
        assert!(text.contains("block.key") && text.contains("not a block key") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn only_a_file_can_be_given_a_new_key() {
        assert!(matches!(create(&"env:BLOCK".parse().unwrap()), Err(KeyFileError::NotAFile(_))));
    }
}
