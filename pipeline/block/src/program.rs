//! One job from its line to its last event: read, refuse or do, summarise.
//!
//! Nothing is touched before the whole job line was understood: a job of another protocol, another
//! verb or with an unknown field is wrong usage. Standard input after the job belongs to `backup`.

use std::sync::Arc;

use dualsync_block_store::contract::{ObjectLock, Store};
use dualsync_block_store::retry::Patience;
use dualsync_model::PROTOCOL;
use dualsync_model::event::{Event, Hello, Summary};
use dualsync_model::job::{BackupTask, CheckTask, EvidenceTask, Job, Keys, RestoreTask, Shape, Task};
use dualsync_model::keys::KeysTask;
use dualsync_model::outcome::Exit;
use dualsync_model::secret::SecretRef;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::admit::{self, AdmitError};
use crate::backup::{BackupError, Settings, backup};
use crate::check::{Access, check};
use crate::events::Events;
use crate::evidence;
use crate::fetch::sentence;
use crate::init::{InitError, init};
use crate::keyfile::KeyFileError;
use crate::list::list;
use crate::locking;
use crate::probe::probe;
use crate::prune::prune_and_lock;
use crate::repository::{Repository, RepositoryError};
use crate::restore::{RestoreError, restore};
use crate::rotate::{self, RotateError, key_at_hand};
use crate::secret::Secret;
use crate::tree::{restore_tree, tell_facts};
use crate::trouble::Trouble;
use crate::unlock::unlock_with;

/// Longest job line.
const JOB_BYTES_MAX: u64 = 1 << 20;

/// Every verb.
pub const VERBS: [&str; 10] =
    ["init", "list", "backup", "facts", "restore", "check", "probe", "prune", "evidence", "keys"];

/// Runs one job; the last line of `events` carries the exit that comes back.
pub async fn run(verb: &str, input: &mut (dyn AsyncBufRead + Unpin + Send), events: &Events) -> Exit {
    events.say(&Event::Hello(Hello {
        protocol: PROTOCOL,
        program: "dualsync-block".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }));
    let pulse = events.start_pulse();
    let outcome = Box::pin(job(verb, input, events)).await;
    drop(pulse);
    match outcome {
        Ok(summary) => {
            let exit = Exit::from_code(summary.exit_code);
            events.say(&Event::Summary(summary));
            exit
        }
        Err(trouble) => {
            events.say(&Event::Error(trouble.failure()));
            trouble.exit()
        }
    }
}

async fn job(verb: &str, input: &mut (dyn AsyncBufRead + Unpin + Send), events: &Events) -> Result<Summary, Trouble> {
    let job = read_job(verb, input).await?;
    let Keys::Block { key } = &job.keys else {
        return Err(Trouble::usage("the job's keys are of another mechanism, `block` was expected"));
    };
    let store = dualsync_block_store::open(&job.target, job.now, job.bandwidth, patience(&job.task)).await?;
    let mut done = match &job.task {
        Task::Init(task) => {
            let target = &job.target.name;
            let (repository, event) = init(Arc::clone(&store), target, key, &job.state, task, job.now).await?;
            events.say(&Event::Repository(event));
            summary(&repository)
        }
        Task::Probe(_) => probe(&*store, key, job.now, events).await?,
        Task::Keys(task) => key_slots(&store, key, task, &job, events).await?,
        _ => opened(&job, key, &store, input, events).await?,
    };
    done.requests = store.requests();
    done.peak_memory_bytes = peak_memory_bytes();
    Ok(done)
}

/// How long the store may keep the job waiting: not long where a person waits for the answer.
fn patience(task: &Task) -> Patience {
    match task {
        Task::Init(_)
        | Task::List(_)
        | Task::Probe(_)
        | Task::Evidence(EvidenceTask::List { .. })
        | Task::Keys(KeysTask::List {}) => Patience::brief(),
        _ => Patience::default(),
    }
}

async fn opened(
    job: &Job,
    key: &SecretRef,
    store: &Arc<dyn Store>,
    input: &mut (dyn AsyncBufRead + Unpin + Send),
    events: &Events,
) -> Result<Summary, Trouble> {
    let key = match (key_at_hand(&**store, key, events).await, &job.task) {
        // Digests need no key: a host that lost it can still tell whether the copies are whole.
        (Err(error), Task::Check(task)) => {
            events.warn("keyless", format!("only digests are checked: {}", sentence(&error)));
            let access = Access::Keyless { store: Arc::clone(store), target: job.target.name.clone() };
            return look_over(&access, task, events).await;
        }
        (key, _) => key?,
    };
    let repository = Repository::open_with(Arc::clone(store), &job.target.name, &key, &job.state).await?;
    let repository = Arc::new(repository.looking_under(job.target.immutability.is_some()));
    let needs_content = matches!(job.task, Task::Backup(_) | Task::Restore(_) | Task::Facts(_));
    if let (true, Secret::Retention(retention)) = (needs_content, &key) {
        return Err(RepositoryError::ManifestsOnly { slot: retention.slot }.into());
    }
    if matches!(job.task, Task::Backup(_) | Task::Prune(_) | Task::Evidence(EvidenceTask::Put { .. })) {
        repository.require_newest_key().await?;
    }
    match &job.task {
        Task::List(task) => {
            let listed = list(&repository, task.source.as_ref(), events).await?;
            let done = Summary { items: listed.points, incomplete: listed.findings, ..summary(&repository) };
            if listed.findings == 0 {
                Ok(done)
            } else {
                // What a newer key sealed is not damaged.
                repository.require_newest_key().await?;
                Err(Trouble::damaged("some manifests are not what they should be"))
            }
        }
        Task::Backup(task) => make(&repository, task, lock(job, task)?, input, events).await,
        Task::Restore(task) if task.shape == Shape::Tree => restore_tree(&repository, task, &job.state, events).await,
        Task::Restore(task) => bring_back(&repository, task, events).await,
        Task::Check(task) => look_over(&Access::Opened(repository), task, events).await,
        Task::Facts(task) => tell_facts(&repository, task, &job.state, events).await,
        Task::Prune(task) => {
            let pruned = prune_and_lock(&repository, task, job.now, job.target.immutability, events).await?;
            Ok(Summary { items: pruned.objects, objects: pruned.deleted_objects, ..summary(&repository) })
        }
        Task::Evidence(EvidenceTask::Put { report, folder }) => {
            evidence::put(&repository, report, folder, events).await?;
            Ok(Summary { items: 1, ..summary(&repository) })
        }
        Task::Evidence(EvidenceTask::List { folder }) => {
            let (items, incomplete) = evidence::list(&repository, folder.as_deref(), events).await?;
            Ok(Summary { items, incomplete, ..summary(&repository) })
        }
        Task::Init(_) | Task::Probe(_) | Task::Keys(_) => Err(Trouble::usage("this verb opens no repository")),
    }
}

async fn key_slots(
    store: &Arc<dyn Store>,
    reference: &SecretRef,
    task: &KeysTask,
    job: &Job,
    events: &Events,
) -> Result<Summary, Trouble> {
    let now = job.now;
    let slots = match task {
        KeysTask::List {} => {
            let unlocked = unlock_with(&**store, &key_at_hand(&**store, reference, events).await?).await?;
            [rotate::lines(&unlocked), admit::lines(&**store, &unlocked).await?].concat()
        }
        KeysTask::Add { new } => {
            let secret = key_at_hand(&**store, reference, events).await?;
            vec![admit::add(&**store, &secret, new, now).await?]
        }
        KeysTask::Remove { id } => {
            let secret = key_at_hand(&**store, reference, events).await?;
            vec![admit::remove(&**store, &secret, id).await?]
        }
        KeysTask::Rotate { to } => {
            let rotated = rotate::rotate(store, reference, to.as_deref(), now).await?;
            if let Some(mode) = job.target.immutability
                && let Err(error) = locking::hold(&**store, &rotated.unlocked.slot_places(), mode).await
            {
                events.warn("locks", format!("the key slots are not locked yet: {}", sentence(&error)));
            }
            let mut lines = rotate::lines(&rotated.unlocked);
            if let Some(newest) = lines.first_mut() {
                newest.files = rotated.files.iter().map(|path| path.display().to_string()).collect();
            }
            lines
        }
    };
    let items = slots.len() as u64;
    for slot in slots {
        events.say(&Event::KeySlot(slot));
    }
    Ok(Summary { items, ..Summary::default() })
}

async fn look_over(access: &Access, task: &CheckTask, events: &Events) -> Result<Summary, Trouble> {
    let checked = check(access, task, events).await?;
    if checked.findings > 0 {
        if let Access::Opened(repository) = access {
            repository.require_newest_key().await?;
        }
        return Err(Trouble::damaged("some stored objects are missing or wrong"));
    }
    Ok(Summary {
        items: checked.objects,
        objects: checked.objects,
        bytes: checked.bytes,
        fetched_bytes: checked.bytes,
        ..Summary::default()
    })
}

/// What a backup puts its objects under. A date without a mode, or the other way round, is half a wish.
fn lock(job: &Job, task: &BackupTask) -> Result<Option<ObjectLock>, Trouble> {
    match (job.target.immutability, task.lock_until) {
        (Some(mode), Some(until)) => Ok(Some(ObjectLock { mode, until })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Trouble::usage("the target has `immutability`, and the job no `lock_until`")),
        (None, Some(_)) => Err(Trouble::usage("the job has `lock_until`, and the target no `immutability`")),
    }
}

async fn make(
    repository: &Arc<Repository>,
    task: &BackupTask,
    lock: Option<ObjectLock>,
    input: &mut (dyn AsyncBufRead + Unpin + Send),
    events: &Events,
) -> Result<Summary, Trouble> {
    let settings = Settings { lock, ..Settings::of_machine() };
    let made = backup(Arc::clone(repository), task, settings, events, input).await?;
    Ok(Summary {
        items: made.blocks,
        bytes: made.source_bytes,
        added_bytes: made.added_bytes,
        objects: made.objects,
        ..summary(repository)
    })
}

async fn bring_back(repository: &Arc<Repository>, task: &RestoreTask, events: &Events) -> Result<Summary, Trouble> {
    if !task.paths.is_empty() {
        return Err(Trouble::usage("paths can only be restored to a directory"));
    }
    let restored = restore(Arc::clone(repository), task, events).await?;
    let done =
        Summary { items: restored.blocks, bytes: restored.bytes, incomplete: restored.damaged, ..summary(repository) };
    if restored.damaged == 0 {
        Ok(done)
    } else {
        let message =
            format!("{} blocks could not be restored and are zeros; everything else is back", restored.damaged);
        Err(Trouble::damaged(message))
    }
}

fn summary(repository: &Repository) -> Summary {
    Summary { fetched_bytes: repository.traffic().fetched(), ..Summary::default() }
}

async fn read_job(verb: &str, input: &mut (dyn AsyncBufRead + Unpin + Send)) -> Result<Job, Trouble> {
    let mut line = String::new();
    let read = input.take(JOB_BYTES_MAX).read_line(&mut line).await;
    read.map_err(|error| Trouble::usage(format!("cannot read the job from standard input: {error}")))?;
    let value: serde_json::Value = serde_json::from_str(&line)
        .map_err(|error| Trouble::usage(format!("the job is not one line of JSON: {error}")))?;
    // The protocol is looked at first: a job of another one may have any other shape.
    match value.get("protocol").and_then(serde_json::Value::as_u64) {
        Some(protocol) if protocol == u64::from(PROTOCOL) => {}
        other => {
            let found = other.map_or_else(|| "none".to_owned(), |protocol| protocol.to_string());
            return Err(Trouble::usage(format!("the job speaks protocol {found}, this program protocol {PROTOCOL}")));
        }
    }
    let job: Job = serde_json::from_value(value)
        .map_err(|error| Trouble::usage(format!("the job cannot be understood: {error}")))?;
    let asked = verb_of(&job.task);
    if asked != verb {
        return Err(Trouble::usage(format!("the program was started for `{verb}` and the job asks for `{asked}`")));
    }
    Ok(job)
}

fn verb_of(task: &Task) -> &'static str {
    match task {
        Task::Init(_) => "init",
        Task::List(_) => "list",
        Task::Backup(_) => "backup",
        Task::Facts(_) => "facts",
        Task::Restore(_) => "restore",
        Task::Check(_) => "check",
        Task::Probe(_) => "probe",
        Task::Prune(_) => "prune",
        Task::Evidence(_) => "evidence",
        Task::Keys(_) => "keys",
    }
}

/// Largest resident set so far: VmHWM of proc_pid_status(5); 0 where there is no /proc.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

impl From<KeyFileError> for Trouble {
    fn from(error: KeyFileError) -> Self {
        match error {
            KeyFileError::Write { .. } | KeyFileError::Random(_) => Self::new(Exit::Failed, "internal", &error),
            KeyFileError::NotRaw(_) => Self::new(Exit::WrongKey, "wrong_key", &error)
                .with_hint("do it on the host whose key file holds the repository key"),
            KeyFileError::Secret(_) | KeyFileError::NotAKey { .. } | KeyFileError::NotAFile(_) => {
                Self::new(Exit::Usage, "usage", &error).with_hint("correct the target's `key`, or run `dualsync init`")
            }
        }
    }
}

impl From<AdmitError> for Trouble {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::Repository(error) => error.into(),
            AdmitError::Key(error) => error.into(),
            AdmitError::Store(error) => error.into(),
            AdmitError::Random(_) => Self::new(Exit::Failed, "internal", &error),
            AdmitError::Argon(_) | AdmitError::Short => Self::new(Exit::Usage, "usage", &error),
            AdmitError::NoSuch(_) | AdmitError::Needed { .. } => {
                Self::new(Exit::Usage, "usage", &error).with_hint("`dualsync keys list` shows the slots")
            }
        }
    }
}

impl From<RotateError> for Trouble {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Repository(error) => error.into(),
            RotateError::Key(error) => error.into(),
            RotateError::Store(error) => error.into(),
            RotateError::Random(_) => Self::new(Exit::Failed, "internal", &error),
            RotateError::NotAFile(_) => Self::new(Exit::Usage, "usage", &error)
                .with_hint("`dualsync keys rotate --to FILE`, then put FILE where the target's `key` finds it"),
            RotateError::IsAFile(_) => Self::new(Exit::Usage, "usage", &error).with_hint("leave --to out"),
            RotateError::Taken { .. } => {
                Self::new(Exit::Usage, "usage", &error).with_hint("look at the file, and move it away")
            }
            RotateError::TooOften => {
                Self::new(Exit::Failed, "refused", &error).with_hint("begin a new repository under another prefix")
            }
        }
    }
}

impl From<InitError> for Trouble {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Repository(error) => error.into(),
            InitError::Store(error) => error.into(),
            InitError::Census(error) => error.into(),
            InitError::Key(error) => error.into(),
            InitError::KeyMissing { .. } => Self::new(Exit::WrongKey, "wrong_key", &error)
                .with_hint("the key is on the recovery sheet and in whatever backs up this host's /etc"),
            InitError::BlockSize(_) => Self::new(Exit::Usage, "usage", &error),
            InitError::Headless { .. } => Self::new(Exit::Damaged, "damaged", &error),
            InitError::Raced { .. } | InitError::Random(_) => Self::new(Exit::Failed, "internal", &error),
        }
    }
}

impl From<BackupError> for Trouble {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Compression(error) => Self::new(Exit::Usage, "usage", &error),
            BackupError::Resend(_) => Self::new(Exit::Usage, "usage", &error),
            BackupError::Store(error) => error.into(),
            BackupError::Census(error) => error.into(),
            BackupError::Source(_) | BackupError::Work(_) => Self::new(Exit::Failed, "source", &error),
            BackupError::Marks(error) => error.into(),
            BackupError::Lock(error) => error.into(),
            BackupError::Aborted(_)
            | BackupError::Marked { .. }
            | BackupError::TooSlow { .. }
            | BackupError::TooLate(_) => Self::new(Exit::Failed, "aborted", &error),
            BackupError::Parent(ref object) if object.is_damage() => Self::new(Exit::Damaged, "damaged", &error)
                .with_hint("run `dualsync check` to see which points need the object"),
            BackupError::ReadBack(_) => Self::new(Exit::Failed, "store", &error)
                .with_hint("the store lost or changed bytes: run `dualsync check --objects`"),
            _ => Self::new(Exit::Failed, "internal", &error),
        }
    }
}

impl From<RestoreError> for Trouble {
    fn from(error: RestoreError) -> Self {
        error.trouble()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_person_waits_for_is_given_up_soon() {
        let check = |task: &str, expected: Patience| {
            let task: Task = serde_json::from_str(task).unwrap();
            assert_eq!(patience(&task), expected, "{task:?}");
        };
        let report = r#""number":1,"at":"2026-11-20T02:00:00Z","sha256":"00""#;
        check(r#"{"verb":"list"}"#, Patience::brief());
        check(r#"{"verb":"probe"}"#, Patience::brief());
        check(r#"{"verb":"init"}"#, Patience::brief());
        check(r#"{"verb":"evidence","act":"list"}"#, Patience::brief());
        check(&format!(r#"{{"verb":"evidence","act":"put",{report},"folder":"/x"}}"#), Patience::default());
        check(r#"{"verb":"check","depth":"presence"}"#, Patience::default());
        check(r#"{"verb":"prune","grace_s":86400}"#, Patience::default());
        check(r#"{"verb":"facts","point":"web@20261120T020000Z"}"#, Patience::default());
    }
}
