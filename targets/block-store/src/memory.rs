//! A store in memory: the test double for whoever needs a [`Store`] without a disk.
//!
//! It keeps the contract, checks every digest, and lets a test look at and damage what is stored.
//! Nothing outlives the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;

use crate::clock::Clock;
use crate::contract::{Answer, ErrorKind, Key, ObjectInfo, Operation, Seen, Setting, Store, StoreError};
use crate::digest::sha256;
use crate::requests::Counter;

/// Objects in a map.
#[derive(Debug)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<Key, (Bytes, Timestamp)>>,
    clock: Clock,
    requests: Counter,
}

impl MemoryStore {
    /// An empty store whose clock begins at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { objects: Mutex::default(), clock: Clock::new(now), requests: Counter::default() }
    }

    /// A copy of everything, with a clock of its own that shows the same time.
    #[must_use]
    pub fn fork(&self) -> Self {
        let fork = Self::new(self.clock.now());
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
        self.objects().keys().cloned().collect()
    }

    /// An object's bytes; not counted as a request.
    pub fn peek(&self, key: &Key) -> Option<Bytes> {
        self.objects().get(key).map(|(body, _)| body.clone())
    }

    /// Puts `body` in the place of whatever is there, as damage or a thief would.
    pub fn replace(&self, key: Key, body: Bytes) {
        let now = self.clock.now();
        self.objects().insert(key, (body, now));
    }

    /// Takes an object away, as damage or a thief would.
    pub fn remove(&self, key: &Key) -> Option<Bytes> {
        self.objects().remove(key).map(|(body, _)| body)
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, (Bytes, Timestamp)>> {
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
        let now = self.clock.now();
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Ok(false);
        }
        objects.insert(key.clone(), (body, now));
        Ok(true)
    }

    fn read(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.requests.add(Operation::Get);
        self.peek(key).ok_or_else(|| Self::error(ErrorKind::NotFound, Operation::Get, key))
    }
}

impl Store for MemoryStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        Box::pin(async move {
            let written = self.insert(key, body.clone(), sha256)?;
            if written || self.peek(key) == Some(body) {
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
            Ok(self.objects().get(key).map(|(body, modified)| info(key, body, *modified)))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        Box::pin(async move {
            self.requests.add(Operation::List);
            let wanted = |key: &Key| key.as_str().starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
            let objects = self.objects();
            let found = objects.iter().filter(|(key, _)| wanted(key));
            Ok(found.map(|(key, (body, modified))| info(key, body, *modified)).collect())
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
