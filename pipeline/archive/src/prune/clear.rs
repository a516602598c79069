//! What pruning itself leaves behind, cleared away when nobody can need it any more.
//!
//! - A mark stays 30 days after it ended, since a run that began before it may still be going on; the mark of a
//!   point also for as long as the newest manifest knows that point, which tells deleted from lost. The mark goes
//!   before its companions: cut off between them, no mark stands that had been taken back.
//! - A run record is of use for seven days, and a heartbeat for the grace; both are kept 30 days.
//! - Leftovers of writes that were cut off, where the store is a directory.
//!
//! None of it can hurt a copy: no manifest names any of it.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _};

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::job::Anchor;
use dualsync_model::time::Timestamp;

use crate::backup::chain::line_key;
use crate::events::Events;
use crate::format::TOMBSTONE_S;
use crate::marks::{Group, Kind, Marks, mark_key, object_digest};
use crate::objects::{Clock, ObjectError};
use crate::prune::apply::AT_ONCE;
use crate::prune::survey::Survey;
use crate::repo::Repository;
use crate::runs::{last_word, parse_run_key};

/// Leftovers of writes younger than this may still be written, seconds.
const UNFINISHED_AGE_S: i64 = 86_400;

/// Clears away, or only counts it when `only_count`; gives how much. `marks` are of a listing after everything else.
pub async fn clear(
    repository: &Repository,
    survey: &Survey,
    mut marks: Marks,
    remembered: Option<&Anchor>,
    only_count: bool,
    events: &Events,
) -> Result<u64, ObjectError> {
    events.phase("clearing away");
    let keep = Keep::of(survey);
    let old: BTreeSet<_> = marks
        .groups()
        .filter(|(digest, group)| keep.may_be_over(digest, group))
        .map(|(_, group)| group.id.clone())
        .collect();
    let digests: BTreeSet<_> = old.iter().filter_map(|id| id.split('-').next()).collect();
    marks.prove(repository, |digest, _| digests.contains(digest), events).await?;
    let (mut first, mut then): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for (digest, group) in marks.groups().filter(|(_, group)| old.contains(&group.id)) {
        if keep.is_over(digest, group, remembered) {
            // What nobody signed is not ours to clear away.
            for (kind, _) in group.names().filter(|(_, found)| found.record().is_some()) {
                let stage = if kind == Kind::Mark { &mut first } else { &mut then };
                stage.push(mark_key(&group.id, kind));
            }
        }
    }
    let (records, beats) = old_run_records(repository, &survey.runs, survey.clock, events).await?;
    first.extend(records);
    first.extend(survey.empty.iter().cloned());
    then.extend(beats);
    let mut cleared = (first.len() + then.len()) as u64;
    if !only_count {
        delete_all(repository, &first).await?;
        delete_all(repository, &then).await?;
    }
    let before = survey.clock.now.plus_seconds(-UNFINISHED_AGE_S);
    cleared += repository.objects.store().clear_unfinished(before, only_count).await?;
    Ok(cleared)
}

/// Deletes several at once; which of them goes first does not matter.
async fn delete_all(repository: &Repository, keys: &[String]) -> Result<(), ObjectError> {
    let deletions = futures::stream::iter(keys).map(|key| repository.objects.delete(key));
    // What a bucket's own lock still holds is cleared away another time.
    deletions.buffer_unordered(AT_ONCE).try_for_each(|_| std::future::ready(Ok(()))).await
}

/// What marks are still good for.
struct Keep {
    clock: Clock,
    /// Digests of the keys that were there when the job began: what it deleted itself has ended just now.
    there: BTreeSet<String>,
    /// Digests of the manifests that the newest one knows.
    known: BTreeSet<String>,
    anchors: Vec<Anchor>,
}

impl Keep {
    fn of(survey: &Survey) -> Self {
        let there = survey.stored.keys().chain(survey.manifest_bytes.keys()).map(|key| object_digest(key)).collect();
        let newest = survey.manifests.newest();
        let known = newest.into_iter().flat_map(|copy| &copy.manifest.ledger);
        let known = known.map(|line| object_digest(&line_key(line))).collect();
        let anchors = survey.manifests.copies().map(|copy| copy.anchor.clone()).collect();
        Self { clock: survey.clock, there, known, anchors }
    }

    /// By what a listing tells; where the store has no clock, that is nothing.
    fn may_be_over(&self, digest: &str, group: &Group) -> bool {
        let is_needed = if self.there.contains(digest) { group.undone.is_none() } else { self.known.contains(digest) };
        if is_needed {
            return false;
        }
        !self.clock.is_stores || self.is_old(group.names().map(|(_, found)| found.modified))
    }

    /// By what is proved.
    fn is_over(&self, digest: &str, group: &Group, remembered: Option<&Anchor>) -> bool {
        // The mark of an object that is there ends only by being taken back.
        if self.there.contains(digest) && (!group.is_undone() || group.is_deleting()) {
            return false;
        }
        let records: Vec<_> = group.names().filter_map(|(_, found)| found.record()).collect();
        let is_remembered = |anchor: &Anchor| Some(anchor) == remembered && !self.anchors.contains(anchor);
        if records.iter().any(|mark| mark.manifest.as_ref().is_some_and(is_remembered)) {
            // The host still takes the deleted point for the newest: without this it would see a rollback.
            return false;
        }
        !records.is_empty() && (self.clock.is_stores || self.is_old(records.iter().map(|mark| mark.marked_at)))
    }

    fn is_old(&self, times: impl Iterator<Item = Timestamp>) -> bool {
        times.max().is_some_and(|last| self.clock.age(last) >= TOMBSTONE_S)
    }
}

/// Records of runs that ended long ago, and then their heartbeats, which tell a run's age until they go.
async fn old_run_records(
    repository: &Repository,
    runs: &[ObjectInfo],
    clock: Clock,
    events: &Events,
) -> Result<(Vec<String>, Vec<String>), ObjectError> {
    let mut by_run: BTreeMap<String, Vec<&ObjectInfo>> = BTreeMap::new();
    for info in runs {
        if let Some((source, run, _)) = parse_run_key(info.key.as_str()) {
            by_run.entry(format!("{source}/{run}")).or_default().push(info);
        }
    }
    let mut old = (Vec::new(), Vec::new());
    for records in by_run.into_values() {
        let last = if clock.is_stores {
            records.iter().map(|info| info.modified).max()
        } else {
            last_word(repository, &records, events).await?.map(|beat| beat.at)
        };
        if last.is_some_and(|last| clock.age(last) >= TOMBSTONE_S) {
            for key in records.iter().map(|info| info.key.to_string()) {
                if key.contains("/checkpoint-") { old.0.push(key) } else { old.1.push(key) }
            }
        }
    }
    Ok(old)
}
