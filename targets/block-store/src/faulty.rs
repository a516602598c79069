//! A store whose calls go wrong on purpose: the test double for "what if the n-th call fails".
//!
//! It wraps another store and asks a plan what to do with each call. It decides nothing by itself
//! and keeps no bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;

use crate::contract::{
    Answer, ErrorKind, Key, ObjectInfo, ObjectLock, Operation, Seen, Setting, Store, StoreError, Version,
};

/// One call, as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Its place among all calls, from 0.
    pub number: u64,
    /// What was asked.
    pub operation: Operation,
    /// The key or prefix it was asked of.
    pub object: &'a str,
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing was done.
    Fail(ErrorKind),
    /// It is carried out, then the answer is lost: [`ErrorKind::Timeout`].
    LoseAnswer,
    /// It is carried out after this time.
    Slow(Duration),
    /// A read brings only this many bytes. Other calls are carried out.
    Truncate(usize),
    /// A read brings this byte (modulo the length) with all bits turned. Other calls are carried out.
    Flip(usize),
}

type Plan = dyn Fn(Call<'_>) -> Option<Fault> + Send + Sync;

/// A store with a plan of faults.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Box<Plan>,
    calls: AtomicU64,
}

impl FaultyStore {
    /// `inner`, with the faults that `plan` picks; `None` leaves a call alone.
    pub fn new(inner: Arc<dyn Store>, plan: impl Fn(Call<'_>) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { inner, plan: Box::new(plan), calls: AtomicU64::new(0) }
    }

    /// `inner`, with one fault at call `number`, counted from 0.
    pub fn at_call(inner: Arc<dyn Store>, number: u64, fault: Fault) -> Self {
        Self::new(inner, move |call| (call.number == number).then_some(fault))
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn call<T>(
        &self,
        operation: Operation,
        object: &str,
        answer: Answer<'_, T>,
        bend: impl FnOnce(T, Fault) -> T,
    ) -> Result<T, StoreError> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let error = |kind| StoreError::new(kind, operation, self.describe(), object).because("a planned fault");
        match (self.plan)(Call { number, operation, object }) {
            None => answer.await,
            Some(Fault::Fail(kind)) => Err(error(kind)),
            Some(Fault::LoseAnswer) => {
                answer.await?;
                Err(error(ErrorKind::Timeout))
            }
            Some(Fault::Slow(wait)) => {
                tokio::time::sleep(wait).await;
                answer.await
            }
            Some(fault) => Ok(bend(answer.await?, fault)),
        }
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

fn straight<T>(value: T, _: Fault) -> T {
    value
}

fn bent(body: Bytes, fault: Fault) -> Bytes {
    match fault {
        Fault::Truncate(len) => body.slice(..len.min(body.len())),
        Fault::Flip(at) if !body.is_empty() => {
            let mut bytes = body.to_vec();
            bytes[at % body.len()] ^= 0xff;
            bytes.into()
        }
        _ => body,
    }
}

impl Store for FaultyStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        Box::pin(self.call(Operation::Put, key.as_str(), self.inner.put(key, body, sha256), straight))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        Box::pin(self.call(Operation::Get, key.as_str(), self.inner.get(key), bent))
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        Box::pin(self.call(Operation::Get, key.as_str(), self.inner.get_range(key, offset, len), bent))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        Box::pin(self.call(Operation::Head, key.as_str(), self.inner.head(key), straight))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        Box::pin(self.call(Operation::List, prefix, self.inner.list(prefix, after), straight))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        Box::pin(self.call(Operation::Delete, key.as_str(), self.inner.delete(key), straight))
    }

    fn clear_leftovers(&self) -> Answer<'_, u64> {
        Box::pin(self.call(Operation::Delete, "", self.inner.clear_leftovers(), straight))
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        Box::pin(self.call(Operation::Put, key.as_str(), self.inner.put_if_absent(key, body, sha256), straight))
    }

    fn setting<'a>(&'a self, setting: Setting, scratch: &'a Key) -> Answer<'a, Seen> {
        Box::pin(self.call(Operation::Setting, scratch.as_str(), self.inner.setting(setting, scratch), straight))
    }

    fn keeps_versions(&self) -> Answer<'_, bool> {
        Box::pin(self.call(Operation::Setting, "", self.inner.keeps_versions(), straight))
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Answer<'a, Vec<Version>> {
        Box::pin(self.call(Operation::List, prefix, self.inner.versions(prefix), straight))
    }

    fn get_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, Bytes> {
        Box::pin(self.call(Operation::Get, key.as_str(), self.inner.get_version(key, id), bent))
    }

    fn delete_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.call(Operation::Delete, key.as_str(), self.inner.delete_version(key, id), straight))
    }

    fn put_locked<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32], lock: ObjectLock) -> Answer<'a, ()> {
        Box::pin(self.call(Operation::Put, key.as_str(), self.inner.put_locked(key, body, sha256, lock), straight))
    }

    fn lock_of<'a>(&'a self, key: &'a Key, id: Option<&'a str>) -> Answer<'a, Option<ObjectLock>> {
        Box::pin(self.call(Operation::Head, key.as_str(), self.inner.lock_of(key, id), straight))
    }

    fn extend_lock<'a>(&'a self, key: &'a Key, id: Option<&'a str>, lock: ObjectLock) -> Answer<'a, ()> {
        Box::pin(self.call(Operation::Put, key.as_str(), self.inner.extend_lock(key, id, lock), straight))
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
