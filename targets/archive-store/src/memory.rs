//! Test double: a store that lives in the memory of a test.
//!
//! Behaves like a directory store, and can be inspected and vandalised from outside. When it is told to, it keeps versions
//! as a bucket does, and locks them.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;

use crate::contract::{
    Conditional, ErrorKind, Key, Lock, ObjectInfo, Operation, Purged, Receipt, Reply, Store, StoreError, Version,
    too_large,
};
use crate::digest;
use crate::tally::Tally;
use crate::time::ToldTime;

/// The double.
#[derive(Debug)]
pub struct MemoryStore {
    /// Of each key the oldest first: the last one is on top. Where no versions are kept there is one.
    objects: Mutex<BTreeMap<Key, Vec<Stored>>>,
    ids: AtomicU64,
    keeps_versions: AtomicBool,
    locked_until: Mutex<Option<Timestamp>>,
    pretends: AtomicBool,
    tally: Tally,
    time: ToldTime,
}

/// A version of an object, or a marker.
#[derive(Clone, Debug)]
struct Stored {
    id: String,
    body: Bytes,
    modified: Timestamp,
    is_marker: bool,
    lock: Option<Lock>,
}

impl MemoryStore {
    /// Without objects, at the time `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            objects: Mutex::default(),
            ids: AtomicU64::default(),
            keeps_versions: AtomicBool::new(false),
            locked_until: Mutex::default(),
            pretends: AtomicBool::new(false),
            tally: Tally::default(),
            time: ToldTime::from_job(now),
        }
    }

    /// Turns the store's clock to `now`; from then on it has one.
    pub fn set_now(&self, now: Timestamp) {
        self.time.set_by_store(now);
    }

    /// From now on a deletion hides, what is replaced stays below, and only [`Store::purge`] takes away.
    pub fn keep_versions(&self) {
        self.keeps_versions.store(true, Ordering::SeqCst);
    }

    /// From now on locks are taken and told, and hold nothing.
    pub fn pretend_to_lock(&self) {
        self.pretends.store(true, Ordering::SeqCst);
    }

    /// The lock on what is on top of a key, without counting a request.
    pub fn locked(&self, key: &Key) -> Option<Lock> {
        self.locks(key).last().copied().flatten()
    }

    /// The lock of each version and marker of a key, the oldest first, without counting a request.
    pub fn locks(&self, key: &Key) -> Vec<Option<Lock>> {
        self.with(|objects| objects.get(key).into_iter().flatten().map(|stored| stored.lock).collect())
    }

    /// No version goes before `until`.
    pub fn lock_all(&self, until: Timestamp) {
        *self.locked_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Versions and markers below the objects, without counting a request.
    pub fn hidden(&self) -> usize {
        self.with(|objects| {
            objects.values().map(Vec::len).sum::<usize>() - objects.values().filter_map(|all| top(all)).count()
        })
    }

    /// All keys in order, without counting a request.
    pub fn keys(&self) -> Vec<Key> {
        self.with(|objects| objects.iter().filter(|(_, all)| top(all).is_some()).map(|(key, _)| key.clone()).collect())
    }

    /// The bytes under `key`, without counting a request.
    pub fn peek(&self, key: &Key) -> Option<Bytes> {
        self.with(|objects| objects.get(key).and_then(|all| top(all)).map(|stored| stored.body.clone()))
    }

    /// Vandalism: other bytes under a key.
    pub fn replace(&self, key: Key, body: Bytes) {
        self.push(key, body, false);
    }

    /// Vandalism: an object less, with all its versions.
    pub fn remove(&self, key: &Key) -> Option<Bytes> {
        self.with(|objects| objects.remove(key)?.pop().map(|stored| stored.body))
    }

    fn push(&self, key: Key, body: Bytes, is_marker: bool) {
        let id = format!("v{}", self.ids.fetch_add(1, Ordering::SeqCst));
        let stored = Stored { id, body, modified: self.time.now(), is_marker, lock: None };
        let keeps = self.keeps_versions.load(Ordering::SeqCst);
        self.with(|objects| {
            let all = objects.entry(key).or_default();
            if !keeps {
                all.clear();
            }
            all.push(stored);
        });
    }

    /// Acts on a version, or on what is on top.
    fn at<T>(&self, key: &Key, version: Option<&str>, act: impl FnOnce(&mut Stored) -> T) -> Option<T> {
        self.with(|objects| {
            let mut all = objects.get_mut(key)?.iter_mut();
            let found = match version {
                Some(id) => all.find(|stored| stored.id == id),
                None => all.next_back(),
            };
            found.filter(|stored| !stored.is_marker).map(act)
        })
    }

    fn set_lock(&self, key: &Key, version: Option<&str>, lock: Lock) -> Result<(), StoreError> {
        self.tally.count(Operation::Put);
        if !self.keeps_versions.load(Ordering::SeqCst) {
            return Err(failure(ErrorKind::Unsupported, Operation::Put, key));
        }
        let set = self.at(key, version, |stored| {
            // Neither shorter nor of a weaker mode.
            let is_taken = stored.lock.is_none_or(|found| lock.covers(found));
            if is_taken {
                stored.lock = Some(lock);
            }
            is_taken
        });
        match set {
            Some(true) => Ok(()),
            Some(false) => Err(failure(ErrorKind::Denied, Operation::Put, key)),
            None => Err(failure(ErrorKind::NotFound, Operation::Put, key)),
        }
    }

    fn lock_told(&self, key: &Key, version: Option<&str>) -> Result<Option<Lock>, StoreError> {
        self.tally.count(Operation::Head);
        let told = self.at(key, version, |stored| stored.lock);
        told.ok_or_else(|| failure(ErrorKind::NotFound, Operation::Head, key))
    }

    fn all_versions(&self, prefix: &str) -> Vec<Version> {
        let version = |key: &Key, stored: &Stored| Version {
            info: info((key, stored)),
            id: stored.id.clone(),
            is_marker: stored.is_marker,
        };
        self.with(|objects| {
            let asked = objects.iter().filter(|(key, _)| key.as_str().starts_with(prefix));
            asked.flat_map(|(key, all)| all.iter().map(move |stored| version(key, stored))).collect()
        })
    }

    fn purge_all(&self, key: &Key) -> Purged {
        let until = *self.locked_until.lock().unwrap_or_else(PoisonError::into_inner);
        let (pretends, now) = (self.pretends.load(Ordering::SeqCst), self.time.now());
        let is_locked = |stored: &Stored| {
            let own = stored.lock.filter(|_| !pretends).map(|lock| lock.until);
            !stored.is_marker && until.max(own).is_some_and(|until| now < until)
        };
        self.with(|objects| {
            let Some(all) = objects.get_mut(key) else { return Purged::default() };
            all.retain(is_locked);
            let purged = Purged {
                locked: all.len() as u64,
                locked_bytes: all.iter().map(|stored| stored.body.len() as u64).sum(),
            };
            if all.is_empty() {
                objects.remove(key);
            }
            purged
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Key, Vec<Stored>>) -> T) -> T {
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

    fn read_version(&self, key: &Key, version: &str, bytes_max: u64) -> Result<Bytes, StoreError> {
        self.tally.count(Operation::Get);
        let body = self.at(key, Some(version), |stored| stored.body.clone());
        let body = body.ok_or_else(|| failure(ErrorKind::NotFound, Operation::Get, key))?;
        if body.len() as u64 > bytes_max { Err(too_large(self.describe(), key)) } else { Ok(body) }
    }
}

/// What lies on top, where that is no marker.
fn top(all: &[Stored]) -> Option<&Stored> {
    all.last().filter(|stored| !stored.is_marker)
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

    fn beginning<'a>(&'a self, key: &'a Key, len: u64) -> Reply<'a, (Bytes, u64)> {
        let read = self.read(key).map(|body| {
            let size = body.len() as u64;
            (cut(&body, 0, len.min(size)).unwrap_or_default(), size)
        });
        Box::pin(ready(read))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>> {
        self.tally.count(Operation::Head);
        Box::pin(ready(Ok(
            self.with(|objects| objects.get(key).and_then(|all| top(all)).map(|stored| info((key, stored))))
        )))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>> {
        self.tally.count(Operation::List);
        let asked = |key: &Key| key.as_str().starts_with(prefix) && after.is_none_or(|after| after < key.as_str());
        let found = self.with(|objects| {
            let asked = objects.iter().filter(|(key, _)| asked(key));
            asked.filter_map(|(key, all)| Some(info((key, top(all)?)))).collect()
        });
        Box::pin(ready(Ok(found)))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        self.tally.count(Operation::Delete);
        if self.keeps_versions.load(Ordering::SeqCst) {
            self.push(key.clone(), Bytes::new(), true);
        } else {
            self.remove(key);
        }
        Box::pin(ready(Ok(())))
    }

    fn lock<'a>(&'a self, key: &'a Key, version: Option<&'a str>, lock: Lock) -> Reply<'a, ()> {
        Box::pin(ready(self.set_lock(key, version, lock)))
    }

    fn lock_of<'a>(&'a self, key: &'a Key, version: Option<&'a str>) -> Reply<'a, Option<Lock>> {
        Box::pin(ready(self.lock_told(key, version)))
    }

    fn get_version<'a>(&'a self, key: &'a Key, version: &'a str, bytes_max: u64) -> Reply<'a, Bytes> {
        Box::pin(ready(self.read_version(key, version, bytes_max)))
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
