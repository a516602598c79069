//! From a job to its end: opens the store, runs the verb, says how it went.
//!
//! Promises that the last line is `summary` or `error` and that its exit code is the program's.

use std::path::Path;
use std::sync::Arc;

use dualsync_archive_store::contract::{Lock, Store};
use dualsync_archive_store::service::Patience;
use dualsync_model::PROTOCOL;
use dualsync_model::event::{Event, Failure, Hello, Repository as RepositoryLine, Summary};
use dualsync_model::job::{EvidenceTask, InitTask, Job, Task};
use dualsync_model::keys::{KeySlot, KeysTask};
use dualsync_model::outcome::Exit;
use dualsync_model::secret::SecretRef;

use crate::deadline::boot_seconds;
use crate::events::Events;
use crate::failure::{Fault, usage};
use crate::input::Input;
use crate::keys::KeyRefs;
use crate::minisign::SecretKey;
use crate::objects::Objects;
use crate::points::with_causes;
use crate::repo::{Repository, Unlocked};
use crate::seal::Identity;
use crate::{backup, check, evidence, facts, list, prune, restore, shadow};

/// Name of the program in its first line.
pub const NAME: &str = "dualsync-archive";

/// A run that left behind what it uses nearly all of would send nearly everything each night.
const SPARSE_PERCENT_MAX: u8 = 90;

/// Runs the verb with the job that comes in; gives the exit code.
pub async fn run(verb: &str, mut input: Input, events: &Events) -> u8 {
    events.emit(&Event::Hello(Hello {
        protocol: PROTOCOL,
        program: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }));
    let beat = events.heartbeat();
    let outcome = match read_job(verb, &mut input).await {
        Ok(job) => work(&job, input, events).await,
        Err(fault) => Err(fault),
    };
    drop(beat);
    finish(outcome, events)
}

fn finish(outcome: Result<Summary, Fault>, events: &Events) -> u8 {
    let (event, code) = match outcome {
        Ok(mut summary) => {
            summary.peak_memory_bytes = peak_memory_bytes();
            let code = summary.exit_code;
            (Event::Summary(summary), code)
        }
        Err(fault) => {
            let failure: Failure = fault.into();
            let code = failure.exit_code;
            (Event::Error(failure), code)
        }
    };
    events.emit(&event);
    if events.is_broken() { Exit::Failed.code() } else { code }
}

/// The job line. A job of another protocol is refused before any key, store or file is touched, and
/// before its other fields are looked at: they may mean something else there.
async fn read_job(verb: &str, input: &mut Input) -> Result<Job, Fault> {
    #[derive(serde::Deserialize)]
    struct Preface {
        protocol: u32,
    }
    let line = input.line().await.ok_or_else(|| usage("no job on standard input"))?;
    let bad = |error: serde_json::Error| usage(format!("the job is not readable: {error}"));
    let preface: Preface = serde_json::from_str(&line).map_err(bad)?;
    if preface.protocol != PROTOCOL {
        return Err(usage(format!("the job has protocol {}, this program speaks {PROTOCOL}", preface.protocol)));
    }
    let job: Job = serde_json::from_str(&line).map_err(bad)?;
    let asked = task_verb(&job.task);
    if asked == verb { Ok(job) } else { Err(usage(format!("called with verb '{verb}' and a job of '{asked}'"))) }
}

/// The verb of a task.
pub fn task_verb(task: &Task) -> &'static str {
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

async fn work(job: &Job, input: Input, events: &Events) -> Result<Summary, Fault> {
    // Wrong keys are told before the store is asked anything.
    let keys = KeyRefs::of(&job.keys)?;
    keys.pinned()?;
    let store = dualsync_archive_store::open(&job.target, job.now, job.bandwidth, patience(&job.task)).await?;
    work_on(job, &keys, store, input, events).await
}

/// A person waits for some tasks, and hears soon that nobody answers; the others outlive a server's restart.
pub fn patience(task: &Task) -> Patience {
    match task {
        Task::Init(_)
        | Task::List(_)
        | Task::Probe(_)
        | Task::Keys(KeysTask::List {})
        | Task::Evidence(EvidenceTask::List { .. }) => Patience::brief(),
        Task::Backup(_)
        | Task::Facts(_)
        | Task::Restore(_)
        | Task::Check(_)
        | Task::Prune(_)
        | Task::Keys(_)
        | Task::Evidence(EvidenceTask::Put { .. }) => Patience::default(),
    }
}

/// Runs the verb on an open store.
pub async fn work_on(
    job: &Job,
    keys: &KeyRefs<'_>,
    store: Arc<dyn Store>,
    input: Input,
    events: &Events,
) -> Result<Summary, Fault> {
    let objects = Objects::new(store);
    // A bucket that locks keeps what somebody hides under a delete marker.
    objects.look_below(job.target.immutability.is_some());
    let outcome = work_in(job, keys, objects.clone(), input, events).await;
    // What no finding has told.
    for key in objects.take_shadowed() {
        events.warn(shadow::KIND, format!("{key}: {}", shadow::READ), None);
    }
    outcome
}

async fn work_in(
    job: &Job,
    keys: &KeyRefs<'_>,
    objects: Objects,
    input: Input,
    events: &Events,
) -> Result<Summary, Fault> {
    let began = boot_seconds();
    let target = job.target.name.as_str();
    match &job.task {
        Task::Init(task) => init(objects, job, task, keys, events).await,
        Task::List(task) => {
            let repository = Repository::open(objects, target, keys).await?;
            list::list(&repository, task, events).await
        }
        Task::Backup(task) => {
            if task.resend.sparse_percent > SPARSE_PERCENT_MAX {
                return Err(usage(format!("resend.sparse_percent is at most {SPARSE_PERCENT_MAX}")));
            }
            let secret = keys.signer().await?;
            let lock = job.target.immutability.zip(task.lock_until).map(|(mode, until)| Lock { mode, until });
            let repository = Unlocked::open(objects.locking(lock), target, keys).await?;
            Ok(backup::run(repository, secret, job, task, input, events).await?)
        }
        Task::Facts(task) => {
            let repository = Unlocked::open_to_read(objects, target, keys).await?;
            facts::facts(&repository, witness(keys).await, task, &job.state, events).await
        }
        Task::Restore(task) => {
            let repository = Unlocked::open_to_read(objects, target, keys).await?;
            restore::restore(&repository, witness(keys).await, task, &job.state, events).await
        }
        Task::Check(task) => {
            let repository = Repository::open(objects, target, keys).await?;
            check::check(&repository, task, events).await
        }
        Task::Prune(task) => {
            let secret = keys.signer().await?;
            let repository = Repository::open(objects, target, keys).await?;
            let now = job.now.plus_seconds(boot_seconds() - began);
            prune::prune(&repository, &secret, job, task, now, events).await
        }
        Task::Evidence(task) => {
            let secret = match task {
                EvidenceTask::Put { .. } => Some(keys.signer().await?),
                EvidenceTask::List { .. } => None,
            };
            let repository = Repository::open(objects, target, keys).await?;
            evidence::evidence(&repository, secret.as_ref(), task, events).await
        }
        Task::Keys(task) => {
            // Wrong keys are told before anything is changed.
            let repository = Unlocked::open(objects.clone(), target, keys).await?;
            let written = match task {
                KeysTask::List {} => None,
                KeysTask::Rotate { to } => Some(keys.rotate(to.as_deref(), job.now).await?),
                KeysTask::Add { .. } | KeysTask::Remove { .. } => {
                    return Err(usage("recipients of the archive path stand in the configuration, it has no slots"));
                }
            };
            let identity = match &written {
                Some(path) => KeyRefs { identity: &SecretRef::File(path.clone()), ..*keys }.identity().await?,
                None => repository.identity.clone(),
            };
            let slots = key_slots(&identity, keys.recipients, written.as_deref());
            let items = slots.len() as u64;
            for slot in slots {
                events.emit(&Event::KeySlot(slot));
            }
            Ok(Summary { items, ..summary(&objects) })
        }
        Task::Probe(_) => {
            let mut found = dualsync_archive_store::probe(objects.store().as_ref(), job.now).await?;
            if let Some(mode) = job.target.immutability {
                let lock = dualsync_archive_store::probe_lock(objects.store().as_ref(), job.now, mode).await;
                found.retain(|capability| capability.name != lock.name);
                found.push(lock);
            }
            let items = found.len() as u64;
            for capability in found {
                events.emit(&Event::Capability(capability));
            }
            Ok(Summary { items, ..summary(&objects) })
        }
    }
}

/// One line for each identity, the active one first, then for each further recipient.
fn key_slots(identity: &Identity, further: &[String], written: Option<&Path>) -> Vec<KeySlot> {
    let own = identity.recipients();
    let line = |id: &String, kind: &str, opens: &str, current: bool| KeySlot {
        id: id.clone(),
        kind: kind.to_owned(),
        opens: opens.to_owned(),
        created_at: None,
        current,
        files: Vec::new(),
    };
    let mut slots: Vec<_> = own
        .iter()
        .enumerate()
        .map(|(at, id)| match at {
            0 => line(id, "identity", "what is sealed from its first night on", true),
            _ => line(id, "identity", "what was sealed before the identity above it came", false),
        })
        .collect();
    if let Some(newest) = slots.first_mut() {
        newest.files.extend(written.map(|path| path.display().to_string()));
    }
    let further = further.iter().filter(|one| !own.contains(one));
    slots.extend(further.map(|id| line(id, "recipient", "what is sealed from the night on that it was added", true)));
    slots
}

/// The signing key for heartbeats of who reads: a host that only restores may have none.
async fn witness(keys: &KeyRefs<'_>) -> Option<Arc<SecretKey>> {
    let secret = keys.signer().await;
    secret
        .map_err(|error| tracing::debug!(error = with_causes(&error), "nobody is told what is read"))
        .ok()
        .map(Arc::new)
}

async fn init(
    objects: Objects,
    job: &Job,
    task: &InitTask,
    keys: &KeyRefs<'_>,
    events: &Events,
) -> Result<Summary, Fault> {
    let done = if task.only_look {
        Repository::look(objects, &job.target.name, keys).await?
    } else {
        Repository::init(objects, &job.target.name, keys, job.now).await?
    };
    let repository = &done.repository;
    let newest = crate::points::Points::load(repository).await?.newest().map(|copy| copy.anchor.clone());
    let mut facts = vec![
        ("archive repository id".to_owned(), repository.id().to_owned()),
        ("archive signing public key (minisign)".to_owned(), repository.public.to_text()),
        ("README.txt SHA-256".to_owned(), repository.description.readme.hex()),
        ("recover.py SHA-256".to_owned(), repository.description.recover.hex()),
    ];
    facts.extend(repository.recipients.to_texts().into_iter().map(|text| ("age recipient".to_owned(), text)));
    if keys.sealed {
        let words = format!(
            "the identity of this host opens catalogs; files are opened by the identity of {} alone, which is kept elsewhere",
            keys.recipients.join(" or ")
        );
        facts.push(("sealed mode".to_owned(), words));
    }
    events.emit(&Event::Repository(RepositoryLine {
        id: repository.id().to_owned(),
        created: done.created,
        keys_created: done.keys_created.clone(),
        facts,
        signing_public: Some(repository.public.to_text()),
        recover_sha256: repository.description.recover.hex(),
        newest,
    }));
    Ok(summary(&repository.objects))
}

/// A summary of what every verb can tell.
pub fn summary(objects: &Objects) -> Summary {
    Summary {
        exit_code: Exit::Done.code(),
        requests: objects.requests(),
        fetched_bytes: objects.fetched_bytes(),
        added_bytes: objects.sent_bytes(),
        ..Summary::default()
    }
}

/// `VmHWM` of proc(5): the same number as getrusage(2) gives.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_person_waits_for_is_asked_briefly() {
        let check = |task: &str, is_brief: bool| {
            let patience = patience(&serde_json::from_str(task).unwrap());
            assert_eq!(patience == Patience::brief(), is_brief, "{task}");
            assert_eq!(patience == Patience::default(), !is_brief, "{task}");
        };
        check(r#"{"verb":"list"}"#, true);
        check(r#"{"verb":"init"}"#, true);
        check(r#"{"verb":"probe"}"#, true);
        check(r#"{"verb":"keys","act":"list"}"#, true);
        check(r#"{"verb":"evidence","act":"list"}"#, true);
        check(r#"{"verb":"check","depth":"presence"}"#, false);
        check(r#"{"verb":"facts","point":"web@20261120T020000Z"}"#, false);
    }
}
