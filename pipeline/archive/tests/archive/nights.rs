//! Whole nights on a directory target: what is stored, and what is not stored again.

use crate::memory::Memory;
use crate::site::{COMMIT, Site, noise};
use dualsync_archive_store::contract::Store as _;
use dualsync_model::event::Event;
use dualsync_model::job::{Anchor, Task};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_night_stores_everything_and_is_listed() {
    let mut site = Site::new().await;
    site.write("etc/passwd", b"root:x:0:0\n");
    site.write("var/big", &noise(1, 40 << 20));
    let night = site.backup().await;
    assert_eq!(night.summary().exit_code, 0);
    assert!(night.events.iter().any(|event| matches!(event, Event::Prepared(prepared) if prepared.sequence == 1)));
    let listed = site.list().await;
    let points: Vec<_> = listed
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Point(point) => Some(point),
            _ => None,
        })
        .collect();
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].size_bytes, points[0].anchor.sequence), ((40 << 20) + 11, 1));
    assert_eq!(listed.summary().incomplete, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_without_changes_is_twelve_requests_where_the_store_proves_what_it_takes() {
    let mut memory = Memory::new().await;
    for file in 0..50 {
        memory.site.write(&format!("d{}/f{file}", file % 7), &noise(file, 10_000));
    }
    memory.night(memory.store.clone(), COMMIT).await.summary();
    let before = memory.store.requests();
    memory.night(memory.store.clone(), COMMIT).await.summary();
    let requests = memory.store.requests();
    assert!(requests.total() - before.total() <= 12, "{before:?} {requests:?}");
    assert_eq!(requests.get - before.get, 1, "nothing is read but repo.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_without_changes_sends_metadata_only_and_reads_it_back_from_a_directory() {
    let mut site = Site::new().await;
    for file in 0..50 {
        site.write(&format!("d{}/f{file}", file % 7), &noise(file, 10_000));
    }
    site.backup().await.summary();
    let before = site.objects();
    let night = site.backup().await;
    let requests = night.summary().requests;
    assert!(requests.total() <= 12 && requests.get == 4, "repo.json and three of the four that were put: {requests:?}");
    let new: Vec<_> = site.objects().into_iter().filter(|key| !before.contains(key)).collect();
    assert!(new.iter().all(|key| key.starts_with("points/") || key.starts_with("runs/")), "{new:?}");
    assert_eq!(new.len(), 5, "{new:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_older_than_the_host_remembers_is_a_rollback() {
    let mut site = Site::new().await;
    site.backup().await.summary();
    site.night += 1;
    let mut task = site.backup_task();
    task.remembered = Some(Anchor { sequence: 5, sha256: "ab".repeat(32) });
    let night = site.run(Task::Backup(Box::new(task))).await;
    assert_eq!(night.warnings("rollback").len(), 1);
    let numbers = night.events.iter().find_map(|event| match event {
        Event::Committed(committed) => Some(committed.anchor.sequence),
        _ => None,
    });
    assert_eq!(numbers, Some(6), "a number that was used is never used again");
}
