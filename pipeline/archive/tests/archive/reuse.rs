//! What is stored once is not stored again: equal content, unchanged files, parts of big ones, segments.

use std::collections::BTreeSet;

use dualsync_model::job::Task;

use crate::site::{COMMIT, Site, noise, same_tree};

fn volume_bytes(site: &Site) -> u64 {
    let volumes = site.objects_like("volumes/", ".age");
    volumes.iter().map(|key| std::fs::metadata(site.target().join(key)).unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_is_stored_once_tonight_and_later() {
    let mut site = Site::new().await;
    site.write("a", &noise(1, 3 << 20));
    site.write("b", &noise(1, 3 << 20));
    site.backup().await.summary();
    let first = volume_bytes(&site);
    assert!(first < 4 << 20, "{first}");
    std::fs::rename(site.source().join("a"), site.source().join("moved")).unwrap();
    site.write("c", &noise(1, 3 << 20));
    site.backup().await.summary();
    assert!(volume_bytes(&site) < first + 10_000, "a rename and a copy cost a few headers");
    site.restore_and_compare("out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_file_that_grows_in_the_middle_costs_a_few_parts() {
    let mut site = Site::new().await;
    let content = noise(1, 40 << 20);
    site.write("big", &content);
    site.backup().await.summary();
    let first = volume_bytes(&site);
    let (head, tail) = content.split_at(20 << 20);
    site.write("big", &[head, b"inserted", tail].concat());
    site.backup().await.summary();
    assert!(volume_bytes(&site) - first < 18 << 20, "{} after {first}", volume_bytes(&site));
    site.restore_and_compare("out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_file_shares_the_other_segments() {
    let mut site = Site::new().await;
    for file in 0..30_000 {
        site.write(&format!("d{:03}/f{file:05}", file / 200), b"");
    }
    site.backup().await.summary();
    let before: BTreeSet<_> = site.objects_like("catalogs/", ".age").into_iter().collect();
    assert!(before.len() > 2, "an index and several segments: {before:?}");
    site.write("d075/f15000", b"changed");
    site.backup().await.summary();
    let after: BTreeSet<_> = site.objects_like("catalogs/", ".age").into_iter().collect();
    assert!((2..=3).contains(&after.difference(&before).count()), "an index and the segments around the change");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_mostly_dead_is_left_behind() {
    let mut site = Site::new().await;
    for file in 0..10 {
        site.write(&format!("f{file}"), &noise(file, 500_000));
    }
    site.backup().await.summary();
    let old = site.objects_like("volumes/", ".age").remove(0);
    for file in 0..8 {
        site.write(&format!("f{file}"), &noise(100 + file, 500_000));
    }
    site.backup().await.summary();
    let named = |site: &Site| {
        let list = site.objects_like("points/", "refs.jsonl").pop().unwrap();
        std::fs::read_to_string(site.target().join(list)).unwrap().contains(&old)
    };
    assert!(!named(&site), "two of ten files are no reason to keep a volume");
    site.restore_and_compare("out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_state_folder_costs_requests_and_stores_nothing_again() {
    let mut site = Site::new().await;
    site.write("a", &noise(1, 2 << 20));
    site.write("b", &noise(2, 20 << 20));
    site.backup().await.summary();
    let before = volume_bytes(&site);
    std::fs::remove_dir_all(site.path("state")).unwrap();
    site.backup().await.summary();
    assert_eq!(volume_bytes(&site), before);
    site.restore_and_compare("out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_of_the_same_source_is_refused() {
    let site = Site::new().await;
    let _held = dualsync_archive::backup::state::State::open(&site.path("state"), &"web".parse().unwrap()).unwrap();
    let ended = site.run_with(Task::Backup(Box::new(site.backup_task())), COMMIT).await;
    assert_eq!(ended.outcome.expect_err("two runs").code(), "locked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excluded_path_is_left_out_with_all_below_it() {
    let mut site = Site::new().await;
    site.write("keep/file", b"kept");
    site.write("cache/deep/file", b"left out");
    site.night += 1;
    let mut task = site.backup_task();
    task.exclude = vec!["cache/**".into()];
    site.run(Task::Backup(Box::new(task))).await.summary();
    std::fs::remove_dir_all(site.source().join("cache/deep")).unwrap();
    let out = site.restore("out").await;
    assert!(out.join("keep/file").exists() && !out.join("cache/deep").exists() && out.join("cache").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_mode_costs_no_content() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut site = Site::new().await;
    site.write("file", &noise(1, 1 << 20));
    site.backup().await.summary();
    let before = volume_bytes(&site);
    let path = site.source().join("file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    site.backup().await.summary();
    assert!(volume_bytes(&site) < before + 5_000);
    let out = site.restore("out").await;
    same_tree(&site.source(), &out);
}
