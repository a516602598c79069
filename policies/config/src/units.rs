//! Durations, sizes and times of day as people type them.

use std::time::Duration;

/// A text that is no such quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found \"{text}\"")]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

/// A duration: whole numbers with `s`, `m`, `h`, `d` or `w`, like `90s`, `1h30m`, `2d`. More than zero, at most 100 years.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    const MAX_S: u64 = 100 * 366 * 86_400;
    let parse = || {
        let (mut rest, mut total_s, mut last_unit_s) = (text, 0_u64, u64::MAX);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let count: u64 = rest[..digits].parse().ok()?;
            let unit_s = match rest[digits..].chars().next()? {
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86_400,
                'w' => 7 * 86_400,
                _ => return None,
            };
            // From the largest unit to the smallest, each once: `30m1h` is more likely a slip.
            if unit_s >= last_unit_s {
                return None;
            }
            last_unit_s = unit_s;
            total_s = total_s.checked_add(count.checked_mul(unit_s)?)?;
            rest = &rest[digits + 1..];
        }
        (1..=MAX_S).contains(&total_s).then(|| Duration::from_secs(total_s))
    };
    parse().ok_or_else(|| UnitError { text: text.to_owned(), expected: "a duration like \"15m\", \"24h\" or \"2d\"" })
}

/// A size in bytes: a number with `B`, `KiB`, `MiB`, `GiB`, `TiB` or the decimal `kB`, `MB`, `GB`, `TB`. More than zero.
pub fn bytes(text: &str) -> Result<u64, UnitError> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let parse = || {
        let (number, unit) =
            UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))?;
        scaled(number, unit).filter(|bytes| *bytes > 0)
    };
    parse().ok_or_else(|| UnitError { text: text.to_owned(), expected: "a size like \"50MiB\" or \"1.5GB\"" })
}

/// Bytes a second: a size with `/s`.
pub fn rate(text: &str) -> Result<u64, UnitError> {
    let parsed = text.strip_suffix("/s").map(bytes);
    parsed
        .and_then(Result::ok)
        .ok_or_else(|| UnitError { text: text.to_owned(), expected: "bytes a second like \"50MiB/s\"" })
}

/// A share of a stored object: whole per cent from `0%` (never) to `90%`.
pub fn sparse_percent(text: &str) -> Result<u8, UnitError> {
    const MOST: u8 = 90;
    let number = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|digits| digits.parse().ok()).filter(|percent| *percent <= MOST).ok_or_else(|| UnitError {
        text: text.to_owned(),
        expected: "a share from \"0%\" (never) to \"90%\", like \"50%\"",
    })
}

/// `number` (digits, at most three more after a dot) times `unit`, in whole bytes.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(unit)?.checked_add(thousandths.checked_mul(unit)? / 1000)
}

/// Seconds after midnight of `HH:MM`.
pub fn time_of_day(text: &str) -> Result<u32, UnitError> {
    let parse = || {
        let (hour, minute) = text.split_once(':')?;
        let two = |text: &str, below: u32| {
            let number: u32 = text.parse().ok()?;
            (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) && number < below).then_some(number)
        };
        Some(two(hour, 24)? * 3600 + two(minute, 60)? * 60)
    };
    parse().ok_or_else(|| UnitError { text: text.to_owned(), expected: "a time of day like \"12:00\"" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_from_the_largest_unit_to_the_smallest() {
        let check = |text: &str, seconds: u64| assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        check("60s", 60);
        check("15m", 900);
        check("1h30m", 5400);
        check("2d", 172_800);
        check("1w2d3h4m5s", 788_645);
        for text in [
            "",
            "0s",
            "15",
            "m",
            "1.5h",
            "-1h",
            "30m1h",
            "1h1h",
            "1 h",
            "1y",
            "99999999999999999999s",
            "5000w5000w",
            "9999w",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal_as_their_unit_says() {
        let check = |text: &str, expected: u64| assert_eq!(bytes(text), Ok(expected), "{text}");
        check("1B", 1);
        check("50MiB", 52_428_800);
        check("50 MiB", 52_428_800);
        check("1.5GB", 1_500_000_000);
        check("0.001kB", 1);
        check("2TiB", 2 << 40);
        for text in ["", "50", "MiB", "50mib", "50M", "0B", "1.2345MB", "1.MB", "-1B", "99999999999TiB", "1e3B"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_needs_its_seconds() {
        assert_eq!(rate("50MiB/s"), Ok(52_428_800));
        for text in ["50MiB", "50/s", "/s", "50MiB/m"] {
            let message = rate(text).unwrap_err().to_string();
            assert_eq!(message, format!("expected bytes a second like \"50MiB/s\", found \"{text}\""));
        }
    }

    #[test]
    fn a_share_stays_below_the_whole() {
        for (text, expected) in [("0%", 0), ("50%", 50), ("90%", 90)] {
            assert_eq!(sparse_percent(text), Ok(expected));
        }
        for text in ["", "%", "50", "91%", "100%", "-1%", "+5%", "5 %", "0.5%", "300%"] {
            assert!(sparse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_of_day_have_two_digits_twice() {
        assert_eq!(time_of_day("00:00"), Ok(0));
        assert_eq!(time_of_day("12:00"), Ok(43_200));
        assert_eq!(time_of_day("23:59"), Ok(86_340));
        for text in ["24:00", "12:60", "1:00", "12:0", "+1:00", "12", "", "12:00:00"] {
            assert!(time_of_day(text).is_err(), "{text}");
        }
    }
}
