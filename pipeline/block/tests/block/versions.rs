//! A bucket that keeps versions: what leaves really leaves, what is locked stays until its time, what is hidden is not lost.

use std::sync::Arc;

use dualsync_block::names;
use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock, Operation};
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_model::event::RetiredAction;
use dualsync_model::job::LockMode;

use crate::prune::{assert_whole, only};
use crate::support::{BLOCK, Workshop, events, noise, point, sweep};
use dualsync_block::prune::prune;

/// Three nights with a pack of their own each, in a bucket with versions.
async fn three_versioned_nights() -> Workshop {
    let shop = Workshop::versioned().await;
    for night in 1..=3_u32 {
        shop.begin_night(night);
        shop.night(night, &noise(3 * BLOCK, u64::from(night))).await;
    }
    shop
}

/// Keys of which a version or a marker is there that no listing shows.
fn hidden(shop: &Workshop) -> Vec<String> {
    let versions = shop.memory.peek_versions("").into_iter();
    versions.filter(|version| version.is_marker || !version.is_latest).map(|version| version.key.to_string()).collect()
}

/// A pack that only night 1 names.
fn pack_of_the_first(shop: &Workshop) -> Key {
    names::pack(&shop.clear(1).packs[0].sha256)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_a_bucket_with_versions_leaves_none_behind() {
    let shop = three_versioned_nights().await;
    let pack = pack_of_the_first(&shop);
    // Written twice, as after a lost answer.
    shop.memory.replace(pack.clone(), shop.memory.peek(&pack).unwrap());
    for _ in 0..2 {
        shop.prune(&sweep(shop.leaving(&[1, 2]))).await.0.unwrap();
        shop.pass_hours(25);
    }
    assert!(shop.memory.peek_versions(pack.as_str()).is_empty() && hidden(&shop).is_empty(), "{:?}", hidden(&shop));
    assert_whole(&shop, "what stays").await;
    // Marks and run records, when their time has come.
    shop.night(4, &noise(3 * BLOCK, 4)).await;
    shop.pass_hours(70 * 24);
    shop.prune(&sweep(Vec::new())).await.0.unwrap();
    assert!(hidden(&shop).is_empty(), "{:?}", hidden(&shop));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_stays_hidden_and_counted_until_its_lock_ends() {
    let shop = three_versioned_nights().await;
    let (pack, manifest) = (pack_of_the_first(&shop), shop.manifest(1).parse().unwrap());
    let lock = ObjectLock { mode: LockMode::Compliance, until: shop.store.now().plus_seconds(10 * 86_400) };
    for key in [&pack, &manifest] {
        shop.store.extend_lock(key, None, lock).await.unwrap();
    }
    shop.prune(&sweep(shop.leaving(&[1]))).await.0.unwrap();
    shop.pass_hours(25);
    let (pruned, lines) = shop.prune(&sweep(shop.leaving(&[1]))).await;
    let pruned = pruned.unwrap();
    assert_eq!((only(&lines, RetiredAction::Deleted), pruned.still_locked_objects), (vec![1], 2), "{pruned:?}");
    assert!(pruned.still_locked_bytes > 3 * BLOCK as u64);
    assert_eq!(shop.list().await.0.unwrap().findings, 0);
    shop.pass_hours(25);
    let again = shop.prune(&sweep(Vec::new())).await.0.unwrap();
    assert_eq!((again.still_locked_objects, again.still_locked_bytes), (2, pruned.still_locked_bytes));
    shop.pass_hours(10 * 24);
    let last = shop.prune(&sweep(Vec::new())).await.0.unwrap();
    assert_eq!((last.still_locked_objects, last.cleared >= 2), (0, true), "{last:?}");
    assert!(hidden(&shop).is_empty(), "{:?}", hidden(&shop));
    assert_whole(&shop, "what stays").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleter_deleted_does_not_come_back_however_long_it_is_locked() {
    let shop = three_versioned_nights().await;
    let manifest: Key = shop.manifest(1).parse().unwrap();
    let lock = ObjectLock { mode: LockMode::Compliance, until: shop.store.now().plus_seconds(100 * 86_400) };
    shop.store.extend_lock(&manifest, None, lock).await.unwrap();
    let points = async |shop: &Workshop| {
        let (listed, lines) = shop.list().await;
        let nights = lines.points().into_iter().map(|point| point.point).collect::<Vec<_>>();
        (listed.unwrap().findings, nights)
    };
    let leave = async |nights: &[u32], next: u32| {
        for _ in 0..2 {
            shop.prune(&sweep(shop.leaving(nights))).await.0.unwrap();
            shop.pass_hours(25);
        }
        let before = points(&shop).await;
        shop.night(next, &noise(3 * BLOCK, u64::from(next))).await;
        before
    };
    assert_eq!(leave(&[1, 2], 4).await, (0, vec![point(3)]), "in the ledger of the newest, and marked");
    assert_eq!(leave(&[3], 5).await, (0, vec![point(4)]), "in an older ledger");
    shop.pass_hours(70 * 24);
    shop.prune(&sweep(Vec::new())).await.0.unwrap();
    assert_eq!(points(&shop).await, (0, [4, 5].map(point).to_vec()), "in no ledger");
    // A thief who hides all the others brings them to light, and not this one: the mark outlives the lock.
    let fork = shop.fork();
    for night in [4, 5] {
        fork.memory.remove(&shop.manifest(night).parse().unwrap());
    }
    assert_eq!(points(&fork).await, (0, [4, 5].map(point).to_vec()), "without a newest one");
    let marks = |shop: &Workshop| {
        let of_first = |key: &String| key.contains(&names::digest_of(manifest.as_str()).unwrap().to_string());
        shop.keys("marks/").iter().filter(|key| of_first(key)).count()
    };
    assert!(marks(&shop) > 0 && !shop.memory.peek_versions(manifest.as_str()).is_empty());
    shop.pass_hours(40 * 24);
    for _ in 0..2 {
        shop.prune(&sweep(Vec::new())).await.0.unwrap();
        shop.pass_hours(1);
    }
    assert!(hidden(&shop).is_empty() && marks(&shop) == 0, "{:?} {:?}", hidden(&shop), shop.keys("marks/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_under_a_thiefs_marker_is_not_erased() {
    let shop = three_versioned_nights().await;
    let pack = pack_of_the_first(&shop);
    shop.memory.remove(&pack);
    for hours in [0, 25, 40 * 24] {
        shop.pass_hours(hours);
        shop.prune(&sweep(Vec::new())).await.0.unwrap();
    }
    let versions = shop.memory.peek_versions(pack.as_str());
    assert!(versions.iter().any(|version| !version.is_marker), "{versions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_call_of_a_deletion_by_version_may_fail_and_the_next_one_ends_the_work() {
    let shop = three_versioned_nights().await;
    let task = sweep(shop.leaving(&[1]));
    shop.prune(&task).await.0.unwrap();
    let now = shop.store.now().plus_seconds(25 * 3600);
    for fault in [Fault::Fail(ErrorKind::Timeout), Fault::LoseAnswer] {
        for number in 0.. {
            let fork = shop.fork_at(now);
            let counted = std::sync::atomic::AtomicU64::new(0);
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&fork.store), move |call| {
                let is_step = call.operation == Operation::Delete || call.operation == Operation::List;
                let at = counted.fetch_add(u64::from(is_step), std::sync::atomic::Ordering::SeqCst);
                (is_step && at == number).then_some(fault)
            }));
            let repository = fork.open_on(faulty).await;
            let first = prune(&repository, &task, now, &events().0).await;
            assert_whole(&fork, &format!("{fault:?} at {number}")).await;
            fork.prune(&task).await.0.unwrap();
            assert!(hidden(&fork).is_empty(), "{fault:?} at {number}: {:?}", hidden(&fork));
            assert_eq!(fork.list().await.0.unwrap().findings, 0, "{fault:?} at {number}");
            if first.is_ok() {
                break;
            }
        }
    }
}
