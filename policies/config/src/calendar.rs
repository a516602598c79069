//! The common forms of systemd's OnCalendar: weekdays, a date with lists and ranges, hours.
//!
//! `[WEEKDAYS] [YEAR-MONTH-DAY] HOUR:MINUTE[:00]`, or `hourly`, `daily`, `weekly`, `monthly`,
//! `yearly`; see systemd.time(7). Years are `*`. What is not understood is refused, never guessed.

use std::ops::RangeInclusive;

use jiff::civil::{Date, DateTime, Weekday};

/// A parsed expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnCalendar {
    /// Monday first.
    weekdays: [bool; 7],
    months: Vec<i8>,
    days: Vec<i8>,
    hours: Vec<i8>,
    minute: i8,
}

impl OnCalendar {
    /// Reads an expression; `None` when it is none of the forms above.
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text {
            "hourly" => "*:00",
            "daily" | "midnight" => "00:00",
            "weekly" => "Mon 00:00",
            "monthly" => "*-*-01 00:00",
            "yearly" | "annually" => "*-01-01 00:00",
            other => other,
        };
        let mut parts: Vec<_> = text.split_ascii_whitespace().collect();
        let (hours, minute) = time(parts.pop()?)?;
        let (months, days) = match parts.last() {
            Some(part) if part.contains(['*', '-']) && !starts_with_letter(part) => date(parts.pop()?)?,
            _ => ((1..=12).collect(), (1..=31).collect()),
        };
        let weekdays = parts.pop().map_or(Some([true; 7]), weekdays)?;
        parts.is_empty().then_some(Self { weekdays, months, days, hours, minute })
    }

    /// The local times of a day, in order.
    pub fn on(&self, date: Date) -> impl Iterator<Item = DateTime> {
        let weekday = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or_default();
        let meant = self.weekdays[weekday] && self.months.contains(&date.month()) && self.days.contains(&date.day());
        let hours = if meant { self.hours.as_slice() } else { &[] };
        hours.iter().map(move |hour| date.at(*hour, self.minute, 0, 0))
    }
}

fn starts_with_letter(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// `HOURS:MINUTE[:00]`.
fn time(part: &str) -> Option<(Vec<i8>, i8)> {
    let mut fields = part.split(':');
    let (hours, minute, second) = (fields.next()?, fields.next()?, fields.next().unwrap_or("00"));
    if fields.next().is_some() || !matches!(second, "0" | "00") {
        return None;
    }
    Some((set(hours, 0..=23)?, number(minute, &(0..=59))?))
}

/// `*-MONTHS-DAYS` or `MONTHS-DAYS`.
fn date(part: &str) -> Option<(Vec<i8>, Vec<i8>)> {
    let fields: Vec<_> = part.split('-').collect();
    match fields.as_slice() {
        ["*", months, days] | [months, days] => Some((set(months, 1..=12)?, set(days, 1..=31)?)),
        _ => None,
    }
}

/// `*`, or a list of numbers, ranges `a..b`, and repetitions `a/step` and `*/step`.
fn set(text: &str, all: RangeInclusive<i8>) -> Option<Vec<i8>> {
    let mut found = Vec::new();
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((from, step)) => {
                let from = if from == "*" { *all.start() } else { number(from, &all)? };
                (from..=*all.end(), number(step, &(1..=*all.end()))?)
            }
            None if item == "*" => (all.clone(), 1),
            None => {
                let (from, to) = item.split_once("..").unwrap_or((item, item));
                (number(from, &all)?..=number(to, &all)?, 1)
            }
        };
        if range.is_empty() {
            return None;
        }
        found.extend(range.step_by(usize::try_from(step).ok()?));
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

fn number(text: &str, all: &RangeInclusive<i8>) -> Option<i8> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && all.contains(number))
}

/// `Mon`, `Mon,Wed`, `Mon..Fri`, long names too.
fn weekdays(part: &str) -> Option<[bool; 7]> {
    let mut found = [false; 7];
    for item in part.split(',') {
        let (from, to) = item.split_once("..").unwrap_or((item, item));
        let (from, to) = (weekday(from)?, weekday(to)?);
        if from > to {
            return None;
        }
        found[from..=to].fill(true);
    }
    Some(found)
}

fn weekday(name: &str) -> Option<usize> {
    let monday_first = [
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
        Weekday::Sunday,
    ];
    let name = name.to_ascii_lowercase();
    monday_first.iter().position(|day| {
        let long = format!("{day:?}").to_ascii_lowercase();
        name == long || name == long[..3]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str, from: &str, days: usize) -> Vec<String> {
        let calendar = OnCalendar::parse(text).unwrap();
        let from: Date = from.parse().unwrap();
        from.series(jiff::Span::new().days(1))
            .take(days)
            .flat_map(|day| calendar.on(day))
            .map(|t| t.to_string())
            .collect()
    }

    #[test]
    fn the_common_forms_run_when_systemd_runs_them() {
        // Checked against `systemd-analyze calendar --iterations`.
        assert_eq!(times("*-*-* 03:00:00", "2026-11-20", 2), ["2026-11-20T03:00:00", "2026-11-21T03:00:00"]);
        assert_eq!(times("daily", "2026-11-20", 1), ["2026-11-20T00:00:00"]);
        assert_eq!(times("weekly", "2026-11-20", 7), ["2026-11-23T00:00:00"]);
        assert_eq!(times("Mon *-*-* 02:00", "2026-11-16", 14), ["2026-11-16T02:00:00", "2026-11-23T02:00:00"]);
        assert_eq!(times("Sat,Sun 02:30", "2026-11-16", 7), ["2026-11-21T02:30:00", "2026-11-22T02:30:00"]);
        assert_eq!(times("Mon..Fri 2:00", "2026-11-16", 7).len(), 5);
        assert_eq!(times("*-02-29 00:00", "2024-02-01", 366), ["2024-02-29T00:00:00"]);
        assert_eq!(times("monthly", "2026-02-01", 59), ["2026-02-01T00:00:00", "2026-03-01T00:00:00"]);
        assert_eq!(times("12-31 23:59", "2026-12-01", 31), ["2026-12-31T23:59:00"]);
        assert_eq!(times("*-*-1,15 4:00", "2026-12-01", 31).len(), 2);
        let quarters = ["2026-11-20T00:15:00", "2026-11-20T06:15:00", "2026-11-20T12:15:00", "2026-11-20T18:15:00"];
        assert_eq!(times("00/6:15", "2026-11-20", 1), quarters);
        assert_eq!(times("0..2,22:00", "2026-11-20", 1).len(), 4);
        assert_eq!(times("hourly", "2026-11-20", 1).len(), 24);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "minutely",
            "03",
            "03:00:30",
            "25:00",
            "03:60",
            "03:*",
            "2026-11-20 03:00",
            "*-13-01 03:00",
            "*-*-00 03:00",
            "*-*~01 03:00",
            "Fri..Mon 03:00",
            "Foo 03:00",
            "Mon Tue 03:00",
            "*-*-* 03:00 Europe/Athens",
            "3..1:00",
            "0/0:00",
            "-1:00",
            "+3:00",
        ] {
            assert_eq!(OnCalendar::parse(text), None, "{text}");
        }
    }
}
