//! Tells one target which copies may go, hears what became of them, and remembers it.
//!
//! The order holds a crash: an anchor that is deleted on purpose is let go before the program may delete it, so
//! that its absence is never taken for a rollback; when it stays after all, the next listing learns it again.

use dualsync_config::target::TargetSettings;
use dualsync_model::event::{Retired, RetiredAction, Status};
use dualsync_model::job::{PruneTask, Task};

use crate::app::App;
use crate::exit::with_causes;
use crate::history::{self, Record, RetiredCopy};
use crate::leaving::{Order, held};
use crate::listen::{Heard, listen, words};
use crate::listing::Answer;
use crate::writer::WriterError;
use crate::{anchors, clock};

/// How far a target goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Marks are put and taken back.
    Mark,
    /// What was marked for long enough is deleted, too.
    Sweep,
    /// As [`Depth::Sweep`], and nothing is changed.
    Rehearse,
}

/// Tells `target` its order. What was heard up to a failure counts all the same.
pub async fn tell(
    app: &App<'_>,
    target: &TargetSettings,
    order: &Order,
    answers: &[Answer],
    depth: Depth,
    progress: impl FnMut(&Status),
) -> Heard {
    let name = &target.target.name;
    let task = PruneTask {
        drop: order.drop.clone(),
        undo: order.undo.iter().map(|(_, manifest)| manifest.clone()).collect(),
        locks: order.locks.clone(),
        sweep: depth != Depth::Mark,
        grace_s: app.settings.limits.grace.as_secs(),
        // One that cannot be read is one that was lost: it costs a check.
        remembered: anchors::read(&app.state.anchors(), name).ok().flatten(),
        dry_run: depth == Depth::Rehearse,
    };
    if depth == Depth::Sweep
        && let Err(error) = let_go(app, name, order, answers)
    {
        app.output.warn(&with_causes(&error));
    }
    let mut heard = listen(app.start(target, None, Task::Prune(task)).await, progress).await;
    if heard.error.is_none() && heard.pruned.is_none() {
        heard.error = Some(WriterError::silent(target.mechanism, "what it pruned"));
    }
    for warning in &heard.warnings {
        app.output.warn(&format!("{name}: {}", words(warning)));
    }
    if depth != Depth::Rehearse
        && let Err(error) = remember(app, target, order, &heard)
    {
        app.output.warn(&with_causes(&error));
    }
    heard
}

/// Goes back to the newest manifest that stays, where the remembered one may be deleted because a person asked.
fn let_go(app: &App<'_>, target: &str, order: &Order, answers: &[Answer]) -> Result<(), anchors::AnchorError> {
    let asked: Vec<_> = order.drop.iter().filter(|leaving| leaving.asked).map(|leaving| &leaving.sha256).collect();
    let stays = held(answers, target).filter(|manifest| !asked.contains(&&manifest.anchor.sha256));
    let newest = stays.map(|manifest| &manifest.anchor).max_by_key(|anchor| anchor.sequence);
    anchors::release(&app.state.anchors(), target, |known| asked.contains(&&known.sha256), newest)
}

fn remember(app: &App<'_>, target: &TargetSettings, order: &Order, heard: &Heard) -> Result<(), history::HistoryError> {
    let copies: Vec<_> = heard.retired.iter().filter_map(|retired| record(order, retired)).collect();
    let pruned = heard.pruned.clone().unwrap_or_default();
    if copies.is_empty() && pruned.deleted_objects == 0 {
        return Ok(());
    }
    let record = history::Retired {
        at: clock::now(),
        target: target.target.name.clone(),
        mechanism: target.mechanism,
        copies,
        deleted_bytes: pruned.deleted_bytes,
        stored_bytes: pruned.stored_bytes,
    };
    history::append(&app.state.history(), &Record::Retired(record))
}

/// The record of a copy to which something happened now.
fn record(order: &Order, retired: &Retired) -> Option<RetiredCopy> {
    use RetiredAction::{Deleted, Kept, Marked, Refused, Undone, Waiting};

    let told = order.drop.iter().find(|leaving| leaving.manifest == retired.manifest);
    match retired.action {
        Waiting | Kept | Refused => None,
        Marked | Undone | Deleted => Some(RetiredCopy {
            point: retired.point.clone(),
            action: retired.action,
            reason: told.map_or_else(|| retired.reason.clone(), |leaving| leaving.reason.clone()),
            loss: order.losses.contains(&retired.point),
            confirmed: order.confirmed.contains(&retired.point),
        }),
    }
}
