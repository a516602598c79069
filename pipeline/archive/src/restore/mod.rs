//! `restore`: a point becomes a directory tree again, whole or in part.
//!
//! Promises that nothing is written outside the target, that a file stands under its name only with the
//! content the signed catalog notes, and that damage costs the files it hits and no others. In
//! order: the catalog is read once, and directories, links and nodes are made on the way ([`survey`]);
//! content comes in storage order ([`files`]); then further names of hard links; then directories get
//! what was captured, the deepest first. Memory does not grow with the tree.

mod files;
mod report;
mod survey;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dualsync_model::event::Summary;
use dualsync_model::job::{RestoreTask, Shape};
use dualsync_model::outcome::Exit;

use self::files::Files;
use self::report::Report;
use self::survey::{Survey, Surveyed};
use crate::contents::{self, ReadError};
use crate::damage::Damage;
use crate::events::Events;
use crate::failure::{Fault, usage};
use crate::globs::{GlobError, Globs};
use crate::kept::Kept;
use crate::listing::{Listing, ListingError};
use crate::minisign::SecretKey;
use crate::points::{Copy, PointError};
use crate::program::summary;
use crate::repo::Unlocked;
use crate::runs::{Pulse, Purpose};
use crate::tree::apply::{Applier, ApplyError, Existing};
use crate::volume::reader::{ReadList, VolumeError, Volumes};

/// So many files, of so many bytes together, are fetched without a look at the list of volumes.
const LITTLE_FILES: u64 = 16;
const LITTLE_BYTES: u64 = 16 << 20;

/// Why a restore ends early.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The catalog.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// Content.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The target takes nothing at all.
    #[error("cannot restore into {}", target.display())]
    Target {
        /// The target.
        target: std::path::PathBuf,
        /// Why not.
        source: ApplyError,
    },
}

/// Runs the task; temporary files go into the folder `state`.
///
/// With the signing key `witness`, a deleter is told that the point is read.
pub async fn restore(
    repository: &Unlocked,
    witness: Option<Arc<SecretKey>>,
    task: &RestoreTask,
    state: &Path,
    events: &Events,
) -> Result<Summary, Fault> {
    if task.shape != Shape::Tree {
        return Err(usage("the archive path restores directory trees, no devices and no images"));
    }
    let globs = Globs::new(&task.paths)?;
    std::fs::create_dir_all(state).map_err(|error| Fault::new(Exit::Failed, "internal", &error))?;
    // A tree is read once; of single files there are often more to come.
    let kept = Arc::new(if task.paths.is_empty() { Kept::default() } else { Kept::open(state, task.point.source()) });
    let copy = Copy::find_kept(repository, &task.point, &kept).await?;
    repository.require_opener(&copy.manifest)?;
    // A few files are back before a deleter could hurt them; only a restore that lasts says so.
    let after = if task.paths.is_empty() { Duration::ZERO } else { Duration::from_mins(1) };
    let witness = witness.filter(|_| !task.dry_run);
    let pulse = Pulse::reading(repository, witness, &copy, Purpose::Restore, after, events).await;
    let ended = bring_back(repository, &copy, &kept, &globs, task, state, events).await;
    kept.end();
    if let Some(pulse) = pulse {
        pulse.end().await;
    }
    ended
}

async fn bring_back(
    repository: &Unlocked,
    copy: &Copy,
    kept: &Arc<Kept>,
    globs: &Globs,
    task: &RestoreTask,
    state: &Path,
    events: &Events,
) -> Result<Summary, Fault> {
    events.phase("reading the catalog");
    let damage = Arc::new(Damage::new(&repository.target, &task.point));
    let mut listing = Listing::open_kept(repository, copy, Arc::clone(kept)).await?;
    if !globs.is_empty() {
        listing = listing.narrowed(globs.roots());
    }
    let report = Arc::new(Report::new(events.clone()));
    let applier = if task.dry_run { None } else { Some(Arc::new(prepare(task)?)) };
    let mut survey = Survey::new(globs, applier.clone(), task.resume, state, &report)?;
    listing.read(&damage, |line| survey.take(line)).await?;
    let surveyed = survey.finish()?;
    if surveyed.entries == 0 && !globs.is_empty() && damage.is_empty() {
        if let Some(applier) = applier {
            applier.finish(None).map_err(|source| RestoreError::Target { target: task.to.clone(), source })?;
        }
        return Err(usage(format!("nothing in {} matches {}", task.point, task.paths.join(" "))));
    }
    let counts = (surveyed.entries, surveyed.bytes);
    if let Some(applier) = applier {
        let (objects, identity) = (repository.objects.clone(), repository.identity.clone());
        let volumes = if kept.spares() && is_little(&surveyed) {
            Volumes::unlisted(objects, identity, list_of(repository, copy, kept))
        } else {
            let refs = copy.refs_kept(&objects, kept).await?;
            Volumes::new(objects, identity, &refs)
        };
        write(repository, &Arc::new(volumes), &applier, surveyed, &report, &damage)
            .await
            .map_err(|error| report.fatal(&task.to).unwrap_or_else(|| error.into()))?;
        if let Some(fault) = report.fatal(&task.to) {
            return Err(fault);
        }
        for (path, sentence) in applier.shortfalls().sentences() {
            events.warn("not_applied", sentence, Some(&path));
        }
    }
    end(repository, &report, &damage, counts, events)
}

/// Reads the list of the volumes once it is asked for.
fn list_of(repository: &Unlocked, copy: &Copy, kept: &Arc<Kept>) -> ReadList {
    let (objects, copy, kept) = (repository.objects.clone(), Arc::new(copy.clone()), Arc::clone(kept));
    Box::new(move || {
        let (objects, copy, kept) = (objects.clone(), Arc::clone(&copy), Arc::clone(&kept));
        Box::pin(async move {
            match copy.refs_kept(&objects, &kept).await {
                Ok(refs) => Ok(Some(refs)),
                Err(PointError::Object(error)) if error.finding().is_none() => Err(error),
                Err(_) => Ok(None),
            }
        })
    })
}

/// Whether it is read in ranges whatever the sizes of the volumes are: their list would not spare a request.
fn is_little(surveyed: &Surveyed) -> bool {
    surveyed.plan.files() <= LITTLE_FILES && surveyed.plan.bytes() <= LITTLE_BYTES
}

fn prepare(task: &RestoreTask) -> Result<Applier, RestoreError> {
    let existing = if task.overwrite { Existing::Replace } else { Existing::Keep };
    let wrong = |source| RestoreError::Target { target: task.to.clone(), source };
    std::fs::create_dir_all(&task.to).map_err(|source| {
        wrong(ApplyError::Step { step: "make the target", path: dualsync_model::path::RawPath::default(), source })
    })?;
    let applier = if task.resume { Applier::going_on } else { Applier::new };
    applier(&task.to, existing).map_err(wrong)
}

/// Everything after the catalog was read.
async fn write(
    repository: &Unlocked,
    volumes: &Arc<Volumes>,
    applier: &Arc<Applier>,
    surveyed: Surveyed,
    report: &Arc<Report>,
    damage: &Arc<Damage>,
) -> Result<(), RestoreError> {
    let progress = report.events().progress();
    progress.bytes_total.store(surveyed.plan.bytes(), Ordering::Relaxed);
    progress.items_total.store(surveyed.plan.files(), Ordering::Relaxed);
    report.events().phase("restoring");
    let files = Files::new(Arc::clone(applier), repository.objects.clone(), Arc::clone(report), Arc::clone(damage));
    let sink: Arc<dyn contents::Sink> = Arc::new(files);
    contents::read(volumes, surveyed.plan.finish()?, &sink, damage).await?;
    report.events().phase("finishing");
    survey::link(applier, surveyed.links, report)?;
    survey::dress(applier, surveyed.directories, report)?;
    if let Err(error) = applier.finish(surveyed.root.as_ref()) {
        report.failed(&dualsync_model::path::RawPath::default(), error);
    }
    Ok(())
}

fn end(
    repository: &Unlocked,
    report: &Report,
    damage: &Damage,
    (items, bytes): (u64, u64),
    events: &Events,
) -> Result<Summary, Fault> {
    let findings = damage.findings();
    for finding in &findings {
        events.finding(finding.clone());
    }
    let incomplete = report.incomplete();
    if !findings.is_empty() {
        let lost = report.lost();
        let message = format!("{} stored objects are damaged and {lost} entries were lost", findings.len());
        return Err(report::damaged(message));
    }
    let exit = if incomplete == 0 { Exit::Done } else { Exit::Incomplete };
    Ok(Summary { exit_code: exit.code(), items, bytes, incomplete, ..summary(&repository.objects) })
}

impl From<GlobError> for Fault {
    fn from(error: GlobError) -> Self {
        Self::new(Exit::Usage, "usage", &error)
    }
}

impl From<ListingError> for Fault {
    fn from(error: ListingError) -> Self {
        match error.finding() {
            Some(_) => Self::new(Exit::Damaged, "damaged", &error),
            None => Self::new(Exit::Failed, "store", &error),
        }
    }
}

impl From<VolumeError> for Fault {
    fn from(error: VolumeError) -> Self {
        Self::new(Exit::Failed, "store", &error)
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        let code = if matches!(error, ReadError::Store(_)) { "store" } else { "internal" };
        Self::new(Exit::Failed, code, &error)
    }
}

impl From<RestoreError> for Fault {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Listing(error) => error.into(),
            RestoreError::Read(error) => error.into(),
            error @ RestoreError::Target { .. } => Self::new(Exit::Failed, "target", &error),
        }
    }
}

#[cfg(test)]
mod tests;
