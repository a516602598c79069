//! The one place where the wall clock is read; everything else is handed the time.

use std::time::{SystemTime, UNIX_EPOCH};

use dualsync_model::time::Timestamp;

/// The time now, to the nanosecond, as the system's wall clock tells it.
pub fn now() -> Timestamp {
    let (seconds, nanos) = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        // A clock before 1970 is wrong by decades: the fraction does not matter any more.
        Err(before) => (i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s), 0),
    };
    Timestamp::new(seconds, nanos).unwrap_or(Timestamp::from_seconds(seconds))
}
