//! An object that a newer version or a delete marker hides is read from the older version, and told as shadowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dualsync_block::check::{Access, check};
use dualsync_block::names;
use dualsync_block::points::Census;
use dualsync_block_store::contract::{ErrorKind, Key, Operation};
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_model::job::{CheckTask, Depth};

use crate::support::{BLOCK, Lines, Workshop, events, noise, point, restore_task};

/// A pack, a map object and the manifest of the only night.
fn objects(shop: &Workshop) -> [Key; 3] {
    let clear = shop.clear(1);
    let manifest = shop.manifest(1).parse().unwrap();
    [names::pack(&clear.packs[0].sha256), names::map(&clear.maps[0].sha256), manifest]
}

async fn one_night(is_versioned: bool) -> (Workshop, Vec<u8>) {
    let shop = if is_versioned { Workshop::versioned().await } else { Workshop::new().await };
    let bytes = noise(20 * BLOCK, 1);
    shop.begin_night(1);
    shop.night(1, &bytes).await;
    // What the state folder remembers would hide what is wrong in the store.
    std::fs::remove_dir_all(shop.state()).unwrap();
    (shop, bytes)
}

/// What a thief or a broken tool does to an object.
type Harm = fn(&Workshop, &Key);

const HARMS: [(&str, Harm); 3] = [
    ("a marker", |shop, key| drop(shop.memory.remove(key))),
    ("other bytes", |shop, key| shop.memory.replace(key.clone(), Bytes::from_static(b"something else"))),
    ("a flipped bit", |shop, key| {
        let mut bytes = shop.memory.peek(key).unwrap().to_vec();
        bytes.iter_mut().skip(100).step_by(1000).for_each(|byte| *byte ^= 1);
        shop.memory.replace(key.clone(), bytes.into());
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shadowed_is_restored_from_the_older_version_and_told() {
    for (what, harm) in HARMS {
        for number in 0..3 {
            let (shop, bytes) = one_night(true).await;
            let key = objects(&shop)[number].clone();
            let is_manifest = key.as_str().starts_with("points/");
            harm(&shop, &key);
            assert!(shop.restored(1).await == bytes, "{what} on {key}");
            std::fs::remove_dir_all(shop.state()).unwrap();
            let (checked, lines) = shop.check(Depth::Objects).await;
            let told: Vec<_> = lines.findings().into_iter().filter(|found| found.object == key.as_str()).collect();
            assert!(checked.unwrap().findings >= 1 && !told.is_empty(), "{what} on {key}: {:?}", lines.findings());
            assert!(told.iter().all(|found| found.kind == "shadowed"), "{what} on {key}: {told:?}");
            assert!(is_manifest || !told[0].points.is_empty(), "it says which points it hits: {told:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_older_version_it_is_damage_as_ever() {
    for (what, harm) in HARMS {
        let (shop, _) = one_night(false).await;
        let key = objects(&shop)[0].clone();
        harm(&shop, &key);
        let to = shop.folder.path().join("restored.img");
        assert!(shop.restore(&restore_task(1, &to)).await.0.unwrap().damaged > 0, "{what}");
        let (_, lines) = shop.check(Depth::Objects).await;
        assert!(lines.findings().iter().all(|found| found.kind != "shadowed"), "{what}: {:?}", lines.findings());
    }
    // An older version with other bytes is no better.
    let (shop, _) = one_night(true).await;
    let key = objects(&shop)[0].clone();
    let version = shop.memory.peek_versions(key.as_str()).remove(0).id;
    shop.memory.replace(key.clone(), Bytes::from_static(b"one"));
    shop.store.delete_version(&key, &version).await.unwrap();
    shop.memory.replace(key.clone(), Bytes::from_static(b"two"));
    let (_, lines) = shop.check(Depth::Objects).await;
    assert!(lines.findings().iter().any(|found| found.object == key.as_str() && found.kind != "shadowed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_night_does_not_stand_on_what_is_shadowed() {
    let (shop, bytes) = one_night(true).await;
    let [pack, map, _] = objects(&shop);
    for key in [&pack, &map] {
        shop.memory.remove(key);
    }
    shop.begin_night(2);
    shop.night(2, &bytes).await;
    let clear = shop.clear(2);
    let named: Vec<Key> = clear.packs.iter().map(|reference| names::pack(&reference.sha256)).collect();
    assert!(!named.contains(&pack) && shop.restored(2).await == bytes);
    assert!(clear.maps.iter().all(|reference| names::map(&reference.sha256) != map));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_the_listing_reads_no_older_version() {
    let (shop, _) = one_night(true).await;
    let [pack, map, manifest] = objects(&shop);
    shop.check(Depth::Presence).await.0.unwrap();
    let before = shop.store.requests().get;
    shop.check(Depth::Presence).await.0.unwrap();
    let quiet = shop.store.requests().get - before;
    shop.memory.remove(&pack);
    shop.memory.replace(map.clone(), Bytes::from_static(b"something else"));
    let before = shop.store.requests().get;
    let (_, lines) = shop.check(Depth::Presence).await;
    assert_eq!(shop.store.requests().get - before, quiet);
    let told: Vec<_> = lines.findings().into_iter().map(|found| (found.object, found.kind, found.problem)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for (object, kind, problem) in told {
        assert!([pack.as_str(), map.as_str()].contains(&object.as_str()) && kind == "shadowed", "{object} {kind}");
        assert!(problem.contains("was not read"), "it does not say more than it knows: {problem}");
    }
    // A manifest is read anyway, and what it needs is looked for.
    shop.memory.replace(manifest.clone(), Bytes::from_static(b"junk"));
    let (_, lines) = shop.check(Depth::Presence).await;
    let told = |object: &Key| lines.findings().iter().filter(|found| found.object == object.as_str()).count();
    assert_eq!([told(&manifest), told(&pack), told(&map)], [1, 1, 1], "{:?}", lines.findings());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_whose_manifest_is_hidden_is_listed_and_told_and_the_next_night_stands_on_it() {
    let (shop, bytes) = one_night(true).await;
    shop.begin_night(2);
    shop.night(2, &bytes).await;
    let manifests = [1, 2].map(|night| shop.manifest(night).parse::<Key>().unwrap());
    // The newest is what knows the older one: both are hidden, and one of them under junk as well.
    shop.memory.replace(manifests[1].clone(), Bytes::from_static(b"junk"));
    for manifest in &manifests {
        shop.memory.remove(manifest);
    }
    std::fs::remove_dir_all(shop.state()).unwrap();
    let (listed, lines) = shop.list().await;
    let nights = |lines: &Lines| lines.points().into_iter().map(|point| point.point).collect::<Vec<_>>();
    assert_eq!((listed.unwrap().findings, nights(&lines)), (0, [1, 2].map(point).to_vec()));
    let told: Vec<_> = lines.findings().into_iter().map(|found| (found.object, found.kind)).collect();
    for manifest in &manifests {
        assert!(told.contains(&(manifest.to_string(), "shadowed".to_owned())), "{told:?}");
    }
    assert!(lines.points()[0].stored_at.unwrap() < lines.points()[1].stored_at.unwrap(), "when they were put");
    for night in [1, 2] {
        assert!(shop.restored(night).await == bytes);
    }
    let (checked, lines) = shop.check(Depth::Objects).await;
    assert_eq!(checked.unwrap().findings, 2, "what hides them, and nothing else: {:?}", lines.findings());
    let one = CheckTask { point: Some(point(1)), depth: Depth::Presence, slice: None };
    let checked = check(&Access::Opened(shop.open().await), &one, &events().0).await.unwrap();
    assert!(checked.objects >= 2 && checked.findings == 1, "a hidden point is checked, too: {checked:?}");
    shop.begin_night(3);
    let made = shop.night(3, &bytes).await;
    assert!(made.added_bytes < BLOCK as u64, "it stands on what is hidden: {made:?}");
    assert_eq!(shop.clear(3).sequence, 3);
    let (_, lines) = shop.list().await;
    assert_eq!(nights(&lines), [1, 2, 3].map(point));
    // Where nobody looks under markers both are lost, and told as that.
    let blind = Workshop { is_versioned: false, ..shop };
    std::fs::remove_dir_all(blind.state()).unwrap();
    let (listed, lines) = blind.list().await;
    assert_eq!((listed.unwrap().findings, nights(&lines)), (2, vec![point(3)]), "{:?}", lines.findings());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_do_not_list_versions_see_what_everybody_sees() {
    let (shop, _) = one_night(true).await;
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let blind = FaultyStore::new(Arc::clone(&shop.store), move |call| {
        let is_first = call.operation == Operation::List
            && call.object == "points/"
            && counted.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then_some(Fault::Fail(ErrorKind::Denied))
    });
    let repository = shop.open_on(Arc::new(blind)).await;
    for _ in 0..2 {
        assert_eq!(Census::take(&repository).await.unwrap().heads.len(), 1);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3, "it is tried once");
}
