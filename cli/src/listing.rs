//! What both stores hold, merged by point with what this host remembers.
//!
//! The stores' manifests decide which copies exist; the history only explains what is not there and
//! remembers what verify found. Nothing here asks or prints: lists come in, [`Row`]s go out.

use std::collections::BTreeMap;

use dualsync_model::event::{CopyState, Point, PointMark};
use dualsync_model::id::{PointId, SourceName};
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use serde::Serialize;

use crate::exit::with_causes;
use crate::history::{CopyRecord, History, Started};
use crate::mechanism::{Mechanism, Pair};
use crate::writer::WriterError;

#[cfg(test)]
pub mod samples;

/// What one target answered.
#[derive(Debug)]
pub struct Answer {
    /// The target's name.
    pub target: String,
    /// Its mechanism.
    pub mechanism: Mechanism,
    /// Its copies; empty too when it did not answer.
    pub points: Vec<Point>,
    /// Why it did not answer.
    pub error: Option<WriterError>,
}

/// One point as people and `list --json` see it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The point.
    pub point: PointId,
    /// Its source.
    pub source: SourceName,
    /// The date it counts for.
    pub business_date: Date,
    /// Contract or on demand.
    pub class: Class,
    /// The moment of the snapshot.
    pub created_at: Timestamp,
    /// Bytes of the source: the device's where there is a block copy, else those of all files.
    pub size_bytes: u64,
    /// Why it is kept; filled in by [`crate::retention`].
    pub reasons: Vec<String>,
    /// Both copies.
    pub copies: Pair<CopyRow>,
    /// A person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When a manual point may go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// One copy.
#[derive(Clone, Debug, Serialize)]
pub struct CopyRow {
    /// Its state.
    pub state: CopyState,
    /// The target that holds it, or should.
    pub target: Option<String>,
    /// Stored bytes of every object it needs.
    pub stored_bytes: Option<u64>,
    /// Stored bytes it added.
    pub added_bytes: Option<u64>,
    /// How long it took.
    pub duration_s: Option<u64>,
    /// When it was last read back and compared.
    pub verified_at: Option<Timestamp>,
    /// The mark that announces its deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<PointMark>,
    /// What is wrong with it, or why it is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Whether it is known to be wrong; a mark hides that from `state`.
    #[serde(skip)]
    pub damaged: bool,
    /// The manifest, for `show`.
    #[serde(skip)]
    pub manifest: Option<Point>,
}

impl CopyRow {
    /// A copy of which nothing but its state is known.
    pub fn bare(state: CopyState) -> Self {
        Self {
            state,
            target: None,
            stored_bytes: None,
            added_bytes: None,
            duration_s: None,
            verified_at: None,
            mark: None,
            problems: Vec::new(),
            damaged: false,
            manifest: None,
        }
    }

    /// It is known to be wrong from now on.
    pub fn damage(&mut self, problems: Vec<String>) {
        self.damaged = true;
        self.problems.extend(problems);
        if self.state == CopyState::Available {
            self.state = CopyState::Damaged;
        }
    }

    /// Whether it is whole, as far as is known, and stays: somebody who restores it takes nothing from that.
    pub fn is_good(&self) -> bool {
        matches!(self.state, CopyState::Available | CopyState::Restoring) && !self.damaged
    }

    /// Whether it is known to be wrong, and stays.
    pub fn is_damaged(&self) -> bool {
        self.state == CopyState::Damaged || (self.state == CopyState::Restoring && self.damaged)
    }

    /// Whether it is whole, as far as is known.
    pub fn is_available(&self) -> bool {
        self.state == CopyState::Available
    }

    /// Whether there is something to restore: a damaged copy still holds what is intact.
    pub fn is_restorable(&self) -> bool {
        matches!(self.state, CopyState::Available | CopyState::Damaged | CopyState::Deleting | CopyState::Restoring)
    }
}

/// The word for a state, as in JSON.
pub const fn word(state: CopyState) -> &'static str {
    match state {
        CopyState::Creating => "creating",
        CopyState::Available => "available",
        CopyState::Restoring => "restoring",
        CopyState::Error => "error",
        CopyState::Damaged => "damaged",
        CopyState::Missing => "missing",
        CopyState::Deleting => "deleting",
    }
}

/// The copies of one point, with who told of them.
type Found<'a> = Pair<Option<(&'a Answer, &'a Point)>>;

/// All points, oldest first. `home` is the target where a source's copies of a mechanism belong, and
/// `running` tells whether a run of a source works right now.
pub fn merge(
    answers: &[Answer],
    history: &History,
    home: impl Fn(&SourceName, Mechanism) -> Option<String>,
    running: impl Fn(&SourceName) -> bool,
) -> Vec<Row> {
    let mut found: BTreeMap<(Timestamp, PointId), Found<'_>> = BTreeMap::new();
    for answer in answers {
        for point in &answer.points {
            let key = (point.point.time(), point.point.clone());
            let place = found.entry(key).or_insert_with(|| Pair::new(|_| None)).get_mut(answer.mechanism);
            // A commit whose answer was lost and that was tried again: the newer manifest counts.
            if place.is_none_or(|(_, known)| known.anchor.sequence < point.anchor.sequence) {
                *place = Some((answer, point));
            }
        }
    }
    let row = |((_, id), pair): ((Timestamp, PointId), Found<'_>)| {
        row(&id, &pair, history, |mechanism| absent(answers, mechanism, home(id.source(), mechanism)))
    };
    let mut rows: Vec<_> = found.into_iter().filter_map(row).collect();
    for (started, finished) in history.runs() {
        let in_work = finished.is_none() && running(started.point.source());
        mark(&mut rows, started, finished.map(|end| &end.copies), in_work);
    }
    for row in &mut rows {
        explain_deleted(row, history);
    }
    rows.sort_by_key(|row| (row.point.time(), row.point.clone()));
    rows
}

/// A copy that is not there because it was deleted is no riddle.
fn explain_deleted(row: &mut Row, history: &History) {
    for mechanism in Mechanism::BOTH {
        let copy = row.copies.get_mut(mechanism);
        if copy.state == CopyState::Missing
            && let Some((at, reason)) = history.deleted(&row.point, mechanism)
        {
            copy.problems.push(format!("deleted at {}: {reason}", at.whole_second()));
        }
    }
}

fn row(id: &PointId, pair: &Found<'_>, history: &History, absent: impl Fn(Mechanism) -> CopyRow) -> Option<Row> {
    // The device's size says more than the sum of the files.
    let (_, point) = pair.block.or(pair.archive)?;
    let mut copies = Pair::new(|mechanism| match pair.get(mechanism) {
        Some((answer, point)) => present(answer, point, history),
        None => absent(mechanism),
    });
    if let (Some((_, block)), Some((_, archive))) = (&pair.block, &pair.archive)
        && block.snapshot_id != archive.snapshot_id
    {
        for mechanism in Mechanism::BOTH {
            let text = "the two copies are of different snapshots and never compared".to_owned();
            copies.get_mut(mechanism).problems.push(text);
        }
    }
    Some(Row {
        point: id.clone(),
        source: id.source().clone(),
        business_date: point.business_date,
        class: point.class,
        created_at: point.created_at,
        size_bytes: point.size_bytes,
        reasons: Vec::new(),
        copies,
        note: point.note.clone(),
        expires: point.expires,
    })
}

fn present(answer: &Answer, point: &Point, history: &History) -> CopyRow {
    let problems = history.problems(&point.point, answer.mechanism);
    let damaged = point.state == CopyState::Damaged || !problems.is_empty();
    CopyRow {
        state: if damaged && point.state == CopyState::Available { CopyState::Damaged } else { point.state },
        target: Some(answer.target.clone()),
        stored_bytes: Some(point.stored_bytes),
        added_bytes: Some(point.added_bytes),
        duration_s: Some(point.duration_s),
        verified_at: history
            .verified(&point.point)
            .filter(|verified| *verified.witnessed.get(answer.mechanism))
            .map(|verified| verified.at)
            .last(),
        mark: point.mark.clone(),
        problems,
        damaged,
        manifest: Some(point.clone()),
    }
}

/// No manifest: the copy is missing, or nobody knows, because its target did not answer.
fn absent(answers: &[Answer], mechanism: Mechanism, home: Option<String>) -> CopyRow {
    let is_home = |answer: &&Answer| home.as_ref().is_none_or(|home| answer.target == *home);
    let silent = answers
        .iter()
        .filter(is_home)
        .find_map(|answer| answer.error.as_ref().filter(|_| answer.mechanism == mechanism));
    CopyRow {
        target: home,
        problems: silent.map(|error| with_causes(error)).into_iter().collect(),
        ..CopyRow::bare(if silent.is_some() { CopyState::Error } else { CopyState::Missing })
    }
}

/// Explains what is not there by the run that should have made it; a point that is being made gets its row.
fn mark(rows: &mut Vec<Row>, started: &Started, ends: Option<&Pair<Option<CopyRecord>>>, in_work: bool) {
    let Some(row) = rows.iter_mut().find(|row| row.point == started.point) else {
        if in_work {
            rows.push(in_creation(started));
        }
        return;
    };
    for (mechanism, _) in started.asked.iter().filter(|(_, asked)| **asked) {
        let copy = row.copies.get_mut(mechanism);
        if copy.state != CopyState::Missing {
            continue;
        }
        match ends.and_then(|ends| ends.get(mechanism).as_ref()) {
            // It was there once: that is missing indeed.
            Some(end) if end.made => {}
            Some(end) => {
                copy.state = CopyState::Error;
                copy.problems.extend(end.problem.clone());
            }
            None if in_work => copy.state = CopyState::Creating,
            None => {
                copy.state = CopyState::Error;
                copy.problems.push("the run that should have made it was interrupted".to_owned());
            }
        }
    }
}

fn in_creation(started: &Started) -> Row {
    let copy = |mechanism: Mechanism| {
        CopyRow::bare(if *started.asked.get(mechanism) { CopyState::Creating } else { CopyState::Missing })
    };
    Row {
        point: started.point.clone(),
        source: started.point.source().clone(),
        business_date: started.business_date,
        class: started.class,
        created_at: started.point.time(),
        size_bytes: 0,
        reasons: Vec::new(),
        copies: Pair::new(copy),
        note: None,
        expires: None,
    }
}

#[cfg(test)]
mod tests {
    use dualsync_model::event::RetiredAction;
    use dualsync_model::id::RunId;
    use dualsync_model::job::Anchor;

    use super::*;
    use crate::history::{Finished, Record, Retired, RetiredCopy, Verified};

    fn id(day: u8) -> PointId {
        format!("web@202611{day:02}T020000Z").parse().unwrap()
    }

    fn point(day: u8) -> Point {
        Point {
            point: id(day),
            business_date: id(day).time().utc_date().plus_days(-1),
            class: Class::Auto,
            created_at: id(day).time(),
            snapshot_id: format!("{day}"),
            snapshot_method: "none".into(),
            frozen: false,
            size_bytes: 100,
            stored_bytes: 50,
            added_bytes: 5,
            duration_s: 7,
            anchor: Anchor { sequence: 1, sha256: "00".into() },
            other: None,
            manifest: "points/web/x".into(),
            state: CopyState::Available,
            incomplete_entries: 0,
            exclude: vec![],
            note: None,
            expires: None,
            stored_at: None,
            live_bytes: None,
            mark: None,
        }
    }

    fn answer(mechanism: Mechanism, days: &[u8]) -> Answer {
        let points = days.iter().map(|day| point(*day)).collect();
        Answer { target: format!("{mechanism}-home"), mechanism, points, error: None }
    }

    fn started(day: u8) -> Record {
        Record::Started(Started {
            at: id(day).time(),
            run: RunId::from_random([day; 8]),
            point: id(day),
            business_date: id(day).time().utc_date(),
            class: Class::Auto,
            asked: Pair { block: true, archive: true },
        })
    }

    fn finished(day: u8, block: bool, archive: bool) -> Record {
        let end = |made: bool| Some(CopyRecord { made, problem: (!made).then(|| "boom".to_owned()) });
        let copies = Pair { block: end(block), archive: end(archive) };
        Record::Finished(Finished { at: id(day).time(), run: RunId::from_random([day; 8]), point: id(day), copies })
    }

    fn states(rows: &[Row]) -> Vec<(String, CopyState, CopyState)> {
        rows.iter().map(|row| (row.point.to_string(), row.copies.block.state, row.copies.archive.state)).collect()
    }

    fn check(
        answers: &[Answer],
        records: Vec<Record>,
        running: bool,
        expected: &[(u8, CopyState, CopyState)],
    ) -> Vec<Row> {
        let rows = merge(answers, &History::of(records), |_, mechanism| Some(format!("{mechanism}-home")), |_| running);
        let expected: Vec<_> =
            expected.iter().map(|(day, block, archive)| (id(*day).to_string(), *block, *archive)).collect();
        assert_eq!(states(&rows), expected);
        rows
    }

    #[test]
    fn both_sides_are_merged_in_the_order_of_time() {
        use CopyState::{Available, Missing};

        let answers = [answer(Mechanism::Block, &[20, 19]), answer(Mechanism::Archive, &[21, 20])];
        check(
            &answers,
            vec![],
            false,
            &[(19, Available, Missing), (20, Available, Available), (21, Missing, Available)],
        );
    }

    #[test]
    fn a_failed_run_explains_the_copy_that_is_not_there() {
        use CopyState::{Available, Creating, Error, Missing};

        let answers = [answer(Mechanism::Block, &[20]), answer(Mechanism::Archive, &[])];
        let rows = check(&answers, vec![started(20), finished(20, true, false)], false, &[(20, Available, Error)]);
        assert_eq!(rows[0].copies.archive.problems, ["boom"]);
        check(&answers, vec![started(20), finished(20, true, true)], false, &[(20, Available, Missing)]);
        check(&answers, vec![started(20)], false, &[(20, Available, Error)]);
        check(&answers, vec![started(20)], true, &[(20, Available, Creating)]);
    }

    #[test]
    fn a_point_in_the_making_is_shown_and_one_that_never_was_is_not() {
        use CopyState::Creating;

        let answers = [answer(Mechanism::Block, &[]), answer(Mechanism::Archive, &[])];
        check(&answers, vec![started(20)], true, &[(20, Creating, Creating)]);
        check(&answers, vec![started(20)], false, &[]);
        check(&answers, vec![started(20), finished(20, false, false)], true, &[]);
    }

    #[test]
    fn a_target_that_does_not_answer_is_an_error_and_no_missing_copy() {
        let mut silent = answer(Mechanism::Archive, &[]);
        silent.error = Some(WriterError::silent(Mechanism::Archive, "everything"));
        let answers = [answer(Mechanism::Block, &[20]), silent];
        let rows = check(&answers, vec![], false, &[(20, CopyState::Available, CopyState::Error)]);
        assert!(rows[0].copies.archive.problems[0].contains("everything"));
    }

    #[test]
    fn what_verify_found_is_remembered() {
        let verified = Record::Verified(Verified {
            at: Timestamp::from_seconds(77),
            point: id(20),
            slice: None,
            witnessed: Pair { block: true, archive: true },
            objects: Pair::default(),
            problems: Pair { block: vec![], archive: vec!["volume 3 is missing".into()] },
        });
        let answers = [answer(Mechanism::Block, &[20]), answer(Mechanism::Archive, &[20])];
        let rows = check(&answers, vec![verified], false, &[(20, CopyState::Available, CopyState::Damaged)]);
        assert_eq!(rows[0].copies.block.verified_at, Some(Timestamp::from_seconds(77)));
    }

    #[test]
    fn a_copy_that_was_deleted_says_when_and_why() {
        let copy = RetiredCopy {
            point: id(20),
            action: RetiredAction::Deleted,
            reason: "left the contract".into(),
            loss: true,
            confirmed: false,
        };
        let record = Record::Retired(Retired {
            at: id(21).time(),
            target: "block-home".into(),
            mechanism: Mechanism::Block,
            copies: vec![copy],
            deleted_bytes: 0,
            stored_bytes: 0,
        });
        let answers = [answer(Mechanism::Block, &[]), answer(Mechanism::Archive, &[20])];
        let rows = check(&answers, vec![record], false, &[(20, CopyState::Missing, CopyState::Available)]);
        assert_eq!(rows[0].copies.block.problems, ["deleted at 2026-11-21T02:00:00Z: left the contract"]);
    }

    #[test]
    fn copies_of_different_snapshots_are_no_pair() {
        let mut archive = answer(Mechanism::Archive, &[20]);
        archive.points[0].snapshot_id = "another".into();
        let rows = merge(&[answer(Mechanism::Block, &[20]), archive], &History::default(), |_, _| None, |_| false);
        assert!(rows[0].copies.block.problems[0].contains("different snapshots"));
    }

    #[test]
    fn the_json_has_the_documented_fields() {
        let answers = [answer(Mechanism::Block, &[20]), answer(Mechanism::Archive, &[])];
        let rows = merge(&answers, &History::default(), |_, mechanism| Some(format!("{mechanism}-home")), |_| false);
        assert_eq!(
            serde_json::to_value(&rows).unwrap(),
            serde_json::json!([{
                "point": "web@20261120T020000Z", "source": "web", "business_date": "2026-11-19", "class": "auto",
                "created_at": "2026-11-20T02:00:00Z", "size_bytes": 100, "reasons": [],
                "copies": {
                    "block": {"state": "available", "target": "block-home", "stored_bytes": 50, "added_bytes": 5,
                        "duration_s": 7, "verified_at": null},
                    "archive": {"state": "missing", "target": "archive-home", "stored_bytes": null, "added_bytes": null,
                        "duration_s": null, "verified_at": null},
                },
            }])
        );
    }
}
