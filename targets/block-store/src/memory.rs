//! A store in memory: the test double for whoever needs a [`Store`] without a disk.
//!
//! It keeps the contract, checks every digest, and lets a test look at and damage what is stored. One that is made
//! [`MemoryStore::versioned`] keeps what is overwritten or deleted, and locks, as a bucket with object lock does.
//! Nothing outlives the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;

use crate::clock::Clock;
use crate::contract::{
    Answer, ErrorKind, Key, ObjectInfo, ObjectLock, Operation, Seen, Setting, Store, StoreError, Version,
};
use crate::digest::sha256;
use crate::requests::Counter;

/// One version of an object.
#[derive(Clone, Debug)]
struct Kept {
    id: String,
    /// `None` of a delete marker.
    body: Option<Bytes>,
    modified: Timestamp,
    lock: Option<ObjectLock>,
}

/// Versions of each object, oldest first; without versioning one at most.
type Objects = BTreeMap<Key, Vec<Kept>>;

/// Objects in a map.
#[derive(Debug)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
    clock: Clock,
    requests: Counter,
    is_versioned: bool,
    ids: AtomicU64,
}

impl MemoryStore {
    /// An empty store whose clock begins at `now`.
    pub fn new(now: Timestamp) -> Self {
        let (objects, requests) = (Mutex::default(), Counter::default());
        Self { objects, clock: Clock::new(now), requests, is_versioned: false, ids: AtomicU64::new(1) }
    }

    /// The same, with versions and locks.
    pub fn versioned(now: Timestamp) -> Self {
        Self { is_versioned: true, ..Self::new(now) }
    }

    /// A copy of everything, with a clock of its own that shows the same time.
    #[must_use]
    pub fn fork(&self) -> Self {
        let ids = AtomicU64::new(self.ids.load(Ordering::Relaxed));
        let fork = Self { is_versioned: self.is_versioned, ids, ..Self::new(self.clock.now()) };
        if self.clock.by_store() {
            fork.set_now(self.clock.now());
        }
        fork.objects().clone_from(&*self.objects());
        fork
    }

    /// Sets the store's clock.
    pub fn set_now(&self, now: Timestamp) {
        self.clock.hear(now);
    }

    /// The keys of all objects, in order; not counted as a request.
    pub fn keys(&self) -> Vec<Key> {
        self.objects().iter().filter(|(_, kept)| current(kept).is_some()).map(|(key, _)| key.clone()).collect()
    }

    /// An object's bytes; not counted as a request.
    pub fn peek(&self, key: &Key) -> Option<Bytes> {
        self.objects().get(key).and_then(|kept| current(kept)).map(|(body, _)| body.clone())
    }

    /// Puts `body` in the place of whatever is there, as damage or a thief would.
    pub fn replace(&self, key: Key, body: Bytes) {
        self.push(key, Some(body), None);
    }

    /// Takes an object away, as damage or a thief would; where there are versions it is only hidden.
    pub fn remove(&self, key: &Key) -> Option<Bytes> {
        let body = self.peek(key);
        if self.is_versioned {
            self.push(key.clone(), None, None);
        } else {
            self.objects().remove(key);
        }
        body
    }

    /// Every version and marker, of each key the newest first; not counted as a request.
    pub fn peek_versions(&self, prefix: &str) -> Vec<Version> {
        let objects = self.objects();
        let wanted = objects.iter().filter(|(key, _)| key.as_str().starts_with(prefix));
        let of_key = |(key, kept): (&Key, &Vec<Kept>)| {
            let last = kept.len().saturating_sub(1);
            let version = |(at, one): (usize, &Kept)| Version {
                key: key.clone(),
                id: one.id.clone(),
                size: one.body.as_ref().map_or(0, |body| body.len() as u64),
                modified: one.modified,
                is_marker: one.body.is_none(),
                is_latest: at == last,
            };
            kept.iter().enumerate().rev().map(version).collect::<Vec<_>>()
        };
        wanted.flat_map(of_key).collect()
    }

    fn push(&self, key: Key, body: Option<Bytes>, lock: Option<ObjectLock>) {
        let id =
            if self.is_versioned { self.ids.fetch_add(1, Ordering::Relaxed).to_string() } else { "null".to_owned() };
        let kept = Kept { id, body, modified: self.clock.now(), lock };
        let mut objects = self.objects();
        let of_key = objects.entry(key).or_default();
        if !self.is_versioned {
            of_key.clear();
        }
        of_key.push(kept);
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(kind: ErrorKind, operation: Operation, key: &Key) -> StoreError {
        StoreError::new(kind, operation, "memory", key.as_str())
    }

    /// Whether it wrote; `false` when the key is taken.
    fn insert(&self, key: &Key, body: Bytes, digest: [u8; 32]) -> Result<bool, StoreError> {
        self.requests.add(Operation::Put);
        if sha256(&body) != digest {
            return Err(Self::error(ErrorKind::Checksum, Operation::Put, key));
        }
        if self.peek(key).is_some() {
            return Ok(false);
        }
        self.push(key.clone(), Some(body), None);
        Ok(true)
    }

    fn read(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.requests.add(Operation::Get);
        self.peek(key).ok_or_else(|| Self::error(ErrorKind::NotFound, Operation::Get, key))
    }

    /// Does something with one version, the latest one without `id`.
    fn with_version<T>(
        &self,
        (operation, key, id): (Operation, &Key, Option<&str>),
        act: impl FnOnce(&mut Vec<Kept>, usize) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.requests.add(operation);
        let missing = || Self::error(ErrorKind::NotFound, operation, key);
        if !self.is_versioned {
            return Err(self.without_versions(operation, key.as_str()));
        }
        let mut objects = self.objects();
        let kept = objects.get_mut(key).ok_or_else(missing)?;
        let at = match id {
            Some(id) => kept.iter().position(|one| one.id == id),
            None => kept.len().checked_sub(1).filter(|last| kept[*last].body.is_some()),
        };
        let done = act(kept, at.ok_or_else(missing)?);
        objects.retain(|_, kept| !kept.is_empty());
        done
    }
}

/// What a plain read finds.
fn current(kept: &[Kept]) -> Option<(&Bytes, Timestamp)> {
    let last = kept.last()?;
    Some((last.body.as_ref()?, last.modified))
}

impl Store for MemoryStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        Box::pin(async move {
            let written = self.insert(key, body.clone(), sha256)?;
            if written || self.peek(key) == Some(body.clone()) {
                Ok(())
            } else if self.is_versioned {
                self.push(key.clone(), Some(body), None);
                Ok(())
            } else {
                Err(Self::error(ErrorKind::AlreadyExists, Operation::Put, key))
            }
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        Box::pin(async move { self.read(key) })
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        Box::pin(async move {
            if len == 0 {
                return Ok(Bytes::new());
            }
            let body = self.read(key)?;
            range(&body, offset, len).ok_or_else(|| Self::error(ErrorKind::Truncated, Operation::Get, key))
        })
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        Box::pin(async move {
            self.requests.add(Operation::Head);
            Ok(self.objects().get(key).and_then(|kept| current(kept)).map(|(body, modified)| info(key, body, modified)))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        Box::pin(async move {
            self.requests.add(Operation::List);
            let wanted = |key: &Key| key.as_str().starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
            let objects = self.objects();
            let found = objects.iter().filter(|(key, _)| wanted(key));
            let found = found.filter_map(|(key, kept)| current(kept).map(|(body, modified)| info(key, body, modified)));
            Ok(found.collect())
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        Box::pin(async move {
            self.requests.add(Operation::Delete);
            self.remove(key);
            Ok(())
        })
    }

    fn clear_leftovers(&self) -> Answer<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        Box::pin(async move { self.insert(key, body, sha256) })
    }

    fn setting<'a>(&'a self, _: Setting, _: &'a Key) -> Answer<'a, Seen> {
        Box::pin(async move {
            self.requests.add(Operation::Setting);
            Ok(Seen::Absent("memory has no such setting".to_owned()))
        })
    }

    fn keeps_versions(&self) -> Answer<'_, bool> {
        Box::pin(async { Ok(self.is_versioned) })
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Answer<'a, Vec<Version>> {
        Box::pin(async move {
            self.requests.add(Operation::List);
            if !self.is_versioned {
                return Err(self.without_versions(Operation::List, prefix));
            }
            Ok(self.peek_versions(prefix))
        })
    }

    fn get_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, Bytes> {
        let missing = || Self::error(ErrorKind::NotFound, Operation::Get, key);
        Box::pin(async move {
            let asked = (Operation::Get, key, Some(id));
            self.with_version(asked, |kept, at| kept[at].body.clone().ok_or_else(missing))
        })
    }

    fn delete_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            self.with_version((Operation::Delete, key, Some(id)), |kept, at| {
                if kept[at].lock.is_some_and(|lock| lock.until > now) {
                    return Err(Self::error(ErrorKind::Denied, Operation::Delete, key));
                }
                kept.remove(at);
                Ok(())
            })
        })
    }

    fn put_locked<'a>(&'a self, key: &'a Key, body: Bytes, digest: [u8; 32], lock: ObjectLock) -> Answer<'a, ()> {
        Box::pin(async move {
            self.requests.add(Operation::Put);
            if !self.is_versioned {
                return Err(self.without_versions(Operation::Put, key.as_str()));
            }
            if sha256(&body) != digest {
                return Err(Self::error(ErrorKind::Checksum, Operation::Put, key));
            }
            self.push(key.clone(), Some(body), Some(lock));
            Ok(())
        })
    }

    fn lock_of<'a>(&'a self, key: &'a Key, id: Option<&'a str>) -> Answer<'a, Option<ObjectLock>> {
        Box::pin(async move { self.with_version((Operation::Head, key, id), |kept, at| Ok(kept[at].lock)) })
    }

    fn extend_lock<'a>(&'a self, key: &'a Key, id: Option<&'a str>, lock: ObjectLock) -> Answer<'a, ()> {
        Box::pin(async move {
            let now = self.clock.now();
            self.with_version((Operation::Put, key, id), |kept, at| {
                let is_less = |before: ObjectLock| {
                    let is_laxer = before.mode == LockMode::Compliance && lock.mode == LockMode::Governance;
                    before.until > now && (before.until > lock.until || is_laxer)
                };
                if kept[at].lock.is_some_and(is_less) {
                    return Err(Self::error(ErrorKind::Denied, Operation::Put, key));
                }
                kept[at].lock = Some(lock);
                Ok(())
            })
        })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn has_clock(&self) -> bool {
        self.clock.by_store()
    }

    fn requests(&self) -> Requests {
        self.requests.total()
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

fn info(key: &Key, body: &Bytes, modified: Timestamp) -> ObjectInfo {
    ObjectInfo { key: key.clone(), size: body.len() as u64, modified }
}

/// The bytes asked for, `None` when they are not all there.
fn range(body: &Bytes, offset: u64, len: u64) -> Option<Bytes> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    (end <= body.len()).then(|| body.slice(start..end))
}
