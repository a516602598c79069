//! A moment after which something must not be done any more.
//!
//! By the boot-time clock, which nobody can set and which does not stop while the host sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The moment.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    boot: i64,
}

/// It has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

impl Deadline {
    /// So many seconds from now.
    pub fn after(seconds: i64) -> Self {
        Self { boot: boot_seconds().saturating_add(seconds) }
    }

    /// Does `work` in time, or gives it up, so that no later try of it can still arrive. Timers stand still while
    /// the host sleeps, so the clock is looked at too.
    pub async fn keep<T>(self, work: impl Future<Output = T>) -> Result<T, Late> {
        let left = u64::try_from(self.boot - boot_seconds()).map_err(|_| Late)?;
        let done = tokio::time::timeout(Duration::from_secs(left), work).await.map_err(|_| Late)?;
        if boot_seconds() > self.boot { Err(Late) } else { Ok(done) }
    }
}

/// Seconds since this host was started, sleep included: what limits of the protocol are measured with.
pub fn boot_seconds() -> i64 {
    clock_gettime(ClockId::Boottime).tv_sec
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn what_is_not_done_in_time_is_given_up() {
        assert_eq!(Deadline::after(3_600).keep(ready(7)).await, Ok(7));
        assert_eq!(Deadline::after(0).keep(pending::<()>()).await, Err(Late));
        assert_eq!(Deadline::after(-1).keep(ready(7)).await, Err(Late));
    }
}
