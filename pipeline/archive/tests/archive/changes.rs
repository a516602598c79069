//! Sources that are not what they seem: files that give less than they promise are told of, never cut silently.

use dualsync_model::event::Event;
use dualsync_model::fact::FactState;
use dualsync_model::job::{FactsTask, Task};
use dualsync_model::outcome::Exit;

use crate::site::{COMMIT, Site};

/// Files of sysfs say 4,096 bytes and give a few: for a reader they shrink while they are read, every time.
const SHRINKING: &str = "/sys/class/net/lo/statistics";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_shrinks_under_the_walk_is_recorded_as_such() {
    let mut site = Site::new().await;
    site.night += 1;
    let mut task = site.backup_task();
    task.snapshot.tree = std::fs::canonicalize(SHRINKING).unwrap();
    let ended = site.run_with(Task::Backup(Box::new(task.clone())), COMMIT).await;
    let summary = ended.summary();
    assert_eq!(summary.exit_code, Exit::Incomplete.code());
    let warnings = ended.warnings("changed");
    assert!(!warnings.is_empty() && warnings.len() as u64 == summary.incomplete);
    assert!(warnings.iter().all(|text| text.contains("shrank")), "{warnings:?}");

    let facts = site.run(Task::Facts(FactsTask { point: task.point, slice: None, kernel_mount: false })).await;
    let changed = facts.events.iter().filter(|event| {
        matches!(event, Event::Fact(fact) if matches!(&fact.state, FactState::Changed { problem } if problem.contains("shrank")))
    });
    assert_eq!(changed.count() as u64, summary.incomplete, "the catalog says so too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_not_there_is_an_error_and_no_point() {
    let mut site = Site::new().await;
    site.night += 1;
    let mut task = site.backup_task();
    task.snapshot.tree = site.path("nowhere");
    let ended = site.run_with(Task::Backup(Box::new(task)), COMMIT).await;
    assert_eq!(ended.outcome.expect_err("no tree").code(), "source");
    assert!(site.objects_like("points/", "").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_written_next_to_the_snapshot_is_read_again() {
    let mut site = Site::new().await;
    site.write("file", b"one");
    let path = site.source().join("file");
    let file = std::fs::File::open(&path).unwrap();
    // The snapshot is older than every change time here, so that nothing can be trusted by its times.
    site.night = -4_000;
    site.backup().await.summary();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, b"two").unwrap();
    file.set_modified(modified).unwrap();
    site.backup().await.summary();
    let out = site.restore("out").await;
    assert_eq!(std::fs::read(out.join("file")).unwrap(), b"two");
}
