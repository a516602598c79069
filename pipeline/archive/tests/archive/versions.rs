//! Deleting where the bucket keeps versions, and where it locks them.

use dualsync_archive_store::contract::{Key, Store};
use dualsync_model::event::RetiredAction;

use crate::memory::{GRACE_S, Memory, sweep};
use crate::prune::{actions, nights, pruned};
use crate::site::COMMIT;

async fn versioned() -> Memory {
    let memory = nights(3).await;
    memory.store.keep_versions();
    memory.advance(GRACE_S);
    memory
}

#[tokio::test(flavor = "multi_thread")]
async fn space_comes_back_from_a_bucket_that_keeps_versions() {
    let mut memory = versioned().await;
    let copies = memory.copies().await;
    // A thief has hidden what the copy that stays needs.
    let refs = memory.store.peek(&copies[2].manifest.replace("manifest.json", "refs.jsonl").parse().unwrap()).unwrap();
    let refs = dualsync_archive::refs::parse_refs(&refs).unwrap();
    let volume: Key = refs.iter().find(|one| one.key.starts_with("volumes/")).unwrap().key.parse().unwrap();
    memory.store.delete(&volume).await.unwrap();
    assert_eq!(memory.store.hidden(), 2, "the object and a marker on it");
    for expected in [RetiredAction::Marked, RetiredAction::Deleted] {
        let ended = memory.prune(memory.store.clone(), sweep(&copies[..2], false)).await;
        assert_eq!(actions(&ended), [expected; 2]);
        memory.advance(GRACE_S);
    }
    assert_eq!(memory.store.hidden(), 2, "it is hidden still, and nothing else is");
    memory.night(memory.store.clone(), COMMIT).await.summary();
    memory.advance(40 * 86_400);
    memory.prune(memory.store.clone(), sweep(&[], false)).await.summary();
    assert_eq!(memory.store.hidden(), 2, "marks and run records leave nothing behind either");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_hidden_and_nobody_needs_goes_after_a_grace_of_its_own() {
    let memory = versioned().await;
    let stray: Key = format!("catalogs/ab/ab{}.jsonl.zst.age", "0".repeat(62)).parse().unwrap();
    memory.store.replace(stray.clone(), "stray".into());
    memory.store.delete(&stray).await.unwrap();
    let first = pruned(&memory.prune(memory.store.clone(), sweep(&[], false)).await);
    assert_eq!((first.marked_objects, first.deleted_objects, memory.store.hidden()), (1, 0, 2));
    memory.advance(GRACE_S);
    let second = pruned(&memory.prune(memory.store.clone(), sweep(&[], false)).await);
    assert_eq!((second.deleted_objects, memory.store.hidden()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_stays_is_counted_and_goes_when_the_lock_ends() {
    let memory = versioned().await;
    let copies = memory.copies().await;
    memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await.summary();
    memory.advance(GRACE_S);
    memory.store.lock_all(memory.store.now().plus_seconds(10 * 86_400));
    for _ in 0..2 {
        let ended = memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await;
        assert_eq!(actions(&ended), [RetiredAction::Kept]);
        let told = pruned(&ended);
        assert_eq!(
            (told.deleted_objects, told.still_locked_objects),
            (0, 1),
            "what a locked manifest names is not due"
        );
        assert!(told.still_locked_bytes > 100);
        memory.assert_nothing_is_missing();
        assert_eq!(memory.points().await.len(), 3);
        memory.advance(GRACE_S);
    }
    memory.advance(8 * 86_400);
    let ended = memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await;
    assert_eq!(actions(&ended), [RetiredAction::Deleted]);
    assert!(pruned(&ended).deleted_objects > 3 && pruned(&ended).still_locked_objects == 0);
    memory.assert_nothing_is_missing();
}
