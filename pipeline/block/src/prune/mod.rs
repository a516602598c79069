//! `prune`: marks what may go, takes marks back, deletes what was marked for a grace.
//!
//! docs/decisions/0006-deleting.md has the order of the steps and the proof that no manifest names a
//! deleted object, whatever runs, restores and other deleters do meanwhile. Only manifests are read to know what
//! is needed: no pack and no map object is ever fetched here. [`survey`] looks, [`plan`] decides, [`apply`] acts.

pub mod apply;
mod at_once;
mod clear;
mod error;
mod hidden;
mod lock;
pub mod plan;
pub mod survey;
mod uses;

use std::collections::HashSet;

use dualsync_block_store::versions::Remains;
use dualsync_model::event::{Event, Pruned, RetiredAction};
use dualsync_model::job::{LockMode, PruneTask};
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::events::Events;
use crate::format::{DAY_S, marks::GRACE_DAYS_MAX};
use crate::history::rollback;
use crate::names;
use crate::prune::apply::Deleter;
use crate::prune::at_once::{PORTION, Work, at_once};
pub use crate::prune::error::PruneError;
use crate::prune::lock::{Locks, lock_longer};
use crate::prune::plan::{Act, Doomed, Plan, Standing, doomed, standing};
use crate::prune::survey::{Clocks, Copies, Survey, Unreadable};
use crate::repository::Repository;

/// Does what `task` asks for in a store without locks; `job_now` is the time that the job told.
pub async fn prune(
    repository: &Repository,
    task: &PruneTask,
    job_now: Timestamp,
    events: &Events,
) -> Result<Pruned, PruneError> {
    prune_and_lock(repository, task, job_now, None, events).await
}

/// The same where objects are locked by this mode.
pub async fn prune_and_lock(
    repository: &Repository,
    task: &PruneTask,
    job_now: Timestamp,
    mode: Option<LockMode>,
    events: &Events,
) -> Result<Pruned, PruneError> {
    refuse_nonsense(task)?;
    if mode.is_none() && !task.locks.is_empty() {
        return Err(PruneError::NoMode);
    }
    events.progress().phase("listing");
    let clocks = Clocks::new(repository, job_now);
    clocks.compare(repository)?;
    let keeps_versions = task.sweep && repository.store().keeps_versions().await?;
    let deleter = Deleter::new(repository, &clocks, task.grace_s, keeps_versions);
    let mut survey = Survey::take(repository, &clocks, task.grace_s).await?;
    for key in survey.unproved_marks() {
        events.warn("unproved", format!("'{key}' is no mark that a holder of the key made: nothing is deleted by it"));
    }
    // First of all: what is wrong with some copies is no reason to let the locks of the others end.
    let mut locks = Locks::default();
    if let Some(mode) = mode.filter(|_| !task.dry_run && !task.locks.is_empty()) {
        locks = lock_longer(repository, &survey, &task.locks, mode, events).await?;
    }
    refuse_other_history(repository, task, &survey).await?;
    if is_only_locks(task) && survey.copies.unknown(|_| false) > 0 {
        // Nothing is to be marked or deleted, so nobody has to know what every copy needs.
        tell(&survey.copies, events);
        let pruned = count(task, &survey, &Plan::new(task, &survey));
        return end(pruned, locks, events);
    }
    let is_given_up =
        |copy: &Unreadable| task.drop.iter().any(|leaving| leaving.asked && leaving.manifest == copy.manifest);
    refuse_unknown(&survey.copies, is_given_up, events, PruneError::Unreadable)?;

    let plan = Plan::new(task, &survey);
    events.progress().phase("pruning");
    let job = Job { task, events, deleter: &deleter };
    let mut pruned = count(task, &survey, &plan);
    let mut gone = job.carry_out(plan, &mut pruned).await?;
    if task.sweep {
        if !task.dry_run {
            // Step 5. Whatever a run may still put by now, it looked at the marks when they were old enough to stop it.
            let copies = Copies::take(repository, &survey.marks, &mut survey.uses).await?;
            refuse_unknown(&copies, is_given_up, events, PruneError::UnreadableNow)?;
            survey.copies = copies;
        }
        let hidden = |copy: &Unreadable| task.dry_run && gone.contains(&copy.sha256);
        // Where a manifest that somebody gives up is still there, nobody knows what it needs until it is gone.
        if survey.copies.unknown(hidden) == 0 {
            let doomed = doomed(task.grace_s, &survey, |manifest| gone.contains(manifest));
            job.sweep(&doomed, &mut pruned).await?;
            gone.extend(doomed.iter().map(|object| object.sha256));
        }
        pruned.cleared = clear::clear(repository, &survey, &gone, task, keeps_versions).await?;
        if keeps_versions && !task.dry_run && survey.copies.unknown(|_| false) == 0 {
            let hidden = hidden::erase_hidden(repository, &survey, &gone).await?;
            pruned.cleared += hidden.erased;
            pruned.still_locked_objects += hidden.locked;
            pruned.still_locked_bytes += hidden.locked_bytes;
        }
    }
    end(pruned, locks, events)
}

/// Tells what was done; what the store refused to lock is an error when everything else is done.
fn end(mut pruned: Pruned, locks: Locks, events: &Events) -> Result<Pruned, PruneError> {
    pruned.locked_objects = locks.longer;
    events.say(&Event::Pruned(pruned.clone()));
    match locks.first {
        Some((first, error)) => Err(PruneError::Locks { refused: locks.refused, first, error }),
        None => Ok(pruned),
    }
}

/// Whether a job makes locks longer and does nothing else.
fn is_only_locks(task: &PruneTask) -> bool {
    !task.locks.is_empty() && task.drop.is_empty() && task.undo.is_empty() && !task.sweep
}

fn refuse_nonsense(task: &PruneTask) -> Result<(), PruneError> {
    if task.grace_s > u64::from(GRACE_DAYS_MAX * DAY_S) {
        return Err(PruneError::Grace(task.grace_s));
    }
    let keys = task.undo.iter().chain(task.drop.iter().map(|leaving| &leaving.manifest));
    match keys.into_iter().find(|key| names::parse_manifest(key).is_none()) {
        Some(key) => Err(PruneError::NoManifest(key.clone())),
        None => Ok(()),
    }
}

async fn refuse_other_history(repository: &Repository, task: &PruneTask, survey: &Survey) -> Result<(), PruneError> {
    match rollback(repository, &survey.copies.census, &survey.marks, task.remembered.as_ref()).await? {
        Some(finding) => Err(PruneError::Rollback(finding.problem)),
        None => Ok(()),
    }
}

/// Ends the job when the needs of a copy are unknown that nobody has given up; tells which.
fn refuse_unknown(
    copies: &Copies,
    is_given_up: impl Fn(&Unreadable) -> bool,
    events: &Events,
    error: impl Fn(usize) -> PruneError,
) -> Result<(), PruneError> {
    let unknown = copies.unknown(is_given_up);
    if unknown == 0 {
        return Ok(());
    }
    tell(copies, events);
    Err(error(unknown))
}

fn tell(copies: &Copies, events: &Events) {
    for finding in &copies.findings {
        events.say(&Event::Finding(finding.clone()));
    }
}

/// What the repository holds before anything is done.
fn count(task: &PruneTask, survey: &Survey, plan: &Plan) -> Pruned {
    let census = &survey.copies.census;
    let mut pruned = Pruned {
        objects: (survey.objects.len() + census.listed.len()) as u64,
        stored_bytes: survey.objects.values().chain(&census.listed).map(|object| object.size).sum(),
        ..Pruned::default()
    };
    let known = |sha256: &Sha256| survey.known.get(sha256).map(Vec::as_slice).unwrap_or_default();
    let stays = |sha256: &Sha256| matches!(standing(known(sha256), task.grace_s), Standing::Free);
    let manifests = census.heads.iter().filter(|head| stays(&head.name.sha256));
    pruned.live_bytes = manifests.map(|head| head.size).sum();
    let taken_back: HashSet<&str> = plan.undo.iter().map(|mark| mark.note.object.as_str()).collect();
    for (sha256, object) in &survey.objects {
        pruned.live_bytes += survey.uses.live_bytes(sha256, stays);
        let is_waiting = matches!(standing(known(sha256), task.grace_s), Standing::Waiting(_));
        if is_waiting && !taken_back.contains(object.key.as_str()) {
            pruned.waiting_objects += 1;
            pruned.waiting_bytes += object.size;
        }
    }
    pruned
}

/// The part of a job that acts, or in a dry run only tells.
struct Job<'a> {
    task: &'a PruneTask,
    events: &'a Events,
    deleter: &'a Deleter<'a>,
}

impl Job<'_> {
    /// Steps 3 and 4: marks, then the manifests that are due. The manifests that are gone.
    async fn carry_out(&self, plan: Plan, pruned: &mut Pruned) -> Result<HashSet<Sha256>, PruneError> {
        let mut copies = plan.copies;
        // What is taken back comes first: it is the only thing that must not come too late.
        for copy in &mut copies {
            if let Act::Undo(marks) = &copy.act
                && !self.task.dry_run
                && !self.deleter.undo_copy(marks).await?
            {
                copy.told.action = RetiredAction::Refused;
                "its deletion has begun".clone_into(&mut copy.told.reason);
            }
        }
        self.undo(&plan.undo).await?;
        let mut gone = HashSet::new();
        for mut copy in copies {
            match &copy.act {
                Act::Mark(mark) if !self.task.dry_run => self.deleter.mark(mark).await?,
                Act::Delete(doomed) if self.delete_copy(doomed, pruned).await? => drop(gone.insert(doomed.sha256)),
                Act::Delete(_) => {
                    copy.told.action = RetiredAction::Kept;
                    "its mark was taken back meanwhile".clone_into(&mut copy.told.reason);
                }
                Act::Mark(_) | Act::Undo(_) | Act::Nothing => {}
            }
            self.events.say(&Event::Retired(copy.told));
        }
        pruned.marked_objects += plan.mark.len() as u64;
        if !self.task.dry_run {
            for portion in plan.mark.chunks(PORTION) {
                let works = portion.iter().map(|mark| Box::pin(self.deleter.mark(mark)) as Work<'_, ()>);
                at_once(works.collect(), |()| {}).await?;
            }
        }
        Ok(gone)
    }

    /// Step 6.
    async fn sweep(&self, doomed: &[Doomed], pruned: &mut Pruned) -> Result<(), PruneError> {
        for portion in doomed.chunks(PORTION) {
            let works = portion.iter().map(|object| Box::pin(self.delete(object)) as Work<'_, (&Doomed, Remains)>);
            at_once(works.collect(), |(object, remains)| self.count(object, remains, pruned)).await?;
        }
        Ok(())
    }

    /// One object for itself: `.deleting` before it goes. The manifests that named it are gone, all of them.
    async fn delete<'d>(&self, object: &'d Doomed) -> Result<(&'d Doomed, Remains), PruneError> {
        let remains = if self.task.dry_run { Remains::default() } else { self.deleter.delete(object).await? };
        Ok((object, remains))
    }

    async fn undo(&self, marks: &[crate::marks::Proved]) -> Result<(), PruneError> {
        if self.task.dry_run {
            return Ok(());
        }
        for portion in marks.chunks(PORTION) {
            let works = portion.iter().map(|mark| Box::pin(self.deleter.undo(mark)) as Work<'_, ()>);
            at_once(works.collect(), |()| {}).await?;
        }
        Ok(())
    }

    /// Whether it is gone: its mark may have been taken back meanwhile.
    async fn delete_copy(&self, doomed: &Doomed, pruned: &mut Pruned) -> Result<bool, PruneError> {
        let remains =
            if self.task.dry_run { Some(Remains::default()) } else { self.deleter.delete_copy(doomed).await? };
        if let Some(remains) = remains {
            self.count(doomed, remains, pruned);
        }
        Ok(remains.is_some())
    }

    fn count(&self, doomed: &Doomed, remains: Remains, pruned: &mut Pruned) {
        if remains.versions > 0 {
            pruned.still_locked_objects += 1;
            pruned.still_locked_bytes += remains.bytes;
            return;
        }
        pruned.deleted_objects += 1;
        pruned.deleted_bytes += doomed.bytes;
        self.events.progress().add(doomed.bytes, 1);
    }
}
