//! Locks that outlive the host: set, seen to hold, made longer.

use std::sync::Arc;

use dualsync_archive::objects::Objects;
use dualsync_archive_store::contract::{Key, Lock, Store};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::event::Pruned;
use dualsync_model::job::{Lock as Wanted, LockMode, PruneTask, Task};
use dualsync_model::time::Timestamp;

use crate::memory::{GRACE_S, Memory};
use crate::prune::pruned;
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
