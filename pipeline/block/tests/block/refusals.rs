//! What `prune` refuses, and what no thief can make it do.

use crate::prune::{assert_whole, only, three_nights};
use crate::support::{events, noise, sweep};
use dualsync_block::names::{self, Companion};
use dualsync_block::prune::{PruneError, prune};
use dualsync_model::event::RetiredAction;
use dualsync_model::job::{Anchor, PruneTask};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_exactly_the_one_is_refused() {
    let (shop, _) = three_nights().await;
    let other = shop.leaving(&[2]).remove(0);
    let mut task = PruneTask { sweep: false, ..sweep(shop.leaving(&[1])) };
    task.drop[0].sha256 = other.sha256;
    assert_eq!(shop.prune(&task).await.1.retired(), [(1, RetiredAction::Refused)]);
    task.undo = vec!["points/web/x".to_owned()];
    assert!(matches!(shop.prune(&task).await.0, Err(PruneError::NoManifest(_))));
    assert!(shop.keys("marks/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_remembers_a_deleted_manifest_meets_no_rollback() {
    let (shop, nights) = three_nights().await;
    let newest = shop.list().await.1.points().pop().unwrap().anchor;
    let mut all = sweep(shop.leaving(&[3]));
    all.drop[0].asked = true;
    for _ in 0..2 {
        shop.prune(&all).await.0.unwrap();
        shop.pass_hours(25);
    }
    assert_eq!(shop.keys("points/").len(), 2);
    let with_memory = PruneTask { remembered: Some(newest), ..sweep(Vec::new()) };
    shop.prune(&with_memory).await.0.unwrap();
    let other = Anchor { sequence: 7, sha256: "ab".repeat(32) };
    let older = shop.prune(&PruneTask { remembered: Some(other), ..sweep(shop.leaving(&[1])) }).await.0;
    assert!(matches!(older, Err(PruneError::Rollback(_))), "{older:?}");
    assert!(shop.restored(1).await == nights[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_marks_without_proof_deletes_nothing() {
    let (shop, _) = three_nights().await;
    let keys: Vec<String> =
        shop.keys("packs/").into_iter().chain(shop.keys("maps/")).chain(shop.keys("points/")).collect();
    for key in &keys {
        let mark = names::mark(&names::digest_of(key).unwrap(), [1; 8]);
        shop.memory.replace(mark.clone(), "{\"object\":\"x\"}".into());
        shop.memory.replace(names::companion(&mark, Companion::Deleting), "{}".into());
    }
    // A good mark of one object under the name of another one.
    shop.mark(&keys[0], &[]).await;
    let good = shop.memory.peek(&names::mark(&names::digest_of(&keys[0]).unwrap(), [7; 8])).unwrap();
    shop.memory.replace(names::mark(&names::digest_of(&keys[1]).unwrap(), [7; 8]), good);
    shop.pass_hours(40);
    let (pruned, lines) = shop.prune(&sweep(shop.leaving(&[1]))).await;
    assert_eq!(pruned.unwrap().deleted_objects, 0);
    assert_eq!(only(&lines, RetiredAction::Marked), [1], "a mark of its own begins the grace");
    assert!(lines.warnings().iter().filter(|code| *code == "unproved").count() >= keys.len());
    assert!(keys.iter().all(|key| shop.keys("").contains(key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_or_lost_manifest_stops_everything_until_a_person_gives_it_up() {
    for is_lost in [false, true] {
        let (shop, nights) = three_nights().await;
        let first = shop.leaving(&[1]).remove(0);
        let key = first.manifest.parse().unwrap();
        if is_lost {
            shop.memory.remove(&key);
        } else {
            shop.memory.replace(key, noise(500, 1).into());
        }
        // A deleter has no copy of it either.
        std::fs::remove_dir_all(shop.state().join("cache")).unwrap();
        let before = shop.keys("");
        let (ended, lines) = shop.prune(&sweep(shop.leaving(&[2]))).await;
        assert!(matches!(ended, Err(PruneError::Unreadable(1))), "{ended:?}");
        assert!(!lines.findings().is_empty() && shop.keys("") == before);
        let mut task = sweep(vec![first.clone()]);
        assert!(shop.prune(&task).await.0.is_err(), "the rule cannot give it up");
        task.drop[0].asked = true;
        let (pruned, lines) = shop.prune(&task).await;
        assert_eq!((lines.retired(), pruned.unwrap().marked_objects), (vec![(1, RetiredAction::Marked)], 0));
        shop.pass_hours(25);
        assert_eq!(shop.prune(&task).await.1.retired(), [(1, RetiredAction::Deleted)]);
        shop.prune(&sweep(Vec::new())).await.0.unwrap();
        assert_eq!(shop.list().await.0.unwrap().findings, 0);
        assert!(shop.restored(3).await == nights[2]);
        assert_whole(&shop, "the rest").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_and_a_grace_without_end_are_refused() {
    let (shop, _) = three_nights().await;
    let repository = shop.open().await;
    let ahead = shop.store.now().plus_seconds(700);
    let ended = prune(&repository, &sweep(shop.leaving(&[1])), ahead, &events().0).await;
    assert!(matches!(ended, Err(PruneError::Clocks(_))), "{ended:?}");
    let forever = PruneTask { grace_s: 31 * 86_400, ..sweep(Vec::new()) };
    assert!(matches!(shop.prune(&forever).await.0, Err(PruneError::Grace(_))));
    assert!(shop.keys("marks/").is_empty());
}
