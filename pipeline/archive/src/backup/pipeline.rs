//! Starts the stages of a backup and waits for them.
//!
//! ```text
//! walk, parent's catalog ─▶ join, read ─▶ frames ─▶ two packers ─▶ assembler ─▶ volumes ──▶ uploader
//!                               └────────▶ entries ────────────────▶ cataloger ─▶ segments ─▶
//! ```
//!
//! Reading, compressing, sealing and sending overlap; every channel and every buffer is bounded, so memory
//! is bounded whatever the tree. Any failure stops all stages, and the first error is the one told.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use tokio::task::{JoinHandle, spawn_blocking};

use dualsync_model::job::BackupTask;

use crate::backup::aside::aside;
use crate::backup::assemble::{Assembler, Naming};
use crate::backup::cataloger::{Cataloger, Catalogued, OldCatalog, Setup};
use crate::backup::checkpoint::Checkpoints;
use crate::backup::filler::Filler;
use crate::backup::flow::Flow;
use crate::backup::frames::{FrameTable, pack};
use crate::backup::join::join;
use crate::backup::parent::{Parent, sent_contents};
use crate::backup::plan::{Plan, Planner, Rules};
use crate::backup::produce::{Counts, Producer};
use crate::backup::state::State;
use crate::backup::upload::{self, SentObjects};
use crate::backup::{BackupError, set_totals};
use crate::catalog::SegmentRef;
use crate::catalog::stream::Entries;
use crate::codec::Codec;
use crate::events::Events;
use crate::format::{Folder, VOLUME_BYTES_TARGET};
use crate::globs::Globs;
use crate::minisign::SecretKey;
use crate::objects::ObjectError;
use crate::refs::Ref;
use crate::repo::Unlocked;
use crate::tree::walk::Walk;

/// Workers that compress.
const PACKERS: usize = 2;
/// Frames waiting for a worker, and for the assembler.
const FRAMES: usize = 4;
/// Entries waiting for the catalog.
const ITEMS: usize = 1024;

/// What a pipeline works with.
pub struct Pipeline<'a> {
    /// Where to.
    pub repository: &'a Arc<Unlocked>,
    /// Signs checkpoints.
    pub secret: &'a Arc<SecretKey>,
    /// Local files.
    pub state: &'a State,
    /// What to read.
    pub task: &'a BackupTask,
    /// Folder of the new point.
    pub folder: &'a Folder,
    /// How to compress.
    pub codec: Codec,
    /// Progress.
    pub events: &'a Events,
}

/// Everything is stored, but the point's own objects.
pub struct Done {
    /// Its catalog.
    pub catalog: Catalogued,
    /// What was sent.
    pub sent: SentObjects,
    /// What was stored before and may be named.
    pub stored: BTreeMap<String, Ref>,
    /// Counts.
    pub counts: Counts,
}

impl Pipeline<'_> {
    /// Runs both passes.
    pub async fn run(&self, mut parent: Parent, exclude: Globs, sequence: u64) -> Result<Done, BackupError> {
        let taken_at = parent.copy.as_ref().map(|copy| copy.manifest.snapshot.taken_at);
        let rules = Rules::new(taken_at, sequence);
        let plan = self.plan(&parent, &exclude).await?;
        set_totals(self.events, plan.entries, plan.bytes);
        self.events.phase("reading");
        let old = std::mem::take(&mut parent.shareable);
        let (catalog, sent, counts) = self.read(rules, plan, old, parent.segments, exclude).await?;
        Ok(Done { catalog, sent, stored: parent.stored, counts })
    }

    /// The first pass.
    async fn plan(&self, parent: &Parent, exclude: &Globs) -> Result<Plan, BackupError> {
        let spill = self.state.spill.clone();
        let mut planner = Planner::new(&spill);
        for list in &parent.sent {
            match sent_contents(self.repository, *list, &parent.stored).await {
                Ok(contents) => contents.iter().try_for_each(|part| planner.add_stored(part))?,
                Err(BackupError::Object(ObjectError::Store(error))) => return Err(ObjectError::Store(error).into()),
                Err(error) => tracing::warn!(%error, "what a cut-off run sent is sent again"),
            }
        }
        let old = self.old_entries(parent.segments.clone());
        let walk = self.walk(exclude.clone())?.at_a_glance();
        let (tar_bytes, unusable, resend) = (parent.tar_bytes(), parent.marked.clone(), self.task.resend);
        let pass = spawn_blocking(move || {
            join(aside(walk), aside(old), &mut planner)?;
            planner.finish(&spill, &tar_bytes, unusable, resend)
        });
        pass.await.map_err(|_| BackupError::Died)?
    }

    /// The second pass.
    async fn read(
        &self,
        rules: Rules,
        mut plan: Plan,
        old: OldCatalog,
        segments: Vec<SegmentRef>,
        exclude: Globs,
    ) -> Result<(Catalogued, SentObjects, Counts), BackupError> {
        let flow = Flow::default();
        let target_bytes = Arc::new(AtomicUsize::new(VOLUME_BYTES_TARGET));
        let naming =
            Naming { source: self.task.point.source().clone(), folder: self.folder.clone(), codec: self.codec };
        let table = FrameTable::new(&self.state.spill).map_err(BackupError::State)?;
        let volumes = Arc::new(std::mem::take(&mut plan.volumes));
        let (frames_in, frames_out) = sync_channel(FRAMES);
        let (packed_in, packed_out) = sync_channel(FRAMES);
        let (items_in, items_out) = sync_channel(ITEMS);
        let (uploads_in, uploads_out) = tokio::sync::mpsc::channel(1);

        let frames_out = Arc::new(Mutex::new(frames_out));
        for _ in 0..PACKERS {
            let (codec, frames, packed, flow) = (self.codec, frames_out.clone(), packed_in.clone(), flow.clone());
            spawn_blocking(move || pack(codec, &frames, &packed, &flow));
        }
        drop((packed_in, frames_out));

        let assembler = Assembler {
            naming: naming.clone(),
            recipients: self.repository.content.clone(),
            table: table.clone(),
            uploads: uploads_in.clone(),
            flow: flow.clone(),
            target_bytes: target_bytes.clone(),
        };
        let assembling = stage(&flow, move || assembler.run(&packed_out));

        let point = &self.task.point;
        let checkpoints = Checkpoints::new(
            point.source().clone(),
            self.task.run.clone(),
            self.repository.id().to_owned(),
            self.secret.clone(),
        );
        let cataloger = Cataloger::new(Setup {
            naming,
            recipients: self.repository.recipients.clone(),
            volumes: volumes.clone(),
            table,
            flow: flow.clone(),
            uploads: uploads_in,
            cache: self.state.cache.clone(),
            old,
            checkpoints,
        });
        let cataloging = stage(&flow, move || cataloger.run(&items_out));

        let walk = self.walk(exclude)?;
        // Beside a parent, most entries will be as they were.
        let walk = if segments.is_empty() { walk } else { walk.at_a_glance() };
        let old_entries = self.old_entries(segments);
        let filler = Filler::new(frames_in, flow.clone());
        let spill = self.state.spill.clone();
        let mut producer = Producer::new(rules, plan, volumes, filler, items_in, self.events.clone(), spill);
        let producing = stage(&flow, move || {
            join(aside(walk), aside(old_entries), &mut producer)?;
            producer.finish()
        });

        let objects = self.repository.objects.clone();
        let sent = upload::run(objects, uploads_out, target_bytes, self.events.clone(), flow.clone()).await;
        let ends = (producing.await, assembling.await, cataloging.await);
        match (flow.error(), ends) {
            (Some(error), _) => Err(error),
            (None, (Ok(Some(counts)), Ok(Some(())), Ok(Some(catalog)))) => Ok((catalog, sent, counts)),
            // A stage that panicked dropped its channels, and the others stopped.
            (None, _) => Err(BackupError::Died),
        }
    }

    fn walk(&self, exclude: Globs) -> Result<Walk<'static>, BackupError> {
        let excluded = move |path: &_| exclude.matches(path);
        Walk::new(&self.task.snapshot.tree, &self.state.spill, excluded).map_err(BackupError::Walk)
    }

    fn old_entries(&self, segments: Vec<SegmentRef>) -> Entries {
        let (objects, identity) = (self.repository.objects.clone(), self.repository.identity.clone());
        Entries::new(objects, identity, segments, Some(self.state.cache.clone()), &self.state.spill)
    }
}

/// Runs a stage on a thread of its own. Its error is told before its channels are dropped, so that it is the
/// first one, and not the broken channel that its neighbours see.
fn stage<T: Send + 'static>(
    flow: &Flow,
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> JoinHandle<Option<T>> {
    let flow = flow.clone();
    spawn_blocking(move || match work() {
        Ok(done) => Some(done),
        Err(BackupError::Stopped) => None,
        Err(error) => {
            flow.fail(error);
            None
        }
    })
}
