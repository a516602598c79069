//! Numbers, times and tables as people read them; nothing here prints.

use std::time::Duration;

use dualsync_model::time::Timestamp;

/// Bytes in binary units, `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths, rounded down: a full disk must not be shown as larger than it is.
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A length of time with its two largest units, `2m 31s`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{}.{}s", seconds, length.subsec_millis() / 100),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A length of time that is known in whole seconds only.
pub fn seconds(length: u64) -> String {
    match length {
        0 => "<1s".to_owned(),
        1..60 => format!("{length}s"),
        _ => duration(Duration::from_secs(length)),
    }
}

/// A sentence about something: with its subject in front, unless it names it already.
pub fn about(subject: &str, sentence: &str) -> String {
    if sentence.contains(subject) { sentence.to_owned() } else { format!("{subject}: {sentence}") }
}

/// How long ago, `3h 5m ago`; a time that is yet to come says so.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let passed = now.seconds_since(then);
    let length = seconds(passed.unsigned_abs());
    if passed < 0 { format!("in {length}") } else { format!("{length} ago") }
}

/// A count with its noun, `1 file`, `2 files`, `3 entries`.
pub fn count(number: u64, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if number == 1 => format!("1 {noun}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}

/// Lays out rows under a heading, two spaces between columns, no trailing blanks.
///
/// Columns of which every cell is empty are left out.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .filter(|widest| *widest > 0)
            .map(|widest| widest.max(heading[column].chars().count()))
    };
    let widths: [Option<usize>; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let Some(width) = width else { continue };
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        line.trim_end().to_owned()
    };
    let head = line(heading);
    std::iter::once(head).chain(rows.iter().map(|row| line(row.each_ref().map(String::as_str)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_binary_units_and_never_rounded_up() {
        let check = |count, text: &str| assert_eq!(bytes(count), text);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1536 << 20, "1.5 GiB");
        check((1 << 30) - 1, "1023.9 MiB");
        check(u64::MAX, "15.9 EiB");
    }

    #[test]
    fn durations_have_two_units() {
        let check = |millis, text: &str| assert_eq!(duration(Duration::from_millis(millis)), text);
        check(0, "0.0s");
        check(9_940, "9.9s");
        check(59_000, "59s");
        check(151_000, "2m 31s");
        check(3_600_000, "1h 0m");
        check(90_000_000, "1d 1h");
    }

    #[test]
    fn whole_seconds_promise_no_tenths() {
        assert_eq!([seconds(0), seconds(7), seconds(151)], ["<1s", "7s", "2m 31s"]);
    }

    #[test]
    fn a_subject_is_named_once() {
        assert_eq!(about("etc/x", "cannot be read"), "etc/x: cannot be read");
        assert_eq!(about("etc/x", "'etc/x' exists"), "'etc/x' exists");
    }

    #[test]
    fn the_past_and_the_future_are_told_apart() {
        let now = Timestamp::from_seconds(10_000);
        assert_eq!(ago(Timestamp::from_seconds(9_940), now), "1m 0s ago");
        assert_eq!(ago(Timestamp::from_seconds(10_060), now), "in 1m 0s");
        assert_eq!([count(1, "file"), count(0, "file"), count(2, "entry")], ["1 file", "0 files", "2 entries"]);
    }

    #[test]
    fn a_table_is_aligned_and_drops_what_is_empty() {
        let rows =
            [["a".to_owned(), String::new(), "x".to_owned()], ["é-long".to_owned(), String::new(), String::new()]];
        assert_eq!(table(["NAME", "NONE", "LAST"], &rows), ["NAME    LAST", "a       x", "é-long"]);
    }
}
