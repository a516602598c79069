//! Step 7: clears away what has served: old marks, old run records, leftovers of cut-off writes.
//!
//! Nothing here is needed by a copy. A mark goes before its companions, so that nobody can see a
//! mark without the `.undone` that took it back. Marks stay for 30 days after they ended, longer than
//! a run may last, and those of a point for as long as a manifest names it as alive.

use std::collections::{BTreeMap, HashMap, HashSet};

use dualsync_block_store::contract::{Key, ObjectInfo};
use dualsync_block_store::versions::erase;
use dualsync_model::id::SourceName;
use dualsync_model::job::PruneTask;
use dualsync_model::time::Timestamp;

use crate::checkpoint::Checkpoint;
use crate::digest::Sha256;
use crate::document::Unproven;
use crate::fetch::ObjectError;
use crate::format::DAY_S;
use crate::format::marks::{KEPT_DAYS, LIFE_DAYS};
use crate::heartbeat::Heartbeat;
use crate::marks::{Mark, proved_note};
use crate::names::{self, Companion};
use crate::prune::at_once::{PORTION, Work, at_once};
use crate::prune::error::PruneError;
use crate::prune::survey::{KnownMark, Survey};
use crate::repository::Repository;

/// The same in seconds.
const KEPT_S: i64 = KEPT_DAYS as i64 * DAY_S as i64;

/// Clears away, or counts in a dry run; how many objects and files.
pub async fn clear(
    repository: &Repository,
    survey: &Survey,
    gone: &HashSet<Sha256>,
    task: &PruneTask,
    keeps_versions: bool,
) -> Result<u64, PruneError> {
    let clearing = Clearing { repository, survey, gone, grace_s: i64::try_from(task.grace_s).unwrap_or(i64::MAX) };
    let mut groups = clearing.marks().await?;
    groups.extend(clearing.run_records().await?.into_iter().map(|key| vec![key]));
    let cleared: u64 = groups.iter().map(|group| group.len() as u64).sum();
    if task.dry_run {
        return Ok(cleared);
    }
    for portion in groups.chunks(PORTION) {
        let works =
            portion.iter().map(|group| Box::pin(delete_in_order(repository, group, keeps_versions)) as Work<'_, ()>);
        at_once(works.collect(), |()| {}).await?;
    }
    Ok(cleared + repository.store().clear_leftovers().await?)
}

/// Where a bucket's own default retention still locks them they are hidden now, and erased later.
async fn delete_in_order(repository: &Repository, group: &[Key], keeps_versions: bool) -> Result<(), PruneError> {
    for key in group {
        erase(repository.store(), key, keeps_versions).await?;
    }
    Ok(())
}

struct Clearing<'a> {
    repository: &'a Repository,
    survey: &'a Survey,
    gone: &'a HashSet<Sha256>,
    grace_s: i64,
}

impl Clearing<'_> {
    fn age_s(&self, since: Timestamp) -> i64 {
        self.repository.store().now().seconds_since(since)
    }

    /// Keys of marks and companions that have served, each mark before its companions.
    async fn marks(&self) -> Result<Vec<Vec<Key>>, PruneError> {
        let mut groups = Vec::new();
        for (object, marks) in self.survey.marks.all() {
            for mark in marks {
                if self.has_served(object, mark).await? {
                    let put = mark.put.map(|_| mark.key.clone());
                    let deleting = mark.deleting.map(|_| mark.beside(Companion::Deleting));
                    let undone = mark.undone.map(|_| mark.beside(Companion::Undone));
                    groups.push([put, deleting, undone].into_iter().flatten().collect());
                }
            }
        }
        Ok(groups)
    }

    async fn has_served(&self, object: &Sha256, mark: &Mark) -> Result<bool, PruneError> {
        if mark.deleting.is_some() {
            return self.has_deletion_served(object, mark).await;
        }
        if mark.undone.is_some() {
            let ended = self.time_of(mark, Companion::Undone, object).await?;
            return Ok(ended.is_some_and(|ended| self.age_s(ended) >= KEPT_S));
        }
        // Nobody goes by it any more.
        let put = match mark.put.filter(|_| self.survey.has_clock) {
            Some(put) => Some(put),
            None => proved_note(self.repository, &mark.key, object).await?.map(|note| note.marked_at),
        };
        Ok(put.is_some_and(|put| self.age_s(put) >= i64::from(LIFE_DAYS * DAY_S) + KEPT_S))
    }

    /// A deletion that was announced has served when the object is gone, 30 days have passed, and no ledger names it:
    /// neither that of a manifest that is there, nor that of one that was made meanwhile.
    async fn has_deletion_served(&self, object: &Sha256, mark: &Mark) -> Result<bool, PruneError> {
        let announced: &[KnownMark] = self.survey.known.get(object).map(Vec::as_slice).unwrap_or_default();
        let is_proved = announced.iter().any(|known| known.proved.deleting && known.proved.mark.key == mark.key);
        if self.is_there(object) && is_proved {
            return self.has_lost_race_served(object, mark).await;
        }
        // What is locked lies under its marker for longer, and only this tells that no thief put the marker there.
        if self.survey.copies.census.buried.contains(object) {
            return Ok(false);
        }
        let Some(ended) = self.time_of(mark, Companion::Deleting, object).await? else { return Ok(false) };
        let newest = self.survey.copies.census.newest();
        let was_recorded = newest.is_none_or(|head| head.description.made_at > ended);
        let is_named = self.survey.uses.is_remembered(object);
        Ok(self.age_s(ended) >= KEPT_S && was_recorded && !is_named)
    }

    /// A deletion that was begun and taken back all the same, in whatever order: nobody goes by the mark, and no deleter
    /// acts on a listing that is as old as this.
    async fn has_lost_race_served(&self, object: &Sha256, mark: &Mark) -> Result<bool, PruneError> {
        let Some(undone) = self.time_of(mark, Companion::Undone, object).await? else { return Ok(false) };
        let Some(begun) = self.time_of(mark, Companion::Deleting, object).await? else { return Ok(false) };
        Ok(self.age_s(undone.max(begun)) >= KEPT_S)
    }

    fn is_there(&self, object: &Sha256) -> bool {
        let is_it = |listed: &ObjectInfo| names::digest_of(listed.key.as_str()).as_ref() == Some(object);
        !self.gone.contains(object)
            && (self.survey.objects.contains_key(object) || self.survey.copies.census.listed.iter().any(is_it))
    }

    /// When a companion was put; in a directory only the document can tell.
    async fn time_of(
        &self,
        mark: &Mark,
        companion: Companion,
        object: &Sha256,
    ) -> Result<Option<Timestamp>, ObjectError> {
        if self.survey.has_clock {
            return Ok(if companion == Companion::Deleting { mark.deleting } else { mark.undone });
        }
        Ok(proved_note(self.repository, &mark.beside(companion), object).await?.and_then(|note| note.at))
    }

    /// Keys of heartbeats and checkpoints older than 30 days, and of those that a source left which was deleted whole.
    async fn run_records(&self) -> Result<Vec<Key>, PruneError> {
        let mut by_source: BTreeMap<&str, Vec<&ObjectInfo>> = BTreeMap::new();
        for object in &self.survey.runs {
            let source = object.key.as_str().strip_prefix(names::RUNS).and_then(|rest| rest.split_once('/'));
            if let Some((source, _)) = source {
                by_source.entry(source).or_default().push(object);
            }
        }
        let emptied = self.emptied(&by_source).await?;
        let mut keys = Vec::new();
        for (source, records) in by_source {
            for record in records {
                let Some(at) = self.time_of_record(record).await? else { continue };
                let age_s = self.age_s(at);
                let is_left = emptied.get(source).is_some_and(|emptied| at <= *emptied) && age_s >= self.grace_s;
                if age_s >= KEPT_S || is_left {
                    keys.push(record.key.clone());
                }
            }
        }
        Ok(keys)
    }

    /// Sources without a point that had one: when the last of them was deleted.
    async fn emptied(
        &self,
        by_source: &BTreeMap<&str, Vec<&ObjectInfo>>,
    ) -> Result<HashMap<String, Timestamp>, PruneError> {
        let listed = self.survey.copies.census.listed.iter();
        let alive: HashSet<SourceName> = listed
            .filter_map(|object| names::parse_manifest(object.key.as_str()))
            .filter(|name| !self.gone.contains(&name.sha256))
            .map(|name| name.source)
            .collect();
        let mut emptied = HashMap::new();
        if by_source.keys().all(|source| alive.iter().any(|alive| alive.as_str() == *source)) {
            return Ok(emptied);
        }
        for (object, marks) in self.survey.marks.all() {
            for mark in marks.iter().filter(|mark| mark.deleting.is_some()) {
                let key = mark.beside(Companion::Deleting);
                let Some(note) = proved_note(self.repository, &key, object).await? else { continue };
                let Some(name) = names::parse_manifest(&note.object) else { continue };
                let ended = mark.deleting.filter(|_| self.survey.has_clock).or(note.at);
                if let Some(ended) = ended.filter(|_| !alive.contains(&name.source)) {
                    let last = emptied.entry(name.source.as_str().to_owned()).or_insert(ended);
                    *last = ended.max(*last);
                }
            }
        }
        Ok(emptied)
    }

    async fn time_of_record(&self, record: &ObjectInfo) -> Result<Option<Timestamp>, ObjectError> {
        if self.survey.has_clock {
            return Ok(Some(record.modified));
        }
        let bytes = match self.repository.get(&record.key).await {
            Err(error) if error.is_damage() => return Ok(None),
            other => other?,
        };
        let key = record.key.as_str();
        if names::parse_checkpoint(key).is_some() {
            return Ok(Checkpoint::open(self.repository.keys(), key, &bytes).ok().map(|checkpoint| checkpoint.note.at));
        }
        let proved =
            Unproven::parse(&bytes).and_then(|text| text.prove::<Heartbeat>(&self.repository.keys().mac_key(), key));
        Ok(proved.ok().map(|heartbeat| heartbeat.at))
    }
}
