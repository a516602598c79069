//! An object that a newer version or a delete marker hides is read from the older version, and told as shadowed.

use bytes::Bytes;
use dualsync_block::names;
use dualsync_block_store::contract::Key;
use dualsync_model::job::Depth;

use crate::support::{BLOCK, Workshop, noise, restore_task};

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
            if is_manifest && what == "a marker" {
                // Nobody can list it: that is a lost point, which the next manifest tells.
                continue;
            }
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
