//! Deleting: in what order, what stops it, what a crash leaves, how much space comes back.

use std::sync::Arc;

use dualsync_archive_store::contract::{ErrorKind, Key, Operation, Store};
use dualsync_archive_store::faulty::{Fault, FaultyStore};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::event::{CopyState, Event, Pruned, RetiredAction};
use dualsync_model::job::{Anchor, PruneTask, Task};
use dualsync_model::outcome::Exit;

use crate::memory::{GRACE_S, Memory, sweep};
use crate::site::{COMMIT, Ended, noise, run_on};

/// Some nights, each with a file of its own.
pub async fn nights(count: u64) -> Memory {
    let mut memory = Memory::new().await;
    for night in 0..count {
        memory.store.set_now(memory.site.now().plus_seconds(86_400));
        memory.site.write("stays", &noise(1, 30_000));
        memory.site.write("changes", &noise(10 + night, 20_000));
        memory.night(memory.store.clone(), COMMIT).await.summary();
    }
    memory
}

pub fn actions(ended: &Ended) -> Vec<RetiredAction> {
    let retired = ended.events.iter().filter_map(|event| match event {
        Event::Retired(retired) => Some(retired.action),
        _ => None,
    });
    retired.collect()
}

pub fn pruned(ended: &Ended) -> Pruned {
    ended.summary();
    let pruned = ended.events.iter().find_map(|event| match event {
        Event::Pruned(pruned) => Some(pruned.clone()),
        _ => None,
    });
    pruned.unwrap()
}

/// The same objects in a store of their own.
pub async fn copy_of(store: &MemoryStore) -> Arc<MemoryStore> {
    let copy = MemoryStore::new(store.now());
    for key in store.keys() {
        copy.set_now(store.head(&key).await.unwrap().unwrap().modified);
        copy.replace(key.clone(), store.peek(&key).unwrap());
    }
    copy.set_now(store.now());
    Arc::new(copy)
}

/// Refuses to give what a deleter has no business with.
fn without_data(store: Arc<MemoryStore>) -> Arc<dyn Store> {
    Arc::new(FaultyStore::new(store, |call| {
        let is_data = call.object.starts_with("volumes/") || call.object.starts_with("catalogs/");
        assert!(!(is_data && matches!(call.operation, Operation::Get)), "prune reads {}", call.object);
        None
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_waits_for_its_grace_and_goes_with_all_that_only_it_needs() {
    let memory = nights(3).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    let store = without_data(memory.store.clone());

    let told = memory.prune(store.clone(), PruneTask { dry_run: true, ..sweep(&copies[..2], false) }).await;
    assert_eq!(actions(&told), [RetiredAction::Marked; 2]);
    assert!(!memory.store.keys().iter().any(|key| key.as_str().starts_with("marks/")), "a dry run changes nothing");

    let first = memory.prune(store.clone(), sweep(&copies[..2], false)).await;
    assert_eq!(actions(&first), [RetiredAction::Marked; 2]);
    assert!(pruned(&first).marked_objects > 4 && pruned(&first).deleted_objects == 0);
    let listed = memory.copies().await;
    let mark = listed[0].mark.as_ref().unwrap();
    assert_eq!(
        (listed[0].state, mark.reason.as_str(), mark.deleting),
        (CopyState::Deleting, "left the contract", false)
    );
    assert_eq!((listed[2].state, &listed[2].mark), (CopyState::Available, &None));
    assert!(listed[2].stored_at.is_some() && listed[2].live_bytes.unwrap() <= listed[2].stored_bytes);

    memory.advance(GRACE_S / 2);
    let second = memory.prune(store.clone(), sweep(&copies[..2], false)).await;
    assert_eq!(actions(&second), [RetiredAction::Waiting; 2]);
    assert_eq!((pruned(&second).deleted_objects, pruned(&second).marked_objects), (0, 0));
    assert_eq!(pruned(&second).waiting_objects, pruned(&first).marked_objects);

    memory.advance(GRACE_S / 2);
    let told = memory.prune(store.clone(), PruneTask { dry_run: true, ..sweep(&copies[..2], false) }).await;
    let third = memory.prune(store.clone(), sweep(&copies[..2], false)).await;
    assert_eq!(actions(&third), [RetiredAction::Deleted; 2]);
    assert_eq!(pruned(&third).deleted_objects, pruned(&first).marked_objects + 2, "the manifests too");
    assert_eq!(pruned(&told).deleted_objects, pruned(&third).deleted_objects, "a dry run tells what would be");
    memory.assert_nothing_is_missing();
    assert_eq!(memory.points().await.len(), 1, "and nothing is missed that was deleted by who may");
    memory.assert_restorable(&copies[2].point.to_string(), &memory.site.source()).await;
    let rest = pruned(&memory.prune(store, sweep(&[], false)).await);
    assert!(rest.objects < pruned(&first).objects && rest.marked_objects == 0, "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_stays_known_to_the_next_night() {
    let mut memory = nights(3).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    for _ in 0..2 {
        memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await.summary();
        memory.advance(GRACE_S);
    }
    // Long after the mark has ended, the newest manifest still knows the point: the mark stays.
    memory.advance(40 * 86_400);
    memory.prune(memory.store.clone(), sweep(&[], false)).await.summary();
    assert_eq!(memory.points().await.len(), 2);
    let night = memory.night(memory.store.clone(), COMMIT).await;
    assert!(night.warnings("rollback").is_empty() && night.warnings("chain").is_empty());
    let newest = memory.copies().await.pop().unwrap();
    let manifest = memory.store.peek(&newest.manifest.parse().unwrap()).unwrap();
    assert!(String::from_utf8_lossy(&manifest).contains("\"reason\": \"marked\""));
    memory.prune(memory.store.clone(), sweep(&[], false)).await.summary();
    let of_point = dualsync_archive::digest::Digest::of(copies[0].manifest.as_bytes()).hex();
    assert!(!memory.store.keys().iter().any(|key| key.as_str().contains(&of_point)), "now it is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn undone_in_time_a_copy_stays_and_once_it_is_gone_that_is_refused() {
    let memory = nights(3).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    memory.prune(memory.store.clone(), sweep(&copies[..2], true)).await.summary();
    let undo = |manifest: &str| PruneTask {
        undo: vec![manifest.to_owned()],
        grace_s: GRACE_S.unsigned_abs(),
        ..PruneTask::default()
    };
    memory.advance(GRACE_S / 2);
    let ended = memory.prune(memory.store.clone(), undo(&copies[0].manifest)).await;
    assert_eq!(actions(&ended), [RetiredAction::Undone]);
    assert_eq!(memory.copies().await[0].state, CopyState::Available);
    memory.advance(GRACE_S * 3 / 8);
    memory.advance(GRACE_S);
    let ended = memory.prune(memory.store.clone(), sweep(&copies[1..2], true)).await;
    assert_eq!(actions(&ended), [RetiredAction::Deleted]);
    memory.assert_nothing_is_missing();
    assert_eq!(memory.copies().await.len(), 2, "what was taken back is whole");
    let ended = memory.prune(memory.store.clone(), undo(&copies[1].manifest)).await;
    assert_eq!(actions(&ended), [RetiredAction::Refused]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_copy_goes_only_when_a_person_asks() {
    let memory = nights(2).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    let ended = memory.prune(memory.store.clone(), sweep(&copies, false)).await;
    assert_eq!(actions(&ended), [RetiredAction::Marked, RetiredAction::Kept]);
    let ended = memory.prune(memory.store.clone(), sweep(&copies, true)).await;
    assert_eq!(actions(&ended), [RetiredAction::Waiting, RetiredAction::Marked]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_source_leaves_nothing_behind() {
    let mut memory = nights(3).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    let newest = Some(copies[2].anchor.clone());
    for _ in 0..3 {
        let task = PruneTask { remembered: newest.clone(), ..sweep(&copies, true) };
        memory.prune(memory.store.clone(), task).await.summary();
        memory.advance(GRACE_S);
    }
    memory.advance(31 * 86_400);
    // The host remembers the deleted point as the newest, and takes that for no rollback.
    let task = PruneTask { remembered: newest, ..sweep(&[], false) };
    memory.prune(memory.store.clone(), task).await.summary();
    memory.prune(memory.store.clone(), sweep(&[], false)).await.summary();
    let left: Vec<_> = memory.store.keys().into_iter().map(|key| key.to_string()).collect();
    assert_eq!(left, ["README.txt", "recover.py", "repo.json"]);
    memory.night(memory.store.clone(), COMMIT).await.summary();
    memory.assert_nothing_is_missing();
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_that_nobody_signed_delete_nothing() {
    let memory = nights(3).await;
    let copies = memory.copies().await;
    let keys = memory.store.keys();
    for key in keys.iter().filter(|key| !key.as_str().starts_with("runs/")) {
        let digest = dualsync_archive::digest::Digest::of(key.as_str().as_bytes());
        for suffix in ["", ".deleting"] {
            memory.store.replace(format!("marks/{digest}-0001020304050607{suffix}").parse().unwrap(), "{}".into());
        }
    }
    memory.advance(40 * 86_400);
    let ended = memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await;
    assert_eq!(actions(&ended), [RetiredAction::Marked], "a grace of its own");
    assert_eq!(pruned(&ended).deleted_objects, 0);
    assert!(ended.warnings("forged").len() > 10);
    assert!(keys.iter().all(|key| key.as_str().starts_with("runs/") || memory.store.peek(key).is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_manifest_that_cannot_be_read_stops_everything() {
    type Harm = fn(&Memory, &Key);
    let harms: [(&str, Harm); 3] = [
        ("manifest.json", |memory, key| memory.store.replace(key.clone(), "{}".into())),
        ("manifest.json.minisig", |memory, key| drop(memory.store.remove(key))),
        ("refs.jsonl", |memory, key| memory.store.replace(key.clone(), "x".into())),
    ];
    for (name, harm) in harms {
        let memory = nights(3).await;
        memory.advance(GRACE_S);
        let copies = memory.copies().await;
        memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await.summary();
        memory.advance(GRACE_S);
        harm(&memory, &copies[1].manifest.replace("manifest.json", name).parse().unwrap());
        let before = memory.store.keys();
        let fault = memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await.outcome.unwrap_err();
        assert_eq!((fault.exit(), fault.code()), (Exit::Damaged, "damaged"), "{name}");
        assert_eq!(memory.store.keys(), before, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_vanished_a_rollback_and_a_wrong_clock_stop_everything() {
    let memory = nights(3).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    let task = || sweep(&copies[..1], false);
    let refused = async |task: PruneTask, now_ahead: i64| {
        let mut job = memory.site.job(Task::Prune(task));
        job.now = memory.store.now().plus_seconds(now_ahead);
        run_on(&job, memory.store.clone(), "").await.outcome.unwrap_err().code()
    };
    for ahead in [-700, 700] {
        assert_eq!(refused(task(), ahead).await, "refused");
    }
    let remembered = Some(Anchor { sequence: 3, sha256: "ab".repeat(32) });
    assert_eq!(refused(PruneTask { remembered, ..task() }, 0).await, "refused");
    assert_eq!(refused(PruneTask { grace_s: 60, ..task() }, 0).await, "usage");
    memory.store.remove(&copies[1].manifest.parse().unwrap());
    assert_eq!(refused(task(), 0).await, "damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_fails_the_next_prune_finishes_the_work() {
    let memory = nights(4).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    memory.prune(memory.store.clone(), sweep(&copies[..2], false)).await.summary();
    memory.advance(GRACE_S);
    let clean = copy_of(&memory.store).await;
    memory.prune(clean.clone(), sweep(&copies[..2], false)).await.summary();
    let kept = |store: &MemoryStore| {
        let keys = store.keys().into_iter().filter(|key| !key.as_str().starts_with("marks/"));
        keys.collect::<Vec<_>>()
    };
    for fault in [Fault::Fail(ErrorKind::Denied), Fault::LoseAnswer] {
        for call in 0.. {
            let store = copy_of(&memory.store).await;
            let memory = Memory { store: store.clone(), site: memory.site.fork(0, call) };
            let faulty = Arc::new(FaultyStore::at_call(store.clone(), call, fault));
            let ended = memory.prune(faulty.clone(), sweep(&copies[..2], false)).await;
            memory.assert_nothing_is_missing();
            memory.points().await;
            if faulty.calls() <= call {
                assert!(call > 20 && ended.outcome.is_ok(), "the sweep has swept something: {call}");
                break;
            }
            // What lost its manifest is unnamed from now on, and goes a grace later at the latest.
            for _ in 0..2 {
                memory.prune(store.clone(), sweep(&copies[..2], false)).await.summary();
                memory.advance(GRACE_S);
            }
            memory.prune(store.clone(), sweep(&copies[..2], false)).await.summary();
            assert_eq!(kept(&store), kept(&clean), "call {call}");
            memory.assert_nothing_is_missing();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_run_is_cleared_away_once_it_cannot_live() {
    let mut memory = nights(1).await;
    let before = memory.store.keys();
    memory.site.write("new", &noise(77, 50_000));
    memory.night(memory.store.clone(), "").await.outcome.unwrap_err();
    let is_data = |key: &Key| key.as_str().starts_with("volumes/") || key.as_str().starts_with("catalogs/");
    let left =
        |memory: &Memory| memory.store.keys().into_iter().filter(|key| is_data(key) && !before.contains(key)).count();
    assert!(left(&memory) > 1);
    // While its heartbeat is young, nothing of it is marked.
    assert_eq!(pruned(&memory.prune(memory.store.clone(), sweep(&[], false)).await).marked_objects, 0);
    for _ in 0..2 {
        memory.advance(GRACE_S);
        memory.prune(memory.store.clone(), sweep(&[], false)).await.summary();
    }
    assert_eq!(left(&memory), 0);
    memory.assert_nothing_is_missing();
}

#[tokio::test(flavor = "multi_thread")]
async fn space_comes_back_at_a_bounded_price() {
    const FILES: u64 = 40;
    const BYTES: usize = 48 << 10;
    let mut memory = Memory::new().await;
    let mut dice = 1_u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for file in 0..FILES {
        memory.site.write(&format!("f{file}"), &noise(file, BYTES));
    }
    let (mut changed, mut sent, mut worst) = (0, 0, 0);
    for night in 0..60_u64 {
        memory.store.set_now(memory.site.now().plus_seconds(86_400));
        let files: std::collections::BTreeSet<_> = (0..8).map(|_| roll(FILES)).collect();
        for file in &files {
            memory.site.write(&format!("f{file}"), &noise((night + 1) * 1_000 + file, BYTES));
        }
        let made = memory.night(memory.store.clone(), COMMIT).await;
        if night > 0 {
            changed += files.len() as u64 * BYTES as u64;
            sent += made.summary().added_bytes;
        }
        let copies = memory.copies().await;
        let store = without_data(memory.store.clone());
        let kept = pruned(&memory.prune(store, sweep(&copies[..copies.len().saturating_sub(7)], false)).await);
        memory.assert_nothing_is_missing();
        if night > 10 {
            worst = worst.max(100 * kept.stored_bytes / kept.live_bytes);
        }
    }
    println!("stored at most {worst} % of the live bytes, sent {} % of the changed", 100 * sent / changed);
    assert!(worst < 200, "{worst} % of the live bytes are stored");
    assert!(100 * sent < 220 * changed, "{sent} bytes sent for {changed} that changed");
    memory.assert_restorable(&memory.site.backup_task().point.to_string(), &memory.site.source()).await;
}
