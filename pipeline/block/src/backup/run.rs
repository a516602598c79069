//! What a run leaves behind while it works: heartbeats and checkpoints, and what the last one left.
//!
//! A heartbeat at the start and every hour tells a deleter which parent must stay. A checkpoint
//! says what has arrived, so that a run that was cut off need not send it twice. Both are put-once;
//! a lost one costs time, never data.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dualsync_block_store::contract::{ObjectInfo, ObjectLock};
use dualsync_model::id::{PointId, RunId};
use dualsync_model::time::Timestamp;
use tokio::time::Instant;

use crate::backup::BackupError;
use crate::backup::book::Book;
use crate::checkpoint::{Checkpoint, CheckpointNote};
use crate::digest::Sha256;
use crate::document;
use crate::events::Progress;
use crate::heartbeat::{Heartbeat, Work};
use crate::locking;
use crate::manifest::{Clear, Description};
use crate::names;
use crate::page::PageIndex;
use crate::pagetable::PageTable;
use crate::repository::Repository;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_hours(1);
/// A checkpoint older than this is not used: its objects may have been cleared away.
pub(crate) const CHECKPOINT_AGE_MAX_S: i64 = 7 * 86_400;

/// What a run is to do.
pub struct RunPlan {
    /// The point it makes.
    pub point: PointId,
    /// The run.
    pub id: RunId,
    /// The manifest it stands on.
    pub parent: Option<Sha256>,
    /// When it began.
    pub started_at: Timestamp,
    /// Bytes of its source.
    pub source_bytes: u64,
    /// Packs between two checkpoints.
    pub checkpoint_packs: u64,
    /// What is told to the user.
    pub progress: Arc<Progress>,
    /// What the run's objects are put under.
    pub lock: Option<ObjectLock>,
}

/// One run of a backup.
pub struct Run {
    plan: RunPlan,
    heartbeats: u64,
    next_heartbeat: Instant,
    checkpoints: u64,
    packs: u64,
    is_lock_proved: bool,
}

impl Run {
    /// A run that continues the numbers of what `listed` shows of it.
    pub fn new(plan: RunPlan, listed: &[ObjectInfo]) -> Self {
        let after = |numbers: Vec<(RunId, u64)>| {
            numbers.into_iter().filter(|(run, _)| *run == plan.id).map(|(_, number)| number + 1).max().unwrap_or(0)
        };
        let keys = || listed.iter().map(|object| object.key.as_str());
        let heartbeats = after(keys().filter_map(names::parse_heartbeat).collect());
        let checkpoints = after(keys().filter_map(names::parse_checkpoint).collect());
        Self { plan, heartbeats, next_heartbeat: Instant::now(), checkpoints, packs: 0, is_lock_proved: false }
    }

    /// What is told to the user.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.plan.progress
    }

    /// Ends when the next heartbeat is due.
    pub fn next_heartbeat(&self) -> impl Future<Output = ()> + use<> {
        tokio::time::sleep_until(self.next_heartbeat)
    }

    /// Puts a heartbeat. The first one also proves that the store enforces locks, where they are asked for.
    pub async fn heartbeat(&mut self, repository: &Repository) -> Result<(), BackupError> {
        let heartbeat = Heartbeat {
            work: Work::Backup,
            point: self.plan.point.clone(),
            run: self.plan.id.clone(),
            number: self.heartbeats,
            parent: self.plan.parent,
            started_at: self.plan.started_at,
            at: repository.store().now(),
            ended: false,
        };
        let key = names::heartbeat(self.plan.point.source(), &self.plan.id, self.heartbeats);
        match self.plan.lock.filter(|_| !self.is_lock_proved) {
            Some(lock) => {
                let bytes = document::encode(&heartbeat, &repository.keys().mac_key(), key.as_str());
                locking::prove(repository, &key, bytes.into(), lock.mode).await?;
                self.is_lock_proved = true;
            }
            None => drop(repository.put_document(&key, &heartbeat).await?),
        }
        self.heartbeats += 1;
        self.next_heartbeat = Instant::now() + HEARTBEAT;
        Ok(())
    }

    /// A pack arrived in the store.
    pub fn pack_arrived(&mut self) {
        self.packs += 1;
    }

    /// Whether enough packs arrived since the last checkpoint.
    pub fn is_checkpoint_due(&self) -> bool {
        self.packs >= self.plan.checkpoint_packs
    }

    /// Says that the first `pages` pages of the book are stored.
    pub async fn checkpoint(&mut self, repository: &Repository, book: &Book, pages: u64) -> Result<(), BackupError> {
        let mut table = PageTable::default();
        for index in (0..pages).map(PageIndex) {
            table.push(book.table.get(index));
        }
        let used: HashSet<Sha256> = table.live_objects().into_iter().map(|(object, _)| object).collect();
        let maps = book.map_references().into_iter().filter(|reference| used.contains(&reference.sha256)).collect();
        let checkpoint = Checkpoint {
            clear: Clear { maps, packs: book.uses.references(), ..Clear::default() },
            note: CheckpointNote {
                point: self.plan.point.clone(),
                run: self.plan.id.clone(),
                source_bytes: self.plan.source_bytes,
                block_bytes: repository.info().block_bytes,
                at: repository.store().now(),
            },
            pages: table,
        };
        let key = names::checkpoint(self.plan.point.source(), &self.plan.id, self.checkpoints);
        let (bytes, sha256) = checkpoint.seal(repository.keys(), key.as_str())?;
        repository.put(&key, Bytes::from(bytes), sha256).await?;
        self.checkpoints += 1;
        self.packs = 0;
        Ok(())
    }
}

/// The newest checkpoint among `listed`, when it is newer than the parent, of a run that has not `ended` in a point, and can be
/// used.
///
/// The store's times only spare the reading of old ones; its own sealed time decides, since a
/// copied directory has new file times and a lying store has any.
pub async fn interrupted(
    repository: &Repository,
    listed: &[ObjectInfo],
    parent: Option<&Description>,
    ended: &HashSet<RunId>,
) -> Option<Checkpoint> {
    let now = repository.store().now();
    let is_fresh = |at: Timestamp| {
        parent.is_none_or(|parent| at >= parent.made_at.whole_second()) && now.seconds_since(at) < CHECKPOINT_AGE_MAX_S
    };
    let numbered = listed
        .iter()
        .filter(|object| is_fresh(object.modified))
        .filter_map(|object| names::parse_checkpoint(object.key.as_str()).map(|(run, number)| (object, run, number)))
        .filter(|(_, run, _)| !ended.contains(run))
        .map(|(object, _, number)| (object, number));
    let (newest, _) = numbered.max_by_key(|(object, number)| (object.modified, *number))?;
    let bytes = repository.get(&newest.key).await.ok()?;
    let checkpoint = Checkpoint::open(repository.keys(), newest.key.as_str(), &bytes)
        .inspect_err(|error| tracing::warn!(key = %newest.key, %error, "a checkpoint cannot be used"))
        .ok()?;
    let fits = checkpoint.note.block_bytes == repository.info().block_bytes && is_fresh(checkpoint.note.at);
    fits.then_some(checkpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyfile;
    use dualsync_block_store::contract::Store;
    use dualsync_block_store::memory::MemoryStore;
    use dualsync_model::job::InitTask;
    use dualsync_model::secret::SecretRef;

    const DAY_S: i64 = 86_400;

    async fn repository(folder: &std::path::Path, now: Timestamp) -> Repository {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(now));
        let key = SecretRef::File(folder.join("block.key"));
        let task = InitTask::default();
        crate::init::init(Arc::clone(&store), "frankfurt", &key, folder, &task, now).await.unwrap();
        Repository::open(store, "frankfurt", &keyfile::read(&key).await.unwrap(), folder).await.unwrap()
    }

    #[tokio::test]
    async fn a_checkpoint_is_as_old_as_it_says_whatever_the_file_times_are() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_seconds(1_795_140_000);
        let repository = repository(folder.path(), now).await;
        let point: PointId = "web@20261120T020000Z".parse().unwrap();
        for (number, (age_s, is_used)) in [(DAY_S, true), (8 * DAY_S, false)].into_iter().enumerate() {
            let run = RunId::from_random([u8::try_from(number).unwrap(); 8]);
            let key = names::checkpoint(point.source(), &run, 0);
            let note = CheckpointNote {
                point: point.clone(),
                run,
                source_bytes: 1 << 30,
                block_bytes: repository.info().block_bytes,
                at: Timestamp::from_seconds(1_795_140_000 - age_s),
            };
            let checkpoint = Checkpoint { clear: Clear::default(), note, pages: PageTable::default() };
            let (bytes, sha256) = checkpoint.seal(repository.keys(), key.as_str()).unwrap();
            repository.put(&key, bytes.into(), sha256).await.unwrap();
            // The store says that it is new.
            let listed = repository.store().list(key.as_str(), None).await.unwrap();
            assert_eq!(interrupted(&repository, &listed, None, &HashSet::new()).await.is_some(), is_used, "{number}");
        }
    }
}
