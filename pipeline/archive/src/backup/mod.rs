//! `backup`: makes one copy of a frozen tree.
//!
//! Why a power cut, a full disk or a second run at any step does no harm:
//! - before the manifest, everything is new objects under names that nobody else draws: without a
//!   manifest no reader looks at them, and the next run of prune takes them;
//! - the manifest is put last, after the store said of everything it names that it is durable;
//! - local state is a cache: it is proved by digest before it is used, and locks die with the process;
//! - a second run of the same source is refused by the lock; runs of other sources meet only at the
//!   commit, which is taken in turns.

pub mod pipeline;

pub mod aside;

pub mod commit;
pub mod proof;

pub mod enforced;

pub mod chain;
pub mod parent;
pub mod state;

pub mod cutter;
pub mod produce;
pub mod reading;

pub mod plan;

pub mod cataloger;
pub mod checkpoint;

pub mod assemble;
pub mod upload;

pub mod filler;
pub mod frames;

pub mod flow;

pub mod index;
pub mod item;
pub mod join;
pub mod live;
pub mod place;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dualsync_model::event::{Committed, Event, Prepared, Summary};
use dualsync_model::job::{BackupTask, Command, Job};
use dualsync_model::outcome::Exit;

use crate::backup::chain::Chain;
use crate::backup::commit::{Began, Committer, Prepared as PreparedPoint};
use crate::backup::flow::Stopped;
use crate::backup::index::IndexFailure;
use crate::backup::parent::Parent;
use crate::backup::pipeline::Pipeline;
use crate::backup::state::{LockError, State};
use crate::catalog::segment::SegmentError;
use crate::catalog::stream::CatalogError;
use crate::codec::{Codec, CodecError};
use crate::deadline::{Late, boot_seconds};
use crate::events::Events;
use crate::format::{Folder, POINTS};
use crate::globs::{GlobError, Globs};
use crate::input::Input;
use crate::marks::Marks;
use crate::minisign::SecretKey;
use crate::objects::ObjectError;
use crate::points::Copy;
use crate::program::summary;
use crate::refs::RefsError;
use crate::repo::{Repository, Unlocked};
use crate::runs::{Heartbeat, Pulse, Purpose, heartbeat_key};
use crate::seal::SealError;
use crate::spool::SpoolError;
use crate::tree::layout::LayoutError;
use crate::tree::walk::WalkError;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The job's compression is none.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The job's excludes are none.
    #[error(transparent)]
    Exclude(#[from] GlobError),
    /// Another run holds the lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// No commit came.
    #[error("there was no commit: no manifest was written, and the point does not exist")]
    Aborted,
    /// The tree cannot be walked.
    #[error("cannot read the source")]
    Walk(#[source] WalkError),
    /// A file cannot be read in a way that cannot be told of in its entry.
    #[error("cannot read the source")]
    Source(#[source] io::Error),
    /// Data and extents of a file contradict each other.
    #[error("a file's data does not fit its extents")]
    Layout(#[source] LayoutError),
    /// Local files.
    #[error("cannot use the state folder")]
    State(#[source] io::Error),
    /// The index of contents.
    #[error(transparent)]
    Index(#[from] IndexFailure),
    /// Lists of parts.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Compression failed.
    #[error("cannot compress")]
    Pack(#[source] io::Error),
    /// Encryption failed.
    #[error("cannot seal a volume")]
    Seal(#[source] SealError),
    /// A segment could not be written.
    #[error("cannot write the catalog")]
    Segment(#[from] SegmentError),
    /// The parent's catalog broke off while it was used.
    #[error("the catalog of the last point cannot be read; the next run reads the whole source")]
    Catalog(#[from] CatalogError),
    /// The parent's list of objects.
    #[error("the list of objects of the last point is not readable")]
    ParentRefs(#[source] RefsError),
    /// An object could not be stored or read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// No random bytes.
    #[error("no random bytes")]
    Random(#[source] getrandom::Error),
    /// An object that the point needs is about to be deleted.
    #[error("{key} is marked for deletion: run the backup again, which stores its content anew")]
    Marked {
        /// The object.
        key: String,
    },
    /// The run took longer than marks stay visible.
    #[error("the run took so long that marks of its time may be gone: run it again, what was sent is not sent twice")]
    TooLong,
    /// An object that the catalog names is on no list.
    #[error("{key} is named by the catalog, and nothing is known of it")]
    Unlisted {
        /// The object.
        key: String,
    },
    /// More than a reader takes.
    #[error("{what} of this point would have {bytes} bytes, and no reader takes more than {bytes_max}: {advice}")]
    TooBig {
        /// Which object.
        what: &'static str,
        /// How long it would be.
        bytes: u64,
        /// How long it may be.
        bytes_max: u64,
        /// What to do.
        advice: &'static str,
    },
    /// The target is to lock objects, and was seen not to.
    #[error("the target has immutability, and its store locks nothing: {reason}")]
    NotLocked {
        /// What was seen.
        reason: &'static str,
    },
    /// Another stage failed first.
    #[error("stopped by a failure elsewhere")]
    Stopped,
    /// A stage ended without a word.
    #[error("a part of the program ended unexpectedly")]
    Died,
}

impl From<Late> for BackupError {
    fn from(_: Late) -> Self {
        Self::TooLong
    }
}

impl From<Stopped> for BackupError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Makes the copy, waits for `commit`, and commits it.
pub async fn run(
    repository: Unlocked,
    secret: SecretKey,
    job: &Job,
    task: &BackupTask,
    mut input: Input,
    events: &Events,
) -> Result<Summary, BackupError> {
    let codec: Codec = task.compression.parse()?;
    let exclude = Globs::new(&task.exclude)?;
    let (repository, secret) = (Arc::new(repository), Arc::new(secret));
    let state = State::open(&job.state, task.point.source())?;
    let began = Began { boot: boot_seconds() };
    let started_at = repository.objects.now();
    events.phase("scanning");

    let (marks, chain) = look_around(&repository, &state, task, events).await?;
    let grace = i64::try_from(task.grace_s).unwrap_or(i64::MAX);
    let mut parent = match chain.parent_line(task.point.source(), &marks, repository.objects.clock(), grace) {
        Some(line) => match chain.copy(&repository, line, events).await? {
            Some(copy) => Parent::open(&repository, copy, &marks, &state.cache, events).await?,
            None => Parent::default(),
        },
        None => Parent::default(),
    };
    let own = repository.identity.recipients();
    let sealed_to = repository.content.to_texts();
    let recipients = openers(&sealed_to, &own, parent.copy.as_ref(), events);
    let content = parent.copy.as_ref().map(|copy| copy.manifest.content.clone()).unwrap_or_default();
    let folder = Folder::new(task.point.time(), random()?);
    let builds_on = parent.copy.as_ref().map(|copy| copy.key.clone());
    let beat = Heartbeat::new(&repository, Purpose::Backup, folder.as_str().to_owned(), builds_on);
    let beat = Heartbeat { started_at, ..beat };
    let pulse = Pulse::begin(&repository, secret.clone(), task.point.source(), &task.run, beat, events).await?;
    if let Some(lock) = repository.objects.lock() {
        enforced::prove(&repository.objects, lock, &heartbeat_key(task.point.source(), &task.run, 0)).await?;
    }
    if state.begin()? {
        parent.add_checkpoints(&repository, task.point.source(), &marks).await?;
    }

    let sequence = chain.next_sequence(task.remembered.as_ref());
    let pipeline =
        Pipeline { repository: &repository, secret: &secret, state: &state, task, folder: &folder, codec, events };
    let done = pipeline.run(parent, exclude, sequence).await?;
    let incomplete = done.counts.incomplete;
    let (items, bytes) = (done.counts.entries, done.counts.size_bytes);
    proof::read_back(&repository.objects, &done.sent, events).await?;
    let prepared = PreparedPoint::put(&repository, task, &folder, done).await?;

    events.emit(&Event::Prepared(Prepared { sequence, added_bytes: repository.objects.sent_bytes() }));
    events.phase("waiting");
    if input.command().await != Command::Commit {
        return Err(BackupError::Aborted);
    }
    let committer = Committer {
        repository: &repository,
        secret: &secret,
        state: &state,
        task,
        folder: &folder,
        recipients: &recipients,
        sealed_to: &sealed_to,
        content: &content,
        events,
    };
    let copy = committer.commit(prepared, chain, began).await?;
    drop(pulse);
    events.emit(&Event::Committed(Committed { manifest: copy.key.clone(), anchor: copy.anchor.clone() }));

    let exit = if incomplete > 0 { Exit::Incomplete } else { Exit::Done };
    Ok(Summary { exit_code: exit.code(), items, bytes, incomplete, ..summary(&repository.objects) })
}

/// Who can open all of a point that shares objects with `parent`. A recipient that came later opens new
/// objects only, and must not believe to hold a key to the whole. The host itself, whose identities are `own`, holds
/// those before its newest one as well.
fn openers(ours: &[String], own: &[String], parent: Option<&Copy>, events: &Events) -> Vec<String> {
    let theirs = parent.map(|copy| copy.manifest.recipients.as_slice()).filter(|theirs| !theirs.is_empty());
    let Some(theirs) = theirs else { return ours.to_vec() };
    let (all, some): (Vec<_>, Vec<_>) = ours.iter().cloned().partition(|one| theirs.contains(one));
    let some: Vec<_> = some.into_iter().filter(|one| !own.contains(one)).collect();
    if !some.is_empty() {
        let message = format!(
            "{} cannot open what older nights stored, and this point uses it: a new repository is sealed to all recipients",
            some.join(", ")
        );
        events.warn("recipients", message, None);
    }
    all
}

/// What is marked, and which points there are.
async fn look_around(
    repository: &Repository,
    state: &State,
    task: &BackupTask,
    events: &Events,
) -> Result<(Marks, Chain), BackupError> {
    let listed = repository.objects.list_deep(POINTS).await?;
    let keys = listed.shown.iter().chain(&listed.hidden).map(|info| info.key.as_str());
    let mut marks = Marks::load(repository, keys, events).await?;
    let memory = state.memory();
    let known = memory.as_ref().map(|memory| (memory, &state.cache));
    let chain = Chain::load(repository, &listed, &mut marks, known, events).await?;
    if let Some(remembered) = task.remembered.as_ref().filter(|remembered| chain.is_rolled_back(remembered)) {
        let message = format!(
            "this host remembers manifest {} of this target, and the store's newest is {}: the store is older than it was",
            remembered.sequence,
            chain.newest.as_ref().map_or(0, |copy| copy.anchor.sequence)
        );
        events.warn("rollback", message, None);
    }
    Ok((marks, chain))
}

fn random() -> Result<[u8; 8], BackupError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(BackupError::Random)?;
    Ok(random)
}

/// Takes the totals of the plan into the progress.
fn set_totals(events: &Events, entries: u64, bytes: u64) {
    let progress = events.progress();
    progress.items_total.store(entries, Ordering::Relaxed);
    progress.bytes_total.store(bytes, Ordering::Relaxed);
}
