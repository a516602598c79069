//! What if the n-th request fails, or the run just ends? For every n.

use std::sync::Arc;

use crate::support::{BLOCK, Workshop, noise, task};
use dualsync_block::backup::BackupError;
use dualsync_block_store::contract::{ErrorKind, Store};
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_model::job::Depth;

fn changed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[10 * BLOCK..15 * BLOCK].copy_from_slice(&noise(5 * BLOCK, 99));
    bytes
}

/// After a fault: the old point is whole, and no manifest names what is not there.
async fn assert_sound(shop: &Workshop, old: &[u8], new: &[u8], what: &str) {
    assert!(shop.restored(1).await == old, "{what}");
    let (checked, lines) = shop.check(Depth::Objects).await;
    assert_eq!(checked.unwrap().findings, 0, "{what}: {:?}", lines.findings());
    let (_, lines) = shop.list().await;
    if lines.points().len() == 2 {
        assert!(shop.restored(2).await == new, "{what}: a point that exists is whole");
    }
}

async fn sweep(fault: Fault) -> u64 {
    let shop = Workshop::new().await;
    let old = noise(40 * BLOCK, 1);
    let new = changed(old.clone());
    shop.night(1, &old).await;
    // The first two calls open the repository.
    for call in 2.. {
        let fork = shop.fork();
        let source = fork.source(&new);
        let faulty = Arc::new(FaultyStore::at_call(Arc::clone(&fork.store), call, fault));
        let repository = fork.open_on(Arc::clone(&faulty) as Arc<dyn Store>).await;
        let (made, _) = fork.backup(repository, &task(2, &source), "commit").await;
        if faulty.calls() <= call {
            made.unwrap();
            return call;
        }
        assert_sound(&fork, &old, &new, &format!("{fault:?} at call {call}")).await;
        // The next run needs no help.
        if made.is_err() {
            fork.night(3, &new).await;
            assert!(fork.restored(3).await == new);
        }
    }
    unreachable!("the loop ends when the fault comes after the last call")
}

#[tokio::test(flavor = "multi_thread")]
async fn any_request_may_fail_and_the_previous_point_stays_restorable() {
    assert!(sweep(Fault::Fail(ErrorKind::Full)).await > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_answer_may_be_lost_and_what_exists_is_whole() {
    assert!(sweep(Fault::LoseAnswer).await > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_read_may_bring_wrong_bytes_and_nothing_wrong_is_stored() {
    assert!(sweep(Fault::Flip(77)).await > 10);
    assert!(sweep(Fault::Truncate(50)).await > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_commit_there_is_no_manifest() {
    let shop = Workshop::new().await;
    let source = shop.source(&noise(40 * BLOCK, 1));
    for command in ["", "abort", "nonsense"] {
        let (made, lines) = shop.backup(shop.open().await, &task(1, &source), command).await;
        let expected = matches!(made, Err(BackupError::Aborted(_) | BackupError::NoCommand(_)));
        assert!(expected, "{command}: {made:?}");
        assert!(format!("{:?}", lines.all()).contains("Prepared"));
        assert!(shop.keys("points/").is_empty(), "{command}");
        assert!(!shop.keys("packs/").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_is_not_sent_twice() {
    let shop = Workshop::new().await;
    // Two pages and three packs.
    let bytes = noise(1400 * BLOCK, 1);
    let source = shop.source(&bytes);
    let (made, _) = shop.backup(shop.open().await, &task(1, &source), "").await;
    assert!(made.is_err());
    assert!(shop.keys("runs/").iter().any(|key| key.contains("checkpoint-")));
    let packs = shop.keys("packs/");
    assert!(packs.len() >= 3);
    let mut retry = task(1, &source);
    retry.run = dualsync_model::id::RunId::from_random([7; 8]);
    shop.backup(shop.open().await, &retry, "commit").await.0.unwrap();
    assert_eq!(shop.keys("packs/"), packs, "everything had arrived");
    assert!(shop.restored(1).await == bytes);
    let (checked, _) = shop.check(Depth::Objects).await;
    assert_eq!(checked.unwrap().findings, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_costs_time_only() {
    let shop = Workshop::new().await;
    let bytes = noise(40 * BLOCK, 1);
    let source = shop.source(&bytes);
    assert!(shop.backup(shop.open().await, &task(1, &source), "").await.0.is_err());
    for key in shop.keys("runs/").into_iter().filter(|key| key.contains("checkpoint-")) {
        shop.memory.replace(key.parse().unwrap(), noise(500, 3).into());
    }
    shop.backup(shop.open().await, &task(1, &source), "commit").await.0.unwrap();
    assert!(shop.restored(1).await == bytes);
}
