//! `prune`: the two phases, what it refuses, what it leaves, and what happens when any of its calls fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{BLOCK, Lines, Workshop, events, noise, point, restore_task, sweep, task};
use dualsync_block::heartbeat::Work;
use dualsync_block::marks::MarkNote;
use dualsync_block::names;
use dualsync_block::prune::prune;
use dualsync_block::reading::Reading;
use dualsync_block::restore::restore;
use dualsync_block_store::contract::{ErrorKind, Operation, Store};
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_block_store::memory::MemoryStore;
use dualsync_model::event::{CopyState, RetiredAction};
use dualsync_model::id::{PointId, RunId};
use dualsync_model::job::{Depth, PruneTask};

/// Three nights that share a third of their blocks and have packs of their own.
pub async fn three_nights() -> (Workshop, Vec<Vec<u8>>) {
    let shop = Workshop::new().await;
    let mut nights = Vec::new();
    let mut bytes = noise(60 * BLOCK, 1);
    for night in 1..=3_u32 {
        shop.begin_night(night);
        bytes[20 * BLOCK..].copy_from_slice(&noise(40 * BLOCK, u64::from(night) + 100));
        shop.night(night, &bytes).await;
        nights.push(bytes.clone());
    }
    (shop, nights)
}

pub async fn assert_whole(shop: &Workshop, what: &str) {
    let (checked, lines) = shop.check(Depth::Objects).await;
    assert_eq!(checked.unwrap().findings, 0, "{what}: {:?}", lines.findings());
}

pub fn only(lines: &Lines, action: RetiredAction) -> Vec<u32> {
    lines.retired().into_iter().filter(|(_, done)| *done == action).map(|(night, _)| night).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_announced_then_waits_then_goes_with_what_only_it_needs() {
    let (shop, nights) = three_nights().await;
    let before = shop.keys("");
    let task = sweep(shop.leaving(&[1]));
    let (pruned, lines) = shop.prune(&task).await;
    assert_eq!((lines.retired(), pruned.unwrap().deleted_objects), (vec![(1, RetiredAction::Marked)], 0));
    assert!(before.iter().all(|key| shop.keys("").contains(key)), "the job that announces deletes nothing");
    shop.pass_hours(23);
    assert_eq!(only(&shop.prune(&task).await.1, RetiredAction::Waiting), [1]);
    let told = shop.list().await.1.points().remove(0);
    assert_eq!((told.state, told.mark.unwrap().reason.as_str()), (CopyState::Deleting, "left the rule"));
    shop.pass_hours(2);
    let (pruned, lines) = shop.prune(&task).await;
    let pruned = pruned.unwrap();
    assert_eq!(only(&lines, RetiredAction::Deleted), [1]);
    assert!(pruned.deleted_objects >= 2 && pruned.deleted_bytes > 15 * BLOCK as u64, "{pruned:?}");
    assert!(
        shop.keys("points/").len() == 2 && shop.restored(3).await == nights[2] && shop.restored(2).await == nights[1]
    );
    assert_whole(&shop, "after the deletion").await;
    // The deletion is a proved one: nobody takes the point for lost, before and after the ledger forgot it.
    assert_eq!(shop.list().await.0.unwrap().findings, 0);
    shop.night(4, &nights[2]).await;
    assert_eq!(shop.list().await.0.unwrap().findings, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ledger_remembers_keeps_its_trace() {
    let (shop, _) = three_nights().await;
    let task = sweep(shop.leaving(&[1]));
    shop.prune(&task).await.0.unwrap();
    shop.pass_hours(25);
    shop.prune(&task).await.0.unwrap();
    shop.pass_hours(40 * 24);
    shop.prune(&sweep(Vec::new())).await.0.unwrap();
    assert!(!shop.keys("marks/").is_empty(), "the newest manifest is older than the deletion");
    assert_eq!(shop.list().await.0.unwrap().findings, 0, "so the deletion is still no loss");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_taken_back_until_the_deletion_has_begun() {
    for hours in [17, 19, 30] {
        let (shop, nights) = three_nights().await;
        let task = sweep(shop.leaving(&[1]));
        shop.prune(&task).await.0.unwrap();
        shop.pass_hours(hours);
        let undo = PruneTask { undo: vec![shop.manifest(1)], grace_s: 86_400, ..PruneTask::default() };
        assert_eq!(shop.prune(&undo).await.1.retired(), [(1, RetiredAction::Undone)], "after {hours} h");
        assert_eq!(shop.list().await.1.points()[0].mark, None);
        // What was taken back gets a whole new grace.
        assert_eq!(shop.prune(&task).await.1.retired(), [(1, RetiredAction::Marked)]);
        assert!(shop.restored(1).await == nights[0]);
        assert_whole(&shop, "after an undo").await;
    }
    let (shop, _) = three_nights().await;
    shop.mark_deleted(&shop.manifest(1)).await;
    let undo = PruneTask { undo: vec![shop.manifest(1)], grace_s: 86_400, ..PruneTask::default() };
    assert_eq!(shop.prune(&undo).await.1.retired(), [(1, RetiredAction::Refused)]);
    assert_eq!(shop.list().await.1.points()[0].state, CopyState::Deleting);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_copy_that_was_taken_back_are_used_again() {
    let (shop, nights) = three_nights().await;
    shop.night(4, &nights[0]).await;
    let mut task = sweep(shop.leaving(&[4]));
    task.drop[0].asked = true;
    assert!(shop.prune(&task).await.0.unwrap().marked_objects > 0);
    shop.pass_hours(2);
    let undo = PruneTask { undo: vec![shop.manifest(4)], grace_s: 86_400, ..PruneTask::default() };
    shop.prune(&undo).await.0.unwrap();
    assert!(shop.night(5, &nights[0]).await.added_bytes < BLOCK as u64, "nothing had to be sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_manifest_goes_only_when_a_person_asks() {
    let (shop, _) = three_nights().await;
    let mut task = sweep(shop.leaving(&[3]));
    assert_eq!(shop.prune(&task).await.1.retired(), [(3, RetiredAction::Kept)]);
    task.drop[0].asked = true;
    assert_eq!(shop.prune(&task).await.1.retired(), [(3, RetiredAction::Marked)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_source_leaves_nothing_and_another_source_everything() {
    let (shop, nights) = three_nights().await;
    // Another source in the same repository, with the same content and with its own.
    let mail = |night| PointId::new("mail".parse().unwrap(), point(night).time());
    for night in [4_u32, 5] {
        let source = shop.source(&nights[night as usize - 4]);
        let mut other = task(night, &source);
        other.point = mail(night);
        shop.backup(shop.open().await, &other, "commit").await.0.unwrap();
    }
    let of_mail: Vec<String> = shop.keys("").into_iter().filter(|key| key.contains("mail")).collect();
    let mut all = sweep(shop.leaving(&[1, 2, 3]));
    for copy in &mut all.drop {
        copy.asked = true;
    }
    for _ in 0..3 {
        shop.prune(&all).await.0.unwrap();
        shop.pass_hours(25);
    }
    assert_whole(&shop, "the other source").await;
    let named: Vec<String> = {
        let clears = [4, 5].map(|night| {
            let prefix = format!("points/mail/{}", mail(night).time().compact());
            let key = shop.keys(&prefix).pop().unwrap();
            dualsync_block::manifest::Clear::read(&shop.memory.peek(&key.parse().unwrap()).unwrap()).unwrap().0
        });
        let keys = clears.iter().flat_map(|clear| {
            let packs = clear.packs.iter().map(|reference| names::pack(&reference.sha256).to_string());
            packs.chain(clear.maps.iter().map(|reference| names::map(&reference.sha256).to_string()))
        });
        keys.collect()
    };
    let fixed =
        |key: &String| ["repo.json", "README.txt", "recover.py"].contains(&key.as_str()) || key.starts_with("keys/");
    for key in shop.keys("").iter().filter(|key| !fixed(key) && !key.starts_with("marks/")) {
        assert!(of_mail.contains(key) || named.contains(key), "'{key}' is left over");
    }
    // The marks go when their time has come: those of points stay while a manifest names them as alive.
    let source = shop.source(&nights[2]);
    let mut other = task(6, &source);
    other.point = mail(6);
    shop.backup(shop.open().await, &other, "commit").await.0.unwrap();
    shop.pass_hours(31 * 24);
    shop.prune(&sweep(Vec::new())).await.0.unwrap();
    let left = shop.keys("marks/");
    assert_eq!(left.len(), 6, "three points, each with a mark and its companion: {left:?}");
    let (listed, lines) = shop.list().await;
    assert_eq!(listed.unwrap().findings, 0, "{:?}", lines.findings());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_the_same_and_changes_nothing() {
    let (shop, _) = three_nights().await;
    let task = sweep(shop.leaving(&[1]));
    for hours in [25, 0] {
        let before = (shop.keys(""), shop.store.requests());
        let dry = shop.prune(&PruneTask { dry_run: true, ..task.clone() }).await;
        assert_eq!(shop.keys(""), before.0);
        let requests = shop.store.requests();
        assert_eq!((requests.put, requests.delete), (before.1.put, before.1.delete));
        let real = shop.prune(&task).await;
        assert_eq!((dry.0.unwrap(), dry.1.retired()), (real.0.unwrap(), real.1.retired()));
        shop.pass_hours(hours);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sweep_marks_are_put_and_nothing_is_deleted() {
    let (shop, _) = three_nights().await;
    let task = PruneTask { sweep: false, ..sweep(shop.leaving(&[1])) };
    shop.prune(&task).await.0.unwrap();
    shop.pass_hours(30);
    let (pruned, lines) = shop.prune(&task).await;
    assert_eq!((lines.retired(), pruned.unwrap().deleted_objects), (vec![(1, RetiredAction::Waiting)], 0));
    assert_eq!(shop.keys("marks/").len(), 1);
    // The hint is worth a grace to the deleter elsewhere.
    assert_eq!(shop.prune(&sweep(shop.leaving(&[1]))).await.1.retired(), [(1, RetiredAction::Deleted)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_run_keeps_its_parent_and_what_it_sends() {
    let (shop, nights) = three_nights().await;
    // What these nights left on their way is garbage already.
    shop.prune(&sweep(Vec::new())).await.0.unwrap();
    // Sends its packs and ends without a manifest, as far as anybody can see.
    let source = shop.source(&noise(50 * BLOCK, 77));
    let mut cut_off = task(4, &source);
    cut_off.run = RunId::from_random([9; 8]);
    shop.begin_night(4);
    assert!(shop.backup(shop.open().await, &cut_off, "").await.0.is_err());
    let mut leaving = shop.leaving(&[3]);
    leaving[0].asked = true;
    let task = sweep(leaving);
    let first = shop.prune(&task).await.0.unwrap();
    assert_eq!(first.marked_objects, 0, "what only the parent needs is held, what nobody names may be new");
    shop.pass_hours(23);
    shop.prune(&task).await.0.unwrap();
    assert!(shop.restored(3).await == nights[2]);
    shop.pass_hours(3);
    let later = shop.prune(&task).await;
    assert_eq!(later.1.retired(), [(3, RetiredAction::Deleted)], "its last sign of life is a grace ago");
    assert_whole(&shop, "the others").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_goes_once_no_checkpoint_needs_it() {
    let shop = Workshop::new().await;
    shop.begin_night(1);
    let source = shop.source(&noise(1400 * BLOCK, 1));
    assert!(shop.backup(shop.open().await, &task(1, &source), "").await.0.is_err());
    let packs = shop.keys("packs/").len();
    assert!(packs >= 3 && shop.keys("runs/").iter().any(|key| key.contains("checkpoint-")));
    for _ in 0..6 {
        shop.prune(&sweep(Vec::new())).await.0.unwrap();
        shop.pass_hours(26);
    }
    let resumable = shop.keys("packs/").len();
    assert!(resumable > 0, "a checkpoint is worth seven days");
    for _ in 0..3 {
        shop.pass_hours(26);
        shop.prune(&sweep(Vec::new())).await.0.unwrap();
    }
    assert!(shop.keys("packs/").is_empty() && shop.keys("maps/").is_empty());
}

/// Any call of a prune fails, or its answer is lost: nothing needed is lost, and the next prune ends the work.
#[tokio::test(flavor = "multi_thread")]
async fn any_call_of_a_prune_may_fail_and_the_next_one_ends_the_work() {
    let (shop, nights) = three_nights().await;
    let task = sweep(shop.leaving(&[1, 2]));
    shop.prune(&task).await.0.unwrap();
    let now = shop.store.now().plus_seconds(25 * 3600);
    for fault in [Fault::Fail(ErrorKind::Timeout), Fault::LoseAnswer] {
        let mut ended = false;
        for call in 2.. {
            let fork = shop.fork_at(now);
            let faulty = Arc::new(FaultyStore::at_call(Arc::clone(&fork.store), call, fault));
            let repository = fork.open_on(Arc::clone(&faulty) as Arc<dyn Store>).await;
            let first = prune(&repository, &task, now, &events().0).await;
            let what = format!("{fault:?} at call {call}");
            assert!(fork.restored(3).await == nights[2], "{what}");
            assert_whole(&fork, &what).await;
            if faulty.calls() <= call {
                first.unwrap();
                ended = true;
                break;
            }
            assert!(first.is_err(), "{what}");
            fork.prune(&task).await.0.unwrap();
            assert_eq!(fork.keys("points/").len(), 1, "{what}");
            let named = fork.clear(3);
            assert_eq!(
                fork.keys("packs/").len() + fork.keys("maps/").len(),
                named.packs.len() + named.maps.len(),
                "{what}"
            );
            assert_eq!(fork.list().await.0.unwrap().findings, 0, "{what}");
        }
        assert!(ended);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_fetches_no_pack_and_no_map_object() {
    let (shop, _) = three_nights().await;
    let task = sweep(shop.leaving(&[1]));
    for _ in 0..2 {
        let data = FaultyStore::new(Arc::clone(&shop.store), |call| {
            let is_data = call.object.starts_with("packs/") || call.object.starts_with("maps/");
            let is_read = matches!(call.operation, Operation::Get | Operation::Head);
            (is_data && is_read).then_some(Fault::Fail(ErrorKind::Denied))
        });
        let repository = shop.open_on(Arc::new(data)).await;
        prune(&repository, &task, shop.store.now(), &events().0).await.unwrap();
        shop.pass_hours(25);
    }
    assert_eq!(shop.keys("points/").len(), 2);
}

#[test]
fn a_mark_is_the_document_that_the_format_page_shows() {
    let note = MarkNote {
        object: "points/web/x".into(),
        marked_at: point(0).time(),
        reason: "left".into(),
        asked: true,
        at: None,
    };
    let text = serde_json::to_string(&note).unwrap();
    assert_eq!(text, r#"{"object":"points/web/x","marked_at":"2026-11-20T02:00:00Z","reason":"left","asked":true}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_is_read_is_shown_and_kept_and_one_that_was_read_is_not() {
    let (shop, nights) = three_nights().await;
    let task = sweep(shop.leaving(&[1]));
    shop.prune(&task).await.0.unwrap();
    shop.pass_hours(25);
    let manifest = |night: u32| names::digest_of(&shop.manifest(night)).unwrap();
    let repository = shop.open().await;
    let readings = [1, 2].map(|night| Reading::begin(&repository, &point(night), manifest(night)));
    let is_reader = |key: &&String| !key.contains("checkpoint") && shop.heartbeat(key).work == Work::Restore;
    while shop.keys("runs/").iter().filter(is_reader).count() < 2 {
        tokio::task::yield_now().await;
    }
    let states = async || shop.list().await.1.points().into_iter().map(|point| point.state).collect::<Vec<_>>();
    assert_eq!(states().await, [CopyState::Deleting, CopyState::Restoring, CopyState::Available]);
    assert_eq!(shop.prune(&task).await.1.retired(), [(1, RetiredAction::Kept)]);
    for reading in readings {
        reading.end().await;
    }
    assert_eq!(states().await, [CopyState::Deleting, CopyState::Available, CopyState::Available]);
    assert!(shop.restored(1).await == nights[0]);
    assert_eq!(shop.prune(&task).await.1.retired(), [(1, RetiredAction::Deleted)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_needs_no_right_to_write() {
    let (shop, nights) = three_nights().await;
    let before = shop.keys("");
    let read_only = FaultyStore::new(Arc::clone(&shop.store), |call| {
        (call.operation == Operation::Put).then_some(Fault::Fail(ErrorKind::Denied))
    });
    let to = shop.folder.path().join("read-only.img");
    let repository = shop.open_on(Arc::new(read_only)).await;
    restore(repository, &restore_task(2, &to), &events().0).await.unwrap();
    assert!(std::fs::read(&to).unwrap() == nights[1] && shop.keys("") == before);
}

fn is_object(key: &str) -> bool {
    key.starts_with("packs/") || key.starts_with("maps/")
}

fn objects(memory: &MemoryStore) -> usize {
    memory.keys().iter().filter(|key| is_object(key.as_str())).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_go_eight_at_a_time_and_each_is_announced_first() {
    let shop = Workshop::new().await;
    for night in 1..=8_u32 {
        shop.begin_night(night);
        shop.night(night, &noise(2 * BLOCK, u64::from(night))).await;
    }
    let task = sweep(shop.leaving(&[1, 2, 3, 4, 5, 6, 7]));
    shop.prune(&task).await.0.unwrap();
    shop.pass_hours(25);
    let (memory, before, begun) = (Arc::clone(&shop.memory), objects(&shop.memory), AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let slow = FaultyStore::new(Arc::clone(&shop.store), move |call| {
        if call.operation != Operation::Delete || !is_object(call.object) {
            return None;
        }
        let prefix = format!("marks/{}", names::digest_of(call.object).unwrap());
        let is_announced = |mark: &str| mark.starts_with(&prefix) && mark.ends_with(".deleting");
        assert!(memory.keys().iter().any(|mark| is_announced(mark.as_str())), "'{}' goes unannounced", call.object);
        let under_way = begun.fetch_add(1, Ordering::SeqCst) + 1 - (before - objects(&memory));
        seen.fetch_max(under_way, Ordering::SeqCst);
        Some(Fault::Slow(Duration::from_millis(1)))
    });
    let repository = shop.open_on(Arc::new(slow)).await;
    let pruned = prune(&repository, &task, shop.store.now(), &events().0).await.unwrap();
    assert!(pruned.deleted_objects >= 20, "{pruned:?}");
    assert_eq!(most.load(Ordering::SeqCst), 8);
    assert_whole(&shop, "what stays").await;
}
