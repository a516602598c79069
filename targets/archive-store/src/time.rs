//! A clock that is set by others and only runs on here.
//!
//! It is set by the job, then by each answer that carries the store's time, and advanced by
//! `CLOCK_BOOTTIME` (clock_gettime(2)), which nobody can set and which counts suspended time.

use std::sync::{Mutex, PoisonError};

use dualsync_model::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The time as it was last told.
#[derive(Debug)]
pub(crate) struct ToldTime(Mutex<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    /// The told time minus the boot-time clock at that moment.
    booted_at: Timestamp,
    from_store: bool,
}

impl ToldTime {
    /// Set by the job.
    pub(crate) fn from_job(now: Timestamp) -> Self {
        Self(Mutex::new(State { booted_at: now.plus_seconds(-since_boot()), from_store: false }))
    }

    /// Set by the store.
    pub(crate) fn set_by_store(&self, now: Timestamp) {
        let state = State { booted_at: now.plus_seconds(-since_boot()), from_store: true };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The time at this moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.state().booted_at.plus_seconds(since_boot())
    }

    /// Whether a store has set it.
    pub(crate) fn is_from_store(&self) -> bool {
        self.state().from_store
    }

    fn state(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since_boot() -> i64 {
    clock_gettime(ClockId::Boottime).tv_sec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_the_stores() {
        let time = ToldTime::from_job(Timestamp::from_seconds(90));
        let near = |seconds| (0..30).contains(&time.now().seconds_since(Timestamp::from_seconds(seconds)));
        assert!(near(90) && !time.is_from_store());
        time.set_by_store(Timestamp::from_seconds(50));
        assert!(near(50) && time.is_from_store());
    }
}
