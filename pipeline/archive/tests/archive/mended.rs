//! Harm that somebody does who can write to the bucket, or that comes of unlucky moments: it is refused or told.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dualsync_archive::digest::Digest;
use dualsync_archive_store::contract::Operation;
use dualsync_archive_store::faulty::FaultyStore;
use dualsync_archive_store::service::Patience;
use dualsync_model::event::Event;
use dualsync_model::job::{CheckTask, Depth, InitTask, Keys, Task};

use crate::site::{COMMIT, Ended, Site, noise, run_on};

/// Words and objects of all findings.
fn findings(ended: &Ended) -> Vec<(String, String)> {
    let found = ended.events.iter().filter_map(|event| match event {
        Event::Finding(finding) => Some((finding.kind.clone(), finding.object.clone())),
        _ => None,
    });
    found.collect()
}

async fn check(site: &Site) -> Vec<(String, String)> {
    let task = CheckTask { point: None, depth: Depth::Objects, slice: None };
    findings(&site.run(Task::Check(task)).await)
}

/// The folder of the first point.
fn first_point(site: &Site) -> PathBuf {
    let manifest = site.target().join(&site.objects_like("points/", "/manifest.json")[0]);
    manifest.parent().unwrap().to_owned()
}

#[tokio::test]
async fn a_text_that_a_stranger_put_there_is_not_signed() {
    for name in ["recover.py", "README.txt"] {
        let site = Site::bare();
        std::fs::write(site.target().join(name), b"import os").unwrap();
        let fault = site.run(Task::Init(InitTask::default())).await.outcome.unwrap_err();
        assert!(format!("{fault:?}").contains(name), "{fault:?}");
        assert!(!site.target().join("repo.json").exists());
        std::fs::remove_file(site.target().join(name)).unwrap();
        site.run(Task::Init(InitTask::default())).await.summary();
    }
}

#[tokio::test]
async fn an_init_that_was_cut_off_after_its_texts_goes_on() {
    let site = Site::new().await;
    std::fs::remove_file(site.target().join("repo.json")).unwrap();
    site.run(Task::Init(InitTask::default())).await.summary();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_its_description_is_not_made_anew_over_its_points() {
    let mut site = Site::new().await;
    site.backup().await.summary();
    let description = site.target().join("repo.json");
    let bytes = std::fs::read(&description).unwrap();
    std::fs::remove_file(&description).unwrap();
    assert!(site.run(Task::Init(InitTask::default())).await.outcome.is_err());
    assert!(!description.exists());
    std::fs::write(&description, bytes).unwrap();
    assert_eq!(check(&site).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_point_that_is_put_back_stays_a_rollback() {
    let mut site = Site::new().await;
    for _ in 0..2 {
        site.backup().await.summary();
    }
    let (folder, aside) = (first_point(&site), site.path("aside"));
    let key = format!("{}/manifest.json", folder.strip_prefix(site.target()).unwrap().display());
    std::fs::rename(&folder, &aside).unwrap();
    site.backup().await.summary();
    std::fs::rename(&aside, &folder).unwrap();
    for _ in 0..2 {
        let night = site.backup().await;
        night.summary();
        assert_eq!(night.warnings("rollback").len(), 1);
        assert_eq!(check(&site).await, [("rollback".to_owned(), key.clone())]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_mark_ends_leaves_no_signature() {
    let mut site = Site::new().await;
    site.write("file", &noise(1, 100_000));
    site.backup().await.summary();
    let before = site.objects_like("points/", ".minisig");
    let volume = &site.objects_like("volumes/", ".age")[0];
    let mark = site.target().join(format!("marks/{}-0001020304050607", Digest::of(volume.as_bytes())));
    site.night += 1;
    let job = site.job(Task::Backup(Box::new(site.backup_task())));
    let store = dualsync_archive_store::open(&job.target, job.now, None, Patience::default()).await.unwrap();
    // The deleter sets its mark after the run has begun, and before it commits.
    let listings = AtomicU32::new(0);
    let marking = FaultyStore::new(store, move |call| {
        if (call.operation, call.object) == (Operation::List, "marks/") && listings.fetch_add(1, Ordering::SeqCst) == 1
        {
            std::fs::create_dir_all(mark.parent().unwrap()).unwrap();
            std::fs::write(&mark, b"").unwrap();
        }
        None
    });
    let fault = run_on(&job, Arc::new(marking), COMMIT).await.outcome.unwrap_err();
    assert_eq!(fault.code(), "marked");
    assert_eq!(site.objects_like("points/", ".minisig"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_for_a_manifest_is_not_fetched() {
    let mut site = Site::new().await;
    site.backup().await.summary();
    for name in ["manifest.json", "manifest.json.minisig"] {
        let folder = first_point(&site).with_file_name("20361125T020000Z-0001020304050607");
        std::fs::create_dir(&folder).unwrap();
        for each in ["manifest.json", "manifest.json.minisig"] {
            let length = if each == name { 100 << 20 } else { 100 };
            std::fs::File::create(folder.join(each)).unwrap().set_len(length).unwrap();
        }
        let listed = site.list().await;
        assert!(listed.summary().fetched_bytes < 1 << 20, "{:?}", listed.summary());
        assert_eq!(findings(&listed).len(), 1);
        let night = site.backup().await;
        assert!(night.summary().fetched_bytes < 1 << 20 && night.warnings("digest").len() == 1, "{:?}", night.events);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

/// Runs the script of the repository with the pinned key.
fn recover(site: &Site, to: &str) -> Output {
    let mut command = Command::new("python3");
    command.arg(site.target().join("recover.py")).arg("--identity").arg(site.path("age.key"));
    command.arg("--signing-public").arg(site.signing_public.as_ref().unwrap());
    command.arg("--to").arg(site.path(to)).arg(site.target()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_folders_do_not_stand_in_the_way_of_a_recovery() {
    let mut site = Site::new().await;
    site.write("file", b"content");
    site.backup().await.summary();
    let point = first_point(&site);
    let time = point.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().0.to_owned();
    for planted in [format!("web/{time}-ffffffffffffffff"), "web/20991231T000000Z-0".into(), "other/x-0".into()] {
        let folder = site.target().join("points").join(planted);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(point.join("manifest.json"), folder.join("manifest.json")).unwrap();
    }
    std::fs::write(site.target().join("points/stray"), b"").unwrap();
    let output = recover(&site, "out");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.matches("passed over").count() == 3, "{said}");
    assert_eq!(std::fs::read(site.path("out/file")).unwrap(), b"content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_content_is_lost_does_not_stand_under_its_name() {
    let mut site = Site::new().await;
    site.write("d/lost", &noise(1, 5 << 20));
    std::fs::hard_link(site.source().join("d/lost"), site.source().join("link")).unwrap();
    site.backup().await.summary();
    site.write("whole", b"whole");
    site.backup().await.summary();
    let volume = site.target().join(&site.objects_like("volumes/", ".age")[0]);
    let mut bytes = std::fs::read(&volume).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&volume, bytes).unwrap();
    let output = recover(&site, "out");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read(site.path("out/whole")).unwrap(), b"whole");
    for name in ["d/lost", "link"] {
        assert!(!site.path("out").join(name).exists(), "{name}");
        assert!(site.path("out").join(format!("{name}.incomplete")).exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_comes_later_is_told_not_to_open_everything() {
    let late = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let mut site = Site::new().await;
    site.write("file", b"content");
    site.backup().await.summary();
    for _ in 0..2 {
        site.night += 1;
        let mut job = site.job(Task::Backup(Box::new(site.backup_task())));
        if let Keys::Archive { recipients, .. } = &mut job.keys {
            recipients.push(late.into());
        }
        let store = dualsync_archive_store::open(&job.target, job.now, None, Patience::default()).await.unwrap();
        let night = run_on(&job, store, COMMIT).await;
        night.summary();
        assert!(matches!(&night.warnings("recipients")[..], [told] if told.contains(late)), "{:?}", night.events);
    }
    assert_eq!(site.backup().await.warnings("recipients"), Vec::<String>::new());
}
