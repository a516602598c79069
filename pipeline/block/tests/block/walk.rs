//! The plain way: init, backup, list, check and restore of a few nights.

use crate::support::{BLOCK, Workshop, noise, point};
use dualsync_model::job::Depth;

#[tokio::test(flavor = "multi_thread")]
async fn a_point_comes_back_bit_for_bit() {
    let shop = Workshop::new().await;
    let mut bytes = noise(40 * BLOCK + 777, 1);
    bytes[BLOCK..9 * BLOCK].fill(0);
    bytes[20 * BLOCK..25 * BLOCK].fill(b'a');
    let made = shop.night(1, &bytes).await;
    assert_eq!((made.blocks, made.source_bytes), (41, bytes.len() as u64));
    assert!(shop.restored(1).await == bytes);
    let (listed, lines) = shop.list().await;
    assert_eq!(listed.unwrap().findings, 0);
    let points = lines.points();
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].point.clone(), points[0].size_bytes), (point(1), bytes.len() as u64));
    assert_eq!(points[0].anchor.sequence, 1);
    let (checked, _) = shop.check(Depth::Objects).await;
    assert_eq!(checked.unwrap().findings, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_night_stays_what_it_was() {
    let shop = Workshop::new().await;
    let mut nights = vec![noise(60 * BLOCK, 1)];
    shop.night(0, &nights[0]).await;
    for night in 1..6_u8 {
        let mut bytes = nights.last().unwrap().clone();
        let at = usize::from(night) * 7 * BLOCK + 100;
        bytes[at..at + 3 * BLOCK].fill(night);
        if night == 3 {
            bytes.extend_from_slice(&noise(10 * BLOCK + 5, 3));
        }
        if night == 5 {
            bytes.truncate(50 * BLOCK - 17);
        }
        shop.night(u32::from(night), &bytes).await;
        nights.push(bytes);
    }
    for (night, bytes) in (0..).zip(&nights) {
        assert!(shop.restored(night).await == *bytes, "night {night}");
    }
    let (checked, lines) = shop.check(Depth::Objects).await;
    assert_eq!(checked.unwrap().findings, 0, "{:?}", lines.findings());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_without_changes_uploads_only_metadata_in_at_most_twelve_requests() {
    let shop = Workshop::new().await;
    let bytes = noise(300 * BLOCK, 1);
    shop.night(1, &bytes).await;
    let before = (shop.store.requests().total(), shop.keys(""));
    let made = shop.night(2, &bytes).await;
    let requests = shop.store.requests().total() - before.0;
    assert!(requests <= 12, "{requests} requests");
    let new: Vec<_> = shop.keys("").into_iter().filter(|key| !before.1.contains(key)).collect();
    assert!(new.iter().all(|key| key.starts_with("points/") || key.starts_with("runs/")), "{new:?}");
    assert!(made.added_bytes < 10_000, "{}", made.added_bytes);
    assert!(shop.restored(2).await == bytes);
}
