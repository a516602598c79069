//! What is remembered of copies that leave, and of a source's beginning, which the stores forget with them.

use std::collections::BTreeMap;

use dualsync_model::event::RetiredAction;
use dualsync_model::id::{PointId, SourceName};
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Finished, History, Record};
use crate::mechanism::{Mechanism, word};

/// What one target did with the copies that may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// When.
    pub at: Timestamp,
    /// The target.
    pub target: String,
    /// Its mechanism.
    #[serde(with = "word")]
    pub mechanism: Mechanism,
    /// Copies that were marked, unmarked or deleted now; those that only wait are not noted again.
    pub copies: Vec<RetiredCopy>,
    /// Stored bytes that were deleted.
    #[serde(default)]
    pub deleted_bytes: u64,
    /// Stored bytes there were before.
    #[serde(default)]
    pub stored_bytes: u64,
}

/// What became of one copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredCopy {
    /// The point.
    pub point: PointId,
    /// What.
    pub action: RetiredAction,
    /// Why, in words.
    pub reason: String,
    /// Whether it counted for the contract and the rule let it go.
    #[serde(default)]
    pub loss: bool,
    /// Whether a person said yes to it.
    #[serde(default)]
    pub confirmed: bool,
}

/// The first date of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// The source.
    pub source: SourceName,
    /// Its first business date.
    pub date: Date,
}

/// The end of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When it was asked for.
    pub at: Timestamp,
    /// The source.
    pub source: SourceName,
}

/// What this host did about copies that leave.
impl History {
    fn retired(&self, mechanism: Mechanism) -> impl Iterator<Item = (Timestamp, &RetiredCopy)> {
        let records = self.records.iter().filter_map(move |record| match record {
            Record::Retired(retired) if retired.mechanism == mechanism => Some(retired),
            _ => None,
        });
        records.flat_map(|retired| retired.copies.iter().map(move |copy| (retired.at, copy)))
    }

    /// When and why a copy was deleted.
    pub fn deleted(&self, point: &PointId, mechanism: Mechanism) -> Option<(Timestamp, &str)> {
        self.retired(mechanism)
            .filter(|(_, copy)| copy.point == *point && copy.action == RetiredAction::Deleted)
            .map(|(at, copy)| (at, copy.reason.as_str()))
            .last()
    }

    /// Points of `source` whose copies began to leave since `from` and were not kept after all, each with
    /// whether a person said yes to it. Only such as counted for the contract.
    pub fn losses(&self, source: &SourceName, mechanism: Mechanism, from: Timestamp) -> BTreeMap<&PointId, bool> {
        let mut losses = BTreeMap::new();
        for (at, copy) in self.retired(mechanism).filter(|(_, copy)| copy.point.source() == source) {
            match copy.action {
                RetiredAction::Marked if copy.loss && at >= from => drop(losses.insert(&copy.point, copy.confirmed)),
                RetiredAction::Undone => drop(losses.remove(&copy.point)),
                _ => {}
            }
        }
        losses
    }

    /// The first date of `source` that this host knows of, from its runs and from what was noted.
    pub fn first_date(&self, source: &SourceName) -> Option<Date> {
        let is_end = |record: &Record| matches!(record, Record::Ended(ended) if ended.source == *source);
        let from = self.records.iter().rposition(is_end).map_or(0, |at| at + 1);
        let since = Self { records: self.records[from..].to_vec(), strange_lines: 0 };
        let made = |end: &Finished| Mechanism::BOTH.into_iter().any(|side| is_made(end, side));
        let of_runs = since
            .runs()
            .filter(|(started, end)| {
                *started.point.source() == *source && started.class == Class::Auto && end.is_some_and(made)
            })
            .map(|(started, _)| started.business_date);
        let noted = since.records.iter().filter_map(|record| match record {
            Record::Began(began) if began.source == *source => Some(began.date),
            _ => None,
        });
        of_runs.chain(noted).min()
    }
}

fn is_made(end: &Finished, mechanism: Mechanism) -> bool {
    end.copies.get(mechanism).as_ref().is_some_and(|copy| copy.made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{CopyRecord, Started};
    use crate::mechanism::Pair;

    fn started(run: u8) -> Started {
        Started {
            at: Timestamp::from_seconds(i64::from(run)),
            run: dualsync_model::id::RunId::from_random([run; 8]),
            point: "web@20261120T020000Z".parse().unwrap(),
            business_date: "2026-11-19".parse().unwrap(),
            class: Class::Auto,
            asked: Pair { block: true, archive: true },
        }
    }

    fn ended(run: u8) -> Record {
        Record::Finished(Finished {
            at: Timestamp::from_seconds(9),
            run: started(run).run,
            point: started(run).point,
            copies: Pair { block: Some(CopyRecord { made: true, problem: None }), archive: None },
        })
    }

    fn retired(at: i64, action: RetiredAction, confirmed: bool) -> Record {
        let copy =
            RetiredCopy { point: started(1).point, action, reason: "left the contract".into(), loss: true, confirmed };
        Record::Retired(Retired {
            at: Timestamp::from_seconds(at),
            target: "frankfurt".into(),
            mechanism: Mechanism::Block,
            copies: vec![copy],
            deleted_bytes: 0,
            stored_bytes: 0,
        })
    }

    #[test]
    fn a_loss_counts_until_it_is_taken_back_or_too_long_ago() {
        use RetiredAction::{Deleted, Marked, Undone};

        let check = |records: &[Record], expected: &[bool]| {
            let history = History::of(records.to_vec());
            let losses = history.losses(started(1).point.source(), Mechanism::Block, Timestamp::from_seconds(100));
            assert_eq!(losses.into_values().collect::<Vec<_>>(), expected);
            assert!(history.losses(&"mail".parse().unwrap(), Mechanism::Block, Timestamp::from_seconds(0)).is_empty());
        };
        check(&[retired(99, Marked, false)], &[]);
        check(&[retired(100, Marked, false)], &[false]);
        check(&[retired(100, Marked, true), retired(200, Deleted, false)], &[true]);
        check(&[retired(100, Marked, false), retired(101, Undone, false)], &[]);
        check(&[retired(100, Marked, false), retired(101, Undone, false), retired(102, Marked, true)], &[true]);
    }

    #[test]
    fn a_deleted_copy_is_remembered_with_its_reason() {
        let history =
            History::of(vec![retired(1, RetiredAction::Marked, false), retired(7, RetiredAction::Deleted, false)]);
        let deleted = history.deleted(&started(1).point, Mechanism::Block);
        assert_eq!(deleted, Some((Timestamp::from_seconds(7), "left the contract")));
        assert_eq!(history.deleted(&started(1).point, Mechanism::Archive), None);
    }

    #[test]
    fn the_first_date_outlives_the_points_and_ends_with_the_source() {
        let web: SourceName = "web".parse().unwrap();
        let began = |date: &str| Record::Began(Began { source: web.clone(), date: date.parse().unwrap() });
        let end = Record::Ended(Ended { at: Timestamp::from_seconds(1), source: web.clone() });
        let check = |records: &[Record], expected: Option<&str>| {
            let found = History::of(records.to_vec()).first_date(&web);
            assert_eq!(found.map(|date| date.to_string()).as_deref(), expected);
        };
        let (run, done) = (Record::Started(started(1)), ended(1));
        check(std::slice::from_ref(&run), None);
        check(&[run.clone(), done.clone()], Some("2026-11-19"));
        check(&[began("2025-01-01"), run.clone(), done.clone()], Some("2025-01-01"));
        check(&[began("2025-01-01"), end.clone(), run.clone(), done.clone()], Some("2026-11-19"));
        check(&[run, done, end], None);
    }
}
