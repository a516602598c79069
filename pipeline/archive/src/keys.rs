//! The keys of this path on the host: an age identity and a minisign secret key.
//!
//! Promises that a key file is created only where none is, readable by its owner alone and durable
//! before anything is sealed with it, and never written over, except by a rotation, whose new file holds what the old
//! one held. Knows no repository.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use dualsync_archive_store::secret::{SecretError, resolve_secret};
use dualsync_model::job::Keys;
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

use crate::minisign::{MinisignError, PublicKey, SecretKey};
use crate::seal::{Identity, Recipients, SealError};

/// Why the keys of a job cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The job is for the other path.
    #[error("the job carries no keys of the archive path")]
    OtherMechanism,
    /// No public key is pinned.
    #[error("no signing_public is pinned: run `dualsync init`, and compare it with the recovery sheet")]
    NotPinned,
    /// The pinned key is none.
    #[error("signing_public is not usable")]
    Pinned(#[source] MinisignError),
    /// The secret key is not the pinned one.
    #[error("signing_key {reference} belongs to {found}, and {pinned} is pinned as signing_public")]
    OtherSigner {
        /// Where the secret key is.
        reference: SecretRef,
        /// Its public half.
        found: String,
        /// What is pinned.
        pinned: String,
    },
    /// A reference that leads to no secret.
    #[error("cannot read the key {reference}")]
    Secret {
        /// Where it should be.
        reference: SecretRef,
        /// Why not.
        #[source]
        source: Box<SecretError>,
    },
    /// The file is there and holds no identity.
    #[error("{reference} is not usable as age identity")]
    Identity {
        /// Where it is.
        reference: SecretRef,
        /// Why not.
        #[source]
        source: SealError,
    },
    /// The file is there and holds no signing key.
    #[error("{reference} is not usable as signing key")]
    Signing {
        /// Where it is.
        reference: SecretRef,
        /// Why not.
        #[source]
        source: MinisignError,
    },
    /// A recipient of the job is none.
    #[error("the job's recipients are not usable")]
    Recipients(#[source] SealError),
    /// A key file is missing, and only a `file:` reference can be created.
    #[error("the key {reference} does not exist, and only a file: reference is created by init")]
    NotAFile {
        /// Where it should be.
        reference: SecretRef,
    },
    /// A key file could not be created.
    #[error("cannot create the key file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A key that is no file cannot be replaced.
    #[error("{reference} is no file that could be replaced: name a new file for the new identity")]
    NotReplaceable {
        /// The identity at hand.
        reference: SecretRef,
    },
    /// Two places for one identity.
    #[error("the identity is the file {}: it is replaced, and needs no other file", path.display())]
    IsAFile {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes")]
    Random(#[source] getrandom::Error),
}

/// What opens and checks.
pub struct OpenKeys {
    /// Opens catalogs and volumes.
    pub identity: Identity,
    /// Who may open the catalogs that are sealed from now on.
    pub recipients: Recipients,
    /// Who may open the volumes; in sealed mode the host is not among them.
    pub content: Recipients,
    /// The pinned public key.
    pub public: PublicKey,
}

/// The references of a job for this path.
pub struct KeyRefs<'a> {
    /// The age identity.
    pub identity: &'a SecretRef,
    /// The signing key.
    pub signing_key: &'a SecretRef,
    /// The pinned public key.
    pub signing_public: Option<&'a str>,
    /// Further recipients.
    pub recipients: &'a [String],
    /// Whether volumes are sealed to those only.
    pub sealed: bool,
}

impl<'a> KeyRefs<'a> {
    /// Out of a job.
    pub fn of(keys: &'a Keys) -> Result<Self, KeyError> {
        match keys {
            Keys::Archive { identity, signing_key, signing_public, recipients, sealed } => {
                let signing_public = signing_public.as_deref();
                Ok(Self { identity, signing_key, signing_public, recipients, sealed: *sealed })
            }
            Keys::Block { .. } => Err(KeyError::OtherMechanism),
        }
    }

    /// The pinned public key; `None` when nothing is pinned yet.
    pub fn pinned(&self) -> Result<Option<PublicKey>, KeyError> {
        self.signing_public.map(|text| PublicKey::parse(text).map_err(KeyError::Pinned)).transpose()
    }

    /// Everything that reading needs. The signing key is not touched.
    pub async fn open(&self) -> Result<OpenKeys, KeyError> {
        let public = self.pinned()?.ok_or(KeyError::NotPinned)?;
        let identity = self.identity().await?;
        let recipients = Recipients::new(&identity, self.recipients).map_err(KeyError::Recipients)?;
        let content = if self.sealed {
            Recipients::only(self.recipients).map_err(KeyError::Recipients)?
        } else {
            recipients.clone()
        };
        Ok(OpenKeys { identity, recipients, content, public })
    }

    /// The age identity.
    pub async fn identity(&self) -> Result<Identity, KeyError> {
        let text = text_of(self.identity).await?;
        Identity::parse(&text).map_err(|source| KeyError::Identity { reference: self.identity.clone(), source })
    }

    /// The signing key, which must be the pinned one where one is pinned.
    pub async fn signer(&self) -> Result<SecretKey, KeyError> {
        let reference = || self.signing_key.clone();
        let text = text_of(self.signing_key).await?;
        let secret = SecretKey::parse(&text).map_err(|source| KeyError::Signing { reference: reference(), source })?;
        match self.pinned()? {
            Some(pinned) if pinned != secret.public() => Err(KeyError::OtherSigner {
                reference: reference(),
                found: secret.public().to_text(),
                pinned: pinned.to_text(),
            }),
            _ => Ok(secret),
        }
    }

    /// Creates the key files that are missing, and names them. What exists stays as it is.
    pub fn create_missing(&self, now: Timestamp) -> Result<Vec<String>, KeyError> {
        let mut created = Vec::new();
        if is_missing(self.identity) {
            create(self.identity, &Identity::generate().to_file(&now.to_string()))?;
            created.push(self.identity.to_string());
        }
        if is_missing(self.signing_key) {
            let mut random = Zeroizing::new([0; 40]);
            getrandom::fill(&mut random[..]).map_err(KeyError::Random)?;
            create(self.signing_key, &SecretKey::from_random(&random).to_file())?;
            created.push(self.signing_key.to_string());
        }
        Ok(created)
    }

    /// Puts a new identity in front of those at hand, and gives the file that holds them all.
    ///
    /// The new file is written beside the old one, synced and renamed over it: a crash leaves one or the other, and
    /// each opens everything. A draft of a try that was cut off sealed nothing, and is drawn anew.
    pub async fn rotate(&self, to: Option<&Path>, now: Timestamp) -> Result<PathBuf, KeyError> {
        let before = text_of(self.identity).await?;
        let new = Identity::generate().to_file(&now.to_string());
        let text = Zeroizing::new(format!("{}\n# before:\n{}", *new, before.trim_start()));
        Identity::parse(&text).map_err(|source| KeyError::Identity { reference: self.identity.clone(), source })?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeyError::Create { path: path.clone(), source }
        };
        match (self.identity, to) {
            (SecretRef::File(path), None) => {
                let path = path.canonicalize().map_err(failed(path))?;
                replace(&path, &text).map_err(failed(&path))?;
                Ok(path)
            }
            (SecretRef::File(path), Some(_)) => Err(KeyError::IsAFile { path: path.clone() }),
            (_, Some(to)) => {
                write_new(to, &text).map_err(failed(to))?;
                Ok(to.to_owned())
            }
            (reference, None) => Err(KeyError::NotReplaceable { reference: reference.clone() }),
        }
    }

    /// Key files that a repository needs and that are not there.
    pub fn missing(&self) -> Vec<&SecretRef> {
        [self.identity, self.signing_key].into_iter().filter(|reference| is_missing(reference)).collect()
    }
}

/// Only of a file can be told that it is missing; everything else is asked when it is needed.
fn is_missing(reference: &SecretRef) -> bool {
    matches!(reference, SecretRef::File(path) if matches!(path.try_exists(), Ok(false)))
}

async fn text_of(reference: &SecretRef) -> Result<Zeroizing<String>, KeyError> {
    let secret = resolve_secret(reference)
        .await
        .map_err(|source| KeyError::Secret { reference: reference.clone(), source: Box::new(source) })?;
    Ok(Zeroizing::new(String::from_utf8_lossy(secret.expose_secret()).into_owned()))
}

/// The file and its folder are synced: a power cut must not leave a repository without its key.
fn create(reference: &SecretRef, content: &str) -> Result<(), KeyError> {
    let SecretRef::File(path) = reference else {
        return Err(KeyError::NotAFile { reference: reference.clone() });
    };
    write_new(path, content).map_err(|source| KeyError::Create { path: path.clone(), source })
}

/// In the place of the file at `path`, with its owner.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    write_new(&draft, content)?;
    let (old, new) = (path.metadata()?, draft.metadata()?);
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(&draft, Some(old.uid()), Some(old.gid()))?;
    }
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn keys(folder: &Path) -> Keys {
        Keys::Archive {
            identity: SecretRef::File(folder.join("age")),
            signing_key: SecretRef::File(folder.join("sign")),
            signing_public: None,
            recipients: Vec::new(),
            sealed: false,
        }
    }

    #[tokio::test]
    async fn keys_are_created_once_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        let refs = KeyRefs::of(&keys).unwrap();
        assert_eq!(refs.create_missing(Timestamp::from_seconds(0)).unwrap().len(), 2);
        let first = (refs.identity().await.unwrap().recipient(), refs.signer().await.unwrap().public());
        for name in ["age", "sign"] {
            assert_eq!(std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(refs.create_missing(Timestamp::from_seconds(0)).unwrap().is_empty());
        assert_eq!((refs.identity().await.unwrap().recipient(), refs.signer().await.unwrap().public()), first);
    }

    #[tokio::test]
    async fn a_rotation_puts_a_new_identity_in_front_and_loses_none() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        let refs = KeyRefs::of(&keys).unwrap();
        refs.create_missing(Timestamp::from_seconds(0)).unwrap();
        let first = refs.identity().await.unwrap().recipients();
        // What a try left that was cut off.
        std::fs::write(folder.path().join("age.new"), "half a fi").unwrap();
        refs.rotate(None, Timestamp::from_seconds(5)).await.unwrap();
        refs.rotate(None, Timestamp::from_seconds(9)).await.unwrap();
        let now = refs.identity().await.unwrap().recipients();
        assert_eq!((now.len(), &now[2..]), (3, &first[..]));
        assert_eq!(std::fs::metadata(folder.path().join("age")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no draft stays");
        let other = Path::new("/new");
        assert!(matches!(refs.rotate(Some(other), Timestamp::from_seconds(9)).await, Err(KeyError::IsAFile { .. })));

        let command = format!("command:cat {}", folder.path().join("age").display()).parse().unwrap();
        let refs = KeyRefs { identity: &command, ..refs };
        let error = refs.rotate(None, Timestamp::from_seconds(9)).await.unwrap_err();
        assert!(matches!(error, KeyError::NotReplaceable { .. }));
        let to = folder.path().join("new");
        assert_eq!(refs.rotate(Some(&to), Timestamp::from_seconds(9)).await.unwrap(), to);
        let written = Identity::parse(&std::fs::read_to_string(&to).unwrap()).unwrap().recipients();
        assert_eq!(&written[1..], &now[..]);
        assert!(refs.rotate(Some(&to), Timestamp::from_seconds(9)).await.is_err(), "what is there stays");
    }

    #[tokio::test]
    async fn a_signing_key_that_is_not_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = keys(folder.path());
        KeyRefs::of(&keys).unwrap().create_missing(Timestamp::from_seconds(0)).unwrap();
        let Keys::Archive { signing_public, .. } = &mut keys else { unreachable!() };
        *signing_public = Some(SecretKey::from_random(&Zeroizing::new([9; 40])).public().to_text());
        assert!(matches!(KeyRefs::of(&keys).unwrap().signer().await, Err(KeyError::OtherSigner { .. })));
    }

    #[tokio::test]
    async fn nothing_is_read_without_a_pinned_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        assert!(matches!(KeyRefs::of(&keys).unwrap().open().await, Err(KeyError::NotPinned)));
        assert_eq!(KeyRefs::of(&keys).unwrap().missing().len(), 2);
    }
}
