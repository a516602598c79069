//! `prune`: marks copies that may go, takes marks back, deletes what was marked for a whole grace.
//!
//! It never downloads, moves or rewrites customer data: it reads manifests, their lists of objects and small
//! signed records, puts marks, and deletes. Which copies may go is the job's business; which objects
//! nobody needs is worked out here. [`survey`] reads, [`plan`] decides, [`apply`] acts, [`clear`] tidies up.
//! Order and proof: `docs/decisions/0006-deleting.md`.

pub mod apply;
pub mod clear;
pub mod locks;
pub mod manifests;
pub mod plan;
pub mod survey;

use std::collections::BTreeMap;

use dualsync_model::event::{Event, Pruned, Summary};
use dualsync_model::job::{Anchor, Job, PruneTask};
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;

use crate::events::Events;
use crate::failure::{Fault, usage};
use crate::marks::{Kind, Marks, object_digest};
use crate::minisign::SecretKey;
use crate::objects::{Clock, ObjectError};
use crate::program::summary;
use crate::prune::apply::{Applier, Otherwise};
use crate::prune::locks::Extended;
use crate::prune::plan::Plan;
use crate::prune::survey::Survey;
use crate::repo::Repository;

/// A quarter of a shorter grace would be less than a late request may live: an S3 signature, 15 minutes.
const GRACE_MIN_S: u64 = 3_600;

/// Why nothing, or nothing more, was done.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// What a manifest needs is not known.
    #[error("{object} cannot be read, so nobody knows what it needs: nothing is deleted before it is put right")]
    Unreadable {
        /// The first of them.
        object: String,
    },
    /// Two clocks.
    #[error(
        "the store's clock says {store} and this host's {host}: nothing is marked or deleted by a clock that is wrong"
    )]
    Clocks {
        /// The store's time.
        store: Timestamp,
        /// The job's.
        host: Timestamp,
    },
    /// The store is older than it was.
    #[error(
        "this host remembers manifest {remembered} of this target, and the store's newest is {newest}: an older state was put back, and nothing is deleted in it"
    )]
    RolledBack {
        /// The number the host remembers.
        remembered: u64,
        /// The number of the newest manifest.
        newest: u64,
    },
    /// The store, or an object that is needed to go on.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// No random bytes.
    #[error("no random bytes")]
    Random(#[source] getrandom::Error),
}

impl From<PruneError> for Fault {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Object(error) => error.into(),
            PruneError::Unreadable { .. } => Self::new(Exit::Damaged, "damaged", &error)
                .hint("`dualsync check` lists all damage; a manifest of a newer version needs a newer dualsync"),
            PruneError::Clocks { .. } | PruneError::RolledBack { .. } => Self::new(Exit::Failed, "refused", &error),
            PruneError::Random(_) => Self::new(Exit::Failed, "internal", &error),
        }
    }
}

/// Runs the task at the job's time `host_now`.
pub async fn prune(
    repository: &Repository,
    secret: &SecretKey,
    job: &Job,
    task: &PruneTask,
    host_now: Timestamp,
    events: &Events,
) -> Result<Summary, Fault> {
    if task.grace_s < GRACE_MIN_S {
        return Err(usage(format!("a grace of {} s is too short to delete safely: at least an hour", task.grace_s)));
    }
    compare_clocks(repository.objects.clock(), host_now)?;
    let mut survey = Survey::look(repository, task, events).await?;
    let done = decide(repository, secret, task, &mut survey, events).await;
    // What cannot be read or deleted keeps no lock from being made longer, and is told all the same.
    let extended = match job.target.immutability.filter(|_| !task.dry_run && !task.locks.is_empty()) {
        Some(mode) => locks::extend(&repository.objects, &survey.manifests, &task.locks, mode, &job.state).await,
        None => Extended::default(),
    };
    let pruned = Pruned { locked_objects: extended.longer, ..done? };
    let objects = pruned.deleted_objects;
    events.emit(&Event::Pruned(pruned));
    extended.outcome?;
    Ok(Summary { items: objects, objects, ..summary(&repository.objects) })
}

/// Does what is due, and tells what became of each copy.
async fn decide(
    repository: &Repository,
    secret: &SecretKey,
    task: &PruneTask,
    survey: &mut Survey,
    events: &Events,
) -> Result<Pruned, PruneError> {
    survey.manifests.require_all(events)?;
    if let Some(remembered) = &task.remembered {
        refuse_rollback(repository, survey, remembered, events).await?;
    }
    let plan = Plan::new(survey, task);
    let (pruned, other) = if task.dry_run {
        (foretell(repository, survey, &plan, task, events).await?, BTreeMap::new())
    } else {
        let grace = i64::try_from(task.grace_s).unwrap_or(i64::MAX);
        act(&Applier { repository, secret, events, grace }, survey, &plan, task).await?
    };
    for mut retired in plan.retired {
        if let Some((action, reason)) = other.get(&retired.manifest) {
            retired.action = *action;
            (*reason).clone_into(&mut retired.reason);
        }
        events.emit(&Event::Retired(retired));
    }
    Ok(pruned)
}

/// What a dry run tells.
async fn foretell(
    repository: &Repository,
    survey: &Survey,
    plan: &Plan,
    task: &PruneTask,
    events: &Events,
) -> Result<Pruned, PruneError> {
    let going = plan.would_delete(survey);
    let deleted = || going.iter().chain(&plan.copies);
    let mut pruned = Pruned {
        deleted_objects: deleted().count() as u64,
        deleted_bytes: deleted().map(|order| order.bytes).sum(),
        ..plan.counts
    };
    if task.sweep {
        let marks = Marks::list(repository).await?;
        pruned.cleared = clear::clear(repository, survey, marks, task.remembered.as_ref(), true, events).await?;
    }
    Ok(pruned)
}

async fn act(
    applier: &Applier<'_>,
    survey: &mut Survey,
    plan: &Plan,
    task: &PruneTask,
) -> Result<(Pruned, Otherwise), PruneError> {
    let done = applier.apply(plan, survey).await?;
    let mut pruned = Pruned {
        deleted_objects: done.deleted_objects,
        deleted_bytes: done.deleted_bytes,
        still_locked_objects: done.still_locked_objects,
        still_locked_bytes: done.still_locked_bytes,
        ..plan.counts
    };
    if task.sweep {
        let (repository, events) = (applier.repository, applier.events);
        let remembered = task.remembered.as_ref();
        pruned.cleared = clear::clear(repository, survey, done.marks, remembered, false, events).await?;
    }
    Ok((pruned, done.otherwise))
}

fn compare_clocks(store: Clock, host: Timestamp) -> Result<(), PruneError> {
    if store.is_stores && store.age(host).saturating_abs() > Clock::APART_MAX_S {
        return Err(PruneError::Clocks { store: store.now, host });
    }
    Ok(())
}

/// A store that lost its newest manifests would have prune delete by an old picture. The one that the host
/// remembers may be gone, but then a newer one is there, or it was deleted by who may sign.
async fn refuse_rollback(
    repository: &Repository,
    survey: &Survey,
    remembered: &Anchor,
    events: &Events,
) -> Result<(), PruneError> {
    let newest = survey.manifests.newest().map_or(0, |copy| copy.anchor.sequence);
    if newest > remembered.sequence || survey.manifests.copies().any(|copy| copy.anchor == *remembered) {
        return Ok(());
    }
    let mut marks = Marks::list(repository).await?;
    marks.prove(repository, |_, kind| kind == Kind::Deleting, events).await?;
    if marks.has_deleted(remembered) {
        return Ok(());
    }
    Err(PruneError::RolledBack { remembered: remembered.sequence, newest })
}

/// A new mark's name, which nobody else draws.
fn random_id(object: &str) -> Result<String, PruneError> {
    let random = getrandom::u64().map_err(PruneError::Random)?;
    Ok(format!("{}-{random:016x}", object_digest(object)))
}
