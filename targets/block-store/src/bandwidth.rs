//! Holds a store to so many bytes a second, up and down together.
//!
//! One bucket of tokens for a target (governor's GCRA, ITU-T I.371). A write is paid for before it
//! is sent, in portions no larger than the bucket, so an object of any size passes any limit; a
//! read is paid for when its size is known, before the next call gets through. So the limit holds
//! as a mean over seconds; a single object leaves at the speed of the line.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::contract::{Answer, Key, ObjectInfo, ObjectLock, Seen, Setting, Store, Version};
use crate::pause::Pause;

/// Bytes of one token. governor keeps the time of a token in whole nanoseconds, so tokens of one
/// byte would let a gigabyte a second pass where 600 MB were meant.
const TOKEN_BYTES: u64 = 1024;

/// A store with a limit.
#[derive(Debug)]
pub struct LimitedStore<C: Clock = MonotonicClock> {
    inner: Arc<dyn Store>,
    tokens: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    portion: u32,
    pause: Pause,
}

impl LimitedStore {
    /// `inner`, limited to `bytes_per_second`, rounded down to KiB and at least one.
    pub fn new(inner: Arc<dyn Store>, bytes_per_second: u64) -> Self {
        Self::with_clock(inner, bytes_per_second, MonotonicClock, Pause::real())
    }
}

impl<C: Clock + Clone> LimitedStore<C> {
    /// As [`LimitedStore::new`], by another clock.
    pub fn with_clock(inner: Arc<dyn Store>, bytes_per_second: u64, clock: C, pause: Pause) -> Self {
        let rate = u32::try_from(bytes_per_second / TOKEN_BYTES).unwrap_or(u32::MAX);
        let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
        let tokens = RateLimiter::direct_with_clock(Quota::per_second(rate), clock.clone());
        Self { inner, tokens, clock, portion: rate.get(), pause }
    }

    /// Waits until `bytes` may pass.
    async fn pay(&self, bytes: u64) {
        let mut due = bytes.div_ceil(TOKEN_BYTES);
        while let Some(portion) = NonZeroU32::new(u32::try_from(due).unwrap_or(u32::MAX).min(self.portion)) {
            match self.tokens.check_n(portion) {
                Ok(Ok(())) => due -= u64::from(portion.get()),
                Ok(Err(early)) => self.pause.pass(early.wait_time_from(self.clock.now())).await,
                // A portion is never larger than the bucket; if it were, nothing could be waited for.
                Err(_) => return,
            }
        }
    }
}

impl<C: Clock + Clone + fmt::Debug + Send + Sync> Store for LimitedStore<C>
where
    C::Instant: Send + Sync,
{
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.pay(body.len() as u64).await;
            self.inner.put(key, body, sha256).await
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let body = self.inner.get(key).await?;
            self.pay(body.len() as u64).await;
            Ok(body)
        })
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let body = self.inner.get_range(key, offset, len).await?;
            self.pay(body.len() as u64).await;
            Ok(body)
        })
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        self.inner.head(key)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        self.inner.list(prefix, after)
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        self.inner.delete(key)
    }

    fn clear_leftovers(&self) -> Answer<'_, u64> {
        self.inner.clear_leftovers()
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        self.inner.put_if_absent(key, body, sha256)
    }

    fn setting<'a>(&'a self, setting: Setting, scratch: &'a Key) -> Answer<'a, Seen> {
        self.inner.setting(setting, scratch)
    }

    fn keeps_versions(&self) -> Answer<'_, bool> {
        self.inner.keeps_versions()
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Answer<'a, Vec<Version>> {
        self.inner.versions(prefix)
    }

    fn get_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let body = self.inner.get_version(key, id).await?;
            self.pay(body.len() as u64).await;
            Ok(body)
        })
    }

    fn delete_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, ()> {
        self.inner.delete_version(key, id)
    }

    fn put_locked<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32], lock: ObjectLock) -> Answer<'a, ()> {
        Box::pin(async move {
            self.pay(body.len() as u64).await;
            self.inner.put_locked(key, body, sha256, lock).await
        })
    }

    fn lock_of<'a>(&'a self, key: &'a Key, id: Option<&'a str>) -> Answer<'a, Option<ObjectLock>> {
        self.inner.lock_of(key, id)
    }

    fn extend_lock<'a>(&'a self, key: &'a Key, id: Option<&'a str>, lock: ObjectLock) -> Answer<'a, ()> {
        self.inner.extend_lock(key, id, lock)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use crate::digest::sha256;
    use crate::memory::MemoryStore;

    /// How long one put and one get of `size` bytes have to wait at `rate`.
    async fn waited(size: usize, rate: u64) -> (Duration, Duration) {
        let clock = FakeRelativeClock::default();
        let waited = Arc::new(Mutex::new(Duration::ZERO));
        let (hand, sum) = (clock.clone(), Arc::clone(&waited));
        let pause = Pause::new(move |wait| {
            hand.advance(wait);
            *sum.lock().unwrap() += wait;
            Box::pin(std::future::ready(()))
        });
        let memory = Arc::new(MemoryStore::new(Timestamp::default()));
        let store = LimitedStore::with_clock(memory, rate, clock, pause);
        let (key, body) = (Key::new("k").unwrap(), Bytes::from(vec![7; size]));
        store.put(&key, body.clone(), sha256(&body)).await.unwrap();
        let put = *waited.lock().unwrap();
        assert_eq!(store.get(&key).await.unwrap(), body);
        let both = *waited.lock().unwrap();
        (put, both.saturating_sub(put))
    }

    #[tokio::test]
    async fn an_object_many_times_larger_than_the_bucket_passes_at_the_rate() {
        let (put, get) = waited(64 << 20, 1 << 20).await;
        // The bucket is full at the beginning: the first second is free.
        assert!(put.abs_diff(Duration::from_secs(63)) < Duration::from_millis(10), "{put:?}");
        assert!(get.abs_diff(Duration::from_secs(64)) < Duration::from_millis(10), "{get:?}");
    }

    #[tokio::test]
    async fn what_fits_into_the_bucket_does_not_wait() {
        assert_eq!(waited(1000, 2048).await, (Duration::ZERO, Duration::ZERO));
        assert_eq!(waited(0, 1).await, (Duration::ZERO, Duration::ZERO));
        assert_eq!(waited(1000, u64::MAX).await, (Duration::ZERO, Duration::ZERO));
    }
}
