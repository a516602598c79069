//! A turn of the rotation: one slice of the stored objects of every kept point, each object read once.
//!
//! Points share most of their objects, so a target is asked about all of its points in one job; the findings name the
//! points that an object belongs to.

use std::cell::RefCell;
use std::collections::BTreeMap;

use dualsync_config::target::TargetSettings;
use dualsync_model::event::Finding;
use dualsync_model::id::PointId;
use dualsync_model::job::{CheckTask, Depth, Task};
use dualsync_model::slice::Slice;
use dualsync_model::time::Date;
use dualsync_verify::report::around::{Turn, TurnOfTarget};
use futures::future::join_all;

use super::record;
use crate::app::App;
use crate::clock;
use crate::exit::with_causes;
use crate::history::{self, Record, Rotated};
use crate::human;
use crate::listen::{Heard, listen};
use crate::listing::{Answer, Row};
use crate::mechanism::Pair;
use crate::rotation;
use crate::writer::WriterError;

/// Reads the slice of every target that answered, and remembers what was read.
pub async fn turn(app: &App<'_>, answers: &[Answer], rows: &[Row], date: Date, slice: Slice) -> anyhow::Result<Turn> {
    let answered = answers.iter().filter(|answer| answer.error.is_none() && !answer.points.is_empty());
    let targets: Vec<_> = answered.filter_map(|answer| app.settings.targets.get(&answer.target)).collect();
    let progress = RefCell::new(app.output.progress(
        &format!("slice {slice}"),
        &Pair::new(|mechanism| targets.iter().any(|target| target.mechanism == mechanism)),
    ));
    let read = targets.iter().map(async |target| {
        let task = CheckTask { point: None, depth: Depth::Objects, slice: Some(slice) };
        let writer = app.start(target, None, Task::Check(task)).await;
        listen(writer, |status| progress.borrow_mut().update(target.mechanism, status)).await
    });
    let heard = join_all(read).await;
    drop(progress);
    let mut turn = Turn { date, slice, targets: Vec::new() };
    let mut rotated =
        Rotated { at: clock::now(), slice, points: Pair::default(), problems: Pair::new(|_| BTreeMap::new()) };
    for (target, heard) in targets.into_iter().zip(heard) {
        let points = rotation::points(rows, &target.target.name);
        turn.targets.push(of_target(target, &heard, &points));
        note(&mut rotated, target, &heard, points);
    }
    history::append(&app.state.history(), &Record::Rotated(rotated))?;
    Ok(turn)
}

fn of_target(target: &TargetSettings, heard: &Heard, points: &[PointId]) -> TurnOfTarget {
    let summary = heard.summary.clone().unwrap_or_default();
    let damage = heard.findings.iter().filter(|finding| record::is_damage(&finding.kind));
    TurnOfTarget {
        target: target.target.name.clone(),
        points: points.len() as u64,
        objects: summary.objects,
        fetched_bytes: summary.fetched_bytes,
        findings: record::bounded(damage.map(sentence).collect()),
        failure: failure(heard).map(|error| with_causes(error)),
    }
}

/// Why the slice was not read to its end. That something in it is wrong is what reading it found, and no failure.
fn failure(heard: &Heard) -> Option<&WriterError> {
    let is_result = |error: &&WriterError| matches!(error, WriterError::Failed { failure, .. } if failure.code == "damaged" && !heard.findings.is_empty());
    heard.error.as_ref().filter(|error| !is_result(error))
}

fn sentence(finding: &Finding) -> String {
    human::about(&finding.object, &finding.problem)
}

/// Points count as read when the job came to its end; what is wrong is noted whether it did or not. An object of
/// which nobody knows whose it is counts against every point of its target.
fn note(rotated: &mut Rotated, target: &TargetSettings, heard: &Heard, points: Vec<PointId>) {
    let problems = rotated.problems.get_mut(target.mechanism);
    for finding in heard.findings.iter().filter(|finding| record::is_damage(&finding.kind)) {
        let hit = if finding.points.is_empty() { &points } else { &finding.points };
        for point in hit {
            problems.entry(point.clone()).or_default().push(sentence(finding));
        }
    }
    for list in problems.values_mut() {
        *list = record::bounded(std::mem::take(list));
    }
    if failure(heard).is_none() {
        rotated.points.get_mut(target.mechanism).extend(points);
    }
}
