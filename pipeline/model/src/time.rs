//! Moments and calendar days, without a clock and without a time zone database.
//!
//! A [`Timestamp`] is what stat(2) stores, so it reaches before 1970 and carries nanoseconds;
//! text is RFC 3339 in UTC. The calendar arithmetic is Howard Hinnant's `days_from_civil`
//! (proleptic Gregorian). Nothing here asks what time it is: `now` always comes in from outside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Seconds of a civil day; leap seconds are not counted, as in POSIX time.
const DAY_S: i64 = 86_400;

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z; negative seconds lie before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// A text that is not a time or a date, with what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct TimeError {
    text: String,
    expected: &'static str,
}

impl TimeError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

impl Timestamp {
    /// A moment; `nanos` is below 1,000,000,000 or `None` comes back.
    pub const fn new(seconds: i64, nanos: u32) -> Option<Self> {
        if nanos < 1_000_000_000 { Some(Self { seconds, nanos }) } else { None }
    }

    /// A moment on a whole second.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// Whole seconds since the epoch, rounded towards the past.
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Self::seconds`], 0 to 999,999,999.
    pub const fn nanos(self) -> u32 {
        self.nanos
    }

    /// The same moment without its fraction of a second.
    #[must_use]
    pub const fn whole_second(self) -> Self {
        Self::from_seconds(self.seconds)
    }

    /// `self` moved by `seconds`, staying at the end of the range instead of overflowing.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self { seconds: self.seconds.saturating_add(seconds), nanos: self.nanos }
    }

    /// Whole seconds from `earlier` to `self`; negative when `earlier` is later.
    pub const fn seconds_since(self, earlier: Self) -> i64 {
        self.seconds.saturating_sub(earlier.seconds)
    }

    /// The UTC day of this moment.
    pub const fn utc_date(self) -> Date {
        Date::from_days(self.seconds.div_euclid(DAY_S))
    }

    /// ISO 8601 basic form to the second, `20261120T020000Z`: the time in point ids and keys.
    pub fn compact(self) -> String {
        let date = self.utc_date();
        let (hour, minute, second) = self.clock();
        format!("{:04}{:02}{:02}T{hour:02}{minute:02}{second:02}Z", date.year, date.month, date.day)
    }

    /// Reads what [`Self::compact`] writes.
    pub fn from_compact(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError::new(text, "a time like 20261120T020000Z");
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return Err(wrong());
        }
        let date = Date::new(
            number(&bytes[0..4]).ok_or_else(wrong)?,
            number(&bytes[4..6]).ok_or_else(wrong)?,
            number(&bytes[6..8]).ok_or_else(wrong)?,
        )
        .ok_or_else(wrong)?;
        let clock = clock_seconds(&bytes[9..11], &bytes[11..13], &bytes[13..15]).ok_or_else(wrong)?;
        Ok(Self::from_seconds(date.days() * DAY_S + clock))
    }

    fn clock(self) -> (i64, i64, i64) {
        let second = self.seconds.rem_euclid(DAY_S);
        (second / 3600, second / 60 % 60, second % 60)
    }
}

/// Decimal digits only; no sign, no space.
fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn clock_seconds(hour: &[u8], minute: &[u8], second: &[u8]) -> Option<i64> {
    let (hour, minute, second): (i64, i64, i64) = (number(hour)?, number(minute)?, number(second)?);
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = self.clock();
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}", self.utc_date())?;
        if self.nanos != 0 {
            let fraction = format!("{:09}", self.nanos);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    /// RFC 3339 with an offset of `Z` or `±hh:mm`, and up to nine digits of a fraction.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError::new(text, "an RFC 3339 time like 2026-11-20T02:00:00Z");
        let (date, rest) = text.split_once(['T', 't', ' ']).ok_or_else(wrong)?;
        let date: Date = date.parse().map_err(|_| wrong())?;
        let bytes = rest.as_bytes();
        if bytes.len() < 9 || bytes[2] != b':' || bytes[5] != b':' {
            return Err(wrong());
        }
        let clock = clock_seconds(&bytes[0..2], &bytes[3..5], &bytes[6..8]).ok_or_else(wrong)?;
        let zone_at = 8 + bytes[8..].iter().position(|b| matches!(b, b'Z' | b'z' | b'+' | b'-')).ok_or_else(wrong)?;
        let nanos = fraction_nanos(&bytes[8..zone_at]).ok_or_else(wrong)?;
        let offset = offset_seconds(&bytes[zone_at..]).ok_or_else(wrong)?;
        Ok(Self { seconds: date.days() * DAY_S + clock - offset, nanos })
    }
}

fn fraction_nanos(text: &[u8]) -> Option<u32> {
    let Some((dot, digits)) = text.split_first() else { return Some(0) };
    if *dot != b'.' || digits.len() > 9 {
        return None;
    }
    let value: u32 = number(digits)?;
    let missing = u32::try_from(9 - digits.len()).ok()?;
    Some(value * 10_u32.pow(missing))
}

fn offset_seconds(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign, h1, h2, b':', m1, m2] => {
            let seconds = clock_seconds(&[*h1, *h2], &[*m1, *m2], b"00")?;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

/// A calendar day, without a time zone: business dates and due dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date {
    year: i32,
    month: u8,
    day: u8,
}

impl Date {
    /// A day that exists, or `None` (30 February, month 13).
    pub const fn new(year: i32, month: u8, day: u8) -> Option<Self> {
        if month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        Some(Self { year, month, day })
    }

    /// The year, astronomical numbering.
    pub const fn year(self) -> i32 {
        self.year
    }

    /// The month, 1 to 12.
    pub const fn month(self) -> u8 {
        self.month
    }

    /// The day of the month, 1 to 31.
    pub const fn day(self) -> u8 {
        self.day
    }

    /// Days since 1970-01-01.
    pub const fn days(self) -> i64 {
        let year = self.year as i64 - (self.month <= 2) as i64;
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month = self.month as i64;
        let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + self.day as i64 - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    /// The day that lies `days` after 1970-01-01.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "day and month are 1 to 31 by construction; years of an i64 of seconds fit an i32 far beyond any file time"
    )]
    pub const fn from_days(days: i64) -> Self {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u8;
        let month = (if shifted < 10 { shifted + 3 } else { shifted - 9 }) as u8;
        let year = (year_of_era + era * 400 + (month <= 2) as i64) as i32;
        Self { year, month, day }
    }

    /// The day `days` later; earlier when negative.
    #[must_use]
    pub const fn plus_days(self, days: i64) -> Self {
        Self::from_days(self.days() + days)
    }

    /// The last day of this day's month.
    #[must_use]
    pub const fn month_end(self) -> Self {
        Self { day: days_in_month(self.year, self.month), ..self }
    }

    /// The last day of the month before this day's.
    #[must_use]
    pub const fn previous_month_end(self) -> Self {
        Self { day: 1, ..self }.plus_days(-1)
    }

    /// Midnight UTC at the beginning of this day.
    pub const fn midnight_utc(self) -> Timestamp {
        Timestamp::from_seconds(self.days() * DAY_S)
    }
}

/// Days of a month, 28 to 31; a month outside 1 to 12 counts as December.
const fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.year < 0 { "-" } else { "" };
        write!(f, "{sign}{:04}-{:02}-{:02}", self.year.unsigned_abs(), self.month, self.day)
    }
}

impl FromStr for Date {
    type Err = TimeError;

    /// ISO 8601 `yyyy-mm-dd`; a year before 0 is written with a leading minus sign.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError::new(text, "a date like 2026-11-20");
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let mut parts = digits.split('-');
        let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        if year.len() < 4 || month.len() != 2 || day.len() != 2 {
            return Err(wrong());
        }
        let year: i32 = number(year.as_bytes()).ok_or_else(wrong)?;
        let month = number(month.as_bytes()).ok_or_else(wrong)?;
        let day = number(day.as_bytes()).ok_or_else(wrong)?;
        Self::new(sign * year, month, day).ok_or_else(wrong)
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

impl TryFrom<String> for Date {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_are_written_as_rfc_3339() {
        let check = |seconds, nanos, text: &str| {
            let time = Timestamp::new(seconds, nanos).unwrap();
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap(), time);
        };
        check(0, 0, "1970-01-01T00:00:00Z");
        check(951_782_400, 0, "2000-02-29T00:00:00Z");
        check(-1, 500_000_000, "1969-12-31T23:59:59.5Z");
        check(-2_208_988_800, 1, "1900-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn an_offset_is_taken_off() {
        let athens: Timestamp = "2026-11-20T04:00:00+02:00".parse().unwrap();
        assert_eq!(athens.compact(), "20261120T020000Z");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "2026-02-30T00:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T00:00:00",
            "2026-11-20T00:00:00.1234567890Z",
            "2026-11-20Tab:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        for text in ["20261120T020060Z", "20261320T020000Z", "2026-1120T020000Z", "20261120T020000"] {
            assert!(Timestamp::from_compact(text).is_err(), "{text}");
        }
    }

    #[test]
    fn months_end_where_the_calendar_says() {
        let check = |date: &str, end: &str, before: &str| {
            let date: Date = date.parse().unwrap();
            assert_eq!(date.month_end().to_string(), end);
            assert_eq!(date.previous_month_end().to_string(), before);
        };
        check("2024-02-10", "2024-02-29", "2024-01-31");
        check("2100-02-10", "2100-02-28", "2100-01-31");
        check("2026-01-31", "2026-01-31", "2025-12-31");
        check("2026-03-31", "2026-03-31", "2026-02-28");
    }

    proptest! {
        #[test]
        fn days_and_dates_are_inverse(days in -1_000_000_i64..1_000_000) {
            let date = Date::from_days(days);
            prop_assert_eq!(date.days(), days);
            prop_assert_eq!(date.to_string().parse::<Date>().unwrap(), date);
            prop_assert_eq!(date.plus_days(1).days(), days + 1);
        }

        #[test]
        fn a_time_survives_its_text(seconds in -60_000_000_000_i64..60_000_000_000, nanos in 0_u32..1_000_000_000) {
            let time = Timestamp::new(seconds, nanos).unwrap();
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
            prop_assert_eq!(Timestamp::from_compact(&time.compact()).ok(), (0..=9999).contains(&time.utc_date().year()).then(|| time.whole_second()));
        }
    }
}
