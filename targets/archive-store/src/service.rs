//! Any service of opendal as a store: S3 first of all.
//!
//! Reading, listing and looking up go through opendal's own layers: a time limit inside each try,
//! tries with growing, jittered waits around it, and a bound on how many run at once. Writing does
//! not: a write that failed in doubt is looked for before it is sent again. It goes out as one
//! sealed buffer in one call, since opendal's `Writer` goes on silently after an error and
//! leaves a shortened object.

mod history;
mod part;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;
use opendal::layers::{ConcurrentLimitLayer, RetryLayer, TimeoutLayer};
use opendal::{HttpTransporter, Operator};

use crate::contract::{
    Conditional, ErrorKind, Key, Lock, ObjectInfo, Operation, Purged, Receipt, Reply, Store, StoreError, Version,
    too_large,
};
use crate::dal;
use crate::digest;
use crate::locks::Locks;
use crate::tally::Tally;
use crate::time::ToldTime;
use crate::wire::{BYTES_MAX, Wire, time_for};

/// Requests at once; a store that is asked by more tasks lets them wait.
const AT_ONCE_MAX: usize = 16;

/// How persistently a store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries after the first.
    pub again_max: u32,
    /// First wait; each further one is twice as long.
    pub wait_min: Duration,
    /// No wait is longer.
    pub wait_max: Duration,
    /// No write is begun again later than this after its first try.
    pub total: Duration,
    /// A request without a sign of life for so long, and a slow line's time for its body, is lost.
    pub silence: Duration,
}

impl Patience {
    /// For what a person waits for: three tries, with less than ten seconds of waits between them.
    pub const fn brief() -> Self {
        Self {
            again_max: 2,
            wait_min: Duration::from_millis(500),
            wait_max: Duration::from_secs(2),
            total: Duration::from_mins(1),
            silence: Duration::from_secs(15),
        }
    }
}

impl Default for Patience {
    /// Seven more tries within ten minutes: enough for a server or a router to start again.
    fn default() -> Self {
        let (wait_min, minute) = (Duration::from_millis(500), Duration::from_mins(1));
        Self { again_max: 7, wait_min, wait_max: minute, total: Duration::from_mins(10), silence: minute }
    }
}

/// A store behind an opendal service.
#[derive(Debug)]
pub struct ServiceStore {
    /// One try.
    once: Operator,
    /// Several tries, each with a time limit.
    patient: Operator,
    name: String,
    /// Where the service is S3.
    locks: Option<Locks>,
    /// Whether the service checks a digest of each body (S3: Content-MD5).
    checked: bool,
    /// Whether requests pass the [`Wire`], which counts them.
    wired: bool,
    patience: Patience,
    tally: Arc<Tally>,
    time: Arc<ToldTime>,
}

/// A service and its options, opendal's words for both.
#[derive(Debug)]
pub struct Service {
    /// Its scheme: `s3`, `sftp`, ...
    pub scheme: String,
    /// Its options, secrets included, the root among them.
    pub options: HashMap<String, String>,
    /// Its name in messages.
    pub name: String,
}

impl ServiceStore {
    /// The store; nothing is asked of the network yet.
    pub fn open(service: Service, patience: Patience, now: Timestamp) -> Result<Self, StoreError> {
        let Service { scheme, options, name } = service;
        let (tally, time) = (Arc::new(Tally::default()), Arc::new(ToldTime::from_job(now)));
        // Services register themselves only when they are told to: once for the process.
        opendal::init_default_registry();
        let told = options.clone();
        let built = Operator::via_iter(&scheme, options).map_err(|error| {
            let kind = match dal::kind(&error) {
                ErrorKind::Unsupported => ErrorKind::Unsupported,
                _ => ErrorKind::Misconfigured,
            };
            StoreError::new(kind, Operation::Open, &name, "").caused_by(error)
        })?;
        let wire = Wire::new(Arc::clone(&tally), Arc::clone(&time), patience.silence)
            .map_err(|error| StoreError::new(ErrorKind::Misconfigured, Operation::Open, &name, "").caused_by(error))?;
        let locks = if scheme == "s3" { Locks::new(&told, wire.clone()) } else { None };
        let context = built.base_context().with_http_transport(HttpTransporter::new(wire));
        let once = built.with_context(context).layer(ConcurrentLimitLayer::new(AT_ONCE_MAX));
        let most = time_for(patience.silence, Key::OBJECT_BYTES_MAX);
        let retry = RetryLayer::new()
            .with_max_times(usize::try_from(patience.again_max).unwrap_or(usize::MAX))
            .with_min_delay(patience.wait_min)
            .with_max_delay(patience.wait_max)
            .with_factor(2.0)
            .with_jitter();
        // The wire has limits by size; these are for services that use no HTTP.
        let patient = once.clone().layer(TimeoutLayer::new().with_timeout(most).with_io_timeout(most)).layer(retry);
        let (checked, wired) = (scheme == "s3", scheme != "sftp");
        Ok(Self { once, patient, name, locks, checked, wired, patience, tally, time })
    }

    fn failure(&self, kind: ErrorKind, operation: Operation, object: &str) -> StoreError {
        StoreError::new(kind, operation, &self.name, object)
    }

    fn sorted(&self, operation: Operation, object: &str) -> impl Fn(opendal::Error) -> StoreError {
        let (name, object) = (self.name.clone(), object.to_owned());
        move |error| StoreError::new(dal::kind(&error), operation, &name, &object).caused_by(error)
    }

    fn count(&self, operation: Operation) {
        if !self.wired {
            self.tally.count(operation);
        }
    }

    /// One try to write, with the time that its size needs.
    async fn send(&self, key: &Key, body: Bytes, if_absent: bool) -> Result<Receipt, StoreError> {
        let failure = |kind| self.failure(kind, Operation::Put, key.as_str());
        let size = body.len() as u64;
        self.count(Operation::Put);
        let write = self.once.write_with(key.as_str(), body.clone()).if_not_exists(if_absent);
        let answer = match tokio::time::timeout(time_for(self.patience.silence, size), write).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.sorted(Operation::Put, key.as_str())(error)),
            Err(late) => return Err(failure(ErrorKind::Timeout).caused_by(late)),
        };
        // Where nothing else vouches for it, at least the length has to be right.
        if !self.checked && self.look(key).await?.is_none_or(|info| info.size != size) {
            return Err(failure(ErrorKind::Truncated));
        }
        // S3's ETag of an object that came in one request is the MD5 of what arrived; where the store encrypts with
        // keys of its own, or is of another kind, it is something else.
        let told =
            answer.etag().filter(|_| self.checked).is_some_and(|etag| etag.trim_matches('"') == digest::md5(&body));
        Ok(if told { Receipt::Proved } else { Receipt::Taken })
    }

    async fn write(&self, key: &Key, body: Bytes, sha256: [u8; 32]) -> Result<Receipt, StoreError> {
        self.admit(key, &body, sha256)?;
        let (began, mut again, mut in_doubt) = (Instant::now(), 0, false);
        loop {
            // A try that follows one in doubt looks first; where that fails too, the try is spent.
            let tried = match if in_doubt { self.has_arrived(key, &body).await } else { Ok(false) } {
                Ok(true) => Ok(Receipt::Proved),
                Ok(false) => self.send(key, body.clone(), false).await,
                Err(error) => Err(error),
            };
            let error = match tried {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            let wait = jittered(self.patience.wait_min, self.patience.wait_max, again);
            again += 1;
            let over = again > self.patience.again_max || began.elapsed().saturating_add(wait) > self.patience.total;
            if over || !error.may_retry() {
                return Err(error);
            }
            tracing::warn!(%error, again, ?wait, "writing again");
            tokio::time::sleep(wait).await;
            in_doubt |= error.kind().leaves_doubt();
        }
    }

    fn admit(&self, key: &Key, body: &Bytes, sha256: [u8; 32]) -> Result<(), StoreError> {
        if body.len() as u64 > Key::OBJECT_BYTES_MAX {
            return Err(self.failure(ErrorKind::TooLarge, Operation::Put, key.as_str()));
        }
        if digest::sha256(body) != sha256 {
            return Err(self.failure(ErrorKind::Checksum, Operation::Put, key.as_str()));
        }
        Ok(())
    }

    /// Whether an earlier try came through, by one look.
    async fn has_arrived(&self, key: &Key, body: &Bytes) -> Result<bool, StoreError> {
        let taken = || Err(self.failure(ErrorKind::AlreadyExists, Operation::Put, key.as_str()));
        match self.look_by(&self.once, key).await? {
            None => return Ok(false),
            Some(info) if info.size != body.len() as u64 => return taken(),
            Some(_) => {}
        }
        match self.read(key).await {
            Ok(bytes) if bytes == *body => Ok(true),
            Ok(_) => taken(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn look(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        self.look_by(&self.patient, key).await
    }

    async fn look_by(&self, asked: &Operator, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        self.count(Operation::Head);
        match asked.stat(key.as_str()).await {
            Ok(meta) if meta.is_file() => Ok(Some(dal::info(key.clone(), &meta))),
            Ok(_) => Ok(None),
            Err(error) if dal::kind(&error) == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.sorted(Operation::Head, key.as_str())(error)),
        }
    }

    async fn read(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.count(Operation::Get);
        let read = self.patient.read(key.as_str()).await;
        read.map(|buffer| buffer.to_bytes()).map_err(self.sorted(Operation::Get, key.as_str()))
    }

    async fn list_all(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        self.count(Operation::List);
        let by_text = self.patient.info().capability().list_with_start_after;
        // A service without listings by text lists the folder above; the rest is left out below.
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        let list = self.patient.list_with(if by_text { prefix } else { folder }).recursive(true);
        let list = match after {
            Some(after) if by_text => list.start_after(after),
            _ => list,
        };
        let entries = list.await.map_err(self.sorted(Operation::List, prefix))?;
        Ok(dal::objects(entries, prefix, after))
    }
}

/// The wait before try number `again` (from 0) is repeated: drawn evenly below a bound that doubles.
fn jittered(min: Duration, max: Duration, again: u32) -> Duration {
    let bound = min.saturating_mul(1 << again.min(20)).min(max);
    let share = getrandom::u32().unwrap_or(u32::MAX);
    bound.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

impl Store for ServiceStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Receipt> {
        Box::pin(self.write(key, body, sha256))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Bytes> {
        Box::pin(self.read(key))
    }

    fn get_at_most<'a>(&'a self, key: &'a Key, bytes_max: u64) -> Reply<'a, Bytes> {
        Box::pin(async move {
            let body = BYTES_MAX.scope(bytes_max.min(Key::OBJECT_BYTES_MAX), self.read(key)).await?;
            // Services without HTTP do not pass the wire.
            if body.len() as u64 > bytes_max { Err(too_large(self.describe(), key)) } else { Ok(body) }
        })
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Reply<'a, Bytes> {
        Box::pin(self.read_part(key, offset, len))
    }

    fn beginning<'a>(&'a self, key: &'a Key, len: u64) -> Reply<'a, (Bytes, u64)> {
        Box::pin(self.read_beginning(key, len))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>> {
        Box::pin(self.look(key))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>> {
        Box::pin(self.list_all(prefix, after))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        Box::pin(async move {
            self.count(Operation::Delete);
            self.patient.delete(key.as_str()).await.map_err(self.sorted(Operation::Delete, key.as_str()))
        })
    }

    fn lock<'a>(&'a self, key: &'a Key, version: Option<&'a str>, lock: Lock) -> Reply<'a, ()> {
        Box::pin(self.set_lock(key, version, lock))
    }

    fn lock_of<'a>(&'a self, key: &'a Key, version: Option<&'a str>) -> Reply<'a, Option<Lock>> {
        Box::pin(self.ask_lock(key, version, None, false))
    }

    fn get_version<'a>(&'a self, key: &'a Key, version: &'a str, bytes_max: u64) -> Reply<'a, Bytes> {
        Box::pin(self.read_version(key, version, bytes_max))
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Reply<'a, Option<Vec<Version>>> {
        Box::pin(self.list_versions(prefix))
    }

    fn purge<'a>(&'a self, key: &'a Key) -> Reply<'a, Purged> {
        Box::pin(self.delete_versions(key))
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Conditional> {
        Box::pin(async move {
            self.admit(key, &body, sha256)?;
            match self.send(key, body, true).await {
                Ok(_) => Ok(Conditional::Written),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Conditional::Refused),
                Err(error) => Err(error),
            }
        })
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
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_below_their_bounds() {
        let (min, max) = (Duration::from_millis(500), Duration::from_mins(1));
        for again in 0..40 {
            let bound = min.saturating_mul(1 << again.min(20)).min(max);
            assert!(jittered(min, max, again) <= bound);
        }
        let some: Vec<_> = (0..8).map(|_| jittered(min, max, 9)).collect();
        assert!(some.iter().any(|wait| *wait != some[0]), "they are drawn, not counted");
    }

    #[test]
    fn a_person_waits_for_three_tries_and_less_than_ten_seconds_between_them() {
        let brief = Patience::brief();
        // opendal's retries add up to as much again as jitter.
        let waits: Duration = (0..brief.again_max).map(|again| brief.wait_min * 2 * (1 << again)).sum();
        assert!(brief.again_max == 2 && waits <= Duration::from_secs(10), "{waits:?}");
        assert!(brief.silence == Duration::from_secs(15) && brief.wait_max < Patience::default().wait_max);
    }
}
