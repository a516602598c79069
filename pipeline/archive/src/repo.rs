//! One repository: what it says of itself, and the keys that open it.
//!
//! Promises that a repository which opened is the one whose signing key the job pins, and that one which
//! was unlocked is the one whose identity the job holds. Nothing that decides is taken from the bucket:
//! recipients and keys come from the job.

use std::ops::Deref;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use dualsync_model::id::PointId;
use dualsync_model::time::Timestamp;

use crate::digest::Digest;
use crate::format::{FORMAT, MANIFEST_BYTES_MAX, POINTS, README_KEY, RECOVER_KEY, REPO_KEY, VERSION};
use crate::keys::{KeyError, KeyRefs, OpenKeys};
use crate::manifest::{Content, Manifest};
use crate::minisign::{MinisignError, PublicKey, SecretKey};
use crate::objects::{ObjectError, Objects};
use crate::record::{self, RecordError};
use crate::seal::{Identity, Recipients};

/// What stands in the repository as `README.txt`.
pub const README: &[u8] = include_bytes!("repo/README.txt");
/// What stands in the repository as `recover.py`.
pub const RECOVER: &[u8] = include_bytes!("repo/recover.py");

/// `repo.json` of version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// 16 random bytes in hex.
    pub id: String,
    /// When `init` made it.
    pub created_at: Timestamp,
    /// The age recipient of the host's first identity: tells a wrong identity file from damage. Later ones come in
    /// its place without a word here, and their files hold it as well.
    pub recipient: String,
    /// The minisign public key: tells a wrong pin from damage. Never trusted as such.
    pub signing_public: String,
    /// SHA-256 of `README.txt`.
    pub readme: Digest,
    /// SHA-256 of `recover.py`.
    pub recover: Digest,
}

/// An open repository: what needs the pinned public key and no key to content.
#[derive(Clone)]
pub struct Repository {
    /// Its objects.
    pub objects: Objects,
    /// What it says of itself.
    pub description: Description,
    /// SHA-256 of `repo.json`.
    pub description_sha256: Digest,
    /// The pinned public key.
    pub public: PublicKey,
    /// Name of the target, for findings.
    pub target: String,
}

/// A repository with the keys to what is in it.
pub struct Unlocked {
    /// The repository.
    pub repository: Repository,
    /// Opens catalogs and volumes.
    pub identity: Identity,
    /// Who may open the catalogs that are sealed from now on.
    pub recipients: Recipients,
    /// Who may open the volumes.
    pub content: Recipients,
}

impl Deref for Unlocked {
    type Target = Repository;

    fn deref(&self) -> &Repository {
        &self.repository
    }
}

/// Why a repository does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no archive repository at {place}")]
    Missing {
        /// The store in words.
        place: String,
    },
    /// The keys of the job cannot be had.
    #[error(transparent)]
    Keys(Box<KeyError>),
    /// The identity is another one.
    #[error("the identity of the job is {found}, and the repository was made for {wanted}")]
    OtherIdentity {
        /// Public half of the job's identity.
        found: String,
        /// What the repository says.
        wanted: String,
    },
    /// The content of a point is sealed to somebody else.
    #[error(
        "the content of {point} is sealed to {needed}, and the identity at hand is {found}: this host may write it and not read it"
    )]
    Sealed {
        /// The point.
        point: PointId,
        /// Public halves of the job's identities.
        found: String,
        /// Who can open it.
        needed: String,
    },
    /// The pinned key is another one.
    #[error("the repository was made with the signing key {found}, and {pinned} is pinned")]
    OtherSigner {
        /// What the repository says.
        found: String,
        /// What is pinned.
        pinned: String,
    },
    /// `repo.json` is damaged, forged, or of another version.
    #[error(transparent)]
    Description(#[from] RecordError),
    /// It cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Another text lies where `init` puts one of its own.
    #[error(
        "{key} at {place} is not the one of this program (its SHA-256 is {found}): look who put it there, and take it away before `dualsync init`"
    )]
    Stranger {
        /// The text.
        key: &'static str,
        /// The store in words.
        place: String,
        /// What its bytes give.
        found: Digest,
    },
    /// Points without the description of their repository.
    #[error(
        "there are points at {place}, and their {REPO_KEY} is gone: put it back from a copy of the bucket; a new one would make strangers of all of them"
    )]
    Orphaned {
        /// The store in words.
        place: String,
    },
    /// Key files of an existing repository are gone.
    #[error(
        "the repository at {place} exists, and its key file {key} is missing: bring it back from the recovery sheet or a backup of this host; a new key would open nothing that is stored"
    )]
    LostKey {
        /// The store in words.
        place: String,
        /// The key.
        key: String,
    },
}

impl From<KeyError> for OpenError {
    fn from(error: KeyError) -> Self {
        Self::Keys(Box::new(error))
    }
}

/// What `init` leaves behind.
pub struct Initialised {
    /// The repository, open.
    pub repository: Unlocked,
    /// Whether it was created just now.
    pub created: bool,
    /// Key files that were.
    pub keys_created: Vec<String>,
}

impl Repository {
    /// Opens the repository in `objects` with the pinned public key alone, by one request.
    pub async fn open(objects: Objects, target: &str, keys: &KeyRefs<'_>) -> Result<Self, OpenError> {
        let public = keys.pinned()?.ok_or(KeyError::NotPinned)?;
        let (bytes, description) = description(&objects, &public).await?;
        let description_sha256 = Digest::of(&bytes);
        Ok(Self { objects, description, description_sha256, public, target: target.to_owned() })
    }

    /// Creates what is missing and changes nothing that exists.
    ///
    /// Order: keys on disk, then `README.txt` and `recover.py`, then `repo.json`, which alone makes the
    /// repository exist. Whatever stops it half-way, the next `init` goes on: the keys are there already,
    /// and so are the two texts. A text that differs is refused: its digest would be signed and go on the
    /// recovery sheet, and somebody would run it. Where two hosts do this at once, both read back
    /// what is there in the end, and the one whose key is not in it is refused.
    pub async fn init(
        objects: Objects,
        target: &str,
        keys: &KeyRefs<'_>,
        now: Timestamp,
    ) -> Result<Initialised, OpenError> {
        if description_bytes(&objects).await?.is_some() || hides(&objects, REPO_KEY).await? {
            return Self::look(objects, target, keys).await;
        }
        if !objects.list(POINTS).await?.is_empty() || hides(&objects, POINTS).await? {
            return Err(OpenError::Orphaned { place: objects.store().describe() });
        }
        let keys_created = keys.create_missing(now)?;
        let secret = keys.signer().await?;
        let identity = keys.identity().await?;
        let readme = put_once(&objects, README_KEY, README).await?;
        let recover = put_once(&objects, RECOVER_KEY, RECOVER).await?;
        let description = Description {
            format: FORMAT.to_owned(),
            version: VERSION,
            id: random_id()?,
            created_at: now,
            recipient: identity.recipient().to_string(),
            signing_public: secret.public().to_text(),
            readme,
            recover,
        };
        objects.put(REPO_KEY, Bytes::from(record::write(REPO_KEY, &description, &secret))).await?;
        let signing_public = secret.public().to_text();
        let keys = KeyRefs { signing_public: Some(&signing_public), ..*keys };
        let repository = Unlocked::open(objects, target, &keys).await?;
        let created = repository.description.id == description.id;
        Ok(Initialised { repository, created, keys_created })
    }

    /// Opens what is there with the keys that are there; what is missing is an error.
    pub async fn look(objects: Objects, target: &str, keys: &KeyRefs<'_>) -> Result<Initialised, OpenError> {
        if let Some(key) = keys.missing().first() {
            return Err(OpenError::LostKey { place: objects.store().describe(), key: key.to_string() });
        }
        let signing_public = keys.signer().await?.public().to_text();
        let keys = KeyRefs { signing_public: Some(keys.signing_public.unwrap_or(&signing_public)), ..*keys };
        let repository = Unlocked::open(objects, target, &keys).await?;
        Ok(Initialised { repository, created: false, keys_created: Vec::new() })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.description.id
    }

    /// The record found under `key`, if it is one of this repository.
    pub fn record<T: DeserializeOwned>(&self, key: &str, bytes: &[u8]) -> Result<T, RecordError> {
        record::open_in(self.id(), key, bytes, &self.public)
    }
}

impl Unlocked {
    /// Opens the repository in `objects` with the job's keys, by one request.
    pub async fn open(objects: Objects, target: &str, keys: &KeyRefs<'_>) -> Result<Self, OpenError> {
        let unlocked = Self::open_to_read(objects, target, keys).await?;
        unlocked.require_one_of(&[])?;
        Ok(unlocked)
    }

    /// The same with any identity, to read: a point that the identity opens says so itself, see
    /// [`Unlocked::require_opener`].
    pub async fn open_to_read(objects: Objects, target: &str, keys: &KeyRefs<'_>) -> Result<Self, OpenError> {
        // Wrong keys are told before the store is asked anything.
        let open = keys.open().await?;
        let repository = Repository::open(objects, target, keys).await?;
        let OpenKeys { identity, recipients, content, .. } = open;
        Ok(Self { repository, identity, recipients, content })
    }

    /// Refuses identities that cannot open the content of a point, as its signed manifest tells: a sentence about the
    /// key, in place of one about damage.
    pub fn require_opener(&self, manifest: &Manifest) -> Result<(), OpenError> {
        let own = self.identity.recipients();
        match manifest.content.iter().find(|content| !content.to.iter().any(|to| own.contains(to))) {
            Some(Content { to, .. }) => {
                Err(OpenError::Sealed { point: manifest.point.clone(), found: own.join(", "), needed: to.join(" or ") })
            }
            None => self.require_one_of(&manifest.recipients),
        }
    }

    fn require_one_of(&self, openers: &[String]) -> Result<(), OpenError> {
        let found = self.identity.recipients();
        if found.iter().any(|one| *one == self.description.recipient || openers.contains(one)) {
            return Ok(());
        }
        Err(OpenError::OtherIdentity { found: found.join(", "), wanted: self.description.recipient.clone() })
    }
}

/// What is on top, or an older version where somebody has hidden the one that the pinned key has signed.
async fn description(objects: &Objects, public: &PublicKey) -> Result<(Bytes, Description), OpenError> {
    let on_top = match description_bytes(objects).await {
        Ok(Some(bytes)) => read_description(&bytes, public).map(|description| (bytes, description)),
        Ok(None) => Err(OpenError::Missing { place: objects.store().describe() }),
        Err(error) => Err(error),
    };
    let is_wrong = match &on_top {
        Ok(_) => false,
        Err(OpenError::Object(error)) => error.finding().is_some(),
        Err(_) => true,
    };
    if !is_wrong {
        return on_top;
    }
    let fits = |bytes: u64| bytes <= MANIFEST_BYTES_MAX;
    let older = objects.older_that(REPO_KEY, fits, |bytes| read_description(bytes, public).is_ok()).await?;
    match older {
        Some(bytes) => read_description(&bytes, public).map(|description| (bytes, description)),
        None => on_top,
    }
}

/// Whether delete markers hide anything below `prefix` in a bucket that is to lock: whoever put them there must not have a second
/// repository made over the first.
async fn hides(objects: &Objects, prefix: &str) -> Result<bool, ObjectError> {
    Ok(objects.looks_below() && !objects.list_hidden(prefix).await?.is_empty())
}

async fn description_bytes(objects: &Objects) -> Result<Option<Bytes>, OpenError> {
    match objects.get(REPO_KEY, MANIFEST_BYTES_MAX).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ObjectError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_description(bytes: &[u8], public: &PublicKey) -> Result<Description, OpenError> {
    record::open(REPO_KEY, bytes, public).map_err(|error| match (&error, record::peek::<Description>(bytes)) {
        (RecordError::Signature { source: MinisignError::OtherKey { .. }, .. }, Some(said)) => {
            OpenError::OtherSigner { found: said.signing_public, pinned: public.to_text() }
        }
        _ => error.into(),
    })
}

/// Puts a text of the repository unless it lies there already; gives its digest.
async fn put_once(objects: &Objects, key: &'static str, bytes: &'static [u8]) -> Result<Digest, OpenError> {
    let ours = Digest::of(bytes);
    match objects.get(key, MANIFEST_BYTES_MAX).await {
        Ok(found) if Digest::of(&found) == ours => Ok(ours),
        Ok(found) => Err(OpenError::Stranger { key, place: objects.store().describe(), found: Digest::of(&found) }),
        Err(ObjectError::Missing { .. }) => Ok(objects.put(key, Bytes::from_static(bytes)).await?.sha256),
        Err(error) => Err(error.into()),
    }
}

fn random_id() -> Result<String, KeyError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(KeyError::Random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

/// The signing key of the job, for what only a backup or `init` does.
pub async fn signer(keys: &KeyRefs<'_>) -> Result<SecretKey, OpenError> {
    Ok(keys.signer().await?)
}
