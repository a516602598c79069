//! The commit: look at the marks again, write the manifest, read it back.
//!
//! Nothing that was marked for more than half the grace may be named, and the manifest is put
//! within a quarter of the grace after that look, by the boot-time clock and the store's: so whatever a
//! deleter still keeps when it lists the manifests is named in time, and what it has given up is not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dualsync_block_store::contract::{Key, ObjectLock};
use dualsync_model::event::{Committed, Event};
use dualsync_model::job::{Anchor, BackupTask};
use dualsync_model::time::Timestamp;

use crate::backup::book::{Book, read_back};
use crate::backup::{BackupError, Counts, Made, ledger};
use crate::device::Source;
use crate::digest::Sha256;
use crate::events::Events;
use crate::filesystem;
use crate::format::manifest::BYTES_MAX;
use crate::format::{DAY_S, marks::RUN_DAYS_MAX};
use crate::locking;
use crate::manifest::{Clear, Description, Drop, LedgerLine, Manifest, SnapshotNote, Stats};
use crate::marks::Marks;
use crate::moment::Moment;
use crate::names;
use crate::points::{Census, load};
use crate::repository::Repository;
use crate::seal::{OpenError, random_bytes};

/// Looks at the marks at most this often before giving up on a store that is too slow.
const LOOKS_MAX: usize = 5;

/// What a manifest is made from.
pub(super) struct Commit<'a> {
    /// Where it goes.
    pub repository: &'a Arc<Repository>,
    /// What was asked for.
    pub task: &'a BackupTask,
    /// What was read.
    pub source: &'a Source,
    /// When the run began.
    pub started_at: Timestamp,
    /// The same by other clocks, before it listed the marks for the first time.
    pub began: Moment,
    /// What was counted.
    pub counts: Counts,
    /// What the manifest is put under.
    pub lock: Option<ObjectLock>,
}

impl Commit<'_> {
    /// Puts the manifest.
    pub async fn put(&self, book: &Book, events: &Events) -> Result<Made, BackupError> {
        let file_system = filesystem::recognise(self.source);
        let mut looks = 0;
        loop {
            looks += 1;
            let looked = Moment::now(self.repository.store());
            // Other sources may have committed since the run began: the chain goes on from now.
            let census = Census::take(self.repository).await?;
            let marks = Marks::list(self.repository).await?;
            self.refuse_marked(book, &marks).await?;
            self.refuse_late()?;
            let history = ledger::next(self.repository, &census, &marks).await;
            let manifest = self.manifest(book, &census, history, file_system.clone());
            let stem = names::manifest_stem(self.task.point.source(), self.task.point.time(), random_bytes()?);
            let (bytes, sha256) = manifest.seal(self.repository.keys(), &stem)?;
            let bytes = Bytes::from(bytes);
            self.try_reading(&manifest, &stem, &bytes)?;
            let window_s = self.task.grace_s / 4;
            let Some(rest_s) = window_s.checked_sub(looked.elapsed_s(self.repository.store())) else {
                if looks < LOOKS_MAX {
                    continue;
                }
                return Err(BackupError::TooSlow { window_s });
            };
            let rest = Duration::from_secs(rest_s);
            let made = self.made(book, bytes.len());
            self.put_in_time(&names::manifest(&stem, &sha256), bytes.clone(), sha256, rest).await?;
            // A host that slept meanwhile put it late: what it names must still not be about to go.
            if looked.elapsed_s(self.repository.store()) > window_s {
                self.refuse_marked(book, &Marks::list(self.repository).await?).await?;
            }
            self.confirm(&stem, bytes, sha256, manifest.clear.sequence, events).await?;
            self.tidy_cache(book, &census, sha256).await;
            return Ok(made);
        }
    }

    /// What readers refuse must not become a point: limits are theirs, and they are asked before.
    fn try_reading(&self, manifest: &Manifest, stem: &str, bytes: &Bytes) -> Result<(), BackupError> {
        let size = bytes.len() as u64;
        if size > BYTES_MAX {
            return Err(BackupError::TooLong { size });
        }
        let read = Manifest::open(self.repository.keys(), stem, bytes).map_err(BackupError::Unreadable)?;
        if read == *manifest {
            Ok(())
        } else {
            Err(BackupError::Unreadable(OpenError::Malformed("says other things than were written")))
        }
    }

    /// Puts the manifest, retries and all, within `rest`: after that nobody knows what is still kept.
    async fn put_in_time(&self, key: &Key, bytes: Bytes, sha256: Sha256, rest: Duration) -> Result<(), BackupError> {
        // Power cut before this line: no point. After it: the point exists.
        let put = locking::put(self.repository, key, bytes, sha256, self.lock);
        match tokio::time::timeout(rest, put).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(BackupError::TooSlow { window_s: self.task.grace_s / 4 }),
        }
    }

    async fn confirm(
        &self,
        stem: &str,
        bytes: Bytes,
        sha256: Sha256,
        sequence: u64,
        events: &Events,
    ) -> Result<(), BackupError> {
        let key = names::manifest(stem, &sha256);
        read_back(self.repository, &key, &bytes).await?;
        self.repository.cache().put(&sha256, &bytes);
        let anchor = Anchor { sequence, sha256: sha256.to_string() };
        events.say(&Event::Committed(Committed { manifest: key.to_string(), anchor }));
        Ok(())
    }

    /// A mark that was put after the run began stays for at least 30 days, its traces too: until then the
    /// look before the manifest sees it. After that nobody could tell that an object is gone.
    fn refuse_late(&self) -> Result<(), BackupError> {
        if self.began.elapsed_s(self.repository.store()) > u64::from(RUN_DAYS_MAX * DAY_S) {
            return Err(BackupError::TooLate(RUN_DAYS_MAX));
        }
        Ok(())
    }

    async fn refuse_marked(&self, book: &Book, marks: &Marks) -> Result<(), BackupError> {
        let named = book.map_references().into_iter().chain(book.uses.references());
        let named: Vec<Sha256> = named.map(|reference| reference.sha256).collect();
        for object in named {
            if let Some(age_s) = marks.age_for_run_s(self.repository, &object, self.task.grace_s).await
                && age_s > self.task.grace_s / 2
            {
                return Err(BackupError::Marked { object, age_s });
            }
        }
        Ok(())
    }

    fn manifest(
        &self,
        book: &Book,
        census: &Census,
        (ledger, drops): (Vec<LedgerLine>, Vec<Drop>),
        file_system: Option<String>,
    ) -> Manifest {
        let task = self.task;
        let info = self.repository.info();
        let newest = census.newest();
        let made_at = self.repository.store().now();
        let packs = book.uses.references();
        let stats = Stats {
            duration_s: u64::try_from(made_at.seconds_since(self.started_at)).unwrap_or(0),
            read_bytes: self.counts.read_bytes,
            stored_blocks: book.uses.blocks(),
            sent_blocks: self.counts.sent_blocks,
            resent_blocks: self.counts.resent_blocks,
            free_blocks: self.counts.free_blocks,
            added_bytes: book.added_bytes,
        };
        Manifest {
            clear: Clear {
                sequence: newest.map_or(0, |head| head.sequence) + 1,
                predecessor: newest.map(|head| head.name.sha256),
                maps: book.map_references(),
                packs,
            },
            description: Description {
                point: task.point.clone(),
                run: task.run.clone(),
                business_date: task.business_date,
                class: task.class,
                note: task.note.clone(),
                expires: task.expires,
                snapshot: SnapshotNote {
                    id: task.snapshot.id.clone(),
                    method: task.snapshot.method.clone(),
                    frozen: task.snapshot.frozen,
                    taken_at: task.snapshot.taken_at,
                },
                source_bytes: self.source.size_bytes(),
                block_bytes: info.block_bytes,
                file_system,
                exclude: task.exclude.clone(),
                other: task.other.clone(),
                ledger,
                drops,
                repo_sha256: self.repository.repo_sha256(),
                readme_sha256: info.readme_sha256,
                recover_sha256: self.repository.recover_sha256(),
                made_at,
                stats,
            },
            pages: book.table.clone(),
        }
    }

    fn made(&self, book: &Book, manifest_bytes: usize) -> Made {
        let source_bytes = self.source.size_bytes();
        Made {
            blocks: source_bytes.div_ceil(self.repository.block_bytes() as u64),
            source_bytes,
            added_bytes: book.added_bytes + manifest_bytes as u64,
            objects: book.stored.len() as u64 + 1,
        }
    }

    /// Keeps what the next run reads: every manifest, and the maps of each source's newest point.
    async fn tidy_cache(&self, book: &Book, census: &Census, manifest: Sha256) {
        let mut alive: HashSet<Sha256> = census.heads.iter().map(|head| head.name.sha256).collect();
        alive.insert(manifest);
        alive.extend(book.map_references().iter().map(|reference| reference.sha256));
        let sources: HashSet<_> = census.heads.iter().map(|head| &head.name.source).collect();
        for head in sources.into_iter().filter_map(|source| census.newest_of(source)) {
            if let Ok(other) = load(self.repository, &head.name, head.size).await {
                alive.extend(other.clear.maps.iter().map(|reference| reference.sha256));
            }
        }
        self.repository.cache().keep_only(&alive);
    }
}
