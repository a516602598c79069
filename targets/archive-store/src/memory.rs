//! Test double: a store that lives in the memory of a test.
//!
//! Behaves like a directory store, and can be inspected and vandalised from outside. When it is told to, it keeps versions
//! as a bucket does, and locks them.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;

use crate::contract::{
    Conditional, ErrorKind, Key, Lock, ObjectInfo, Operation, Purged, Receipt, Reply, Store, StoreError, Version,
};
use crate::digest;
use crate::tally::Tally;
use crate::time::ToldTime;

/// The double.
#[derive(Debug)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<Key, Stored>>,
    /// What lies below the objects, where versions are kept, by the ids that they have.
    older: Mutex<BTreeMap<(Key, u64), Older>>,
    keeps_versions: AtomicBool,
    locked_until: Mutex<Option<Timestamp>>,
    locks: Mutex<BTreeMap<Key, Lock>>,
    pretends: AtomicBool,
    tally: Tally,
    time: ToldTime,
}

#[derive(Clone, Debug)]
struct Stored {
    body: Bytes,
    modified: Timestamp,
}

/// A version that is not the current one, or a marker.
#[derive(Clone, Debug)]
struct Older {
    stored: Stored,
    is_marker: bool,
}

impl MemoryStore {
    /// Without objects, at the time `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            objects: Mutex::default(),
            older: Mutex::default(),
            keeps_versions: AtomicBool::new(false),
            locked_until: Mutex::default(),
            locks: Mutex::default(),
            pretends: AtomicBool::new(false),
            tally: Tally::default(),
            time: ToldTime::from_job(now),
        }
    }

    /// Turns the store's clock to `now`; from then on it has one.
    pub fn set_now(&self, now: Timestamp) {
        self.time.set_by_store(now);
    }

    /// From now on a deletion hides, and only [`Store::purge`] takes away.
    pub fn keep_versions(&self) {
        self.keeps_versions.store(true, Ordering::SeqCst);
    }

    /// From now on locks are taken and told, and hold nothing.
    pub fn pretend_to_lock(&self) {
        self.pretends.store(true, Ordering::SeqCst);
    }

    /// The lock on an object, without counting a request.
    pub fn locked(&self, key: &Key) -> Option<Lock> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn set_lock(&self, key: &Key, lock: Lock) -> Result<(), StoreError> {
        self.tally.count(Operation::Put);
        if !self.keeps_versions.load(Ordering::SeqCst) {
            return Err(failure(ErrorKind::Unsupported, Operation::Put, key));
        }
        if self.peek(key).is_none() {
            return Err(failure(ErrorKind::NotFound, Operation::Put, key));
        }
        let is_shorter = self.locked(key).is_some_and(|found| found.until > lock.until);
        if is_shorter {
            return Err(failure(ErrorKind::Denied, Operation::Put, key));
        }
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), lock);
        Ok(())
    }

    /// No version goes before `until`.
    pub fn lock_all(&self, until: Timestamp) {
        *self.locked_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Versions and markers below the objects, without counting a request.
    pub fn hidden(&self) -> usize {
        self.older.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn hide(&self, key: &Key) {
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = older.keys().map(|(_, id)| id + 1).max().unwrap_or(0);
        if let Some(stored) = self.with(|objects| objects.remove(key)) {
            older.insert((key.clone(), next), Older { stored, is_marker: false });
            next += 1;
        }
        let stored = Stored { body: Bytes::new(), modified: self.time.now() };
        older.insert((key.clone(), next), Older { stored, is_marker: true });
    }

    fn all_versions(&self, prefix: &str) -> Vec<Version> {
        let older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        let below = older.iter().map(|((key, id), one)| (info((key, &one.stored)), format!("v{id}"), one.is_marker));
        let current = self.with(|objects| objects.iter().map(info).collect::<Vec<_>>());
        let current = current.into_iter().map(|info| (info, "current".to_owned(), false));
        let mut all: Vec<_> =
            below.chain(current).map(|(info, id, is_marker)| Version { info, id, is_marker }).collect();
        all.retain(|version| version.info.key.as_str().starts_with(prefix));
        all.sort_by(|one, other| one.info.key.cmp(&other.info.key));
        all
    }

    fn purge_all(&self, key: &Key) -> Purged {
        let until = *self.locked_until.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.locked(key).filter(|_| !self.pretends.load(Ordering::SeqCst)).map(|lock| lock.until);
        let is_locked = until.max(own).is_some_and(|until| self.time.now() < until);
        let mut purged = Purged::default();
        for version in self.all_versions(key.as_str()).into_iter().filter(|version| version.info.key == *key) {
            if is_locked && !version.is_marker {
                purged.locked += 1;
                purged.locked_bytes += version.info.size;
            } else if version.id == "current" {
                self.remove(key);
            } else {
                let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
                older.retain(|(at, id), _| at != key || format!("v{id}") != version.id);
            }
        }
        purged
    }

    /// All keys in order, without counting a request.
    pub fn keys(&self) -> Vec<Key> {
        self.with(|objects| objects.keys().cloned().collect())
    }

    /// The bytes under `key`, without counting a request.
    pub fn peek(&self, key: &Key) -> Option<Bytes> {
        self.with(|objects| objects.get(key).map(|stored| stored.body.clone()))
    }

    /// Vandalism: other bytes under a key.
    pub fn replace(&self, key: Key, body: Bytes) {
        let modified = self.time.now();
        self.with(|objects| objects.insert(key, Stored { body, modified }));
    }

    /// Vandalism: an object less.
    pub fn remove(&self, key: &Key) -> Option<Bytes> {
        self.with(|objects| objects.remove(key).map(|stored| stored.body))
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Key, Stored>) -> T) -> T {
        act(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, key: &Key, body: Bytes, sha256: [u8; 32]) -> Result<Conditional, StoreError> {
        self.tally.count(Operation::Put);
        if digest::sha256(&body) != sha256 {
            return Err(failure(ErrorKind::Checksum, Operation::Put, key));
        }
        if self.peek(key).is_some() {
            return Ok(Conditional::Refused);
        }
        self.replace(key.clone(), body);
        Ok(Conditional::Written)
    }

    fn read(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.tally.count(Operation::Get);
        self.peek(key).ok_or_else(|| failure(ErrorKind::NotFound, Operation::Get, key))
    }
}

fn failure(kind: ErrorKind, operation: Operation, key: &Key) -> StoreError {
    StoreError::new(kind, operation, "memory", key.as_str())
}

fn info((key, stored): (&Key, &Stored)) -> ObjectInfo {
    ObjectInfo { key: key.clone(), size: stored.body.len() as u64, modified: stored.modified }
}

fn cut(body: &Bytes, offset: u64, len: u64) -> Option<Bytes> {
    let from = usize::try_from(offset).ok()?;
    let to = from.checked_add(usize::try_from(len).ok()?)?;
    (to <= body.len()).then(|| body.slice(from..to))
}

impl Store for MemoryStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Receipt> {
        let outcome = self.write(key, body.clone(), sha256).and_then(|outcome| {
            let same = outcome == Conditional::Written || self.peek(key) == Some(body);
            if same { Ok(Receipt::Proved) } else { Err(failure(ErrorKind::AlreadyExists, Operation::Put, key)) }
        });
        Box::pin(ready(outcome))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Bytes> {
        Box::pin(ready(self.read(key)))
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Reply<'a, Bytes> {
        let part = if len == 0 {
            Ok(Bytes::new())
        } else {
            self.read(key).and_then(|body| {
                cut(&body, offset, len).ok_or_else(|| failure(ErrorKind::Truncated, Operation::Get, key))
            })
        };
        Box::pin(ready(part))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>> {
        self.tally.count(Operation::Head);
        Box::pin(ready(Ok(self.with(|objects| objects.get_key_value(key).map(info)))))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>> {
        self.tally.count(Operation::List);
        let asked = |key: &Key| key.as_str().starts_with(prefix) && after.is_none_or(|after| after < key.as_str());
        let found = self.with(|objects| objects.iter().filter(|(key, _)| asked(key)).map(info).collect());
        Box::pin(ready(Ok(found)))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        self.tally.count(Operation::Delete);
        if self.keeps_versions.load(Ordering::SeqCst) {
            self.hide(key);
        } else {
            self.remove(key);
        }
        Box::pin(ready(Ok(())))
    }

    fn lock<'a>(&'a self, key: &'a Key, lock: Lock) -> Reply<'a, ()> {
        Box::pin(ready(self.set_lock(key, lock)))
    }

    fn lock_of<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<Lock>> {
        self.tally.count(Operation::Head);
        Box::pin(ready(Ok(self.locked(key))))
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Reply<'a, Option<Vec<Version>>> {
        self.tally.count(Operation::List);
        let keeps = self.keeps_versions.load(Ordering::SeqCst);
        Box::pin(ready(Ok(keeps.then(|| self.all_versions(prefix)))))
    }

    fn purge<'a>(&'a self, key: &'a Key) -> Reply<'a, Purged> {
        self.tally.count(Operation::Delete);
        Box::pin(ready(Ok(self.purge_all(key))))
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Conditional> {
        Box::pin(ready(self.write(key, body, sha256)))
    }

    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn has_clock(&self) -> bool {
        self.time.is_from_store()
    }

    fn requests(&self) -> Requests {
        self.tally.total()
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
