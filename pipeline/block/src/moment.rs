//! How long something took, by two clocks: a deadline that rests on one of them can be missed unnoticed.
//!
//! The boot-time clock (clock_gettime(2), `CLOCK_BOOTTIME`) cannot be set and runs on while the host sleeps. The
//! store's is what marks are judged by: when it jumps ahead, they have grown old for everybody.

use dualsync_block_store::contract::Store;
use dualsync_model::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    boot_s: u64,
    store: Timestamp,
    has_clock: bool,
}

impl Moment {
    /// This moment.
    pub fn now(store: &dyn Store) -> Self {
        Self { boot_s: boot_seconds(), store: store.now(), has_clock: store.has_clock() }
    }

    /// Seconds since then, by the clock that counted more.
    pub fn elapsed_s(&self, store: &dyn Store) -> u64 {
        let by_boot = boot_seconds().saturating_sub(self.boot_s);
        // The job's time and the store's cannot be compared: only two answers of one clock can.
        let by_store = if self.has_clock == store.has_clock() { store.now().seconds_since(self.store) } else { 0 };
        by_boot.max(u64::try_from(by_store).unwrap_or(0))
    }

    /// The time that was `then` at this moment, moved on by the boot-time clock.
    pub fn moved_on(&self, then: Timestamp) -> Timestamp {
        let passed = boot_seconds().saturating_sub(self.boot_s);
        then.plus_seconds(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

fn boot_seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dualsync_block_store::memory::MemoryStore;

    #[test]
    fn the_clock_that_counted_more_wins_and_other_clocks_are_not_compared() {
        let store = MemoryStore::new(Timestamp::from_seconds(1_000));
        let by_job = Moment::now(&store);
        store.set_now(Timestamp::from_seconds(9_000));
        assert!(by_job.elapsed_s(&store) < 60, "the job's clock is not the store's");
        let by_store = Moment::now(&store);
        store.set_now(Timestamp::from_seconds(9_500));
        assert!((500..560).contains(&by_store.elapsed_s(&store)));
        store.set_now(Timestamp::from_seconds(1_000));
        assert!(by_store.elapsed_s(&store) < 60, "a clock that was set back hides nothing");
    }
}
