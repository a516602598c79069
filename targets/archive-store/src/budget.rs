//! A budget of bytes a second for a store, both ways together.
//!
//! Built on one governor bucket that holds a second's worth. opendal's own throttle layer refuses
//! buffers larger than its bucket; here an object draws its bytes in shares, so that 64 MiB pass a
//! limit of 1 MiB a second in 64 seconds. Writes draw before they are sent, reads after they came
//! in, which holds back whoever comes next.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::contract::{Conditional, Key, Lock, ObjectInfo, Purged, Receipt, Reply, Store, Version};

/// The bucket counts KiB: governor rounds the time of one unit to whole nanoseconds, which for
/// single bytes would be far off at high rates.
const UNIT: u64 = 1024;

type Bucket<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A store within a budget.
#[derive(Debug)]
pub struct BudgetedStore {
    behind: Arc<dyn Store>,
    bucket: Bucket<MonotonicClock>,
    size: NonZeroU32,
}

impl BudgetedStore {
    /// `behind`, at `bytes_per_second`, in whole KiB and at least one.
    pub fn new(behind: Arc<dyn Store>, bytes_per_second: u64) -> Self {
        let size = units_per_second(bytes_per_second);
        Self { behind, bucket: RateLimiter::direct_with_clock(Quota::per_second(size), MonotonicClock), size }
    }

    async fn draw(&self, bytes: usize) {
        let mut due = (bytes as u64).div_ceil(UNIT);
        while let Some(wait) = draw_share(&self.bucket, &MonotonicClock, self.size, &mut due) {
            tokio::time::sleep(wait).await;
        }
    }
}

fn units_per_second(bytes_per_second: u64) -> NonZeroU32 {
    let units = u32::try_from(bytes_per_second / UNIT).unwrap_or(u32::MAX);
    NonZeroU32::new(units).unwrap_or(NonZeroU32::MIN)
}

/// Draws as many of the `due` units as there are, by shares of at most `size`; then says how long to
/// wait before drawing on, or `None` when nothing is due any more.
fn draw_share<C: Clock>(bucket: &Bucket<C>, clock: &C, size: NonZeroU32, due: &mut u64) -> Option<Duration> {
    loop {
        let share = NonZeroU32::new(u32::try_from(*due).unwrap_or(u32::MAX).min(size.get()))?;
        match bucket.check_n(share) {
            Ok(Ok(())) => *due -= u64::from(share.get()),
            Ok(Err(early)) => return Some(early.wait_time_from(clock.now())),
            // Only a share larger than the bucket ends here, and there is none.
            Err(_) => return None,
        }
    }
}

impl Store for BudgetedStore {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Receipt> {
        Box::pin(async move {
            self.draw(body.len()).await;
            self.behind.put(key, body, sha256).await
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Bytes> {
        Box::pin(async move {
            let body = self.behind.get(key).await?;
            self.draw(body.len()).await;
            Ok(body)
        })
    }

    fn get_at_most<'a>(&'a self, key: &'a Key, bytes_max: u64) -> Reply<'a, Bytes> {
        Box::pin(async move {
            let body = self.behind.get_at_most(key, bytes_max).await?;
            self.draw(body.len()).await;
            Ok(body)
        })
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Reply<'a, Bytes> {
        Box::pin(async move {
            let body = self.behind.get_range(key, offset, len).await?;
            self.draw(body.len()).await;
            Ok(body)
        })
    }

    fn beginning<'a>(&'a self, key: &'a Key, len: u64) -> Reply<'a, (Bytes, u64)> {
        Box::pin(async move {
            let (body, size) = self.behind.beginning(key, len).await?;
            self.draw(body.len()).await;
            Ok((body, size))
        })
    }

    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>> {
        self.behind.head(key)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>> {
        self.behind.list(prefix, after)
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        self.behind.delete(key)
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Reply<'a, Option<Vec<Version>>> {
        self.behind.versions(prefix)
    }

    fn get_version<'a>(&'a self, key: &'a Key, version: &'a str, bytes_max: u64) -> Reply<'a, Bytes> {
        Box::pin(async move {
            let body = self.behind.get_version(key, version, bytes_max).await?;
            self.draw(body.len()).await;
            Ok(body)
        })
    }

    fn purge<'a>(&'a self, key: &'a Key) -> Reply<'a, Purged> {
        self.behind.purge(key)
    }

    fn lock<'a>(&'a self, key: &'a Key, version: Option<&'a str>, lock: Lock) -> Reply<'a, ()> {
        self.behind.lock(key, version, lock)
    }

    fn lock_of<'a>(&'a self, key: &'a Key, version: Option<&'a str>) -> Reply<'a, Option<Lock>> {
        self.behind.lock_of(key, version)
    }

    fn clear_unfinished(&self, before: Timestamp, only_count: bool) -> Reply<'_, u64> {
        self.behind.clear_unfinished(before, only_count)
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Conditional> {
        self.behind.put_if_absent(key, body, sha256)
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

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    use crate::digest::sha256;
    use crate::memory::MemoryStore;

    /// Seconds on the clock until `bytes` have passed `rate`.
    fn seconds(bytes: u64, rate: u64) -> f64 {
        let (clock, size) = (FakeRelativeClock::default(), units_per_second(rate));
        let bucket = RateLimiter::direct_with_clock(Quota::per_second(size), clock.clone());
        let (mut due, mut waited) = (bytes.div_ceil(UNIT), Duration::ZERO);
        while let Some(wait) = draw_share(&bucket, &clock, size, &mut due) {
            clock.advance(wait);
            waited += wait;
        }
        waited.as_secs_f64()
    }

    #[test]
    fn an_object_takes_its_size_by_the_rate_less_the_first_second() {
        let check = |bytes, rate, expected: f64| {
            let found = seconds(bytes, rate);
            assert!((found - expected).abs() < 0.05 * expected.max(0.01), "{bytes} at {rate}: {found}");
        };
        check(64 << 20, 1 << 20, 63.0);
        check(64 << 20, 1_000_000, 66.2);
        check(10 << 30, 1 << 30, 9.0);
        check(1 << 20, 1 << 20, 0.0);
        check(0, 1, 0.0);
        check(5 * 1024, 0, 4.0);
    }

    #[tokio::test]
    async fn a_store_within_its_budget_is_the_same_store() {
        let store = BudgetedStore::new(Arc::new(MemoryStore::new(Timestamp::default())), 1 << 30);
        let key = Key::new("k").unwrap();
        store.put(&key, Bytes::from_static(b"abc"), sha256(b"abc")).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), b"abc"[..]);
        assert_eq!(store.get_range(&key, 1, 1).await.unwrap(), b"b"[..]);
        assert_eq!((store.requests().put, store.requests().get), (1, 2));
    }
}
