//! What became of a run, for people, for programs and for the exit code.

use dualsync_config::source::SourceSettings;
use dualsync_model::event::{CopyState, Requests, Warning};
use dualsync_model::id::{PointId, RunId};
use dualsync_model::job::{Class, Snapshot};
use dualsync_model::outcome::Exit;
use dualsync_model::time::Date;
use serde::Serialize;

use super::Run;
use super::marks::Marks;
use crate::app::App;
use crate::copies::{CopyEnd, CopyError};
use crate::exit::{Ending, judge_writer, with_causes};
use crate::human;
use crate::listen;
use crate::mechanism::Pair;

/// The last line of `run --json`.
#[derive(Serialize)]
pub struct RunReport<'a> {
    message_type: &'static str,
    source: &'a str,
    run: &'a RunId,
    point: &'a PointId,
    business_date: Date,
    class: Class,
    snapshot: &'a Snapshot,
    duration_s: u64,
    exit_code: u8,
    copies: Pair<Option<CopyReport<'a>>>,
    marks: Pair<Marks>,
}

#[derive(Serialize)]
struct CopyReport<'a> {
    state: CopyState,
    manifest: Option<&'a str>,
    sequence: Option<u64>,
    items: Option<u64>,
    bytes: Option<u64>,
    added_bytes: Option<u64>,
    incomplete: Option<u64>,
    requests: Option<Requests>,
    peak_memory_bytes: Option<u64>,
    duration_s: u64,
    warnings: &'a [Warning],
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl<'a> RunReport<'a> {
    /// Of a run whose copies ended like this.
    pub fn new(
        source: &'a SourceSettings,
        run: &'a Run,
        ends: &'a Pair<Option<CopyEnd>>,
        duration_s: u64,
        marks: Pair<Marks>,
    ) -> Self {
        Self {
            message_type: "summary",
            source: source.name.as_str(),
            run: &run.id,
            point: &run.point,
            business_date: run.date,
            class: run.class,
            snapshot: &run.snapshot,
            duration_s,
            exit_code: Exit::worst(exits(ends)).code(),
            copies: Pair::new(|mechanism| ends.get(mechanism).as_ref().map(CopyReport::new)),
            marks,
        }
    }

    /// Says it.
    pub fn show(&self, app: &App<'_>) {
        for (mechanism, copy) in self.copies.iter() {
            let Some(copy) = copy else { continue };
            for warning in copy.warnings.iter().filter(|_| !app.output.is_json()) {
                app.output.warn(&format!("{mechanism}: {}", listen::words(warning)));
            }
        }
        app.output.json(self);
        app.output.say(&format!("{} for {} in {}", self.point, self.business_date, human::seconds(self.duration_s)));
        for (mechanism, copy) in self.copies.iter() {
            if let Some(copy) = copy {
                app.output.say(&format!("  {mechanism:<8} {}", copy.words(), mechanism = mechanism.as_str()));
            }
        }
        for (mechanism, marks) in self.marks.iter() {
            for point in &marks.marked {
                app.output
                    .say(&format!("  {mechanism:<8} {point} is marked for deletion", mechanism = mechanism.as_str()));
            }
            for point in &marks.undone {
                app.output.say(&format!("  {mechanism:<8} {point} stays after all", mechanism = mechanism.as_str()));
            }
        }
    }

    /// How the run ended.
    pub fn ending(&self, ends: &Pair<Option<CopyEnd>>) -> Ending {
        let exits = exits(ends);
        let failed: Vec<_> = ends
            .iter()
            .filter_map(|(mechanism, end)| Some((mechanism, end.as_ref()?)))
            .filter(|(_, end)| end.committed.is_none())
            .collect();
        let Some((_, first)) = failed.first() else {
            if exits.contains(&Exit::Incomplete) {
                let text = format!("{}: some entries could not be read as they were", self.point);
                return Ending::with(exits, text, "the warnings name them");
            }
            return Ending::done();
        };
        let reasons: Vec<_> = failed
            .iter()
            .map(|(mechanism, end)| {
                let reason = end.error.as_ref().map(|error| with_causes(error)).unwrap_or_default();
                format!("the {mechanism} copy was not made: {reason}")
            })
            .collect();
        let judged = first.error.as_ref().map(judge);
        Ending {
            message: Some(format!("{}: {}", self.point, reasons.join("; "))),
            details: first.error.as_ref().map(tail).unwrap_or_default(),
            hint: if exits.contains(&Exit::Degraded) {
                Some(format!("the other copy is good; mend the cause and run `dualsync run {}` again", self.source))
            } else {
                judged.and_then(|(_, hint)| hint)
            },
            exits,
        }
    }
}

/// Every exit that holds. While one copy was made the run is degraded, whatever befell the other; a run
/// that made none of the copies it was asked for ends as they did.
fn exits(ends: &Pair<Option<CopyEnd>>) -> Vec<Exit> {
    let asked: Vec<_> = [&ends.block, &ends.archive].into_iter().flatten().collect();
    let made = asked.iter().filter(|end| end.committed.is_some()).count();
    let mut exits = Vec::new();
    if made == 0 {
        exits.extend(asked.iter().filter_map(|end| end.error.as_ref()).map(|error| judge(error).0));
    } else if made < asked.len() {
        exits.push(Exit::Degraded);
    }
    if asked.iter().any(|end| end.summary.as_ref().is_some_and(|summary| summary.exit_code == Exit::Incomplete.code()))
    {
        exits.push(Exit::Incomplete);
    }
    exits
}

fn judge(error: &CopyError) -> (Exit, Option<String>) {
    match error {
        CopyError::Writer(error) => judge_writer(error),
        CopyError::Moment(_) => {
            (Exit::Failed, Some("make the snapshot last longer, or the first upload smaller".to_owned()))
        }
    }
}

fn tail(error: &CopyError) -> Vec<String> {
    match error {
        CopyError::Writer(error) => error.tail().to_vec(),
        CopyError::Moment(_) => Vec::new(),
    }
}

impl<'a> CopyReport<'a> {
    fn new(end: &'a CopyEnd) -> Self {
        let summary = end.summary.as_ref();
        Self {
            state: if end.committed.is_some() { CopyState::Available } else { CopyState::Error },
            manifest: end.committed.as_ref().map(|committed| committed.manifest.as_str()),
            sequence: end.committed.as_ref().map(|committed| committed.anchor.sequence),
            items: summary.map(|summary| summary.items),
            bytes: summary.map(|summary| summary.bytes),
            added_bytes: summary.map(|summary| summary.added_bytes),
            incomplete: summary.map(|summary| summary.incomplete),
            requests: summary.map(|summary| summary.requests),
            peak_memory_bytes: summary.map(|summary| summary.peak_memory_bytes),
            duration_s: end.duration_s,
            warnings: &end.warnings,
            problem: end.error.as_ref().map(|error| with_causes(error)),
        }
    }

    fn words(&self) -> String {
        let mut words = match (self.state, self.bytes, self.added_bytes) {
            (CopyState::Available, Some(bytes), Some(added)) => {
                format!(
                    "{} read, {} added, {}",
                    human::bytes(bytes),
                    human::bytes(added),
                    human::seconds(self.duration_s)
                )
            }
            (CopyState::Available, ..) => format!("made, {}", human::seconds(self.duration_s)),
            _ => "not made".to_owned(),
        };
        if let Some(problem) = &self.problem {
            words = format!("{words}: {problem}");
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use dualsync_model::event::{Committed, Failure, Summary};
    use dualsync_model::job::Anchor;

    use super::*;
    use crate::writer::WriterError;

    fn made(exit_code: u8) -> CopyEnd {
        CopyEnd {
            committed: Some(Committed {
                manifest: "points/web/x".into(),
                anchor: Anchor { sequence: 1, sha256: "00".into() },
            }),
            summary: Some(Summary { exit_code, ..Summary::default() }),
            ..CopyEnd::default()
        }
    }

    fn failed(exit_code: u8) -> CopyEnd {
        let failure = Failure { exit_code, code: "store".into(), message: "no".into(), hint: None };
        let error = WriterError::Failed { program: "dualsync-block", failure };
        CopyEnd { error: Some(error.into()), ..CopyEnd::default() }
    }

    #[test]
    fn one_copy_of_two_is_degraded_whatever_befell_the_other() {
        let check = |block, archive, expected: &[Exit]| {
            assert_eq!(exits(&Pair { block, archive }), expected);
        };
        check(Some(made(0)), Some(made(0)), &[]);
        check(Some(made(3)), Some(made(0)), &[Exit::Incomplete]);
        check(Some(made(0)), Some(failed(12)), &[Exit::Degraded]);
        check(Some(failed(1)), Some(made(3)), &[Exit::Degraded, Exit::Incomplete]);
        check(Some(failed(10)), Some(failed(12)), &[Exit::RepositoryMissing, Exit::WrongKey]);
    }

    #[test]
    fn the_only_copy_that_was_asked_for_decides_alone() {
        assert_eq!(exits(&Pair { block: Some(made(0)), archive: None }), []);
        assert_eq!(exits(&Pair { block: None, archive: Some(failed(12)) }), [Exit::WrongKey]);
    }

    #[test]
    fn a_copy_whose_program_fell_after_its_commit_is_made() {
        let mut end = made(0);
        end.error = failed(1).error;
        assert_eq!(exits(&Pair { block: Some(end), archive: Some(made(0)) }), []);
    }
}
