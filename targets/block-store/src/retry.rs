//! Tries again what may be tried again, and nothing else.
//!
//! The waits double and are drawn evenly from zero to their maximum ("full jitter", Brooker,
//! "Exponential Backoff and Jitter", 2015), so that hosts that failed together do not come back
//! together. After a write that may have been carried out it looks before it writes again: the
//! lost answer of a success must not become a second write, nor an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;

use crate::contract::{
    Answer, ErrorKind, Key, ObjectInfo, ObjectLock, Operation, Seen, Setting, Store, StoreError, Version,
};
use crate::pause::Pause;

/// How often and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries of one call, the first one included.
    pub tries_max: u32,
    /// Longest wait before the second try, milliseconds.
    pub wait_first_ms: u64,
    /// Longest wait before any try, milliseconds.
    pub wait_max_ms: u64,
    /// No try begins later than this after the first, milliseconds.
    pub total_ms: u64,
    /// Longest time without a byte from the store before a try counts as lost, milliseconds.
    pub silence_ms: u64,
}

impl Default for Patience {
    /// Eight tries within ten minutes: longer than a router needs to start again, shorter than the
    /// quarter of an hour after which a silent writer is killed.
    fn default() -> Self {
        Self { tries_max: 8, wait_first_ms: 500, wait_max_ms: 60_000, total_ms: 600_000, silence_ms: 60_000 }
    }
}

impl Patience {
    /// Three tries, seconds apart: for what a person waits for, who would rather read why it fails and try again.
    pub const fn brief() -> Self {
        Self { tries_max: 3, wait_first_ms: 1_000, wait_max_ms: 5_000, total_ms: 60_000, silence_ms: 15_000 }
    }
}

/// A store that does not give up at once.
#[derive(Debug)]
pub struct RetryingStore {
    inner: Arc<dyn Store>,
    patience: Patience,
    pause: Pause,
}

impl RetryingStore {
    /// `inner` with `patience`; waits by `pause`.
    pub fn new(inner: Arc<dyn Store>, patience: Patience, pause: Pause) -> Self {
        Self { inner, patience, pause }
    }

    fn attempts(&self) -> Attempts<'_> {
        Attempts { store: self, failed: 0, began: Instant::now() }
    }

    async fn again<'a, T>(&'a self, call: impl Fn() -> Answer<'a, T>) -> Result<T, StoreError> {
        let mut attempts = self.attempts();
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }

    async fn put_and_look(
        &self,
        key: &Key,
        body: Bytes,
        sha256: [u8; 32],
        lock: Option<ObjectLock>,
    ) -> Result<(), StoreError> {
        let mut attempts = self.attempts();
        loop {
            let put = match lock {
                Some(lock) => self.inner.put_locked(key, body.clone(), sha256, lock),
                None => self.inner.put(key, body.clone(), sha256),
            };
            let Err(error) = put.await else { return Ok(()) };
            let in_doubt = error.kind().is_ambiguous();
            attempts.wait_after(error).await?;
            if in_doubt && self.is_there(key, &body).await? {
                return Ok(());
            }
        }
    }

    /// Whether the object arrived after all. A look that fails in passing says no: writing the same
    /// bytes once more does no harm, giving a copy up does.
    async fn is_there(&self, key: &Key, body: &Bytes) -> Result<bool, StoreError> {
        let taken = || StoreError::new(ErrorKind::AlreadyExists, Operation::Put, self.describe(), key.as_str());
        match self.inner.head(key).await {
            Ok(None) => return Ok(false),
            Ok(Some(info)) if info.size != body.len() as u64 => return Err(taken()),
            Ok(Some(_)) => {}
            Err(error) if error.may_retry() => return Ok(false),
            Err(error) => return Err(error),
        }
        match self.inner.get(key).await {
            Ok(found) if found == *body => Ok(true),
            Ok(_) => Err(taken()),
            Err(error) if error.may_retry() || error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The tries of one call.
struct Attempts<'a> {
    store: &'a RetryingStore,
    failed: u32,
    began: Instant,
}

impl Attempts<'_> {
    /// Waits for the next try, or gives `error` back when there is none.
    async fn wait_after(&mut self, error: StoreError) -> Result<(), StoreError> {
        let patience = self.store.patience;
        self.failed += 1;
        let most_ms = patience.wait_first_ms.saturating_mul(1 << (self.failed - 1).min(30)).min(patience.wait_max_ms);
        let wait = Duration::from_millis(random_below(most_ms.saturating_add(1)));
        let late = self.began.elapsed().saturating_add(wait) > Duration::from_millis(patience.total_ms);
        if !error.may_retry() || self.failed >= patience.tries_max || late {
            return Err(error);
        }
        tracing::warn!(error = %error, failed = self.failed, ?wait, "trying again");
        self.store.pause.pass(wait).await;
        Ok(())
    }
}

/// An even draw below `bound`; without a source of randomness the longest wait.
fn random_below(bound: u64) -> u64 {
    // The remainder favours small numbers by less than one part in 2^40: of no matter to a wait.
    getrandom::u64().map_or(bound.saturating_sub(1), |random| random % bound.max(1))
}

impl Store for RetryingStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        Box::pin(self.put_and_look(key, body, sha256, None))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        Box::pin(self.again(|| self.inner.get(key)))
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        Box::pin(self.again(move || self.inner.get_range(key, offset, len)))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        Box::pin(self.again(|| self.inner.head(key)))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        Box::pin(self.again(move || self.inner.list(prefix, after)))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        Box::pin(self.again(|| self.inner.delete(key)))
    }

    fn clear_leftovers(&self) -> Answer<'_, u64> {
        self.inner.clear_leftovers()
    }

    /// Not tried again: a refusal at the second try would be the success of the first.
    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        self.inner.put_if_absent(key, body, sha256)
    }

    fn setting<'a>(&'a self, setting: Setting, scratch: &'a Key) -> Answer<'a, Seen> {
        Box::pin(self.again(move || self.inner.setting(setting, scratch)))
    }

    fn keeps_versions(&self) -> Answer<'_, bool> {
        Box::pin(self.again(|| self.inner.keeps_versions()))
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Answer<'a, Vec<Version>> {
        Box::pin(self.again(move || self.inner.versions(prefix)))
    }

    fn get_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, Bytes> {
        Box::pin(self.again(move || self.inner.get_version(key, id)))
    }

    fn delete_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.again(move || self.inner.delete_version(key, id)))
    }

    fn put_locked<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32], lock: ObjectLock) -> Answer<'a, ()> {
        Box::pin(self.put_and_look(key, body, sha256, Some(lock)))
    }

    fn lock_of<'a>(&'a self, key: &'a Key, id: Option<&'a str>) -> Answer<'a, Option<ObjectLock>> {
        Box::pin(self.again(move || self.inner.lock_of(key, id)))
    }

    fn extend_lock<'a>(&'a self, key: &'a Key, id: Option<&'a str>, lock: ObjectLock) -> Answer<'a, ()> {
        Box::pin(self.again(move || self.inner.extend_lock(key, id, lock)))
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn has_clock(&self) -> bool {
        self.inner.has_clock()
    }

    fn requests(&self) -> Requests {
        self.inner.requests()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
