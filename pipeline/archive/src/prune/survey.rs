//! Everything that pruning decides on, read in an order that leaves no needed object unseen.
//!
//! Marks come first, since their age must be one that they had before the manifests were listed. Objects
//! come before runs, and runs before manifests: whatever is listed belongs to a run whose heartbeat, or
//! whose manifest, is then listed too. That order saves work only; what makes deleting safe is the
//! second listing of manifests, in [`crate::prune::apply`].

use std::collections::{BTreeMap, BTreeSet};

use dualsync_archive_store::contract::{ObjectInfo, Version};
use dualsync_model::job::PruneTask;
use dualsync_model::time::Timestamp;

use crate::backup::checkpoint::Checkpoint;
use crate::deadline::Deadline;
use crate::events::Events;
use crate::format::{
    CATALOGS, CHECKPOINT_AGE_S, MANIFEST_BYTES_MAX, MANIFEST_NAME, POINTS, REFS_NAME, RUNS, SIGNATURE_NAME, SUMS_NAME,
    VOLUMES, catalog_digest, catalog_key, parse_point_key, parse_volume_key,
};
use crate::marks::{Marks, is_mark_key, object_digest};
use crate::objects::{Clock, ObjectError};
use crate::prune::PruneError;
use crate::prune::manifests::Manifests;
use crate::repo::Repository;
use crate::runs::{Living, Purpose, living, parse_run_key};

/// The repository as pruning sees it.
pub struct Survey {
    /// What ages are judged by: taken before anything was listed.
    pub clock: Clock,
    /// A mark may be taken back until then: soon after the listing of the marks.
    pub undo_until: Deadline,
    /// All marks; those on what is there are proved.
    pub marks: Marks,
    /// Objects that pruning may ever delete, but manifests.
    pub stored: BTreeMap<String, Stored>,
    /// Bytes of each manifest.
    pub manifest_bytes: BTreeMap<String, u64>,
    /// All manifests.
    pub manifests: Manifests,
    /// Runs and restores that go on, as far as is known.
    pub living: Vec<Living>,
    /// Objects that a later run may use because a cut-off one has told of them.
    pub resumable: BTreeSet<String>,
    /// Everything under `runs/`.
    pub runs: Vec<ObjectInfo>,
    /// Keys of ours under which nothing lies any more but markers.
    pub empty: BTreeSet<String>,
}

/// A stored object.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Its length.
    pub bytes: u64,
    /// Last modification by the store's clock.
    pub modified: Timestamp,
}

/// Whether pruning may ever delete the object with this key: what a run of this format puts, and no stranger's.
/// Manifests are not among them, they have rules of their own.
pub fn is_prunable(key: &str) -> bool {
    let is_list = |name: &str| matches!(name, REFS_NAME | SUMS_NAME | SIGNATURE_NAME);
    parse_volume_key(key).is_some()
        || catalog_digest(key).is_some()
        || parse_point_key(key).is_some_and(|(_, _, name)| is_list(name))
}

impl Survey {
    /// Reads it all.
    pub async fn look(repository: &Repository, task: &PruneTask, events: &Events) -> Result<Self, PruneError> {
        let grace = i64::try_from(task.grace_s).unwrap_or(i64::MAX);
        let objects = &repository.objects;
        let (clock, undo_until) = (objects.clock(), Deadline::after(grace / 8));
        events.phase("listing");
        let mut marks = Marks::list(repository).await?;
        // Who puts marks only may not list versions, and needs none.
        let versions = if task.sweep { objects.versions().await? } else { Vec::new() };
        let (hidden, empty) = hidden(&versions);
        let mut listing = objects.list(VOLUMES).await?;
        listing.extend(objects.list(CATALOGS).await?);
        let runs = objects.list(RUNS).await?;
        let points = objects.list_deep(POINTS).await?;
        events.phase("reading the manifests");
        let manifests = Manifests::read(repository, &points, events).await?;
        let is_copy = |info: &&ObjectInfo| manifests.copy(info.key.as_str()).is_some();
        let covered: Vec<_> = points.hidden.iter().filter(is_copy).cloned().collect();
        listing.extend(points.shown.into_iter().chain(covered));
        // What is hidden takes room, and goes like anything else that nobody names.
        let stored: BTreeMap<_, _> = hidden
            .iter()
            .chain(&listing)
            .filter(|info| is_prunable(info.key.as_str()))
            .map(|info| (info.key.to_string(), Stored { bytes: info.size, modified: info.modified }))
            .collect();
        let manifest_bytes = listing.iter().map(|info| (info.key.to_string(), info.size));
        let manifest_bytes = manifest_bytes.filter(|(key, _)| key.ends_with(MANIFEST_NAME)).collect();
        if marks.groups().next().is_some() {
            let there = stored.keys().map(String::as_str).chain(manifests.copies().map(|copy| copy.key.as_str()));
            let there: BTreeSet<_> = there.map(object_digest).collect();
            marks.prove(repository, |digest, _| there.contains(digest), events).await?;
        }
        let finished: BTreeSet<_> = manifests.copies().map(|copy| copy.manifest.run.as_str()).collect();
        let mut living = living(repository, &runs, grace, clock, events).await?;
        // Its manifest is there: that run has ended, and needs nothing more.
        living.retain(|run| run.beat.purpose != Purpose::Backup || !finished.contains(run.run.as_str()));
        let resumable = resumable(repository, &runs, &finished, clock).await?;
        Ok(Self { clock, undo_until, marks, stored, manifest_bytes, manifests, living, resumable, runs, empty })
    }
}

/// Of keys whose current version is a marker: the newest object below it, and those that have nothing below it.
fn hidden(versions: &[Version]) -> (Vec<ObjectInfo>, BTreeSet<String>) {
    let mut newest: BTreeMap<&str, &Version> = BTreeMap::new();
    let mut objects: BTreeMap<&str, &Version> = BTreeMap::new();
    for version in versions {
        // They come by key, the oldest first.
        newest.insert(version.info.key.as_str(), version);
        if !version.is_marker {
            objects.insert(version.info.key.as_str(), version);
        }
    }
    let covered = newest.into_iter().filter(|(_, version)| version.is_marker);
    let (mut hidden, mut empty) = (Vec::new(), BTreeSet::new());
    for (key, _) in covered {
        match objects.get(key) {
            Some(object) => hidden.push(object.info.clone()),
            None if is_ours(key) => drop(empty.insert(key.to_owned())),
            None => {}
        }
    }
    (hidden, empty)
}

fn is_ours(key: &str) -> bool {
    is_prunable(key) || is_mark_key(key) || parse_point_key(key).is_some() || parse_run_key(key).is_some()
}

/// What the checkpoints name that a later run may go on from: the newest one of each run that left no manifest.
async fn resumable(
    repository: &Repository,
    runs: &[ObjectInfo],
    finished: &BTreeSet<&str>,
    clock: Clock,
) -> Result<BTreeSet<String>, ObjectError> {
    let mut newest: BTreeMap<String, (u64, &str)> = BTreeMap::new();
    for info in runs.iter().filter(|info| clock.age(info.modified) < CHECKPOINT_AGE_S) {
        let Some((source, run, name)) = parse_run_key(info.key.as_str()) else { continue };
        let number = name.strip_prefix("checkpoint-").and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|_| info.size <= MANIFEST_BYTES_MAX && !finished.contains(run.as_str())) {
            let last = newest.entry(format!("{source}/{run}")).or_insert((number, info.key.as_str()));
            *last = (*last).max((number, info.key.as_str()));
        }
    }
    let mut named = BTreeSet::new();
    for (_, key) in newest.into_values() {
        let bytes = match repository.objects.get(key, MANIFEST_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(error) if error.finding().is_some() => continue,
            Err(error) => return Err(error),
        };
        // No run goes on from what it cannot prove; then it needs nothing of it either.
        let Ok(checkpoint) = repository.record::<Checkpoint>(key, &bytes) else { continue };
        named.extend(checkpoint.volumes.into_iter().map(|volume| volume.key));
        named.extend(checkpoint.contents.iter().map(|list| catalog_key(&list.sha256.hex())));
    }
    Ok(named)
}
