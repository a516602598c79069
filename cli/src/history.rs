//! What happened on this host: `history.jsonl` under `state`, one record a line, only ever appended.
//!
//! It remembers what no store can tell: runs that failed, what verify found and when. Losing it costs
//! that memory and never data. A line that a crash cut, or that a newer version wrote, is passed over.

mod retired;

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dualsync_model::id::{PointId, RunId, SourceName};
use dualsync_model::job::Class;
use dualsync_model::slice::Slice;
use dualsync_model::time::{Date, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::retired::{Began, Ended, Retired, RetiredCopy};
use crate::mechanism::{Mechanism, Pair};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A run is about to start the writers. Without its `finished`, and nobody holding the lock, it crashed.
    Started(Started),
    /// A run is over, well or not.
    Finished(Finished),
    /// A verify of one point is over.
    Verified(Verified),
    /// One slice of the stored objects of every kept point was read back.
    Rotated(Rotated),
    /// A restore is over, whole or not.
    Restored(Restored),
    /// A target was told which copies may go.
    Retired(Retired),
    /// The first date of a source: the stores forget it when its points leave.
    Began(Began),
    /// Somebody asked for everything of a source to be deleted: what was before it is no past of the source.
    Ended(Ended),
}

/// The beginning of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// When.
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// The point it makes.
    pub point: PointId,
    /// The date it counts for.
    pub business_date: Date,
    /// Contract or on demand.
    pub class: Class,
    /// The copies it was asked for.
    pub asked: Pair<bool>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// When.
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// The point.
    pub point: PointId,
    /// What became of each copy; `None` where it was not asked for.
    pub copies: Pair<Option<CopyRecord>>,
}

/// What became of one copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRecord {
    /// Whether its manifest is durable.
    pub made: bool,
    /// Why not, or what is wrong with it all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a verify found of one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When.
    pub at: Timestamp,
    /// The point.
    pub point: PointId,
    /// The slice of the content that was read; all of it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Slice>,
    /// Whether each copy's files were read back to the end, and not only its stored objects looked at.
    pub witnessed: Pair<bool>,
    /// Whether every stored byte of each copy (of the slice) was read against its digest.
    #[serde(default)]
    pub objects: Pair<bool>,
    /// What is wrong with each copy; empty when nothing is.
    pub problems: Pair<Vec<String>>,
}

/// What a turn of the rotation read: stored objects, each once, whatever number of points needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// When.
    pub at: Timestamp,
    /// The slice of the objects.
    pub slice: Slice,
    /// The points whose objects of the slice were read to the end, on each side.
    pub points: Pair<Vec<PointId>>,
    /// What is wrong with some of them.
    pub problems: Pair<BTreeMap<PointId, Vec<String>>>,
}

/// The end of a restore that wrote something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When it was over.
    pub at: Timestamp,
    /// The point.
    pub point: PointId,
    /// `block` or `archive`.
    pub from: String,
    /// Bytes that were written.
    pub bytes: u64,
    /// How long it took, seconds.
    pub duration_s: u64,
    /// Whether only some files were asked for.
    #[serde(default)]
    pub partial: bool,
    /// Whether everything that was asked for came back and fitted its digests.
    pub verified: bool,
}

/// The file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the history {} could not be {what}", path.display())]
pub struct HistoryError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

/// Everything that is remembered, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
    /// Lines that could not be understood.
    pub strange_lines: u64,
}

impl History {
    /// Reads `file`; one that is not there is an empty history.
    pub fn read(file: &Path) -> Result<Self, HistoryError> {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(HistoryError { path: file.to_owned(), what: "read", source }),
        };
        let mut history = Self::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(record) => history.records.push(record),
                Err(_) => history.strange_lines += 1,
            }
        }
        Ok(history)
    }

    /// A history of these records.
    #[cfg(test)]
    pub fn of(records: Vec<Record>) -> Self {
        Self { records, strange_lines: 0 }
    }

    /// Runs that began, newest last, each with its end where it has one.
    pub fn runs(&self) -> impl Iterator<Item = (&Started, Option<&Finished>)> {
        let ends: HashMap<_, _> = self
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Finished(finished) => Some((&finished.run, finished)),
                _ => None,
            })
            .collect();
        self.records.iter().filter_map(move |record| match record {
            Record::Started(started) => Some((started, ends.get(&started.run).copied())),
            _ => None,
        })
    }

    /// What verify found of `point`, oldest first.
    pub fn verified<'a>(&'a self, point: &'a PointId) -> impl Iterator<Item = &'a Verified> {
        self.records.iter().filter_map(move |record| match record {
            Record::Verified(verified) if verified.point == *point => Some(verified),
            _ => None,
        })
    }

    /// What is known to be wrong with a copy: what verify found since it was last read back whole and
    /// found good. A slice can make a copy bad and never good again.
    pub fn problems(&self, point: &PointId, mechanism: Mechanism) -> Vec<String> {
        let mut known: Vec<String> = Vec::new();
        for record in &self.records {
            let (problems, whole) = match record {
                Record::Verified(verified) if verified.point == *point => {
                    let whole = *verified.witnessed.get(mechanism) && verified.slice.is_none();
                    (verified.problems.get(mechanism).as_slice(), whole)
                }
                Record::Rotated(rotated) => match rotated.problems.get(mechanism).get(point) {
                    Some(problems) => (problems.as_slice(), false),
                    None => continue,
                },
                _ => continue,
            };
            if whole {
                known.clear();
            }
            let new: Vec<_> = problems.iter().filter(|problem| !known.contains(problem)).cloned().collect();
            known.extend(new);
        }
        known
    }

    /// When any point of `source` was last looked at, in whatever depth.
    pub fn last_verify(&self, source: &SourceName) -> Option<Timestamp> {
        let of_source = |point: &PointId| point.source() == source;
        let times = self.records.iter().filter_map(|record| match record {
            Record::Verified(verified) if of_source(&verified.point) => Some(verified.at),
            Record::Rotated(rotated) if rotated.points.iter().any(|(_, points)| points.iter().any(of_source)) => {
                Some(rotated.at)
            }
            _ => None,
        });
        times.max()
    }

    /// The turns of the rotation, oldest first.
    pub fn rotated(&self) -> impl Iterator<Item = &Rotated> {
        self.records.iter().filter_map(|record| match record {
            Record::Rotated(rotated) => Some(rotated),
            _ => None,
        })
    }

    /// The restores, oldest first.
    pub fn restored(&self) -> impl Iterator<Item = &Restored> {
        self.records.iter().filter_map(|record| match record {
            Record::Restored(restored) => Some(restored),
            _ => None,
        })
    }
}

/// Appends one record and waits until it is on disk.
pub fn append(file: &Path, record: &Record) -> Result<(), HistoryError> {
    let failed = |source| HistoryError { path: file.to_owned(), what: "written", source };
    let mut line = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    let mut stream = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file).map_err(failed)?;
    // A crash may have cut the last line: end it, or this record would be lost with it.
    if ends_without_newline(&mut stream).map_err(failed)? {
        line.insert(0, b'\n');
    }
    // One write of one line: runs of other sources append to the same file.
    stream.write_all(&line).and_then(|()| stream.sync_data()).map_err(failed)
}

fn ends_without_newline(stream: &mut std::fs::File) -> io::Result<bool> {
    if stream.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    stream.seek(SeekFrom::End(-1))?;
    stream.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(run: u8) -> Started {
        Started {
            at: Timestamp::from_seconds(i64::from(run)),
            run: RunId::from_random([run; 8]),
            point: "web@20261120T020000Z".parse().unwrap(),
            business_date: "2026-11-19".parse().unwrap(),
            class: Class::Auto,
            asked: Pair { block: true, archive: true },
        }
    }

    fn verified(witnessed: bool, slice: Option<&str>, block: &[&str]) -> Record {
        Record::Verified(Verified {
            at: Timestamp::from_seconds(0),
            point: "web@20261120T020000Z".parse().unwrap(),
            slice: slice.map(|slice| slice.parse().unwrap()),
            witnessed: Pair { block: witnessed, archive: witnessed },
            objects: Pair::default(),
            problems: Pair { block: block.iter().map(|text| (*text).to_owned()).collect(), archive: vec![] },
        })
    }

    #[test]
    fn a_cut_line_costs_itself_and_not_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history.jsonl");
        append(&file, &Record::Started(started(1))).unwrap();
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, [&whole[..], &whole[..20]].concat()).unwrap();
        append(&file, &Record::Started(started(2))).unwrap();
        let history = History::read(&file).unwrap();
        assert_eq!(history.runs().map(|(run, _)| run.clone()).collect::<Vec<_>>(), [started(1), started(2)]);
        assert_eq!(history.strange_lines, 1);
    }

    #[test]
    fn a_run_is_found_with_its_end() {
        let end = Finished {
            at: Timestamp::from_seconds(9),
            run: started(1).run,
            point: started(1).point,
            copies: Pair { block: Some(CopyRecord { made: true, problem: None }), archive: None },
        };
        let history = History {
            records: vec![Record::Started(started(1)), Record::Started(started(2)), Record::Finished(end.clone())],
            strange_lines: 0,
        };
        let ends: Vec<_> = history.runs().map(|(_, end)| end).collect();
        assert_eq!(ends, [Some(&end), None]);
    }

    #[test]
    fn no_history_is_an_empty_one() {
        assert_eq!(History::read(Path::new("/nonexistent/history.jsonl")).unwrap().runs().count(), 0);
    }

    #[test]
    fn a_turn_of_the_rotation_makes_a_copy_bad_and_never_good() {
        let point = started(1).point;
        let turn = |block: &[&str]| {
            let problems = block.iter().map(|text| (*text).to_owned()).collect();
            Record::Rotated(Rotated {
                at: Timestamp::from_seconds(0),
                slice: "1/30".parse().unwrap(),
                points: Pair { block: vec![point.clone()], archive: vec![] },
                problems: Pair { block: BTreeMap::from([(point.clone(), problems)]), archive: BTreeMap::new() },
            })
        };
        let check = |records: Vec<Record>, expected: &[&str]| {
            let lines: Vec<_> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
            let read: Vec<Record> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(read, records);
            assert_eq!(History::of(records).problems(&point, Mechanism::Block), expected);
        };
        check(vec![turn(&["pack"]), turn(&[])], &["pack"]);
        check(vec![turn(&["pack"]), verified(true, Some("1/3"), &[])], &["pack"]);
        check(vec![turn(&["pack"]), verified(true, None, &[])], &[]);
        check(vec![verified(true, None, &[]), turn(&["pack"])], &["pack"]);
    }

    #[test]
    fn a_slice_makes_a_copy_bad_and_only_a_whole_read_makes_it_good() {
        let check = |records: Vec<Record>, expected: &[&str]| {
            let history = History { records, strange_lines: 0 };
            assert_eq!(history.problems(&started(1).point, Mechanism::Block), expected);
            assert!(history.problems(&started(1).point, Mechanism::Archive).is_empty());
        };
        check(vec![verified(true, None, &[])], &[]);
        check(vec![verified(true, Some("1/3"), &["pack"])], &["pack"]);
        check(vec![verified(true, Some("1/3"), &["pack"]), verified(true, Some("1/3"), &[])], &["pack"]);
        check(vec![verified(true, None, &["pack"]), verified(false, None, &[])], &["pack"]);
        check(vec![verified(false, None, &["pack"]), verified(true, None, &[])], &[]);
    }
}
