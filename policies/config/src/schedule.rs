//! When a source runs: cron or OnCalendar, in the time zone of the configuration.
//!
//! Slots come out as plain moments and business dates, so that `dualsync-rules` needs no time zone
//! database. A local time that a change of clocks skips has its slot within the hour after the change,
//! so that no date is without one (systemd itself would skip that night); a time that comes twice has
//! one slot, the first.

use std::str::FromStr;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::schedule::{Slot, business_date};
use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::calendar::OnCalendar;

/// A schedule as it was typed and as it was understood.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Cron(Box<Cron>),
    OnCalendar(OnCalendar),
}

/// A text that is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither form.
    #[error(
        "expected cron with five fields like \"0 3 * * *\" or OnCalendar like \"Mon..Fri *-*-* 03:00\", with one number for the minute, found \"{0}\""
    )]
    Unknown(String),
    /// 30 February.
    #[error("expected a schedule that runs at some time, \"{0}\" never does")]
    Never(String),
}

/// Business dates: a time zone, where a date begins in it, and when a date is due.
#[derive(Clone, Debug)]
pub struct BusinessDays {
    /// The time zone.
    pub zone: TimeZone,
    /// Seconds after midnight before which a run belongs to the day before.
    pub cutoff_s: u32,
    /// Seconds from a scheduled run to the moment its date is due.
    pub tolerance_s: i64,
}

impl BusinessDays {
    /// The business date of a moment.
    pub fn date_of(&self, time: Timestamp) -> Date {
        local(time, &self.zone).map_or_else(|| time.utc_date(), |local| self.date_of_local(&local))
    }

    /// When the business date `date` is over.
    pub fn end_of(&self, date: Date) -> Timestamp {
        let next = date.plus_days(1);
        let midnight = || -> Option<jiff::civil::DateTime> {
            let (year, month) = (i16::try_from(next.year()).ok()?, i8::try_from(next.month()).ok()?);
            Some(jiff::civil::Date::new(year, month, i8::try_from(next.day()).ok()?).ok()?.at(0, 0, 0, 0))
        };
        let end = midnight().and_then(|midnight| {
            let local = midnight.checked_add(jiff::Span::new().seconds(i64::from(self.cutoff_s))).ok()?;
            local.to_zoned(self.zone.clone()).ok()
        });
        // Beyond the year 9999 of jiff a day more or less is nobody's business.
        end.map_or_else(|| next.plus_days(1).midnight_utc(), |end| Timestamp::from_seconds(end.timestamp().as_second()))
    }

    /// Every scheduled run from `from` to `to`, both included, in order.
    pub fn slots(&self, schedule: &Schedule, from: Timestamp, to: Timestamp) -> Vec<Slot> {
        let (Some(begin), Some(end)) = (local(from, &self.zone), local(to, &self.zone)) else { return Vec::new() };
        let runs = match &schedule.kind {
            Kind::Cron(cron) => cron_runs(cron, &begin, &end),
            Kind::OnCalendar(calendar) => calendar_runs(calendar, &begin, &end),
        };
        runs.iter().map(|run| self.slot(run)).collect()
    }

    fn slot(&self, run: &Zoned) -> Slot {
        let at = Timestamp::from_seconds(run.timestamp().as_second());
        Slot { at, date: self.date_of_local(run), due_at: at.plus_seconds(self.tolerance_s) }
    }

    fn date_of_local(&self, local: &Zoned) -> Date {
        let second = u32::from(local.hour().unsigned_abs()) * 3600
            + u32::from(local.minute().unsigned_abs()) * 60
            + u32::from(local.second().unsigned_abs());
        let date = Date::new(i32::from(local.year()), local.month().unsigned_abs(), local.day().unsigned_abs());
        business_date(date.expect("a date of jiff exists in the same calendar"), second, self.cutoff_s)
    }
}

/// `None` beyond the year 9999 of jiff.
fn local(time: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    let time = jiff::Timestamp::from_second(time.seconds()).ok()?;
    Some(time.to_zoned(zone.clone()))
}

/// croner's own iterator prints its errors; a search that fails here ends the list.
fn cron_runs(cron: &Cron, begin: &Zoned, end: &Zoned) -> Vec<Zoned> {
    let mut runs = Vec::new();
    let mut next = cron.find_next_occurrence(begin, true);
    while let Ok(run) = next {
        if run > *end {
            break;
        }
        next = cron.find_next_occurrence(&run, false);
        runs.push(run);
    }
    runs
}

fn calendar_runs(calendar: &OnCalendar, begin: &Zoned, end: &Zoned) -> Vec<Zoned> {
    let days = begin.date().series(jiff::Span::new().days(1)).take_while(|day| *day <= end.date());
    let locals = days.flat_map(|day| calendar.on(day));
    // The disambiguation of jiff moves a skipped time past the gap and takes the first of two.
    let mut runs: Vec<_> = locals.filter_map(|local| local.to_zoned(begin.time_zone().clone()).ok()).collect();
    runs.retain(|run| run >= begin && run <= end);
    runs.dedup();
    runs
}

impl Schedule {
    /// The text as it was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let unknown = || ScheduleError::Unknown(text.to_owned());
        let kind = match cron(text) {
            Some(cron) => Kind::Cron(Box::new(cron)),
            None => Kind::OnCalendar(OnCalendar::parse(text).ok_or_else(unknown)?),
        };
        let schedule = Self { text: text.to_owned(), kind };
        // The calendar repeats its weekdays and leap days after 28 years.
        let days = BusinessDays { zone: TimeZone::UTC, cutoff_s: 0, tolerance_s: 0 };
        let year_s = 366 * 86_400;
        let start = Timestamp::from_seconds(1_767_225_600);
        let runs = (0..28).any(|year| {
            let from = start.plus_seconds(year * year_s);
            !days.slots(&schedule, from, from.plus_seconds(year_s)).is_empty()
        });
        if runs { Ok(schedule) } else { Err(ScheduleError::Never(text.to_owned())) }
    }
}

fn is_name(word: &str) -> bool {
    word.len() == 3 && word.bytes().all(|b| b.is_ascii_alphabetic())
}

/// Five fields of plain cron. One number for the minute keeps it at most hourly; the extensions of
/// croner (`L`, `#`, `W`, nicknames) have no counterpart in a systemd timer.
fn cron(text: &str) -> Option<Cron> {
    let fields: Vec<_> = text.split_ascii_whitespace().collect();
    let [minute, _, _, months, weekdays] = fields.as_slice() else { return None };
    let plain = |field: &str| field.bytes().all(|b| b.is_ascii_digit() || b"*,-/".contains(&b));
    let names = |field: &str| field.split([',', '-', '/']).all(|word| plain(word) || is_name(word));
    if !minute.bytes().all(|b| b.is_ascii_digit()) || !fields[..3].iter().all(|field| plain(field)) {
        return None;
    }
    if !names(months) || !names(weekdays) {
        return None;
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn athens() -> BusinessDays {
        BusinessDays { zone: TimeZone::get("Europe/Athens").unwrap(), cutoff_s: 12 * 3600, tolerance_s: 4 * 3600 }
    }

    /// `at` and `date` of each slot.
    fn slots(schedule: &str, from: &str, to: &str) -> Vec<String> {
        let schedule: Schedule = schedule.parse().unwrap();
        let found = athens().slots(&schedule, from.parse().unwrap(), to.parse().unwrap());
        found.iter().map(|slot| format!("{} {}", slot.at, slot.date)).collect()
    }

    #[test]
    fn a_night_belongs_to_the_day_before() {
        for schedule in ["0 3 * * *", "*-*-* 03:00:00", "03:00"] {
            let found = slots(schedule, "2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z");
            assert_eq!(found, ["2026-11-20T01:00:00Z 2026-11-19", "2026-11-21T01:00:00Z 2026-11-20"], "{schedule}");
        }
    }

    #[test]
    fn both_ends_are_included_and_due_is_four_hours_later() {
        let schedule: Schedule = "0 3 * * *".parse().unwrap();
        let at: Timestamp = "2026-11-20T01:00:00Z".parse().unwrap();
        let found = athens().slots(&schedule, at, at);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].due_at.seconds_since(at), 4 * 3600);
    }

    #[test]
    fn a_skipped_hour_does_not_skip_a_date() {
        // Athens goes from 03:00 to 04:00 on 29 March 2026: 03:30 does not exist that night.
        for schedule in ["30 3 * * *", "*-*-* 03:30"] {
            let found = slots(schedule, "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z");
            let dates: Vec<_> = found.iter().map(|slot| slot.rsplit(' ').next().unwrap()).collect();
            assert_eq!(dates, ["2026-03-27", "2026-03-28", "2026-03-29"], "{schedule}: {found:?}");
            assert!(found[1].starts_with("2026-03-29T01:"), "{schedule}: {found:?}");
            assert_eq!(found[2], "2026-03-30T00:30:00Z 2026-03-29");
        }
    }

    #[test]
    fn a_repeated_hour_runs_once() {
        // Athens goes from 04:00 back to 03:00 on 25 October 2026: 03:30 comes twice.
        for schedule in ["30 3 * * *", "*-*-* 03:30"] {
            let found = slots(schedule, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
            assert_eq!(found, ["2026-10-25T00:30:00Z 2026-10-24", "2026-10-26T01:30:00Z 2026-10-25"], "{schedule}");
        }
    }

    #[test]
    fn every_date_of_ten_years_has_exactly_one_slot() {
        for schedule in ["0 3 * * *", "30 3 * * *", "*-*-* 03:30", "0 0 * * *", "59 23 * * *"] {
            let schedule: Schedule = schedule.parse().unwrap();
            let from = "2024-01-01T12:00:00Z".parse().unwrap();
            let found = athens().slots(&schedule, from, "2034-01-01T11:00:00Z".parse().unwrap());
            let first = found[0].date;
            for (day, slot) in (0..).zip(&found) {
                assert_eq!(slot.date, first.plus_days(day), "{}", schedule.as_str());
            }
            assert_eq!(found.len(), 3653, "{}", schedule.as_str());
        }
    }

    #[test]
    fn dates_follow_the_cutoff_through_both_changes_of_clocks() {
        let check = |time: &str, expected: &str| {
            assert_eq!(athens().date_of(time.parse().unwrap()).to_string(), expected, "{time}");
        };
        check("2026-03-29T08:59:59Z", "2026-03-28");
        check("2026-03-29T09:00:00Z", "2026-03-29");
        check("2026-10-25T09:59:59Z", "2026-10-24");
        check("2026-10-25T10:00:00Z", "2026-10-25");
        check("2024-03-01T03:00:00Z", "2024-02-29");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let check = |text: &str, never: bool| {
            let error = text.parse::<Schedule>().unwrap_err();
            assert_eq!(matches!(error, ScheduleError::Never(_)), never, "{text}: {error}");
        };
        for text in [
            "",
            "3",
            "* * * * *",
            "*/5 * * * *",
            "0 25 * * *",
            "0 3 * *",
            "0 3 * * * *",
            "@daily",
            "0 3 L * *",
            "0 3 * * 5#2",
            "0 3 15W * *",
            "tomorrow",
            "0 3 * FOO *",
        ] {
            check(text, false);
        }
        check("0 3 31 2 *", true);
        check("*-02-30 03:00", true);
    }

    #[test]
    fn names_of_months_and_weekdays_are_plain_cron() {
        let found = slots("0 3 * NOV MON-FRI", "2026-11-20T00:00:00Z", "2026-11-24T00:00:00Z");
        assert_eq!(found, ["2026-11-20T01:00:00Z 2026-11-19", "2026-11-23T01:00:00Z 2026-11-22"]);
        assert!("0 3 29 2 *".parse::<Schedule>().is_ok());
    }
}
