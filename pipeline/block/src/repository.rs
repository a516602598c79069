//! An opened repository: the store, the keys that fit it, and what `repo.json` says.
//!
//! Opening takes two requests and proves that the key is the right one and that `repo.json` and the
//! key slot are what was written. A wrong key, a missing repository, an unknown version and damage
//! are four different answers. Every request of a verb goes through here and is counted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock, Store, StoreError};
use dualsync_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::digest::Sha256;
use crate::document::{self, Unproven};
use crate::fetch::{ObjectError, Problem};
use crate::format::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, VERSION};
use crate::keys::{KeyId, KeyTree, RepositoryId, RepositoryKey};
use crate::names;

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

/// A key slot, `keys/<id>.json`: who can open the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// [`VERSION`].
    pub version: u16,
    /// `raw`: the key file is the repository key. `retention` (K_manifest wrapped for a prune
    /// host) and `passphrase` are reserved.
    pub kind: String,
    /// The key.
    pub key_id: String,
    /// The repository.
    pub repository: String,
    /// Key epoch; 0 while content keys come from the repository key.
    pub epoch: u32,
}

impl KeySlot {
    /// The slot in `bytes`, proved to be written at `key` by a holder of these keys.
    pub fn prove(bytes: &[u8], key: &Key, keys: &KeyTree) -> Result<Self, ObjectError> {
        let slot = Unproven::parse(bytes).and_then(|slot| slot.prove(&keys.mac_key(), key.as_str()));
        slot.map_err(|error| ObjectError::new(key.clone(), error))
    }
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
    cache: Cache,
    traffic: Traffic,
}

impl Repository {
    /// Opens the repository in `store`, called `target` in messages; `state` holds its caches.
    pub async fn open(
        store: Arc<dyn Store>,
        target: &str,
        key: &RepositoryKey,
        state: &Path,
    ) -> Result<Self, RepositoryError> {
        let repo_key = names::fixed(names::REPO);
        let place = store.describe();
        let bytes = match store.get(&repo_key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(RepositoryError::Missing { place }),
            other => other?,
        };
        let damaged = |problem: Problem| RepositoryError::Damaged(ObjectError::new(names::fixed(names::REPO), problem));
        let unproven = Unproven::parse(&bytes).map_err(|error| damaged(error.into()))?;
        let claimed: RepoInfo = unproven.claim().map_err(|error| damaged(error.into()))?;
        if claimed.version != VERSION {
            return Err(RepositoryError::UnknownVersion { place, version: claimed.version });
        }
        let id = RepositoryId::from_text(&claimed.id).ok_or_else(|| damaged(Problem::Digest))?;
        let keys = KeyTree::new(key, id);
        let slot_key = names::key_slot(keys.key_id());
        // The MAC of `repo.json` proves a raw key alone. Only where it does not fit is the slot asked
        // whether the key is another one or `repo.json` was changed.
        let proved = unproven.prove::<RepoInfo>(&keys.mac_key(), names::REPO);
        let slot = match (store.get(&slot_key).await, proved.is_ok()) {
            (Err(error), false) if error.kind() == ErrorKind::NotFound => {
                return Err(RepositoryError::WrongKey { key_id: keys.key_id(), place });
            }
            (Err(error), true) if error.kind() == ErrorKind::NotFound => {
                return Err(RepositoryError::Damaged(ObjectError::new(slot_key, error)));
            }
            (slot, _) => slot?,
        };
        let info = proved.map_err(|error| damaged(error.into()))?;
        KeySlot::prove(&slot, &slot_key, &keys).map_err(RepositoryError::Damaged)?;
        let fits =
            info.block_bytes.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&info.block_bytes);
        if !fits {
            return Err(damaged(Problem::TooLong));
        }
        let traffic = Traffic::default();
        traffic.fetched.store((bytes.len() + slot.len()) as u64, Ordering::Relaxed);
        let repo_sha256 = Sha256::of(&bytes);
        Ok(Self { store, target: target.to_owned(), keys, info, repo_sha256, cache: Cache::new(state), traffic })
    }

    /// The keys that fit it.
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

    /// A whole object that must have this digest; from the cache when it is there.
    pub async fn get_cached(&self, key: &Key, sha256: &Sha256) -> Result<Bytes, ObjectError> {
        if let Some(bytes) = self.cache.get(sha256) {
            return Ok(bytes);
        }
        let bytes = self.get(key).await?;
        if Sha256::of(&bytes) != *sha256 {
            return Err(ObjectError::new(key.clone(), Problem::Digest));
        }
        self.cache.put(sha256, &bytes);
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

    /// Stores a document with its MAC.
    pub async fn put_document<T: Serialize>(&self, key: &Key, value: &T) -> Result<Bytes, StoreError> {
        let bytes = Bytes::from(document::encode(value, &self.keys.mac_key(), key.as_str()));
        self.put(key, bytes.clone(), Sha256::of(&bytes)).await?;
        Ok(bytes)
    }
}
