//! A copy's mark that is taken back at any age, and its race with a deletion.

use std::sync::Arc;

use dualsync_archive::digest::Digest;
use dualsync_archive_store::contract::{ErrorKind, Key, Store};
use dualsync_archive_store::faulty::{Fault, FaultyStore};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::event::{CopyState, Point, RetiredAction};
use dualsync_model::job::PruneTask;

use crate::memory::{GRACE_S, Memory, sweep};
use crate::prune::{actions, copy_of, nights, pruned};
use crate::site::{COMMIT, Ended};

fn undo(copy: &Point) -> PruneTask {
    PruneTask { undo: vec![copy.manifest.clone()], grace_s: GRACE_S.unsigned_abs(), ..PruneTask::default() }
}

fn marks(store: &MemoryStore, copy: &Point, suffix: &str) -> usize {
    let prefix = format!("marks/{}-", Digest::of(copy.manifest.as_bytes()));
    let is_one = |key: &&Key| key.as_str().starts_with(&prefix) && key.as_str().ends_with(suffix);
    store.keys().iter().filter(is_one).count()
}

fn all_undone(store: &MemoryStore) -> usize {
    store.keys().iter().filter(|key| key.as_str().ends_with(".undone")).count()
}

fn volumes(store: &MemoryStore) -> usize {
    store.keys().iter().filter(|key| key.as_str().starts_with("volumes/")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_was_widened_after_the_grace_loses_nothing() {
    let mut memory = nights(3).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    assert!(pruned(&memory.prune(memory.store.clone(), sweep(&copies[..2], false)).await).marked_objects > 4);
    memory.advance(2 * GRACE_S);
    let ended = memory.prune(memory.store.clone(), undo(&copies[0])).await;
    assert_eq!(actions(&ended), [RetiredAction::Undone]);
    assert_eq!(all_undone(&memory.store), 1, "marks on its objects stay: a deleter may be about to act on them");
    let listed = memory.copies().await;
    assert_eq!((listed[0].state, &listed[0].mark), (CopyState::Available, &None));
    assert_eq!(listed[1].state, CopyState::Deleting);

    // What only the other copy needs goes, and whatever is done next takes nothing of this one.
    let ended = memory.prune(memory.store.clone(), sweep(&copies[1..2], false)).await;
    assert_eq!(actions(&ended), [RetiredAction::Deleted]);
    memory.night(memory.store.clone(), COMMIT).await.summary();
    for _ in 0..3 {
        memory.assert_nothing_is_missing();
        memory.advance(GRACE_S);
        assert_eq!(pruned(&memory.prune(memory.store.clone(), sweep(&[], false)).await).deleted_objects, 0);
    }
    let listed = memory.copies().await;
    assert_eq!((listed[0].point.clone(), listed[0].state), (copies[0].point.clone(), CopyState::Available));
    // And it can leave again, by a mark of its own and a whole grace.
    for expected in [RetiredAction::Marked, RetiredAction::Deleted] {
        assert_eq!(actions(&memory.prune(memory.store.clone(), sweep(&copies[..1], false)).await), [expected]);
        memory.advance(GRACE_S);
    }
    memory.assert_nothing_is_missing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_builds_on_what_was_taken_back_in_time_and_not_on_what_was_late() {
    for (age, grows) in [(GRACE_S / 2, false), (GRACE_S, true)] {
        let mut memory = nights(2).await;
        memory.advance(GRACE_S);
        let copies = memory.copies().await;
        let mark = PruneTask { sweep: false, ..sweep(&copies[1..], true) };
        memory.prune(memory.store.clone(), mark).await.summary();
        memory.advance(age);
        assert_eq!(actions(&memory.prune(memory.store.clone(), undo(&copies[1])).await), [RetiredAction::Undone]);
        let before = volumes(&memory.store);
        memory.night(memory.store.clone(), COMMIT).await.summary();
        assert_eq!(volumes(&memory.store) > before, grows, "taken back after {age} s");
    }
}

/// A store on which `other` runs to its end before call number `at`, which then fails where `crashes` says so.
fn met(
    memory: &Arc<Memory>,
    at: u64,
    crashes: Option<u64>,
    other: PruneTask,
    ended: &Arc<std::sync::Mutex<Option<Ended>>>,
) -> Arc<FaultyStore> {
    let (memory, ended) = (memory.clone(), ended.clone());
    let store: Arc<dyn Store> = memory.store.clone();
    Arc::new(FaultyStore::new(store, move |call| {
        if call.number == at {
            let handle = tokio::runtime::Handle::current();
            let other = memory.prune(memory.store.clone(), other.clone());
            let outcome = tokio::task::block_in_place(|| handle.block_on(other));
            *ended.lock().unwrap() = Some(outcome);
        }
        (crashes == Some(call.number)).then_some(Fault::Fail(ErrorKind::Denied))
    }))
}

/// What a copy has to be after a person took its mark back, and was told this.
async fn judge(memory: &Memory, copy: &Point, told: Option<RetiredAction>, of: &str) {
    memory.assert_nothing_is_missing();
    memory.points().await;
    if told == Some(RetiredAction::Undone) {
        // A deletion that was cut off has left its word, which is nobody's after a while.
        memory.advance(GRACE_S / 4 + 1);
        for _ in 0..3 {
            memory.prune(memory.store.clone(), sweep(&[], false)).await.summary();
            let listed = memory.copies().await;
            let found = listed.iter().find(|one| one.manifest == copy.manifest);
            assert_eq!(found.map(|one| (one.state, &one.mark)), Some((CopyState::Available, &None)), "{of}");
            assert_eq!(marks(&memory.store, copy, ".deleting"), 0, "{of}");
            memory.advance(GRACE_S);
        }
    }
    // It never hangs between the two.
    for _ in 0..4 {
        memory.prune(memory.store.clone(), sweep(std::slice::from_ref(copy), false)).await.summary();
        memory.assert_nothing_is_missing();
        memory.advance(GRACE_S);
    }
    assert!(memory.store.peek(&copy.manifest.parse().unwrap()).is_none(), "{of}");
    memory.points().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_back_and_whoever_deletes_one_sees_the_other() {
    let base = nights(3).await;
    base.advance(GRACE_S);
    let copies = base.copies().await;
    base.prune(base.store.clone(), sweep(&copies[..1], false)).await.summary();
    base.advance(GRACE_S * 3 / 2);
    let copy = &copies[0];
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for takes_back_between in [true, false] {
        let (first, second) = (sweep(&copies[..1], false), undo(copy));
        let (stepped, other) = if takes_back_between { (first, second) } else { (second, first) };
        for crash in [None, Some(0), Some(1), Some(2)] {
            for at in 0.. {
                let of = format!("takes back in between: {takes_back_between}, at {at}, crash {crash:?}");
                let memory = Memory { store: copy_of(&base.store).await, site: base.site.fork(0, at) };
                let (memory, ended) = (Arc::new(memory), Arc::default());
                let store = met(&memory, at, crash.map(|later| at + later), other.clone(), &ended);
                let mine = memory.prune(store.clone(), stepped.clone()).await;
                let theirs: Option<Ended> = ended.lock().unwrap().take();
                let Some(theirs) = theirs else { break };
                let (undone, deleted) = if takes_back_between { (&theirs, &mine) } else { (&mine, &theirs) };
                let told = actions(undone).first().copied();
                *seen.entry(format!("{told:?} {:?}", actions(deleted).first())).or_default() += 1;
                let is_there = memory.store.peek(&copy.manifest.parse().unwrap()).is_some();
                assert!(is_there || told != Some(RetiredAction::Undone), "{of}: it is gone, and was said to stay");
                assert!(marks(&memory.store, copy, ".deleting") > 0 || is_there, "{of}: gone without a word");
                // One that looks around after it was taken back marks it anew.
                let is_marked_anew = actions(deleted).first() == Some(&RetiredAction::Marked);
                judge(&memory, copy, told.filter(|_| !is_marked_anew), &of).await;
            }
        }
    }
    println!("{seen:?}");
    // Each end was met: taken back in time, refused, and a deletion that found itself taken back.
    for end in ["Some(Undone) Some(Kept)", "Some(Refused) Some(Deleted)", "Some(Undone) None", "Some(Refused) None"] {
        assert!(seen.contains_key(end), "{end}: {seen:?}");
    }
}
