//! Sources that are not what they seem: files that give less than they promise are told of, never cut silently.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dualsync_archive_store::service::Patience;
use dualsync_model::event::Event;
use dualsync_model::fact::FactState;
use dualsync_model::job::{FactsTask, Task};
use dualsync_model::outcome::Exit;

use crate::site::{COMMIT, Ended, Site, noise, run_heard};

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

/// A backup of a tree in which `changes` is written to the whole time, and `vanishes` goes once the walk has come
/// past `changes`.
async fn backup_of_a_restless_tree(site: &Site) -> Ended {
    let file = std::fs::File::options().write(true).open(site.source().join("d/a-changes")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let restless = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            for byte in (0..=u8::MAX).cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                file.write_all_at(&[byte], 0).unwrap();
            }
        }
    });
    let vanishes = site.source().join("d/b-vanishes");
    let hear = move |line: &str| {
        if line.contains("\"code\":\"changed\"") && line.contains("d/a-changes") {
            std::fs::remove_file(&vanishes).unwrap();
        }
    };
    let job = site.job(Task::Backup(Box::new(site.backup_task())));
    let store = dualsync_archive_store::open(&job.target, job.now, None, Patience::default()).await.unwrap();
    let ended = run_heard(&job, store, COMMIT, hear).await;
    done.store(true, Ordering::Relaxed);
    restless.join().unwrap();
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_change_or_vanish_under_the_walk_are_recorded_as_such() {
    let mut site = Site::new().await;
    site.write("d/a-changes", &noise(1, 8 << 20));
    site.write("d/c-stays", b"calm");
    site.write("d/b-vanishes", b"soon gone");
    site.night += 1;
    let ended = backup_of_a_restless_tree(&site).await;
    let summary = ended.summary();
    assert_eq!((summary.exit_code, summary.incomplete), (Exit::Incomplete.code(), 2));
    let warnings = ended.warnings("changed");
    let expected = [["d/a-changes", "changed while it was read"], ["d/b-vanishes", "No such file"]];
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, words) in warnings.iter().zip(expected) {
        assert!(words.iter().all(|word| warning.contains(word)), "{warning}");
    }
    let listed = site.list().await;
    let incomplete = listed.events.iter().find_map(|event| match event {
        Event::Point(point) => Some(point.incomplete_entries),
        _ => None,
    });
    assert_eq!(incomplete, Some(2), "the manifest says so");

    let point = site.backup_task().point;
    let facts = site.run(Task::Facts(FactsTask { point, slice: None, kernel_mount: false })).await;
    let changed = facts.events.iter().filter_map(|event| match event {
        Event::Fact(fact) => match &fact.state {
            FactState::Changed { problem } => Some((fact.path.to_string(), problem.clone())),
            state => {
                assert_eq!(*state, FactState::Good, "{}", fact.path);
                None
            }
        },
        _ => None,
    });
    let changed: Vec<_> = changed.collect();
    assert_eq!(changed.len(), 2, "the catalog says so too: {changed:?}");
    for ((path, problem), words) in changed.into_iter().zip(expected) {
        assert!(path == words[0] && problem.contains(words[1]), "{path}: {problem}");
    }
    let out = site.restore("out").await;
    assert_eq!(std::fs::read(out.join("d/c-stays")).unwrap(), b"calm");
    let kept = std::fs::read(out.join("d/a-changes")).unwrap();
    assert!(kept.len() == 8 << 20 && kept[1..] == noise(1, 8 << 20)[1..], "what was read is there");
    assert!(!out.join("d/b-vanishes").exists());
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

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_changes_alone_is_kept_beside_those_that_stay() {
    let mut site = Site::new().await;
    site.write("d/changes", b"calm");
    site.write("d/stays", b"calm");
    let note = |name: &str, value: &[u8]| xattr::set(site.source().join(name), "user.note", value).unwrap();
    for name in ["d", "d/changes", "d/stays"] {
        note(name, b"one");
    }
    site.backup().await.summary();
    let note = |name: &str, value: &[u8]| xattr::set(site.source().join(name), "user.note", value).unwrap();
    note("d/changes", b"two");
    let night = site.backup().await;
    assert_eq!(night.summary().exit_code, 0);
    let out = site.restore("out").await;
    let noted = |name: &str| xattr::get(out.join(name), "user.note").unwrap().unwrap();
    assert_eq!(["d", "d/changes", "d/stays"].map(noted), [&b"one"[..], b"two", b"one"]);
}
