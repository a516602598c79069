//! An opened repository: the store, the keys that fit it, and what `repo.json` says.
//!
//! Opening takes two requests, and one more for each rotation; it proves that the key is the right one and that
//! `repo.json` and the key slots are what was written. Every request of a verb goes through here and is counted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use dualsync_block_store::contract::{Key, ObjectLock, Store, StoreError};
use dualsync_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::digest::Sha256;
use crate::document;
use crate::fetch::{ObjectError, Problem};
use crate::format::VERSION;
use crate::keys::{KeyId, KeyTree, RepositoryKey};
use crate::secret::Secret;
use crate::shadow;
use crate::unlock::{Unlocked, successor, unlock, unlock_with};

/// What `repo.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoInfo {
    /// For people: what this is.
    pub format: String,
    /// [`VERSION`].
    pub version: u16,
    /// The repository's id.
    pub id: String,
    /// Bytes of a block, of every point.
    pub block_bytes: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Digest of `README.txt`.
    pub readme_sha256: Sha256,
    /// Digest of `recover.py`.
    pub recover_sha256: Sha256,
}

/// Why a repository does not open.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// There is none.
    #[error("there is no block repository at {place}")]
    Missing {
        /// The store, in words.
        place: String,
    },
    /// The key is another one.
    #[error("key {key_id} does not open the repository at {place}: it has no slot for this key")]
    WrongKey {
        /// The key at hand.
        key_id: KeyId,
        /// The store, in words.
        place: String,
    },
    /// The key was good until another came in its place.
    #[error("key {key_id} was rotated: new copies in the repository at {place} are sealed with key {by}")]
    Rotated {
        /// The key at hand.
        key_id: KeyId,
        /// The key that came in its place.
        by: KeyId,
        /// The store, in words.
        place: String,
    },
    /// No slot opens with it.
    #[error("no slot of the repository at {place} opens with this passphrase or slot key")]
    NoSlot {
        /// The store, in words.
        place: String,
    },
    /// A retention key, and the repository key is needed.
    #[error("the retention key {slot} opens manifests only: this needs the repository key")]
    ManifestsOnly {
        /// Its slot.
        slot: KeyId,
    },
    /// A retention key whose slot is gone.
    #[error("the retention key {slot} is no key of the repository at {place}, or was removed")]
    Removed {
        /// Its slot.
        slot: KeyId,
        /// The store, in words.
        place: String,
    },
    /// Written by a later dualsync.
    #[error("the repository at {place} has format version {version}, this program reads version {VERSION}")]
    UnknownVersion {
        /// The store, in words.
        place: String,
        /// Its version.
        version: u16,
    },
    /// `repo.json` or the key slot is wrong.
    #[error("the repository's description is damaged")]
    Damaged(#[source] ObjectError),
    /// The store does not answer.
    #[error("cannot open the repository")]
    Store(#[from] StoreError),
}

/// Bytes that went each way.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    fetched: AtomicU64,
}

impl Traffic {
    /// Bytes of bodies sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of bodies fetched.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }
}

/// An opened repository.
#[derive(Debug)]
pub struct Repository {
    store: Arc<dyn Store>,
    target: String,
    keys: KeyTree,
    info: RepoInfo,
    repo_sha256: Sha256,
    recover_sha256: Sha256,
    slot_places: Vec<Key>,
    cache: Cache,
    traffic: Traffic,
    /// Whether manifests are looked for under delete markers and newer versions.
    looks_under: AtomicBool,
}

impl Repository {
    /// Opens the repository in `store`, called `target` in messages; `state` holds its caches.
    pub async fn open(
        store: Arc<dyn Store>,
        target: &str,
        key: &RepositoryKey,
        state: &Path,
    ) -> Result<Self, RepositoryError> {
        let unlocked = unlock(&*store, key).await?;
        Ok(Self::of(store, target, unlocked, state))
    }

    /// The same with whatever a key file holds.
    pub async fn open_with(
        store: Arc<dyn Store>,
        target: &str,
        secret: &Secret,
        state: &Path,
    ) -> Result<Self, RepositoryError> {
        let unlocked = unlock_with(&*store, secret).await?;
        Ok(Self::of(store, target, unlocked, state))
    }

    fn of(store: Arc<dyn Store>, target: &str, unlocked: Unlocked, state: &Path) -> Self {
        let (recover_sha256, slot_places) = (unlocked.recover_sha256(), unlocked.slot_places());
        let Unlocked { keys, info, repo_sha256, fetched_bytes, .. } = unlocked;
        let traffic = Traffic::default();
        traffic.fetched.store(fetched_bytes, Ordering::Relaxed);
        let cache = Cache::new(state);
        let target = target.to_owned();
        let looks_under = AtomicBool::new(false);
        Self { store, target, keys, info, repo_sha256, recover_sha256, slot_places, cache, traffic, looks_under }
    }

    /// The same, in a bucket that locks: what somebody hid there is still there, and is looked for.
    #[must_use]
    pub fn looking_under(self, looks_under: bool) -> Self {
        Self { looks_under: AtomicBool::new(looks_under), ..self }
    }

    /// Whether manifests are looked for under delete markers and newer versions.
    pub fn looks_under(&self) -> bool {
        self.looks_under.load(Ordering::Relaxed)
    }

    /// They are not any more: the store does not tell.
    pub fn look_under_no_more(&self) {
        self.looks_under.store(false, Ordering::Relaxed);
    }

    /// The keys that fit it, the one at hand and those before it.
    pub fn keys(&self) -> &KeyTree {
        &self.keys
    }

    /// What `repo.json` says.
    pub fn info(&self) -> &RepoInfo {
        &self.info
    }

    /// Digest of `repo.json`.
    pub fn repo_sha256(&self) -> Sha256 {
        self.repo_sha256
    }

    /// Every place where a slot of these keys should lie.
    pub fn slot_places(&self) -> &[Key] {
        &self.slot_places
    }

    /// Digest of the newest `recover.py`: the repository's own, or one that a rotation put beside it.
    pub fn recover_sha256(&self) -> Sha256 {
        self.recover_sha256
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        self.info.block_bytes as usize
    }

    /// The target's name in the configuration.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Copies of metadata.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The store itself: listings, its clock, its counts.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Bytes that went each way.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// A whole object.
    pub async fn get(&self, key: &Key) -> Result<Bytes, ObjectError> {
        let bytes = self.store.get(key).await.map_err(|error| ObjectError::new(key.clone(), error))?;
        self.traffic.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// A whole object that must have this digest: from the cache when it is there, from an older version when the latest is gone
    /// or wrong.
    pub async fn get_cached(&self, key: &Key, sha256: &Sha256) -> Result<Bytes, ObjectError> {
        if let Some(bytes) = self.cache.get(sha256) {
            return Ok(bytes);
        }
        let problem = match self.get(key).await {
            Ok(bytes) if Sha256::of(&bytes) == *sha256 => {
                self.cache.put(sha256, &bytes);
                return Ok(bytes);
            }
            Ok(_) => ObjectError::new(key.clone(), Problem::Digest),
            Err(error) if error.is_answer() => error,
            Err(error) => return Err(error),
        };
        shadow::good_version(&*self.store, key, sha256).await.ok_or(problem)
    }

    /// The whole of one version.
    pub async fn get_version(&self, key: &Key, id: &str) -> Result<Bytes, ObjectError> {
        let bytes = self.store.get_version(key, id).await.map_err(|error| ObjectError::new(key.clone(), error))?;
        self.traffic.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// A part of an object.
    pub async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let bytes =
            self.store.get_range(key, offset, length).await.map_err(|error| ObjectError::new(key.clone(), error))?;
        self.traffic.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Stores an object whose digest is known.
    pub async fn put(&self, key: &Key, body: Bytes, sha256: Sha256) -> Result<(), StoreError> {
        let bytes = body.len() as u64;
        self.store.put(key, body, sha256.0).await?;
        self.traffic.sent.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The same under a lock.
    pub async fn put_locked(&self, key: &Key, body: Bytes, sha256: Sha256, lock: ObjectLock) -> Result<(), StoreError> {
        let bytes = body.len() as u64;
        self.store.put_locked(key, body, sha256.0, lock).await?;
        self.traffic.sent.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Refuses a key that another one replaced: what it sealed from now on would be as old as a lost key.
    /// Reading goes on with it.
    pub async fn require_newest_key(&self) -> Result<(), RepositoryError> {
        match successor(&*self.store, &self.keys).await? {
            None => Ok(()),
            Some(by) => Err(RepositoryError::Rotated { key_id: self.keys.key_id(), by, place: self.store.describe() }),
        }
    }

    /// Stores a document with its MAC.
    pub async fn put_document<T: Serialize>(&self, key: &Key, value: &T) -> Result<Bytes, StoreError> {
        let bytes = Bytes::from(document::encode(value, &self.keys.mac_key(), key.as_str()));
        self.put(key, bytes.clone(), Sha256::of(&bytes)).await?;
        Ok(bytes)
    }
}
