//! Business dates and due dates.
//!
//! A scheduled run and its retries carry the business date of their slot. Slots are computed
//! outside, where the time zone is known, and come in as plain data. Nothing here reads a clock.

use dualsync_model::time::{Date, Timestamp};

/// The hours a scheduled run may take before its date counts as due.
pub const DUE_TOLERANCE_S: i64 = 4 * 3600;

/// One scheduled run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The moment the run is to begin.
    pub at: Timestamp,
    /// The business date its points count for.
    pub date: Date,
    /// The moment from which a missing point is a gap: [`Slot::at`] and the tolerance.
    pub due_at: Timestamp,
}

/// The business date of a moment that the clock on the wall shows as `date` and `second_of_day`.
///
/// Before the cut-off it is the day before: a run at three in the night belongs to yesterday.
pub const fn business_date(date: Date, second_of_day: u32, cutoff_second: u32) -> Date {
    if second_of_day < cutoff_second { date.plus_days(-1) } else { date }
}

/// The last date whose run and tolerance are over at `now`. With several slots a date, the first decides.
pub fn last_due(slots: &[Slot], now: Timestamp) -> Option<Date> {
    slots.iter().filter(|slot| slot.due_at <= now).map(|slot| slot.date).max()
}

/// The date a run carries that begins at `now` because of its schedule: that of the last slot that has begun.
///
/// `None` before the first slot. A retry within the day finds the same slot and so the same date.
pub fn date_of_scheduled_run(slots: &[Slot], now: Timestamp) -> Option<Date> {
    slots.iter().filter(|slot| slot.at <= now).max_by_key(|slot| slot.at).map(|slot| slot.date)
}

/// The date a run carries that someone starts by hand: the last due one while it has no good point, else `today`.
///
/// Only the last due date is mended so. An older gap stays a gap: today's data is not that day's.
pub fn date_of_unscheduled_run(slots: &[Slot], now: Timestamp, today: Date, good: impl Fn(Date) -> bool) -> Date {
    last_due(slots, now).filter(|date| !good(*date)).unwrap_or(today)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn slot(at: &str, day: &str) -> Slot {
        let at = time(at);
        Slot { at, date: date(day), due_at: at.plus_seconds(DUE_TOLERANCE_S) }
    }

    fn nights() -> Vec<Slot> {
        vec![
            slot("2026-11-19T01:00:00Z", "2026-11-18"),
            slot("2026-11-20T01:00:00Z", "2026-11-19"),
            slot("2026-11-21T01:00:00Z", "2026-11-20"),
        ]
    }

    #[test]
    fn the_cutoff_itself_begins_the_new_date() {
        let noon = 12 * 3600;
        let check = |second, expected: &str| {
            assert_eq!(business_date(date("2026-03-01"), second, noon), date(expected));
        };
        check(0, "2026-02-28");
        check(noon - 1, "2026-02-28");
        check(noon, "2026-03-01");
        check(86_399, "2026-03-01");
        assert_eq!(business_date(date("2024-03-01"), 0, noon), date("2024-02-29"));
        assert_eq!(business_date(date("2026-03-01"), 0, 0), date("2026-03-01"));
    }

    #[test]
    fn a_date_is_due_when_its_tolerance_is_over_and_not_before() {
        let check = |now: &str, expected: Option<&str>| {
            assert_eq!(last_due(&nights(), time(now)), expected.map(date), "{now}");
        };
        check("2026-11-19T04:59:59Z", None);
        check("2026-11-19T05:00:00Z", Some("2026-11-18"));
        check("2026-11-21T04:59:59Z", Some("2026-11-19"));
        check("2026-12-24T00:00:00Z", Some("2026-11-20"));
    }

    #[test]
    fn a_retry_carries_the_date_of_its_slot() {
        let check = |now: &str, expected: Option<&str>| {
            assert_eq!(date_of_scheduled_run(&nights(), time(now)), expected.map(date), "{now}");
        };
        check("2026-11-19T00:59:59Z", None);
        check("2026-11-20T01:00:00Z", Some("2026-11-19"));
        check("2026-11-20T23:30:00Z", Some("2026-11-19"));
        check("2026-11-21T01:00:00Z", Some("2026-11-20"));
    }

    #[test]
    fn a_run_by_hand_mends_the_last_due_date_only() {
        let check = |good: &[&str], expected: &str| {
            let found =
                date_of_unscheduled_run(&nights(), time("2026-11-20T13:00:00Z"), date("2026-11-20"), |day: Date| {
                    good.contains(&day.to_string().as_str())
                });
            assert_eq!(found, date(expected), "{good:?}");
        };
        check(&["2026-11-18"], "2026-11-19");
        check(&["2026-11-18", "2026-11-19"], "2026-11-20");
        check(&["2026-11-19"], "2026-11-20");
    }
}
