//! The damage matrix: what is done × to which object × what is asked afterwards.
//!
//! Whatever happens in the bucket, no wrong byte comes back as a right one, `check` names the
//! object, and what is intact is restored.

use crate::support::{BLOCK, Workshop, noise, restore_task};
use bytes::Bytes;
use dualsync_block::check::{Access, check};
use dualsync_block::keyfile;
use dualsync_block::repository::{Repository, RepositoryError};
use dualsync_block_store::contract::{Key, Store};
use dualsync_model::job::{CheckTask, Depth};

#[derive(Clone, Copy, Debug)]
enum Action {
    Delete,
    Truncate,
    Flip(usize),
    /// Another object of its kind in its place.
    Swap,
}

const ACTIONS: [Action; 6] =
    [Action::Delete, Action::Truncate, Action::Flip(3), Action::Flip(100), Action::Flip(usize::MAX), Action::Swap];

impl Action {
    /// Carries it out; false when there is nothing to swap with.
    fn apply(self, shop: &Workshop, key: &str) -> bool {
        let object: Key = key.parse().unwrap();
        let bytes = shop.memory.peek(&object).unwrap();
        match self {
            Self::Delete => drop(shop.memory.remove(&object)),
            Self::Truncate => shop.memory.replace(object, bytes.slice(..bytes.len() / 2)),
            Self::Flip(at) => {
                let mut bad = bytes.to_vec();
                let at = at.min(bad.len() - 1);
                bad[at] ^= 0x10;
                shop.memory.replace(object, bad.into());
            }
            Self::Swap => {
                let folder = key.split('/').next().unwrap();
                let Some(other) = shop.keys(folder).into_iter().find(|other| other != key) else { return false };
                let bytes: Bytes = shop.memory.peek(&other.parse().unwrap()).unwrap();
                shop.memory.replace(object, bytes);
            }
        }
        true
    }
}

struct Nights {
    shop: Workshop,
    bytes: [Vec<u8>; 2],
}

/// Two nights that share most of their packs and one map page.
async fn two_nights() -> Nights {
    let shop = Workshop::new().await;
    let first = noise(40 * BLOCK, 1);
    let mut second = first.clone();
    second[3 * BLOCK..6 * BLOCK].copy_from_slice(&noise(3 * BLOCK, 2));
    second[30 * BLOCK..31 * BLOCK].fill(0);
    shop.night(1, &first).await;
    shop.night(2, &second).await;
    Nights { shop, bytes: [first, second] }
}

/// A night either comes back whole, or says what is lost and where; never wrong bytes in silence.
async fn assert_honest(shop: &Workshop, night: u32, expected: &[u8], what: &str) -> bool {
    let to = shop.folder.path().join("honest.img");
    let _ = std::fs::remove_file(&to);
    let (restored, lines) = shop.restore(&restore_task(night, &to)).await;
    let Ok(restored) = restored else { return false };
    let bytes = std::fs::read(&to).unwrap();
    let wrong = bytes.chunks(BLOCK).zip(expected.chunks(BLOCK)).filter(|(is, should)| is != should).count() as u64;
    assert!(wrong <= restored.damaged, "{what}: {wrong} wrong blocks, {} told", restored.damaged);
    assert_eq!(restored.damaged > 0, !lines.findings().is_empty(), "{what}");
    restored.damaged == 0
}

/// `restorable` says which nights must come back, `is_seen` whether `check` can know.
async fn matrix(folder: &str, restorable: impl Fn(&str) -> [Option<bool>; 2], is_seen: impl Fn(&str, Action) -> bool) {
    let nights = two_nights().await;
    let keys = nights.shop.keys(folder);
    assert!(!keys.is_empty(), "{folder}");
    for key in &keys {
        for action in ACTIONS {
            let what = format!("{action:?} of {key}");
            let shop = nights.shop.fork();
            if !action.apply(&shop, key) {
                continue;
            }
            for (night, expected) in restorable(key).into_iter().enumerate() {
                let whole = assert_honest(&shop, u32::try_from(night).unwrap() + 1, &nights.bytes[night], &what).await;
                if let Some(expected) = expected {
                    assert_eq!(whole, expected, "{what}, night {}", night + 1);
                }
            }
            let (_, lines) = shop.check(Depth::Objects).await;
            let seen = lines.findings().iter().any(|finding| finding.object == *key);
            assert_eq!(seen, is_seen(key, action), "{what}: {:?}", lines.findings());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_a_pack_is_found_and_costs_its_own_blocks() {
    matrix("packs/", |_| [None, None], |_, _| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_a_map_is_found() {
    matrix("maps/", |_| [None, None], |_, _| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_a_manifest_costs_that_point_only() {
    let first = crate::support::point(1).time().compact();
    let restorable =
        |key: &str| if key.contains(&first) { [Some(false), Some(true)] } else { [Some(true), Some(false)] };
    // That the newest manifest is gone only the host and the other target can know.
    let is_seen = |key: &str, action| key.contains(&first) || !matches!(action, Action::Delete);
    matrix("points/", restorable, is_seen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_what_is_for_people_is_found_and_costs_no_point() {
    matrix("README.txt", |_| [Some(true); 2], |_, _| true).await;
    matrix("recover.py", |_| [Some(true); 2], |_, _| true).await;
    // Signs of life come and go: nothing says how many there should be.
    matrix("runs/", |_| [Some(true); 2], |_, action| !matches!(action, Action::Delete)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_the_description_or_the_key_slot_is_told_from_a_wrong_key() {
    let nights = two_nights().await;
    let slot = nights.shop.keys("keys/").remove(0);
    for action in [ACTIONS[1], Action::Flip(60)] {
        let shop = nights.shop.fork();
        action.apply(&shop, &slot);
        // `repo.json` proves the first key; what is wrong with its slot is for `check` to tell.
        let (checked, told) = shop.check(Depth::Presence).await;
        assert_eq!(checked.unwrap().findings, 1, "{:?}", told.findings());
        assert_eq!(told.findings()[0].object, slot, "{action:?}");
    }
    for (key, action) in [("repo.json", ACTIONS[1]), ("repo.json", Action::Flip(60))] {
        let shop = nights.shop.fork();
        action.apply(&shop, key);
        let secret = keyfile::read(&shop.key).await.unwrap();
        let store = std::sync::Arc::clone(&shop.store);
        let error = Repository::open(store, "frankfurt", &secret, &shop.state()).await.unwrap_err();
        assert!(matches!(error, RepositoryError::Damaged(_)), "{action:?} of {key}: {error}");
    }
    let shop = nights.shop.fork();
    Action::Delete.apply(&shop, "repo.json");
    let secret = keyfile::read(&shop.key).await.unwrap();
    let store: std::sync::Arc<dyn Store> = std::sync::Arc::clone(&shop.store);
    let error = Repository::open(store, "frankfurt", &secret, &shop.state()).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Missing { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_vanished_or_came_back_breaks_the_chain() {
    let nights = two_nights().await;
    let shop = nights.shop.fork();
    let first = shop.keys("points/").remove(0);
    let manifest = shop.memory.remove(&first.parse().unwrap()).unwrap();
    let (listed, lines) = shop.list().await;
    assert_eq!(listed.unwrap().findings, 1);
    assert_eq!((lines.findings()[0].kind.as_str(), &lines.findings()[0].object), ("chain", &first));
    // A later night does not forget the loss, and a point that is back is no loss any more.
    shop.night(3, &nights.bytes[1]).await;
    assert_eq!(shop.list().await.0.unwrap().findings, 1);
    shop.memory.replace(first.parse().unwrap(), manifest.clone());
    assert_eq!(shop.list().await.0.unwrap().findings, 0);
    // Deleted by the rule: the next manifest records the drop, and the same bytes put back are a replay.
    shop.memory.remove(&first.parse().unwrap());
    shop.mark_deleted(&first).await;
    shop.night(4, &nights.bytes[1]).await;
    assert_eq!(shop.list().await.0.unwrap().findings, 0);
    shop.memory.replace(first.parse().unwrap(), manifest);
    let (_, lines) = shop.list().await;
    let told: Vec<_> = lines.findings().into_iter().map(|finding| (finding.kind, finding.object)).collect();
    assert_eq!(told, [("chain".to_owned(), first)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_mark_drops_no_point() {
    let nights = two_nights().await;
    let shop = nights.shop.fork();
    let first = shop.keys("points/").remove(0);
    shop.memory.remove(&first.parse().unwrap());
    let digest = first.rsplit_once('-').unwrap().1;
    for suffix in ["", ".deleting"] {
        shop.memory.replace(format!("marks/{digest}-0101010101010101{suffix}").parse().unwrap(), "{}".into());
    }
    shop.night(3, &nights.bytes[1]).await;
    assert_eq!(shop.list().await.0.unwrap().findings, 1, "the loss stays visible");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_map_of_the_parent_does_not_stop_the_next_night() {
    let nights = two_nights().await;
    for action in [Action::Delete, Action::Truncate, Action::Flip(100)] {
        let shop = nights.shop.fork();
        for key in shop.keys("maps/") {
            action.apply(&shop, &key);
        }
        shop.night(3, &nights.bytes[1]).await;
        assert!(shop.restored(3).await == nights.bytes[1], "{action:?}");
        let (_, lines) = shop.check(Depth::Objects).await;
        let third = crate::support::point(3);
        assert!(lines.findings().iter().all(|finding| !finding.points.contains(&third)), "{:?}", lines.findings());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_stored_objects_are_checked_all_the_same() {
    let nights = two_nights().await;
    let shop = nights.shop.fork();
    let second = shop.clear(2).packs;
    let both = shop.clear(1).packs.into_iter().find(|old| second.iter().any(|new| new.sha256 == old.sha256)).unwrap();
    let pack = dualsync_block::names::pack(&both.sha256).to_string();
    Action::Flip(5000).apply(&shop, &pack);
    let (said, lines) = crate::support::events();
    let task = CheckTask { point: None, depth: Depth::Objects, slice: None };
    let store = std::sync::Arc::clone(&shop.store);
    let checked = check(&Access::Keyless { store, target: "frankfurt".to_owned() }, &task, &said).await.unwrap();
    assert_eq!(checked.findings, 1);
    let finding = lines.findings().remove(0);
    assert_eq!((finding.object, finding.kind.as_str()), (pack, "digest"));
    assert_eq!(finding.points, [1, 2].map(crate::support::point));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_under_another_name_is_no_manifest() {
    let nights = two_nights().await;
    let shop = nights.shop.fork();
    let first = shop.keys("points/").remove(0);
    let body = shop.memory.peek(&first.parse().unwrap()).unwrap();
    let moved = first.replace(&crate::support::point(1).time().compact(), &crate::support::point(9).time().compact());
    shop.memory.replace(moved.parse().unwrap(), body);
    let (_, lines) = shop.list().await;
    let forged: Vec<_> = lines.findings().into_iter().filter(|finding| finding.object == moved).collect();
    assert_eq!(forged.len(), 1);
    assert_eq!(forged[0].kind, "forged");
    assert!(lines.points().iter().all(|point| point.manifest != moved));
}
