//! The store as the rest of this path sees it: keys of the format, lengths that are bounded, digests that are checked.
//!
//! Promises that bytes which should have a digest are handed on only if they have it. Tells three
//! things apart that must not be mixed up: the store failed, the object is missing, the object is wrong.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use dualsync_archive_store::contract::{
    ErrorKind, Key, KeyError, Lock, ObjectInfo, Purged, Receipt, Store, StoreError, Version,
};
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;

use crate::digest::Digest;
use crate::format::{CATALOGS, POINTS, RUNS, VOLUMES};
use crate::manifest::Stored;

/// Why an object cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The store did not do as it was asked.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// A key that no store takes, out of a damaged list.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is not there.
    #[error("{key} is missing")]
    Missing {
        /// Its key.
        key: String,
    },
    /// It has another length than it should.
    #[error("{key} has {found} bytes instead of {wanted}")]
    Length {
        /// Its key.
        key: String,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have, or the most it may have.
        wanted: u64,
    },
    /// It has other bytes than it should.
    #[error("{key} does not have the bytes it was stored with (its SHA-256 is {found})")]
    Digest {
        /// Its key.
        key: String,
        /// What its bytes give.
        found: Digest,
    },
}

impl From<StoreError> for ObjectError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl ObjectError {
    /// The word of a finding, when the object and not the store is at fault.
    pub fn finding(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => Some("missing"),
            Self::Length { found, wanted, .. } if found < wanted => Some("truncated"),
            Self::Length { .. } | Self::Digest { .. } => Some("digest"),
            Self::Key(_) => Some("unexpected"),
            Self::Store(_) => None,
        }
    }
}

/// The time that ages are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Now.
    pub now: Timestamp,
    /// Whether a store said so; else it is the job's time, and times of objects decide nothing.
    pub is_stores: bool,
}

impl Clock {
    /// Two clocks that differ by more cannot both be trusted, seconds.
    pub const APART_MAX_S: i64 = 600;

    /// Seconds since `time`; negative for the future.
    pub fn age(self, time: Timestamp) -> i64 {
        self.now.seconds_since(time)
    }
}

/// The objects of one repository.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn Store>,
    fetched_bytes: Arc<AtomicU64>,
    sent_bytes: Arc<AtomicU64>,
    keeps_versions: Arc<AtomicBool>,
    lock: Option<Lock>,
    pub(crate) notes: Arc<Notes>,
}

/// What [`crate::shadow`] works with.
#[derive(Default)]
pub(crate) struct Notes {
    /// Keys of objects of which an older version was read.
    pub(crate) shadowed: Mutex<BTreeSet<String>>,
    /// Whether listings of points look below delete markers.
    pub(crate) looks_below: AtomicBool,
}

impl Objects {
    /// Over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            fetched_bytes: Arc::default(),
            sent_bytes: Arc::default(),
            keeps_versions: Arc::default(),
            lock: None,
            notes: Arc::default(),
        }
    }

    /// The same; each object of a point is locked right after its put.
    #[must_use]
    pub fn locking(self, lock: Option<Lock>) -> Self {
        Self { lock, ..self }
    }

    /// The lock that objects of points get.
    pub fn lock(&self) -> Option<Lock> {
        self.lock
    }

    /// Locks an object. A bucket may have locked it for longer or in a stricter mode by itself, and then refuses what would
    /// weaken that.
    pub async fn set_lock(&self, key: &Key, lock: Lock) -> Result<(), ObjectError> {
        let Err(error) = self.store.lock(key, None, lock).await else { return Ok(()) };
        if !matches!(error.kind(), ErrorKind::Denied | ErrorKind::Locked) {
            return Err(error.into());
        }
        match self.store.lock_of(key, None).await? {
            Some(found) if found.covers(lock) => Ok(()),
            Some(found) if found.joined(lock) != lock => Ok(self.store.lock(key, None, found.joined(lock)).await?),
            _ => Err(error.into()),
        }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A whole object, at most `bytes_max` long.
    pub async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        let bytes = match self.store.get_at_most(&key.parse::<Key>()?, bytes_max).await {
            Ok(bytes) => bytes,
            // How long it is, nobody has looked: longer than it may be.
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                let found = bytes_max.saturating_add(1);
                return Err(ObjectError::Length { key: key.to_owned(), found, wanted: bytes_max });
            }
            Err(error) => return Err(missing_or(error, key)),
        };
        self.count_fetched(bytes.len() as u64);
        Ok(bytes)
    }

    pub(crate) fn count_fetched(&self, bytes: u64) {
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A whole object that must be what `stored` says, and the version on top: what is named anew may rest on no other.
    pub async fn get_exact(&self, key: &str, stored: Stored) -> Result<Bytes, ObjectError> {
        let bytes = self.get(key, stored.bytes).await?;
        check(key, &bytes, stored)?;
        Ok(bytes)
    }

    /// A range of an object; nothing is proved of its bytes.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let wanted = range.end.saturating_sub(range.start);
        let bytes = match self.store.get_range(&key.parse::<Key>()?, range.start, wanted).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Truncated => {
                return Err(ObjectError::Length { key: key.to_owned(), found: 0, wanted });
            }
            Err(error) => return Err(missing_or(error, key)),
        };
        self.count_fetched(wanted);
        Ok(bytes)
    }

    /// The first bytes of an object, all of one that has fewer than `bytes_max`, and how long it is, as the store says;
    /// nothing is proved of either.
    pub async fn get_beginning(&self, key: &str, bytes_max: u64) -> Result<(Bytes, u64), ObjectError> {
        let read = self.store.beginning(&key.parse::<Key>()?, bytes_max).await;
        let (bytes, size) = read.map_err(|error| missing_or(error, key))?;
        self.count_fetched(bytes.len() as u64);
        Ok((bytes, size))
    }

    /// Puts an object. After `Ok` it is durable; after `Err` it may be there, whole.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<Stored, ObjectError> {
        Ok(self.put_seen(key, bytes).await?.0)
    }

    /// The same, and what the answer proved of what arrived.
    pub async fn put_seen(&self, key: &str, bytes: Bytes) -> Result<(Stored, Receipt), ObjectError> {
        let stored = Stored::of(&bytes);
        let at = key.parse::<Key>()?;
        let receipt = self.store.put(&at, bytes, stored.sha256.0).await?;
        let is_of_point = [VOLUMES, CATALOGS, POINTS].iter().any(|folder| key.starts_with(folder));
        if let Some(lock) = self.lock.filter(|_| is_of_point) {
            self.set_lock(&at, lock).await?;
        }
        self.sent_bytes.fetch_add(stored.bytes, Ordering::Relaxed);
        Ok((stored, receipt))
    }

    /// The same, and where the answer proved nothing it is read back. An object that arrived as another is an error,
    /// and lies there.
    pub async fn put_proved(&self, key: &str, bytes: Bytes) -> Result<Stored, ObjectError> {
        let (stored, receipt) = self.put_seen(key, bytes).await?;
        if receipt == Receipt::Taken {
            self.get_exact(key, stored).await?;
        }
        Ok(stored)
    }

    /// All objects whose key begins with `prefix`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        Ok(self.store.list(prefix, None).await?)
    }

    /// Time by the store's clock, or the job's.
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// What ages are judged by at this moment.
    pub fn clock(&self) -> Clock {
        Clock { now: self.store.now(), is_stores: self.store.has_clock() }
    }

    /// Every version and marker, where the store keeps them; from then on objects are taken away with all of theirs.
    pub async fn versions(&self) -> Result<Vec<Version>, ObjectError> {
        // Heartbeats are few and young: whether they have versions tells whether a listing of all is worth it.
        if self.store.versions(RUNS).await?.is_none() {
            return Ok(Vec::new());
        }
        self.keeps_versions.store(true, Ordering::Relaxed);
        self.look_below(true);
        Ok(self.store.versions("").await?.unwrap_or_default())
    }

    /// Takes an object away. After `Ok` no look-up finds it, whether there was one or not, but where a lock holds it.
    pub async fn delete(&self, key: &str) -> Result<Purged, ObjectError> {
        let key = key.parse::<Key>()?;
        if self.keeps_versions.load(Ordering::Relaxed) {
            return Ok(self.store.purge(&key).await?);
        }
        self.store.delete(&key).await?;
        Ok(Purged::default())
    }

    /// Requests so far.
    pub fn requests(&self) -> Requests {
        self.store.requests()
    }

    /// Bytes read so far.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// Bytes written so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

/// Whether `bytes` are what `stored` says.
pub fn check(key: &str, bytes: &[u8], stored: Stored) -> Result<(), ObjectError> {
    let found = bytes.len() as u64;
    if found != stored.bytes {
        return Err(ObjectError::Length { key: key.to_owned(), found, wanted: stored.bytes });
    }
    let found = Digest::of(bytes);
    if found == stored.sha256 { Ok(()) } else { Err(ObjectError::Digest { key: key.to_owned(), found }) }
}

fn missing_or(error: StoreError, key: &str) -> ObjectError {
    if error.kind() == ErrorKind::NotFound { ObjectError::Missing { key: key.to_owned() } } else { error.into() }
}
