//! How much of each kept copy was read back, and how long ago.
//!
//! A copy's stored objects are cut into slices, a slice for each date of a round; each slice has the time it was last read.
//! What is promised is that every byte of every kept copy is read within one round, so a copy owes nothing while it is younger
//! than a round: a daily copy that leaves after 12 days never lives through one of 30.

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

    /// When all of it was last known to be good: every stored byte against its digest, or every file against the other copy.
    pub fn last_whole(&self) -> Option<Timestamp> {
        self.oldest_at.max(self.compared_at)
    }
}

/// Every byte of each of these was read within so many days; `None` where one was not, and of none.
fn days_of<'a>(mut copies: impl Iterator<Item = &'a CopyReading>, now: Timestamp) -> Option<i64> {
    let first = copies.next()?.oldest_at?;
    let oldest = copies.try_fold(first, |oldest, copy| Some(oldest.min(copy.oldest_at?)))?;
    Some(days_between(oldest, now))
}

/// Whole days from `at` to `now`, rounded up; 0 for what lies ahead.
fn days_between(at: Timestamp, now: Timestamp) -> i64 {
    (now.seconds_since(at).max(0) + DAY_S - 1) / DAY_S
}

impl Reading {
    /// The share of all slices of all copies that were read, per cent, rounded down; `None` without copies.
    pub fn percent(&self) -> Option<u64> {
        let all = u64::from(self.slices) * self.copies.len() as u64;
        let read: u64 = self.copies.iter().map(|copy| u64::from(copy.slices_read)).sum();
        (read * 100).checked_div(all)
    }

    /// Whether the copy is as old as a round: each of its bytes had its turn.
    fn is_due(&self, copy: &CopyReading, now: Timestamp) -> bool {
        now.seconds_since(copy.point.time()) >= i64::from(self.slices) * DAY_S
    }

    fn due(&self, now: Timestamp) -> impl Iterator<Item = &CopyReading> {
        self.copies.iter().filter(move |copy| self.is_due(copy, now))
    }

    /// Every byte of every copy that is as old as a round was read within so many days of `now`, rounded up; `None`
    /// while that is not so, and where no copy is so old.
    pub fn days(&self, now: Timestamp) -> Option<i64> {
        days_of(self.due(now), now)
    }

    /// Whether reading back keeps what a round promises.
    pub fn is_on_time(&self, now: Timestamp) -> bool {
        self.due(now).all(|copy| self.is_read(copy, now))
    }

    /// Whether each byte of the copy that had its turn was read in it.
    pub fn is_read(&self, copy: &CopyReading, now: Timestamp) -> bool {
        !self.is_due(copy, now) || copy.oldest_at.is_some_and(|at| days_between(at, now) <= i64::from(self.slices))
    }

    /// Why a copy is not known to be good, where it should be: it is as old as a round and was not wholly read or
    /// compared within one.
    pub fn lateness(&self, point: &PointId, mechanism: Side, now: Timestamp) -> Option<String> {
        let copy = self.due(now).find(|copy| copy.mechanism == mechanism && copy.point == *point)?;
        match copy.last_whole().map(|at| days_between(at, now)) {
            Some(days) if days <= i64::from(self.slices) => None,
            Some(days) => Some(format!("last read back whole {days} days ago")),
            None => Some(format!("only {} of {} parts were ever read back", copy.slices_read, self.slices)),
        }
    }

    /// What is known of one copy.
    pub fn of(&self, point: &PointId, mechanism: Side) -> Option<&CopyReading> {
        self.copies.iter().find(|copy| copy.mechanism == mechanism && copy.point == *point)
    }

    /// The whole in one sentence.
    pub fn sentence(&self, now: Timestamp) -> String {
        let Some(percent) = self.percent() else {
            return "no copy is kept yet, so there is nothing to read back".to_owned();
        };
        let (all, due, slices) = (self.copies.len(), self.due(now).count(), self.slices);
        let read = |days: i64| {
            let unit = if days == 1 { "day" } else { "days" };
            format!("was read back within the last {days} {unit}")
        };
        if let Some(days) = days_of(self.copies.iter(), now) {
            return format!("every stored byte of all {all} kept copies {}", read(days));
        }
        match self.days(now) {
            _ if due == 0 => format!(
                "none of the {all} kept copies is {slices} days old yet; {percent} % of their parts were read back"
            ),
            Some(days) => format!(
                "every stored byte of the {due} kept copies that are {slices} days old {}; {} are younger",
                read(days),
                all - due
            ),
            None => {
                let whole = self.due(now).filter(|copy| copy.is_whole()).count();
                format!(
                    "of {due} kept copies that are {slices} days old {whole} were read back whole, and {percent} % of the \
                     parts of all {all}"
                )
            }
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

    /// A moment, in days after the point; the point is of midnight of day 0.
    fn day(days: i64) -> Timestamp {
        copy(0, None).point.time().plus_seconds(days * DAY_S)
    }

    #[test]
    fn days_count_only_when_every_copy_that_is_old_enough_is_whole() {
        let check = |copies: Vec<CopyReading>, percent, days, is_on_time| {
            let (reading, now) = (Reading { slices: 30, copies }, day(40));
            let found = (reading.percent(), reading.days(now), reading.is_on_time(now));
            assert_eq!(found, (percent, days, is_on_time), "{}", reading.sentence(now));
        };
        let read = |days| copy(30, Some(day(days).seconds()));
        let young = || CopyReading { point: PointId::new("web".parse().unwrap(), day(20)), ..copy(3, None) };
        check(vec![], None, None, true);
        check(vec![read(39)], Some(100), Some(1), true);
        check(vec![read(39), copy(30, Some(day(38).seconds() - 1))], Some(100), Some(3), true);
        check(vec![read(39), copy(29, None)], Some(98), None, false);
        check(vec![copy(0, None)], Some(0), None, false);
        // A copy that is younger than a round owes nothing.
        check(vec![young()], Some(10), None, true);
        check(vec![young(), read(39)], Some(55), Some(1), true);
        // What was promised is a round, and one that was missed is late.
        check(vec![read(10)], Some(100), Some(30), true);
        check(vec![copy(30, Some(day(10).seconds() - 1))], Some(100), Some(31), false);
        // A reading from the future is fresh, not negative.
        check(vec![read(41)], Some(100), Some(0), true);
    }

    #[test]
    fn a_copy_is_late_when_neither_its_bytes_nor_its_files_were_read_whole_within_a_round() {
        let check = |copy: CopyReading, now, expected: Option<&str>| {
            let point = copy.point.clone();
            let reading = Reading { slices: 30, copies: vec![copy] };
            assert_eq!(reading.lateness(&point, Side::Block, now).as_deref(), expected);
            assert_eq!(reading.lateness(&point, Side::Archive, now), None, "there is no such copy");
        };
        check(copy(3, None), day(29), None);
        check(copy(3, None), day(30), Some("only 3 of 30 parts were ever read back"));
        check(copy(30, Some(day(5).seconds())), day(35), None);
        check(copy(30, Some(day(5).seconds())), day(36), Some("last read back whole 31 days ago"));
        check(CopyReading { compared_at: Some(day(10)), ..copy(3, None) }, day(36), None);
    }
}
