//! Locks that outlive the host: set, seen to hold, made longer.

use std::sync::Arc;

use dualsync_archive::objects::Objects;
use dualsync_archive_store::contract::{ErrorKind, Key, Lock, Operation, Store};
use dualsync_archive_store::faulty::{Fault, FaultyStore};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::event::{Event, Point, Pruned, RetiredAction};
use dualsync_model::job::{Lock as Wanted, LockMode, PruneTask, Task};
use dualsync_model::time::Timestamp;

use crate::memory::{GRACE_S, Memory, sweep};
use crate::prune::{actions, nights, pruned};
use crate::site::{COMMIT, Ended, noise, run_on};

/// A repository in a bucket that keeps versions.
async fn versioned() -> Memory {
    let mut memory = Memory::new().await;
    memory.store.keep_versions();
    memory.store.set_now(memory.site.now().plus_seconds(86_400));
    memory.site.night += 1;
    memory.site.write("file", &noise(1, 50_000));
    memory
}

async fn night(memory: &Memory, until: Option<Timestamp>) -> Ended {
    let mut task = memory.site.backup_task();
    task.lock_until = until;
    let mut job = memory.site.job(Task::Backup(Box::new(task)));
    job.target.immutability = Some(LockMode::Compliance);
    run_on(&job, memory.store.clone(), COMMIT).await
}

fn of_points(memory: &Memory) -> Vec<Key> {
    let is_of_point = |key: &Key| ["volumes/", "catalogs/", "points/"].iter().any(|at| key.as_str().starts_with(at));
    memory.store.keys().into_iter().filter(is_of_point).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_of_a_point_is_locked_and_nothing_else() {
    let memory = versioned().await;
    let until = memory.store.now().plus_seconds(30 * 86_400);
    night(&memory, Some(until)).await.summary();
    let lock = Some(Lock { mode: LockMode::Compliance, until });
    let objects = of_points(&memory);
    assert!(objects.len() >= 7, "{objects:?}");
    for key in objects {
        assert_eq!(memory.store.locked(&key), lock, "{key}");
    }
    let beat = memory.store.keys().into_iter().find(|key| key.as_str().starts_with("runs/")).unwrap();
    assert!(memory.store.locked(&beat).unwrap().until < memory.store.now().plus_seconds(600), "tried, and soon over");
}

#[tokio::test]
async fn a_lock_of_the_buckets_own_that_is_longer_is_enough_and_a_shorter_one_is_not() {
    let store = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
    store.keep_versions();
    let lock = |seconds| Lock { mode: LockMode::Governance, until: Timestamp::from_seconds(seconds) };
    let key: Key = "volumes/x".parse().unwrap();
    Objects::new(store.clone()).locking(Some(lock(900))).put("volumes/x", "same".into()).await.unwrap();
    Objects::new(store.clone()).locking(Some(lock(800))).put("volumes/x", "same".into()).await.unwrap();
    assert_eq!(store.locked(&key), Some(lock(900)));
    // What cannot be locked is no part of a point.
    let without = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
    Objects::new(without.clone()).locking(Some(lock(800))).put("volumes/x", "same".into()).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_only_pretends_to_lock_gets_nothing() {
    for pretends in [true, false] {
        let memory = if pretends { versioned().await } else { Memory::new().await };
        memory.store.pretend_to_lock();
        let ended = night(&memory, Some(memory.store.now().plus_seconds(86_400))).await;
        let fault = ended.outcome.unwrap_err();
        assert_eq!(fault.code(), "refused", "{fault:?}");
        assert!(of_points(&memory).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_made_longer_once_and_never_shorter() {
    let memory = versioned().await;
    let until = memory.store.now().plus_seconds(30 * 86_400);
    night(&memory, Some(until)).await.summary();
    let copy = memory.copies().await.remove(0);
    let extend = async |until: Timestamp| -> (Pruned, u64) {
        let lock = Wanted { manifest: copy.manifest.clone(), sha256: copy.anchor.sha256.clone(), until };
        let task = PruneTask { locks: vec![lock], grace_s: GRACE_S.unsigned_abs(), ..PruneTask::default() };
        let mut job = memory.site.job(Task::Prune(task));
        job.now = memory.store.now();
        job.target.immutability = Some(LockMode::Compliance);
        let before = memory.store.requests();
        let ended = run_on(&job, memory.store.clone(), "").await;
        let after = memory.store.requests();
        (pruned(&ended), after.head + after.put - before.head - before.put)
    };
    // And what opens the repository: `repo.json` and the two files of the kit.
    let all = of_points(&memory).len() as u64 + 3;
    let longer = until.plus_seconds(86_400);
    let (told, asked) = extend(longer).await;
    assert_eq!((told.locked_objects, asked), (all, 2 * all));
    assert!(of_points(&memory).iter().all(|key| memory.store.locked(key).unwrap().until == longer));
    let (told, asked) = extend(longer).await;
    assert_eq!((told.locked_objects, asked), (0, 0), "what was seen is remembered");
    let (told, _) = extend(until).await;
    assert_eq!(told.locked_objects, 0);
    assert!(of_points(&memory).iter().all(|key| memory.store.locked(key).unwrap().until == longer), "never shorter");
}

fn wanted(copy: &Point, until: Timestamp) -> Wanted {
    Wanted { manifest: copy.manifest.clone(), sha256: copy.anchor.sha256.clone(), until }
}

/// A prune job that makes locks longer.
async fn extended(memory: &Memory, store: Arc<dyn Store>, mode: LockMode, task: PruneTask) -> Ended {
    let mut job = memory.site.job(Task::Prune(task));
    job.now = memory.store.now();
    job.target.immutability = Some(mode);
    run_on(&job, store, "").await
}

fn only(locks: Vec<Wanted>) -> PruneTask {
    PruneTask { locks, grace_s: GRACE_S.unsigned_abs(), ..PruneTask::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_good_version_is_locked_longer_whatever_lies_on_top_of_it() {
    let memory = versioned().await;
    let until = memory.store.now().plus_seconds(30 * 86_400);
    night(&memory, Some(until)).await.summary();
    let copy = memory.copies().await.remove(0);
    let keys = of_points(&memory);
    for (number, key) in keys.iter().enumerate() {
        match number % 3 {
            0 => memory.store.delete(key).await.unwrap(),
            1 => {
                memory.store.replace(key.clone(), "junk".into());
                memory.store.replace(key.clone(), "more junk".into());
            }
            _ => {}
        }
    }
    let longer = until.plus_seconds(86_400);
    let (lock, lists) = (Lock { mode: LockMode::Compliance, until: longer }, memory.store.requests().list);
    let ended = extended(&memory, memory.store.clone(), LockMode::Compliance, only(vec![wanted(&copy, longer)])).await;
    assert_eq!(pruned(&ended).locked_objects, keys.len() as u64 + 3);
    // Marks, runs, points; two more for what is hidden; and one of all versions, not one for each object.
    assert!(memory.store.requests().list - lists <= 4 + 5, "{:?}", memory.store.requests());
    for (number, key) in keys.iter().enumerate() {
        let expected = match number % 3 {
            0 => vec![Some(lock), None],
            1 => vec![Some(lock), None, Some(lock)],
            _ => vec![Some(lock)],
        };
        assert_eq!(memory.store.locks(key), expected, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weaker_mode_counts_as_no_lock_and_a_stricter_one_stays() {
    let memory = versioned().await;
    let until = memory.store.now().plus_seconds(30 * 86_400);
    night(&memory, Some(until)).await.summary();
    let copy = memory.copies().await.remove(0);
    let (governance, compliance) = (LockMode::Governance, LockMode::Compliance);
    let repo: Key = "repo.json".parse().unwrap();
    let extend = async |mode, until| {
        let ended = extended(&memory, memory.store.clone(), mode, only(vec![wanted(&copy, until)])).await;
        (pruned(&ended).locked_objects, memory.store.locked(&repo).unwrap())
    };
    let all = of_points(&memory).len() as u64 + 3;
    let later = until.plus_seconds(86_400);
    // The night has locked the others in compliance mode, which stays.
    assert_eq!(extend(governance, until).await, (3, Lock { mode: governance, until }));
    assert_eq!(extend(governance, later).await, (all, Lock { mode: governance, until: later }));
    assert!(
        of_points(&memory).iter().all(|key| memory.store.locked(key) == Some(Lock { mode: compliance, until: later }))
    );
    // What is remembered of the weaker mode is not enough, and its end stays.
    assert_eq!(extend(compliance, until).await, (3, Lock { mode: compliance, until: later }));
    assert_eq!(extend(compliance, later).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_keeps_no_other_copy_from_its_locks() {
    let memory = versioned().await;
    let until = memory.store.now().plus_seconds(30 * 86_400);
    night(&memory, Some(until)).await.summary();
    let copy = memory.copies().await.remove(0);
    let planted = "points/web/20361225T020000Z-0001020304050607/manifest.json";
    memory.store.replace(planted.parse().unwrap(), "{}".into());
    let longer = until.plus_seconds(86_400);
    let ended = extended(&memory, memory.store.clone(), LockMode::Compliance, only(vec![wanted(&copy, longer)])).await;
    assert_eq!(ended.outcome.as_ref().unwrap_err().code(), "damaged");
    assert!(ended.events.iter().any(|event| matches!(event, Event::Finding(found) if found.object == planted)));
    let of_copy = of_points(&memory).into_iter().filter(|key| key.as_str() != planted);
    assert!(of_copy.into_iter().all(|key| memory.store.locked(&key).unwrap().until == longer));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_told_where_a_lock_cannot_be_made_longer_and_the_other_locks_are() {
    let memory = nights(3).await;
    memory.store.keep_versions();
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await.summary();
    memory.advance(GRACE_S);
    let stubborn = FaultyStore::new(memory.store.clone(), |call| {
        let is_it = call.operation == Operation::Put && call.object == "repo.json";
        Some(Fault::Fail(ErrorKind::Denied)).filter(|_| is_it)
    });
    let until = memory.store.now().plus_seconds(30 * 86_400);
    let locks = copies[1..].iter().map(|copy| wanted(copy, until)).collect();
    let task = PruneTask { locks, ..sweep(&copies[..1], false) };
    let ended = extended(&memory, Arc::new(stubborn), LockMode::Governance, task).await;
    assert!(ended.outcome.is_err());
    assert_eq!(actions(&ended), [RetiredAction::Deleted]);
    let told = ended.events.iter().find_map(|event| match event {
        Event::Pruned(pruned) => Some(pruned.clone()),
        _ => None,
    });
    let told = told.unwrap();
    assert!(told.deleted_objects > 0 && told.locked_objects == of_points(&memory).len() as u64 + 2, "{told:?}");
}
