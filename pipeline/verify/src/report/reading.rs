//! How much of each kept copy was read back, and how long ago.
//!
//! A copy's stored objects are cut into slices; each slice has the time it was last read. "Every byte of every
//! kept point was read within N days" holds when no copy has a slice that was never read, and N is the age of the
//! slice whose last reading is the oldest.

use dualsync_model::id::PointId;
use dualsync_model::time::{Date, Timestamp};
use serde::Serialize;

use crate::side::Side;

/// Seconds in a day.
const DAY_S: i64 = 86_400;

/// All kept copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// Into how many slices the rotation cuts the stored objects.
    pub slices: u32,
    /// One entry for each kept copy, newest point first.
    pub copies: Vec<CopyReading>,
}

/// One kept copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyReading {
    /// The point.
    pub point: PointId,
    /// The date it counts for.
    pub business_date: Date,
    /// Which copy.
    pub mechanism: Side,
    /// When all its files were last read back and compared with the other copy.
    pub compared_at: Option<Timestamp>,
    /// Slices whose stored objects were read against their digests.
    pub slices_read: u32,
    /// The last reading of the slice that waits longest; absent while a slice was never read.
    pub oldest_at: Option<Timestamp>,
}

impl CopyReading {
    /// Whether every stored byte was read at least once.
    pub const fn is_whole(&self) -> bool {
        self.oldest_at.is_some()
    }
}

impl Reading {
    /// The share of all slices of all copies that were read, per cent, rounded down; `None` without copies.
    pub fn percent(&self) -> Option<u64> {
        let all = u64::from(self.slices) * self.copies.len() as u64;
        let read: u64 = self.copies.iter().map(|copy| u64::from(copy.slices_read)).sum();
        (read * 100).checked_div(all)
    }

    /// Copies of which every byte was read.
    pub fn whole(&self) -> usize {
        self.copies.iter().filter(|copy| copy.is_whole()).count()
    }

    /// Every byte of every kept copy was read within so many days of `now`, rounded up; `None` while that is not so.
    pub fn days(&self, now: Timestamp) -> Option<i64> {
        if self.copies.is_empty() || self.whole() < self.copies.len() {
            return None;
        }
        let oldest = self.copies.iter().filter_map(|copy| copy.oldest_at).min()?;
        Some((now.seconds_since(oldest).max(0) + DAY_S - 1) / DAY_S)
    }

    /// What is known of one copy.
    pub fn of(&self, point: &PointId, mechanism: Side) -> Option<&CopyReading> {
        self.copies.iter().find(|copy| copy.mechanism == mechanism && copy.point == *point)
    }

    /// The whole in one sentence.
    pub fn sentence(&self, now: Timestamp) -> String {
        match (self.percent(), self.days(now)) {
            (None, _) => "no copy is kept yet, so there is nothing to read back".to_owned(),
            (Some(_), Some(days)) => format!(
                "every stored byte of all {} kept copies was read back within the last {days} {}",
                self.copies.len(),
                if days == 1 { "day" } else { "days" }
            ),
            (Some(percent), None) => format!(
                "{percent} % of the stored bytes of the kept copies were read back; {} of {} copies whole",
                self.whole(),
                self.copies.len()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(slices_read: u32, oldest: Option<i64>) -> CopyReading {
        CopyReading {
            point: "web@20261120T020000Z".parse().unwrap(),
            business_date: "2026-11-19".parse().unwrap(),
            mechanism: Side::Block,
            compared_at: None,
            slices_read,
            oldest_at: oldest.map(Timestamp::from_seconds),
        }
    }

    #[test]
    fn days_count_only_when_every_copy_is_whole() {
        let now = Timestamp::from_seconds(10 * DAY_S);
        let check = |copies: Vec<CopyReading>, percent, days| {
            let reading = Reading { slices: 30, copies };
            assert_eq!((reading.percent(), reading.days(now)), (percent, days), "{}", reading.sentence(now));
        };
        check(vec![], None, None);
        check(vec![copy(30, Some(9 * DAY_S))], Some(100), Some(1));
        check(vec![copy(30, Some(9 * DAY_S)), copy(30, Some(8 * DAY_S - 1))], Some(100), Some(3));
        check(vec![copy(30, Some(9 * DAY_S)), copy(29, None)], Some(98), None);
        check(vec![copy(0, None)], Some(0), None);
        // A reading from the future is fresh, not negative.
        check(vec![copy(30, Some(11 * DAY_S))], Some(100), Some(0));
    }
}
