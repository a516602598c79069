//! Many nights: against a naive model, sparse packs, marks, rollback, and the price of a restore.

use std::sync::Arc;

use crate::support::{BLOCK, FIRST_NIGHT, Workshop, events, noise, restore_task, settings, task};
use dualsync_block::backup::{BackupError, backup};
use dualsync_block::marks::MarkNote;
use dualsync_block::names::{self, Companion};
use dualsync_block::restore::{RestoreError, restore, sink::SinkError};
use dualsync_model::event::Event;
use dualsync_model::job::{Anchor, Depth};
use dualsync_model::time::Timestamp;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

/// One thing that happens to a source in a day.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: usize, seed: u64 },
    Zero { at: usize, bytes: usize },
    Resize(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let place = (0..50 * BLOCK, 1..12 * BLOCK);
    prop_oneof![
        4 => (place.clone(), any::<u64>()).prop_map(|((at, bytes), seed)| Change::Write { at, bytes, seed }),
        2 => place.prop_map(|(at, bytes)| Change::Zero { at, bytes }),
        1 => (1..60 * BLOCK).prop_map(Change::Resize),
    ]
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes, seed } => {
            let end = (at + bytes).min(image.len());
            if *at < end {
                image[*at..end].copy_from_slice(&noise(end - at, *seed));
            }
        }
        Change::Zero { at, bytes } => {
            let end = (at + bytes).min(image.len());
            if *at < end {
                image[*at..end].fill(0);
            }
        }
        Change::Resize(bytes) => image.resize(*bytes, 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_night_is_what_a_full_copy_would_be(
        days in proptest::collection::vec(proptest::collection::vec(change(), 0..4), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let shop = Workshop::new().await;
            let mut image = noise(40 * BLOCK, 1);
            let mut model = Vec::new();
            for (night, day) in (0..).zip(&days) {
                for change in day {
                    apply(&mut image, change);
                }
                shop.night(night, &image).await;
                model.push(image.clone());
                for reference in shop.clear(night).packs {
                    assert!(u64::from(reference.live) * 2 >= u64::from(reference.size), "night {night}: {reference:?}");
                }
            }
            for (night, expected) in (0..).zip(&model) {
                assert!(shop.restored(night).await == *expected, "night {night}");
            }
            let (checked, lines) = shop.check(Depth::Objects).await;
            assert_eq!(checked.unwrap().findings, 0, "{:?}", lines.findings());
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_which_less_than_half_is_used_is_left_behind() {
    let shop = Workshop::new().await;
    let mut bytes = noise(60 * BLOCK, 1);
    shop.night(1, &bytes).await;
    let old: Vec<_> = shop.clear(1).packs.iter().map(|reference| reference.sha256).collect();
    bytes[..20 * BLOCK].copy_from_slice(&noise(20 * BLOCK, 2));
    let few = shop.night(2, &bytes).await;
    assert!(shop.clear(2).packs.iter().any(|reference| old.contains(&reference.sha256)), "most of it is used");
    assert!(few.added_bytes < 25 * BLOCK as u64);
    bytes[20 * BLOCK..45 * BLOCK].copy_from_slice(&noise(25 * BLOCK, 3));
    shop.night(3, &bytes).await;
    assert!(shop.clear(3).packs.iter().all(|reference| !old.contains(&reference.sha256)), "the rest was sent again");
    assert!(shop.restored(3).await == bytes && shop.restored(1).await != bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_marked_is_named_again() {
    let shop = Workshop::new().await;
    shop.begin_night(1);
    let bytes = noise(30 * BLOCK, 1);
    shop.night(1, &bytes).await;
    let objects = |night| {
        let clear = shop.clear(night);
        let packs = clear.packs.iter().map(|reference| names::pack(&reference.sha256));
        packs.chain(clear.maps.iter().map(|reference| names::map(&reference.sha256))).collect::<Vec<_>>()
    };
    let first = objects(1);
    // By its name alone: whatever it is, the run is careful.
    for object in &first {
        let mark = names::mark(&names::digest_of(object.as_str()).unwrap(), [1; 8]);
        shop.memory.replace(mark.clone(), "{}".into());
        // A false word that it was taken back changes nothing.
        shop.memory.replace(names::companion(&mark, Companion::Undone), "{}".into());
    }
    shop.night(2, &bytes).await;
    let second = objects(2);
    assert!(second.iter().all(|new| !first.contains(new)));
    assert!(shop.restored(2).await == bytes);
    // Taken back by somebody who holds the key, it may be named.
    for object in &second {
        shop.mark(object.as_str(), &[Companion::Undone]).await;
    }
    assert!(shop.night(3, &bytes).await.added_bytes < BLOCK as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_deleter_gives_is_taken_for_the_worst() {
    let shop = Workshop::new().await;
    let bytes = noise(30 * BLOCK, 1);
    shop.night(1, &bytes).await;
    let pack = shop.clear(1).packs[0].sha256;
    shop.memory.replace(format!("marks/{pack}").parse().unwrap(), "{}".into());
    shop.night(2, &bytes).await;
    assert!(shop.clear(2).packs.iter().all(|reference| reference.sha256 != pack));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_on_a_point_takes_it_away_as_a_parent_only_when_it_proves_itself() {
    let shop = Workshop::new().await;
    shop.begin_night(1);
    let bytes = noise(30 * BLOCK, 1);
    shop.night(1, &bytes).await;
    let digest = names::digest_of(&shop.manifest(1)).unwrap();
    shop.memory.replace(names::mark(&digest, [1; 8]), "{}".into());
    assert!(shop.night(2, &bytes).await.added_bytes < BLOCK as u64, "a false mark costs nothing");
    for night in [1, 2] {
        shop.mark(&shop.manifest(night), &[]).await;
    }
    shop.night(3, &bytes).await;
    let parent_of = |night: u32| shop.heartbeat(&format!("runs/web/{night:016x}/0")).parent;
    assert_eq!((parent_of(2), parent_of(3)), (Some(digest), None), "what may go is no parent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_was_taken_back_too_late_still_warns() {
    for (hours, is_believed) in [(17, true), (23, false)] {
        let shop = Workshop::new().await;
        shop.begin_night(1);
        let bytes = noise(30 * BLOCK, 1);
        shop.night(1, &bytes).await;
        let pack = names::pack(&shop.clear(1).packs[0].sha256);
        shop.mark(pack.as_str(), &[]).await;
        let mark = names::mark(&names::digest_of(pack.as_str()).unwrap(), [7; 8]);
        let said = shop.memory.peek(&mark).unwrap();
        let note: MarkNote = serde_json::from_slice(&said).unwrap();
        shop.pass_hours(hours);
        let undone = names::companion(&mark, Companion::Undone);
        shop.open().await.put_document(&undone, &MarkNote { at: Some(shop.store.now()), ..note }).await.unwrap();
        shop.night(2, &bytes).await;
        let is_named = shop.clear(2).packs.iter().any(|reference| names::pack(&reference.sha256) == pack);
        assert_eq!(is_named, is_believed, "after {hours} h");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_marked_too_long_while_a_run_waits_stops_the_commit() {
    for (age_s, stops) in [(50_000, true), (30_000, false)] {
        let shop = Workshop::new().await;
        shop.memory.set_now(Timestamp::from_seconds(FIRST_NIGHT));
        let bytes = noise(30 * BLOCK, 1);
        shop.night(1, &bytes).await;
        let pack = shop.clear(1).packs[0].sha256;
        let source = shop.source(&bytes);
        let (said, lines) = events();
        let (mut commander, commands) = tokio::io::duplex(64);
        let repository = shop.open().await;
        let run = tokio::spawn(async move {
            let mut commands = tokio::io::BufReader::new(commands);
            backup(repository, &task(2, &source), settings(), &said, &mut commands).await
        });
        while !lines.all().iter().any(|event| matches!(event, Event::Prepared(_))) {
            tokio::task::yield_now().await;
        }
        shop.memory.replace(names::mark(&pack, [1; 8]), "{}".into());
        shop.memory.set_now(Timestamp::from_seconds(FIRST_NIGHT + age_s));
        commander.write_all(b"{\"command\":\"commit\"}\n").await.unwrap();
        let made = run.await.unwrap();
        assert_eq!(matches!(made, Err(BackupError::Marked { .. })), stops, "{age_s} s: {made:?}");
        assert_eq!(shop.keys("points/").len(), if stops { 1 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_older_than_the_host_remembers_is_a_rollback() {
    let shop = Workshop::new().await;
    let bytes = noise(10 * BLOCK, 1);
    shop.night(1, &bytes).await;
    shop.night(2, &bytes).await;
    let (_, lines) = shop.list().await;
    let newest = lines.points().into_iter().map(|point| point.anchor).max_by_key(|anchor| anchor.sequence).unwrap();
    let source = shop.source(&bytes);
    let check = async |night, remembered: Anchor, expected: bool| {
        let mut task = task(night, &source);
        task.remembered = Some(remembered);
        let (made, lines) = shop.backup(shop.open().await, &task, "commit").await;
        made.unwrap();
        assert_eq!(lines.warnings().iter().any(|code| code == "rollback"), expected);
        assert_eq!(lines.findings().iter().any(|finding| finding.kind == "rollback"), expected);
    };
    check(3, newest.clone(), false).await;
    check(4, Anchor { sequence: 9, sha256: newest.sha256.clone() }, true).await;
    check(5, Anchor { sequence: 4, sha256: "ab".repeat(32) }, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_restore_fetches_only_what_is_not_right() {
    let shop = Workshop::new().await;
    let bytes = noise(200 * BLOCK, 1);
    shop.night(1, &bytes).await;
    let to = shop.folder.path().join("resumed.img");
    let mut half = bytes.clone();
    half.truncate(150 * BLOCK);
    half[7 * BLOCK] ^= 1;
    std::fs::write(&to, &half).unwrap();
    let mut resume = restore_task(1, &to);
    let refused = shop.restore(&resume).await.0;
    assert!(matches!(refused, Err(RestoreError::Sink(SinkError::Exists(_)))), "{refused:?}");
    resume.resume = true;
    let repository = shop.open().await;
    let (said, _) = events();
    restore(Arc::clone(&repository), &resume, &said).await.unwrap();
    assert!(std::fs::read(&to).unwrap() == bytes);
    let fetched = repository.traffic().fetched();
    assert!((51 * BLOCK as u64..53 * BLOCK as u64).contains(&fetched), "{fetched}");
    let repository = shop.open().await;
    restore(Arc::clone(&repository), &resume, &said).await.unwrap();
    assert!(repository.traffic().fetched() < 10_000, "nothing is fetched when all is right");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_makes_nothing() {
    let shop = Workshop::new().await;
    shop.night(1, &noise(10 * BLOCK, 1)).await;
    let to = shop.folder.path().join("dry.img");
    let mut task = restore_task(1, &to);
    task.dry_run = true;
    let (restored, lines) = shop.restore(&task).await;
    assert_eq!(restored.unwrap().bytes, 10 * BLOCK as u64);
    assert_eq!(lines.warnings(), ["dry_run"]);
    assert!(!to.exists());
}
