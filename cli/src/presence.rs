//! Whether what the copies refer to is there, asked of the stores before a copy may leave because another one is good.
//!
//! A listing shows manifests; a manifest whose packs or volumes are gone is a copy in name only. What the last verify found
//! is in this host's memory, and the host that prunes may be another one: so the stores are asked, by listing, each time that
//! something is to leave. A store that does not answer this counts as one that did not answer at all: what its copies
//! are worth is not known, and nothing leaves because of them.

use std::cell::RefCell;

use dualsync_config::target::TargetSettings;
use dualsync_model::event::{Finding, Status};
use dualsync_model::job::{CheckTask, Depth, Task};
use futures::future::join_all;

use crate::app::App;
use crate::human;
use crate::leaving;
use crate::listen::{Heard, listen};
use crate::listing::{Answer, Row};
use crate::mechanism::{Mechanism, Pair};
use crate::writer::WriterError;

/// Findings that take nothing from a copy: the object is there, under or beside something else.
const HARMLESS: [&str; 2] = ["shadowed", "unexpected"];

/// Asks every target that answered; gives the answers, without those that are silent now, and what is missing where.
pub async fn ask(app: &App<'_>, mut answers: Vec<Answer>) -> (Vec<Answer>, Vec<Finding>) {
    let answered = |target: &&TargetSettings| {
        answers.iter().any(|answer| answer.target == target.target.name && answer.error.is_none())
    };
    let targets: Vec<_> = app.settings.targets.values().filter(answered).collect();
    let sides = Pair::new(|mechanism: Mechanism| targets.iter().any(|target| target.mechanism == mechanism));
    let progress = RefCell::new(app.output.progress("look", &sides));
    let asked = targets.iter().map(async |target| {
        let told = |status: &Status| progress.borrow_mut().update(target.mechanism, status);
        let task = CheckTask { point: None, depth: Depth::Presence, slice: None };
        (*target, listen(app.start(target, None, Task::Check(task)).await, told).await)
    });
    let heard = join_all(asked).await;
    drop(progress);
    let mut findings = Vec::new();
    for (target, Heard { findings: found, error, .. }) in heard {
        let name = &target.target.name;
        for finding in found.into_iter().filter(|finding| !HARMLESS.contains(&finding.kind.as_str())) {
            app.output.warn(&format!("{name}: {}", human::about(&finding.object, &finding.problem)));
            findings.push(Finding { target: name.clone(), ..finding });
        }
        // Damage that it found is an answer.
        let is_damage =
            |error: &WriterError| matches!(error, WriterError::Failed { failure, .. } if failure.code == "damaged");
        if let Some(error) = error.filter(|error| !is_damage(error))
            && let Some(answer) = answers.iter_mut().find(|answer| answer.target == *name)
        {
            answer.error = Some(error);
        }
    }
    (leaving::whole(answers), findings)
}

/// Copies that lack an object are damaged, whatever their manifests say.
pub fn apply(findings: &[Finding], rows: &mut [Row]) {
    for row in rows {
        for mechanism in Mechanism::BOTH {
            let copy = row.copies.get_mut(mechanism);
            let hits = |finding: &&Finding| {
                copy.target.as_ref() == Some(&finding.target) && finding.points.contains(&row.point)
            };
            let problems: Vec<_> =
                findings.iter().filter(hits).map(|one| human::about(&one.object, &one.problem)).collect();
            if copy.manifest.is_some() && !problems.is_empty() {
                copy.damage(problems);
            }
        }
    }
}
