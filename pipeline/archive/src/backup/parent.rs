//! What a new point builds on: the last point of its source, and what cut-off runs have sent since.

use std::collections::{BTreeMap, HashSet};

use dualsync_model::id::SourceName;

use crate::backup::BackupError;
use crate::backup::cataloger::OldCatalog;
use crate::backup::checkpoint::Checkpoint;
use crate::catalog::SegmentRef;
use crate::catalog::entry::{Line, Part};
use crate::catalog::segment::open_lines;
use crate::catalog::stream::{Cache, segments};
use crate::events::Events;
use crate::format::{
    CHECKPOINT_AGE_S, MANIFEST_BYTES_MAX, REFS_NAME, RUNS, SEGMENT_BYTES_MAX, SEGMENT_STORED_BYTES_MAX, catalog_key,
};
use crate::manifest::Stored;
use crate::marks::Marks;
use crate::objects::ObjectError;
use crate::points::{Copy, with_causes};
use crate::refs::{Ref, parse_refs};
use crate::repo::Unlocked;

/// Everything that is stored already and may be used.
#[derive(Default)]
pub struct Parent {
    /// The last point.
    pub copy: Option<Copy>,
    /// Its catalog, segment by segment.
    pub segments: Vec<SegmentRef>,
    /// Its catalog, as far as the new one may share it.
    pub shareable: OldCatalog,
    /// Volumes and segments that are stored, with sizes and digests.
    pub stored: BTreeMap<String, Ref>,
    /// Those among them that are marked: about to be deleted, so not to be used.
    pub marked: HashSet<String>,
    /// Contents that cut-off runs have sent.
    pub sent: Vec<Stored>,
}

impl Parent {
    /// The parent `copy`. Where its lists are damaged, the run goes on without it: everything is read
    /// and stored again, and the user is told.
    pub async fn open(
        repository: &Unlocked,
        copy: Copy,
        marks: &Marks,
        cache: &Cache,
        events: &Events,
    ) -> Result<Self, BackupError> {
        match Self::try_open(repository, copy, marks, cache).await {
            Ok(parent) => Ok(parent),
            Err(BackupError::Object(ObjectError::Store(error))) => Err(BackupError::Object(ObjectError::Store(error))),
            Err(error) => {
                let message =
                    format!("the last point is not built on, everything is stored again: {}", with_causes(&error));
                events.warn("damaged_parent", message, None);
                Ok(Self::default())
            }
        }
    }

    async fn try_open(repository: &Unlocked, copy: Copy, marks: &Marks, cache: &Cache) -> Result<Self, BackupError> {
        let (objects, identity) = (&repository.objects, &repository.identity);
        let listed = copy.manifest.objects.refs;
        let bytes: Vec<u8> = if let Some(bytes) = cache.get(listed) {
            bytes
        } else {
            let key = copy.manifest.object_key(REFS_NAME).ok_or(BackupError::Died)?;
            objects.get_exact(&key, listed).await?.into()
        };
        let refs = parse_refs(&bytes).map_err(BackupError::ParentRefs)?;
        let segments = segments(objects, identity, &copy.manifest, Some(cache)).await?;
        let marked: HashSet<String> =
            refs.iter().filter(|one| marks.is_marked(&one.key)).map(|one| one.key.clone()).collect();
        let free = segments.iter().filter(|segment| !marked.contains(&segment.key())).cloned().collect();
        let index = Some(copy.manifest.objects.catalog);
        let index = index.filter(|index| !marked.contains(&catalog_key(&index.sha256.hex())));
        Ok(Self {
            shareable: OldCatalog { index, segments: free },
            segments,
            stored: refs.into_iter().map(|one| (one.key.clone(), one)).collect(),
            marked,
            sent: Vec::new(),
            copy: Some(copy),
        })
    }

    /// Adds what cut-off runs of `source` have sent since. Nothing of it is needed, so what cannot be
    /// read is passed over.
    pub async fn add_checkpoints(
        &mut self,
        repository: &Unlocked,
        source: &SourceName,
        marks: &Marks,
    ) -> Result<(), BackupError> {
        let listing = repository.objects.list(&format!("{RUNS}{source}/")).await?;
        let since = self.copy.as_ref().map(|copy| copy.manifest.folder.clone());
        let now = repository.objects.now();
        let young = listing
            .iter()
            .filter(|info| now.seconds_since(info.modified) < CHECKPOINT_AGE_S && info.size <= MANIFEST_BYTES_MAX);
        for key in newest_checkpoints(young.map(|info| info.key.as_str())) {
            let Ok(bytes) = repository.objects.get(key, MANIFEST_BYTES_MAX).await else { continue };
            let checkpoint: Checkpoint = match repository.record(key, &bytes) {
                Ok(checkpoint) => checkpoint,
                Err(error) => {
                    tracing::warn!(error = with_causes(&error), "a checkpoint is passed over");
                    continue;
                }
            };
            let is_ours = |one: &Ref| {
                let folder = one.key.split('/').nth(2);
                // Volumes of finished points are found through the parent, or are not wanted any more.
                folder.map(str::to_owned) > since
            };
            if checkpoint.volumes.iter().all(is_ours) {
                self.add_checkpoint(checkpoint, marks);
            }
        }
        Ok(())
    }

    fn add_checkpoint(&mut self, checkpoint: Checkpoint, marks: &Marks) {
        for volume in checkpoint.volumes {
            if marks.is_marked(&volume.key) {
                self.marked.insert(volume.key.clone());
            }
            self.stored.insert(volume.key.clone(), volume);
        }
        self.sent.extend(checkpoint.contents);
    }

    /// Bytes of tar of every stored volume.
    pub fn tar_bytes(&self) -> BTreeMap<String, u64> {
        self.stored.iter().filter_map(|(key, one)| Some((key.clone(), one.tar_bytes?))).collect()
    }
}

/// The contents in one list of a checkpoint. Only those in volumes that the checkpoint names count.
pub async fn sent_contents(
    repository: &Unlocked,
    list: Stored,
    known: &BTreeMap<String, Ref>,
) -> Result<Vec<Part>, BackupError> {
    if list.bytes > SEGMENT_STORED_BYTES_MAX {
        return Ok(Vec::new());
    }
    let stored = repository.objects.get_exact(&catalog_key(&list.sha256.hex()), list).await?;
    let plain = open_lines(&repository.identity, &stored, SEGMENT_BYTES_MAX)?;
    let mut contents = Vec::new();
    for line in plain.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Ok(Line::Parts(parts)) = Line::parse(line) {
            contents.extend(parts.into_iter().filter(|part| known.contains_key(&part.at.volume)));
        }
    }
    Ok(contents)
}

/// Of each run, its checkpoint with the highest number.
fn newest_checkpoints<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut newest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for key in keys {
        let Some((run, name)) = key.rsplit_once('/') else { continue };
        let Some(number) = name.strip_prefix("checkpoint-").and_then(|number| number.parse().ok()) else { continue };
        let last = newest.entry(run).or_insert((number, key));
        *last = (*last).max((number, key));
    }
    newest.into_values().map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_checkpoint_of_each_run_counts() {
        let keys =
            ["runs/web/a/0", "runs/web/a/checkpoint-9", "runs/web/a/checkpoint-10", "runs/web/b/checkpoint-0", "x"];
        assert_eq!(newest_checkpoints(keys.into_iter()), ["runs/web/a/checkpoint-10", "runs/web/b/checkpoint-0"]);
    }
}
