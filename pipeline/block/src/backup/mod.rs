//! `backup`: makes one copy, from an opened source to a manifest that was asked for.
//!
//! Order: what is there (manifests, marks, interrupted runs), heartbeat, packs, map objects, and,
//! after `commit`, the manifest. Power cut anywhere before the manifest: the previous point is as it was,
//! and what was stored is garbage that a later run may pick up. After it: the point exists.
//! The source is not read any more once `prepared` is printed.

mod book;
mod commit;
mod ledger;
mod pass;
pub(crate) mod run;
mod stock;
mod uses;
pub mod worker;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use dualsync_block_store::contract::{ObjectLock, StoreError};
use dualsync_model::event::{Event, Prepared};
use dualsync_model::id::RunId;
use dualsync_model::job::{BackupTask, Command, Resend};
use dualsync_model::time::Timestamp;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

use crate::backup::book::Book;
use crate::backup::pass::{Pass, Plan};
use crate::backup::run::{Run, RunPlan, interrupted};
use crate::backup::stock::Stock;
use crate::backup::worker::{Shared, WorkerError};
use crate::codec::{Compression, UnknownCompression};
use crate::device::{DeviceError, Source};
use crate::digest::Sha256;
use crate::events::Events;
use crate::ext4::Allocation;
use crate::fetch::{ObjectError, sentence};
use crate::history::rollback;
use crate::locking::LockError;
use crate::manifest::Manifest;
use crate::marks::{Marks, Proved};
use crate::moment::Moment;
use crate::names;
use crate::page::PageIndex;
use crate::points::{Census, CensusError, Head, load};
use crate::pool::BufferPool;
use crate::repository::Repository;
use crate::seal::{NoRandomness, OpenError};
use crate::shadow;

/// What a backup may use, and when it tidies up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Pack buffers of 32 MiB.
    pub buffers: usize,
    /// Threads that read and seal; each holds a buffer.
    pub workers: usize,
    /// Packs between two checkpoints.
    pub checkpoint_packs: u64,
    /// What everything that the point needs is put under.
    pub lock: Option<ObjectLock>,
}

impl Settings {
    /// For this machine: within 256 MiB whatever the source.
    pub fn of_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { buffers: 4, workers: cores.clamp(1, 3), checkpoint_packs: 64, lock: None }
    }
}

/// Above this share a run would send packs again that have hardly aged.
const SPARSE_PERCENT_MAX: u8 = 90;

/// Why there is no new copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The setting is unknown.
    #[error(transparent)]
    Compression(#[from] UnknownCompression),
    /// The share is none, or every pack would be left behind.
    #[error("a pack cannot be left behind when less than {0} per cent of it is used: at most {SPARSE_PERCENT_MAX}")]
    Resend(u8),
    /// The source cannot be read.
    #[error("cannot read the source")]
    Source(#[from] DeviceError),
    /// A worker gave up.
    #[error(transparent)]
    Work(#[from] WorkerError),
    /// A worker thread ended by a panic.
    #[error("a worker thread ended unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
    /// Blocks without a pack: a fault of this program.
    #[error("{0} pages were left without their packs")]
    Unsettled(usize),
    /// The parent's map cannot be read.
    #[error("cannot read the map of the previous point")]
    Parent(#[source] ObjectError),
    /// What was stored does not read back.
    #[error("what was just stored does not read back")]
    ReadBack(#[source] ObjectError),
    /// The store failed.
    #[error("cannot store the copy")]
    Store(#[from] StoreError),
    /// The points are not known.
    #[error(transparent)]
    Census(#[from] CensusError),
    /// The marks are not known.
    #[error("cannot read the marks")]
    Marks(#[source] ObjectError),
    /// Marks that were put after the run began may be cleared away by now.
    #[error("the run took more than {0} days, longer than a deleter leaves its traces: run it again")]
    TooLate(u32),
    /// Nothing would be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// An object of the copy is about to be deleted.
    #[error("'{object}' was marked for deletion {age_s} s ago, while this run used it: run it again")]
    Marked {
        /// Its digest.
        object: Sha256,
        /// Seconds since the mark.
        age_s: u64,
    },
    /// Marks and manifest are too far apart in time.
    #[error(
        "the store took more than {window_s} s to take the manifest after the last look at the marks: run it again"
    )]
    TooSlow {
        /// A quarter of the grace.
        window_s: u64,
    },
    /// Readers would refuse the manifest.
    #[error("the manifest would have {size} bytes, more than readers take")]
    TooLong {
        /// Its length.
        size: u64,
    },
    /// Readers would refuse the manifest, or misread it.
    #[error("the manifest of the copy would not be read again: it {0}")]
    Unreadable(OpenError),
    /// Told to, or nobody is left to say `commit`.
    #[error("the copy was not committed: {0}")]
    Aborted(&'static str),
    /// Standard input broke.
    #[error("cannot read commands")]
    Commands(#[source] std::io::Error),
    /// A line that is no command.
    #[error("the line after `prepared` is no command")]
    NoCommand(#[source] serde_json::Error),
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Blocks sent.
    pub sent_blocks: u64,
    /// Blocks sent again, their pack being sparse or marked.
    pub resent_blocks: u64,
    /// Blocks not read because they are free.
    pub free_blocks: u64,
}

/// What a backup made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Blocks of the source.
    pub blocks: u64,
    /// Bytes of the source.
    pub source_bytes: u64,
    /// Stored bytes added, the manifest among them.
    pub added_bytes: u64,
    /// Objects that were stored.
    pub objects: u64,
}

/// Where a backup comes from and what it stands on.
struct Ground {
    census: Census,
    marks: Marks,
    parent: Option<(Head, Manifest)>,
}

/// Makes the copy that `task` asks for; `commands` brings `commit` or `abort`.
pub async fn backup(
    repository: Arc<Repository>,
    task: &BackupTask,
    settings: Settings,
    events: &Events,
    commands: &mut (dyn AsyncBufRead + Unpin + Send),
) -> Result<Made, BackupError> {
    let compression: Compression = task.compression.parse()?;
    if task.resend.sparse_percent > SPARSE_PERCENT_MAX {
        return Err(BackupError::Resend(task.resend.sparse_percent));
    }
    let (started_at, began) = (repository.store().now(), Moment::now(repository.store()));
    events.progress().phase("preparing");
    let source = Arc::new(Source::open(&task.snapshot.device, task.snapshot.is_device)?);
    let ground = survey(&repository, task, events).await?;
    let (mut book, mut run, extra) = begin(&repository, task, &source, &ground, settings, events, started_at).await?;
    let mut counts = Counts::default();
    let pool = BufferPool::new(settings.buffers);
    let workers = settings.workers.min(settings.buffers.saturating_sub(1)).max(1);
    let shared = |allocation: Option<Arc<Allocation>>, book: &Book| Shared {
        source: Arc::clone(&source),
        allocation,
        block_bytes: repository.block_bytes(),
        keys: repository.keys().clone(),
        compression,
        banned: Arc::clone(&book.banned),
        pool: pool.clone(),
        progress: Arc::clone(events.progress()),
    };
    let allocation = free_space(&source, &repository);
    events.progress().begin(
        "reading",
        source.size_bytes(),
        source.size_bytes().div_ceil(repository.block_bytes() as u64),
    );
    let first = shared(allocation.clone(), &book);
    Pass::new(Arc::clone(&repository), &mut book, &mut run, &mut counts, true)
        .carry_out(first, Plan::Everything { extra }, workers)
        .await?;
    if book.lost_pages > 0 {
        let message =
            format!("{} pages of the previous point's map are damaged, their blocks were sent anew", book.lost_pages);
        events.warn("damaged", message);
    }
    if let Some(doubt) = allocation.and_then(|allocation| allocation.confirm(&source).err()) {
        // What was left out as free may be data by now: nothing is left out any more.
        events.warn("changed", format!("free space is read after all: {}", sentence(&doubt)));
        events.progress().begin("reading", source.size_bytes(), 0);
        let again = shared(None, &book);
        Pass::new(Arc::clone(&repository), &mut book, &mut run, &mut counts, false)
            .carry_out(again, Plan::Everything { extra: None }, workers)
            .await?;
    }
    resend_sparse(&repository, &mut book, &mut run, &mut counts, task.resend, |book| shared(None, book), workers)
        .await?;
    source.check_size()?;
    for index in book.pages_of_sparse_maps(task.resend.sparse_percent.into()) {
        book.rewrite(index).await?;
    }
    book.put_map().await?;
    drop(pool);
    let sequence = ground.census.newest().map_or(0, |head| head.sequence) + 1;
    events.say(&Event::Prepared(Prepared { sequence, added_bytes: book.added_bytes }));
    events.progress().phase("waiting");
    wait_for_commit(&repository, &mut run, commands).await?;
    events.progress().phase("committing");
    let lock = settings.lock;
    let maker = commit::Commit { repository: &repository, task, source: &source, started_at, began, counts, lock };
    maker.put(&book, events).await
}

/// Reads what the repository says, and warns of what it should not.
async fn survey(repository: &Repository, task: &BackupTask, events: &Events) -> Result<Ground, BackupError> {
    let census = Census::take(repository).await?;
    for finding in &census.findings {
        let code = if finding.kind == shadow::KIND { shadow::KIND } else { "damaged" };
        events.warn(code, format!("'{}': {}", finding.object, finding.problem));
    }
    let marks = Marks::list(repository).await?;
    let older = rollback(repository, &census, &marks, task.remembered.as_ref()).await.map_err(BackupError::Marks)?;
    if let Some(finding) = older {
        events.warn("rollback", finding.problem.clone());
        events.say(&Event::Finding(finding));
    }
    let parent = match parent_of(repository, &census, &marks, task).await? {
        None => None,
        Some(head) => {
            let manifest = load(repository, &head.name, head.size).await.map_err(BackupError::Parent)?;
            Some((head.clone(), manifest))
        }
    };
    Ok(Ground { census, marks, parent })
}

/// The newest point of the source that is not about to go.
///
/// Only a proved mark counts here: a false one must not make the run send everything.
async fn parent_of<'a>(
    repository: &Repository,
    census: &'a Census,
    marks: &Marks,
    task: &BackupTask,
) -> Result<Option<&'a Head>, BackupError> {
    let mut heads: Vec<_> = census.heads.iter().filter(|head| head.name.source == *task.point.source()).collect();
    heads.sort_by_key(|head| std::cmp::Reverse((head.sequence, head.name.time)));
    for head in heads {
        let proved = marks.proved(repository, &head.name.sha256).await.map_err(BackupError::Marks)?;
        if !is_marked(repository, &proved, task.grace_s).await {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// Whether one of the marks counts to a run: a mark that was taken back late does.
async fn is_marked(repository: &Repository, marks: &[Proved], grace_s: u64) -> bool {
    for mark in marks {
        if mark.stands(repository) || mark.lingers(repository, grace_s).await {
            return true;
        }
    }
    false
}

type Extra = Option<(crate::pagetable::PageTable, u64)>;

async fn begin(
    repository: &Arc<Repository>,
    task: &BackupTask,
    source: &Source,
    ground: &Ground,
    settings: Settings,
    events: &Events,
    started_at: Timestamp,
) -> Result<(Book, Run, Extra), BackupError> {
    let block_bytes = repository.block_bytes() as u64;
    let parent = ground.parent.as_ref();
    let listed = repository.store().list(&names::runs_of(task.point.source()), None).await?;
    // A run that made its point left nothing that the point has not: where that is marked, its checkpoints are no way around.
    let ended: HashSet<RunId> = ground.census.heads.iter().map(|head| head.description.run.clone()).collect();
    let checkpoint = interrupted(repository, &listed, parent.map(|(head, _)| &head.description), &ended).await;
    let known = [parent.map(|(_, manifest)| &manifest.clear), checkpoint.as_ref().map(|checkpoint| &checkpoint.clear)];
    let stock = Stock::list(repository).await?;
    let mut banned = stock.lost(known.into_iter().flatten());
    warn_of_lost(&banned, events);
    let references = known.into_iter().flatten().flat_map(|clear| clear.packs.iter().chain(&clear.maps));
    let named: HashSet<Sha256> = references.map(|reference| reference.sha256).collect();
    for object in named {
        if ground.marks.age_for_run_s(repository, &object, task.grace_s).await.is_some() {
            banned.insert(object);
        }
    }
    let blocks_of = |bytes: u64| bytes.div_ceil(block_bytes);
    let pages = parent.map(|(_, manifest)| (&manifest.pages, blocks_of(manifest.description.source_bytes)));
    let mut book =
        Book::new(Arc::clone(repository), blocks_of(source.size_bytes()), pages, Arc::new(banned), settings.lock);
    if let Some((_, manifest)) = parent {
        book.know(&manifest.clear.maps, &manifest.clear.packs);
    }
    let extra = checkpoint.map(|checkpoint| {
        book.know(&checkpoint.clear.maps, &checkpoint.clear.packs);
        (checkpoint.pages, blocks_of(checkpoint.note.source_bytes))
    });
    let plan = RunPlan {
        point: task.point.clone(),
        id: task.run.clone(),
        parent: parent.map(|(head, _)| head.name.sha256),
        started_at,
        source_bytes: source.size_bytes(),
        checkpoint_packs: settings.checkpoint_packs,
        progress: Arc::clone(events.progress()),
        lock: settings.lock,
    };
    let mut run = Run::new(plan, &listed);
    run.heartbeat(repository).await?;
    Ok((book, run, extra))
}

/// A pack or map object that is gone takes part of every point that names it with it; this point is whole again.
fn warn_of_lost(lost: &HashSet<Sha256>, events: &Events) {
    if !lost.is_empty() {
        let message = format!(
            "{} objects that the previous point needs are missing or cut short: what they held is sent again, \
             `dualsync check` names the points they hit",
            lost.len()
        );
        events.warn("missing", message);
    }
}

/// What of the source is certainly free; in any doubt nothing is.
fn free_space(source: &Source, repository: &Repository) -> Option<Arc<Allocation>> {
    match Allocation::read(source, u64::from(repository.info().block_bytes)) {
        Ok(allocation) => Some(Arc::new(allocation)),
        Err(doubt) => {
            tracing::info!(reason = %sentence(&doubt), "free space is read like everything else");
            None
        }
    }
}

/// Sends the blocks of sparse packs again, so that the new point does not hold those packs.
async fn resend_sparse(
    repository: &Arc<Repository>,
    book: &mut Book,
    run: &mut Run,
    counts: &mut Counts,
    resend: Resend,
    shared: impl Fn(&Book) -> Shared,
    workers: usize,
) -> Result<(), BackupError> {
    let sparse = book.uses.sparse(resend.sparse_percent.into(), resend.bytes_max);
    let sparse: HashSet<Sha256> =
        sparse.into_iter().map(|reference| reference.sha256).filter(|pack| !book.stored.contains(pack)).collect();
    if sparse.is_empty() {
        return Ok(());
    }
    let mut list = VecDeque::new();
    for index in (0..book.pages()).map(PageIndex) {
        let page = book.page(index).await.map_err(BackupError::Parent)?;
        let positions: Vec<usize> = page
            .iter()
            .enumerate()
            .filter(|(_, block)| block.is_some_and(|block| sparse.contains(&block.pack.sha256)))
            .map(|(position, _)| position)
            .collect();
        if !positions.is_empty() {
            list.push_back((index, positions));
        }
    }
    let shared = shared(book);
    Pass::new(Arc::clone(repository), book, run, counts, false).carry_out(shared, Plan::Resend(list), workers).await
}

/// Waits for the one command; heartbeats go on meanwhile.
async fn wait_for_commit(
    repository: &Repository,
    run: &mut Run,
    commands: &mut (dyn AsyncBufRead + Unpin + Send),
) -> Result<(), BackupError> {
    let mut line = String::new();
    let mut reading = std::pin::pin!(commands.read_line(&mut line));
    let count = loop {
        tokio::select! {
            read = &mut reading => break read.map_err(BackupError::Commands)?,
            () = run.next_heartbeat() => run.heartbeat(repository).await?,
        }
    };
    if count == 0 {
        return Err(BackupError::Aborted("standard input ended before `commit`"));
    }
    match serde_json::from_str(&line).map_err(BackupError::NoCommand)? {
        Command::Commit => Ok(()),
        Command::Abort => Err(BackupError::Aborted("`abort` was sent")),
    }
}
