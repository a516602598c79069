//! Test double: another store, seen through a bad line.
//!
//! A script looks at each call and may spoil it. Used for sweeps ("for every n, spoil call n") and
//! for single mishaps ("the answer to the manifest's put is lost").

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;

use crate::contract::{
    Conditional, ErrorKind, Key, Lock, ObjectInfo, Operation, Purged, Receipt, Reply, Store, StoreError, Version,
};
use crate::digest;

/// A call, as the script sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// How many calls came before it.
    pub number: u64,
    /// What it asks for.
    pub operation: Operation,
    /// The key or prefix.
    pub object: &'a str,
}

/// A mishap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call never reaches the store and fails like this.
    Fail(ErrorKind),
    /// The store does as it is told, but its answer does not arrive: [`ErrorKind::Timeout`].
    LoseAnswer,
    /// The call reaches the store late.
    Slow(Duration),
    /// What is read is cut off after so many bytes.
    Truncate(usize),
    /// What is read has one byte inverted, at this place modulo its length.
    Flip(usize),
    /// What is put is stored with one byte inverted; the answer is that it was taken.
    Sink(usize),
}

type Script = Box<dyn Fn(Call<'_>) -> Option<Fault> + Send + Sync>;

/// The double.
pub struct FaultyStore {
    behind: Arc<dyn Store>,
    script: Script,
    calls: AtomicU64,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({:?})", self.behind)
    }
}

impl FaultyStore {
    /// `behind`, spoilt as `script` says.
    pub fn new(behind: Arc<dyn Store>, script: impl Fn(Call<'_>) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { behind, script: Box::new(script), calls: AtomicU64::default() }
    }

    /// `behind`, with one `fault` in call `number` (from 0).
    pub fn at_call(behind: Arc<dyn Store>, number: u64, fault: Fault) -> Self {
        Self::new(behind, move |call| Some(fault).filter(|_| call.number == number))
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn pass<'a, T: Spoil + Send + 'a>(
        &'a self,
        operation: Operation,
        object: &str,
        reply: Reply<'a, T>,
    ) -> Reply<'a, T> {
        self.spoil(self.next(operation, object), operation, object, reply)
    }

    /// What happens to the next call.
    fn next(&self, operation: Operation, object: &str) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        (self.script)(Call { number, operation, object })
    }

    fn spoil<'a, T: Spoil + Send + 'a>(
        &self,
        fault: Option<Fault>,
        operation: Operation,
        object: &str,
        reply: Reply<'a, T>,
    ) -> Reply<'a, T> {
        let failure =
            |kind| StoreError::new(kind, operation, self.behind.describe(), object).caused_by("a scripted mishap");
        match fault {
            None | Some(Fault::Sink(_)) => reply,
            Some(Fault::Fail(kind)) => Box::pin(std::future::ready(Err(failure(kind)))),
            Some(Fault::LoseAnswer) => lose(reply, failure(ErrorKind::Timeout)),
            Some(Fault::Slow(delay)) => Box::pin(async move {
                tokio::time::sleep(delay).await;
                reply.await
            }),
            Some(Fault::Truncate(len)) => Box::pin(map(reply, move |value| value.cut_off(len))),
            Some(Fault::Flip(at)) => Box::pin(map(reply, move |value| value.flipped(at))),
        }
    }
}

fn lose<'a, T: Send + 'a>(reply: Reply<'a, T>, failure: StoreError) -> Reply<'a, T> {
    Box::pin(async move { reply.await.and(Err(failure)) })
}

async fn map<T>(
    reply: impl Future<Output = Result<T, StoreError>>,
    change: impl FnOnce(T) -> T,
) -> Result<T, StoreError> {
    reply.await.map(change)
}

/// What truncation and flipping do to an answer: nothing, unless it is bytes.
trait Spoil: Sized {
    fn cut_off(self, _len: usize) -> Self {
        self
    }
    fn flipped(self, _at: usize) -> Self {
        self
    }
}

impl Spoil for () {}
impl Spoil for Purged {}
impl Spoil for Option<Vec<Version>> {}
impl Spoil for Receipt {}
impl Spoil for Conditional {}
impl Spoil for Option<ObjectInfo> {}
impl Spoil for Option<Lock> {}
impl Spoil for Vec<ObjectInfo> {}

impl Spoil for (Bytes, u64) {
    fn cut_off(self, len: usize) -> Self {
        (self.0.cut_off(len), self.1)
    }

    fn flipped(self, at: usize) -> Self {
        (self.0.flipped(at), self.1)
    }
}

impl Spoil for Bytes {
    fn cut_off(mut self, len: usize) -> Self {
        self.truncate(len);
        self
    }

    fn flipped(self, at: usize) -> Self {
        let mut bytes = Vec::from(self);
        let len = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at % len) {
            *byte = !*byte;
        }
        bytes.into()
    }
}

impl Store for FaultyStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Receipt> {
        let fault = self.next(Operation::Put, key.as_str());
        // A test double may not act before it is asked: the real call begins when it is awaited.
        let real = Box::pin(async move {
            let Some(Fault::Sink(at)) = fault else { return self.behind.put(key, body, sha256).await };
            let sunk = body.flipped(at);
            let sha256 = digest::sha256(&sunk);
            self.behind.put(key, sunk, sha256).await.map(|_| Receipt::Taken)
        });
        self.spoil(fault, Operation::Put, key.as_str(), real)
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Bytes> {
        let real = Box::pin(async move { self.behind.get(key).await });
        self.pass(Operation::Get, key.as_str(), real)
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Reply<'a, Bytes> {
        let real = Box::pin(async move { self.behind.get_range(key, offset, len).await });
        self.pass(Operation::Get, key.as_str(), real)
    }

    fn beginning<'a>(&'a self, key: &'a Key, len: u64) -> Reply<'a, (Bytes, u64)> {
        let real = Box::pin(async move { self.behind.beginning(key, len).await });
        self.pass(Operation::Get, key.as_str(), real)
    }

    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>> {
        let real = Box::pin(async move { self.behind.head(key).await });
        self.pass(Operation::Head, key.as_str(), real)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>> {
        let real = Box::pin(async move { self.behind.list(prefix, after).await });
        self.pass(Operation::List, prefix, real)
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        let real = Box::pin(async move { self.behind.delete(key).await });
        self.pass(Operation::Delete, key.as_str(), real)
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Reply<'a, Option<Vec<Version>>> {
        let real = Box::pin(async move { self.behind.versions(prefix).await });
        self.pass(Operation::List, prefix, real)
    }

    fn get_version<'a>(&'a self, key: &'a Key, version: &'a str, bytes_max: u64) -> Reply<'a, Bytes> {
        let real = Box::pin(async move { self.behind.get_version(key, version, bytes_max).await });
        self.pass(Operation::Get, key.as_str(), real)
    }

    fn purge<'a>(&'a self, key: &'a Key) -> Reply<'a, Purged> {
        let real = Box::pin(async move { self.behind.purge(key).await });
        self.pass(Operation::Delete, key.as_str(), real)
    }

    fn lock<'a>(&'a self, key: &'a Key, version: Option<&'a str>, lock: Lock) -> Reply<'a, ()> {
        let real = Box::pin(async move { self.behind.lock(key, version, lock).await });
        self.pass(Operation::Put, key.as_str(), real)
    }

    fn lock_of<'a>(&'a self, key: &'a Key, version: Option<&'a str>) -> Reply<'a, Option<Lock>> {
        let real = Box::pin(async move { self.behind.lock_of(key, version).await });
        self.pass(Operation::Head, key.as_str(), real)
    }

    fn clear_unfinished(&self, before: Timestamp, only_count: bool) -> Reply<'_, u64> {
        self.behind.clear_unfinished(before, only_count)
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Conditional> {
        let real = Box::pin(async move { self.behind.put_if_absent(key, body, sha256).await });
        self.pass(Operation::Put, key.as_str(), real)
    }

    fn now(&self) -> Timestamp {
        self.behind.now()
    }

    fn has_clock(&self) -> bool {
        self.behind.has_clock()
    }

    fn requests(&self) -> Requests {
        self.behind.requests()
    }

    fn describe(&self) -> String {
        self.behind.describe()
    }
}
