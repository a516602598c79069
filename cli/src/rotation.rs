//! Which slice is whose turn, and how far the reading of everything that is kept has come.
//!
//! The slice of a date is its day number modulo the number of slices: any `count` days in a row read everything
//! once, whichever night is missed is read one round later, and nothing has to be remembered to go on. What was read
//! is in the history; losing that costs a round of reading.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dualsync_model::id::PointId;
use dualsync_model::slice::{Slice, SliceError};
use dualsync_model::time::{Date, Timestamp};
use dualsync_verify::report::reading::{CopyReading, Reading};

use crate::history::{History, Rotated, Verified};
use crate::listing::Row;
use crate::mechanism::Mechanism;
use crate::retention::side_of;

/// Slices of a rotation where none was ever done.
const SLICES_USUAL: u32 = 30;

/// What `--slice` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This slice.
    Fixed(Slice),
    /// The slice whose turn it is, of so many: the rotation.
    Today(u32),
}

impl Choice {
    /// The slice on this business date.
    pub fn on(self, date: Date) -> Slice {
        match self {
            Self::Fixed(slice) => slice,
            Self::Today(count) => {
                let index = date.days().rem_euclid(i64::from(count.max(1))) + 1;
                u32::try_from(index)
                    .ok()
                    .and_then(|index| Slice::new(index, count))
                    .expect("a remainder and one is between one and the count, and the count was checked")
            }
        }
    }
}

impl FromStr for Choice {
    type Err = SliceError;

    fn from_str(text: &str) -> Result<Self, SliceError> {
        match text.strip_prefix("today/") {
            // The first slice of a count is there when any is; what is wrong with the text is then told in full.
            Some(count) => match format!("1/{count}").parse::<Slice>().map(|_| count.parse()) {
                Ok(Ok(count)) => Ok(Self::Today(count)),
                _ => text.parse::<Slice>().map(Self::Fixed),
            },
            None => text.parse().map(Self::Fixed),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(slice) => slice.fmt(f),
            Self::Today(count) => write!(f, "today/{count}"),
        }
    }
}

/// How much of each kept copy was read back, newest point first.
pub fn reading(rows: &[Row], history: &History) -> Reading {
    let slices = history.rotated().last().map_or(SLICES_USUAL, |rotated| parts(rotated.slice).1);
    let mut copies: Vec<_> = rows
        .iter()
        .flat_map(|row| Mechanism::BOTH.map(|mechanism| (row, mechanism)))
        .filter(|(row, mechanism)| row.copies.get(*mechanism).is_restorable())
        .map(|(row, mechanism)| copy(row, mechanism, history, slices))
        .collect();
    copies.sort_by(|a, b| (b.point.time(), a.mechanism).cmp(&(a.point.time(), b.mechanism)));
    Reading { slices, copies }
}

fn copy(row: &Row, mechanism: Mechanism, history: &History, slices: u32) -> CopyReading {
    let mut read = BTreeMap::new();
    for verified in history.verified(&row.point).filter(|verified| *verified.objects.get(mechanism)) {
        note(&mut read, verified.slice, slices, verified.at);
    }
    let holds = |rotated: &&Rotated| rotated.points.get(mechanism).contains(&row.point);
    for rotated in history.rotated().filter(holds) {
        note(&mut read, Some(rotated.slice), slices, rotated.at);
    }
    let compared =
        |verified: &&Verified| *verified.witnessed.get(mechanism) && verified.slice.is_none() && both(verified);
    CopyReading {
        point: row.point.clone(),
        business_date: row.business_date,
        mechanism: side_of(mechanism),
        compared_at: history.verified(&row.point).filter(compared).map(|verified| verified.at).max(),
        slices_read: u32::try_from(read.len()).unwrap_or(u32::MAX),
        oldest_at: (read.len() == slices as usize).then(|| read.values().min().copied()).flatten(),
    }
}

/// A comparison needs two.
fn both(verified: &Verified) -> bool {
    verified.witnessed.block && verified.witnessed.archive
}

/// Remembers the newest reading of each slice; a whole reading is one of all of them. Slices of another cut say
/// nothing about these.
fn note(read: &mut BTreeMap<u32, Timestamp>, slice: Option<Slice>, slices: u32, at: Timestamp) {
    let range = match slice.map(parts) {
        None => 1..=slices,
        Some((index, count)) if count == slices => index..=index,
        Some(_) => return,
    };
    for index in range {
        let newest = read.entry(index).or_insert(at);
        *newest = at.max(*newest);
    }
}

/// Index and count.
fn parts(slice: Slice) -> (u32, u32) {
    (slice.index(), slice.count())
}

/// The kept points of a target that a turn reads.
pub fn points(rows: &[Row], target: &str) -> Vec<PointId> {
    let holds =
        |row: &&Row| row.copies.iter().any(|(_, copy)| copy.is_restorable() && copy.target.as_deref() == Some(target));
    rows.iter().filter(holds).map(|row| row.point.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Record;
    use crate::mechanism::Pair;
    use std::collections::HashSet;

    const POINT: &str = "web@20261120T020000Z";

    #[test]
    fn any_thirty_days_in_a_row_read_every_slice_once() {
        let choice: Choice = "today/30".parse().unwrap();
        for begin in ["2026-11-20", "2026-12-25", "1969-12-20"] {
            let begin: Date = begin.parse().unwrap();
            let slices: HashSet<_> = (0..30).map(|day| choice.on(begin.plus_days(day)).to_string()).collect();
            assert_eq!(slices.len(), 30, "{slices:?}");
        }
    }

    #[test]
    fn a_slice_is_typed_by_number_or_as_todays() {
        for text in ["3/30", "today/30", "today/1"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        assert_eq!("3/30".parse::<Choice>().unwrap().on("2026-11-20".parse().unwrap()).to_string(), "3/30");
        for text in ["today", "today/0", "today/10001", "today/x", "0/30", "tomorrow/30"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }

    fn row() -> Row {
        crate::listing::samples::row(POINT)
    }

    fn turn(slice: &str, at: i64) -> Record {
        Record::Rotated(Rotated {
            at: Timestamp::from_seconds(at),
            slice: slice.parse().unwrap(),
            points: Pair { block: vec![POINT.parse().unwrap()], archive: vec![] },
            problems: Pair::default(),
        })
    }

    fn verified(slice: Option<&str>, objects: bool, at: i64) -> Record {
        Record::Verified(Verified {
            at: Timestamp::from_seconds(at),
            point: POINT.parse().unwrap(),
            slice: slice.map(|slice| slice.parse().unwrap()),
            witnessed: Pair { block: true, archive: true },
            objects: Pair { block: objects, archive: objects },
            problems: Pair::default(),
        })
    }

    /// Slices read, the oldest of them when all were, and the last whole comparison, of the block copy.
    #[track_caller]
    fn check(records: Vec<Record>, slices_read: u32, oldest: Option<i64>, compared: Option<i64>) {
        let reading = reading(&[row()], &History::of(records));
        let copy = &reading.copies[0];
        let seconds = |at: Option<Timestamp>| at.map(Timestamp::seconds);
        assert_eq!(
            (copy.slices_read, seconds(copy.oldest_at), seconds(copy.compared_at)),
            (slices_read, oldest, compared)
        );
    }

    #[test]
    fn a_copy_is_read_when_each_of_its_slices_was() {
        check(vec![], 0, None, None);
        check(vec![turn("1/3", 10)], 1, None, None);
        check(vec![turn("1/3", 10), turn("2/3", 20), turn("3/3", 30)], 3, Some(10), None);
        check(vec![turn("1/3", 10), turn("2/3", 20), turn("3/3", 30), turn("1/3", 40)], 3, Some(20), None);
    }

    #[test]
    fn a_whole_reading_is_one_of_every_slice_and_a_look_at_the_files_alone_is_none() {
        check(vec![turn("1/3", 10), verified(None, true, 20)], 3, Some(20), Some(20));
        check(vec![turn("1/3", 10), verified(None, false, 20)], 1, None, Some(20));
        check(vec![turn("1/3", 10), verified(Some("2/3"), true, 20)], 2, None, None);
    }

    #[test]
    fn slices_of_another_cut_count_for_nothing() {
        check(vec![turn("1/3", 10), turn("1/2", 20), turn("2/2", 30)], 2, Some(20), None);
    }
}
