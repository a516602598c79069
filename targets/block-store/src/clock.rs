//! The time by a store's clock: the last moment it told, moved on by the boot-time clock.
//!
//! The boot-time clock (`CLOCK_BOOTTIME`, clock_gettime(2)) runs on while the host sleeps, cannot
//! be set, and is the only local clock read here.

use std::sync::{Mutex, PoisonError};

use dualsync_model::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// A clock that was told the time at one moment.
#[derive(Debug)]
pub(crate) struct Clock {
    told: Mutex<Told>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    time: Timestamp,
    boot_s: i64,
    by_store: bool,
}

impl Clock {
    /// A clock that was told the time by the job only.
    pub(crate) fn new(job_now: Timestamp) -> Self {
        Self { told: Mutex::new(Told { time: job_now, boot_s: boot_seconds(), by_store: false }) }
    }

    /// The store has just said what time it is.
    pub(crate) fn hear(&self, store_time: Timestamp) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) =
            Told { time: store_time, boot_s: boot_seconds(), by_store: true };
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        let told = self.told();
        told.time.plus_seconds(boot_seconds().saturating_sub(told.boot_s))
    }

    /// Whether the store has told its time.
    pub(crate) fn by_store(&self) -> bool {
        self.told().by_store
    }

    fn told(&self) -> Told {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn boot_seconds() -> i64 {
    clock_gettime(ClockId::Boottime).tv_sec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_overrides_the_job_and_time_moves_on() {
        let clock = Clock::new(Timestamp::from_seconds(1_000));
        assert!(!clock.by_store());
        assert!((0..60).contains(&clock.now().seconds_since(Timestamp::from_seconds(1_000))));
        clock.hear(Timestamp::from_seconds(5_000));
        assert!(clock.by_store());
        assert!((0..60).contains(&clock.now().seconds_since(Timestamp::from_seconds(5_000))));
    }
}
