//! Whatever call of the store fails, whenever the commit does not come: earlier points stay whole, and no
//! manifest names what is not there.

use std::sync::Arc;

use dualsync_archive_store::contract::{ErrorKind, Key, Operation, Store};
use dualsync_archive_store::faulty::{Call, Fault, FaultyStore};
use dualsync_archive_store::open;
use dualsync_archive_store::service::Patience;
use dualsync_model::event::Event;
use dualsync_model::job::{InitTask, ListTask, Task};
use dualsync_model::outcome::Exit;

use crate::memory::Memory;
use crate::site::{COMMIT, noise};

/// Fails call after call of the second night, until a night has fewer calls than that.
async fn sweep(fault: Fault) {
    for call in 0.. {
        let mut memory = Memory::new().await;
        memory.site.write("a/first", &noise(1, 200_000));
        memory.site.write("b", b"before");
        memory.night(memory.store.clone(), COMMIT).await.summary();
        let first = memory.site.backup_task().point.to_string();
        let before = memory.site.path("before");
        let copied =
            std::process::Command::new("cp").arg("-a").arg(memory.site.source()).arg(&before).status().unwrap();
        assert!(copied.success());

        memory.site.write("c/second", &noise(2, 300_000));
        memory.site.write("b", b"after");
        let faulty = Arc::new(FaultyStore::at_call(memory.store.clone(), call, fault));
        let ended = memory.night(faulty.clone(), COMMIT).await;
        let second = memory.site.backup_task().point.to_string();
        let points = memory.points().await;
        memory.assert_nothing_is_missing();
        assert!(points.contains(&first), "call {call}");
        memory.assert_restorable(&first, &before).await;
        if ended.outcome.is_ok() {
            assert!(points.contains(&second), "call {call}: what is said to be done is done");
        }
        if points.contains(&second) {
            memory.assert_restorable(&second, &memory.site.source()).await;
        }
        memory.night(memory.store.clone(), COMMIT).await.summary();
        memory.assert_nothing_is_missing();
        if faulty.calls() <= call {
            assert!(call > 8, "the sweep has swept something: {call}");
            assert!(ended.outcome.is_ok());
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_fails_no_point_is_lost_and_none_has_holes() {
    sweep(Fault::Fail(ErrorKind::Denied)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_answer_is_lost_no_point_is_lost_and_none_has_holes() {
    sweep(Fault::LoseAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_commit_there_is_no_manifest() {
    for input in ["", "{\"command\":\"abort\"}\n", "{\"command\":\"commit\"}", "garbage\n"] {
        let mut memory = Memory::new().await;
        memory.site.write("file", b"content");
        let ended = memory.night(memory.store.clone(), input).await;
        let fault = ended.outcome.as_ref().expect_err(input);
        assert_eq!((fault.exit(), fault.code()), (Exit::Failed, "aborted"), "{input:?}");
        assert!(ended.events.iter().any(|event| matches!(event, Event::Prepared(_))));
        let is_end = |key: &Key| key.as_str().contains("manifest.json");
        assert!(!memory.store.keys().iter().any(is_end), "{input:?}");
        assert!(memory.points().await.is_empty());
    }
}

/// Whether a night is committed on a store that stores other bytes than it was sent under keys like this one.
async fn survives(proves: bool, spoilt: &'static str) -> bool {
    let mut memory = Memory::new().await;
    memory.site.write("file", &noise(1, 100_000));
    // The one in memory proves what it takes, but for what it has spoilt.
    let store: Arc<dyn Store> = if proves {
        memory.store.clone()
    } else {
        let ended = memory.site.run(Task::Init(InitTask::default())).await;
        memory.site.pin(&ended);
        let job = memory.site.job(Task::List(ListTask::default()));
        open(&job.target, job.now, None, Patience::brief()).await.unwrap()
    };
    let is_spoilt = move |call: Call<'_>| call.operation == Operation::Put && call.object.contains(spoilt);
    let faulty = FaultyStore::new(store, move |call| is_spoilt(call).then_some(Fault::Sink(7)));
    let ended = memory.night(Arc::new(faulty), COMMIT).await;
    if let Err(fault) = &ended.outcome {
        assert!(format!("{fault:?}").contains("SHA-256"), "{fault:?}");
    }
    ended.outcome.is_ok() && ended.events.iter().any(|event| matches!(event, Event::Committed(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_as_something_else_is_no_point() {
    // `SHA256SUMS` repeats the others: a wrong one is for `check` to tell.
    for spoilt in ["catalogs/", "refs.jsonl", "manifest.json.minisig", "manifest.json"] {
        assert!(!survives(true, spoilt).await, "{spoilt} on a store that proves the rest");
        assert!(!survives(false, spoilt).await, "{spoilt} on a directory");
    }
    assert!(!survives(true, "volumes/").await, "one volume among what is proved is always looked at");
    assert!(survives(false, "marks/").await && survives(true, "marks/").await, "and nothing else is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_needs_what_is_about_to_be_deleted_is_not_made() {
    let mut memory = Memory::new().await;
    memory.site.write("file", &noise(1, 100_000));
    memory.night(memory.store.clone(), COMMIT).await.summary();
    let is_volume = |key: &Key| key.as_str().starts_with("volumes/");
    let volume = memory.store.keys().into_iter().find(is_volume).unwrap();
    let digest = dualsync_archive::digest::Digest::of(volume.as_str().as_bytes());
    let mark: Key = format!("marks/{digest}-0001020304050607").parse().unwrap();

    // Marked before the run: the volume is not built on, and its content is stored anew.
    memory.store.replace(mark.clone(), "{}".into());
    memory.night(memory.store.clone(), COMMIT).await.summary();
    let point = memory.site.backup_task().point;
    let is_list = |key: &Key| key.as_str().ends_with("refs.jsonl") && key.as_str().contains(&point.time().compact());
    let list = memory.store.keys().into_iter().find(is_list).unwrap();
    let refs = dualsync_archive::refs::parse_refs(&memory.store.peek(&list).unwrap()).unwrap();
    assert!(refs.iter().all(|one| one.key != volume.as_str()));
    memory.assert_restorable(&point.to_string(), &memory.site.source()).await;

    // Marked while the run goes on: there is no point.
    let newer = memory.store.keys().into_iter().filter(is_volume).find(|key| *key != volume).unwrap();
    let digest = dualsync_archive::digest::Digest::of(newer.as_str().as_bytes());
    let mark: Key = format!("marks/{digest}-0001020304050607").parse().unwrap();
    let (store, marks) = (memory.store.clone(), std::sync::atomic::AtomicU32::new(0));
    let faulty = FaultyStore::new(memory.store.clone(), move |call| {
        let is_listing = call.object == "marks/" && marks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
        if is_listing {
            store.replace(mark.clone(), "{}".into());
        }
        None
    });
    let ended = memory.night(Arc::new(faulty), COMMIT).await;
    assert_eq!(ended.outcome.expect_err("a marked volume").code(), "marked");
    assert_eq!(memory.points().await.len(), 2);
}
