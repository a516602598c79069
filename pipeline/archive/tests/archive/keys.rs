//! Who needs which key: reading needs any identity that the point names, looking after a repository needs none.

use std::os::unix::fs::PermissionsExt as _;

use dualsync_archive::seal::Identity;
use dualsync_archive_store::service::Patience;
use dualsync_model::id::PointId;
use dualsync_model::job::{
    CheckTask, Depth, EvidenceTask, FactsTask, Job, Keys, ListTask, PruneTask, RestoreTask, Shape, Task,
};
use dualsync_model::keys::KeysTask;

use crate::site::{COMMIT, Ended, Site, noise, run_on, same_tree};

/// Runs a job with other keys than the host's.
async fn run(site: &Site, task: Task, change: impl FnOnce(&mut Job)) -> Ended {
    let mut job = site.job(task);
    change(&mut job);
    let store = dualsync_archive_store::open(&job.target, job.now, None, Patience::default()).await.unwrap();
    run_on(&job, store, COMMIT).await
}

fn identity(site: &Site, name: &str) -> (Identity, dualsync_model::secret::SecretRef) {
    let identity = Identity::generate();
    let path = site.path(name);
    std::fs::write(&path, identity.to_file("now").as_bytes()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    (identity, format!("file:{}", path.display()).parse().unwrap())
}

fn with_identity(job: &mut Job, reference: &dualsync_model::secret::SecretRef) {
    if let Keys::Archive { identity, .. } = &mut job.keys {
        *identity = reference.clone();
    }
}

fn restore_task(site: &Site, to: &str) -> Task {
    Task::Restore(RestoreTask {
        point: site.backup_task().point,
        to: site.path(to),
        shape: Shape::Tree,
        paths: Vec::new(),
        resume: false,
        overwrite: false,
        dry_run: false,
        kernel_mount: false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_in_the_safe_restores_and_a_strangers_is_called_wrong() {
    let mut site = Site::new().await;
    site.write("file", &noise(1, 100_000));
    site.night += 1;
    let (recovery, in_the_safe) = identity(&site, "recovery.key");
    let (_, strange) = identity(&site, "strange.key");
    let backup = Task::Backup(Box::new(site.backup_task()));
    let made = run(&site, backup, |job| {
        if let Keys::Archive { recipients, .. } = &mut job.keys {
            recipients.push(recovery.recipient().to_string());
        }
    });
    made.await.summary();
    run(&site, restore_task(&site, "out"), |job| with_identity(job, &in_the_safe)).await.summary();
    same_tree(&site.source(), &site.path("out"));
    let facts = || Task::Facts(FactsTask { point: site.backup_task().point, slice: None, kernel_mount: false });
    run(&site, facts(), |job| with_identity(job, &in_the_safe)).await.summary();
    for task in [facts(), restore_task(&site, "never")] {
        let fault = run(&site, task, |job| with_identity(job, &strange)).await.outcome.unwrap_err();
        assert_eq!(fault.code(), "wrong_key");
    }
    site.night += 1;
    let backup = Task::Backup(Box::new(site.backup_task()));
    let fault = run(&site, backup, |job| with_identity(job, &in_the_safe)).await.outcome.unwrap_err();
    assert_eq!(fault.code(), "wrong_key", "a host writes with its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_after_a_repository_needs_no_identity() {
    let mut site = Site::new().await;
    site.write("file", b"content");
    site.backup().await.summary();
    let nowhere = "file:/nowhere/at/all".parse().unwrap();
    for task in [
        Task::List(ListTask::default()),
        Task::Check(CheckTask { point: None, depth: Depth::Objects, slice: None }),
        Task::Prune(PruneTask { sweep: true, grace_s: 86_400, ..PruneTask::default() }),
        Task::Evidence(EvidenceTask::List { folder: None }),
    ] {
        run(&site, task, |job| with_identity(job, &nowhere)).await.summary();
    }
    let fault = run(&site, restore_task(&site, "out"), |job| with_identity(job, &nowhere)).await.outcome.unwrap_err();
    assert_eq!(fault.code(), "usage");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_both_nights_open_with_the_file_and_the_old_identity_opens_the_old_night_only() {
    let mut site = Site::new().await;
    site.write("old", &noise(1, 100_000));
    site.backup().await.summary();
    let first = site.backup_task().point;
    let before = std::fs::read_to_string(site.path("age.key")).unwrap();
    let ended = site.run(Task::Keys(KeysTask::Rotate { to: None })).await;
    ended.summary();
    let slots = ended.events.iter().filter_map(|event| match event {
        dualsync_model::event::Event::KeySlot(slot) => Some((slot.kind.as_str(), slot.current, slot.files.len())),
        _ => None,
    });
    let slots: Vec<_> = slots.collect();
    assert_eq!(slots, [("identity", true, 1), ("identity", false, 0)]);

    site.write("new", &noise(2, 100_000));
    let ended = site.backup().await;
    ended.summary();
    assert!(ended.warnings("recipients").is_empty(), "the host itself opens all: {:?}", ended.events);
    site.restore_and_compare("second").await;
    let restore = |point: &PointId, to: &str| {
        let Task::Restore(task) = restore_task(&site, to) else { panic!("a restore") };
        Task::Restore(RestoreTask { point: point.clone(), ..task })
    };
    site.run(restore(&first, "first")).await.summary();

    let old = site.path("old.key");
    std::fs::write(&old, &before).unwrap();
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o600)).unwrap();
    let old = dualsync_model::secret::SecretRef::File(old);
    run(&site, restore(&first, "with-old"), |job| with_identity(job, &old)).await.summary();
    let fault = run(&site, restore_task(&site, "never"), |job| with_identity(job, &old)).await.outcome.unwrap_err();
    assert_eq!(fault.code(), "wrong_key", "{fault:?}");

    // Stock age opens what is new with the first line of the file, and what is old with the second.
    for key in site.objects_like("volumes/", ".age") {
        let opened = std::process::Command::new("age")
            .args(["-d", "-o", "/dev/null", "-i"])
            .arg(site.path("age.key"))
            .arg(site.target().join(&key))
            .status();
        assert!(opened.unwrap().success(), "{key}");
    }
}

/// Turns sealed mode on for this recovery recipient.
fn sealed_to(recovery: &Identity) -> impl Fn(&mut Job) {
    let to = recovery.recipient().to_string();
    move |job| {
        if let Keys::Archive { recipients, sealed, .. } = &mut job.keys {
            (*recipients, *sealed) = (vec![to.clone()], true);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sealed_mode_the_host_writes_and_cannot_read() {
    let mut site = Site::new().await;
    let (recovery, in_the_safe) = identity(&site, "recovery.key");
    let seal = sealed_to(&recovery);
    site.write("old", &noise(1, 300_000));
    for night in 1..=2 {
        site.night += 1;
        site.write(&format!("new-{night}"), &noise(night, 50_000));
        let backup = Task::Backup(Box::new(site.backup_task()));
        let ended = run(&site, backup, &seal).await;
        let sent = ended.summary().added_bytes;
        assert!(ended.warnings("recipients").is_empty(), "{:?}", ended.events);
        assert!(night == 1 || sent < 200_000, "the second night is incremental: {sent}");
    }
    let facts = || Task::Facts(FactsTask { point: site.backup_task().point, slice: None, kernel_mount: false });
    for task in [facts(), restore_task(&site, "never")] {
        let fault = run(&site, task, &seal).await.outcome.unwrap_err();
        assert_eq!((fault.code(), fault.exit().code()), ("wrong_key", 12));
        let said = format!("{fault:?}");
        assert!(
            said.contains(&recovery.recipient().to_string()) && said.contains("may write it and not read it"),
            "{said}"
        );
    }
    for task in [
        Task::List(ListTask::default()),
        Task::Check(CheckTask { point: None, depth: Depth::Objects, slice: None }),
        Task::Check(CheckTask { point: None, depth: Depth::Presence, slice: None }),
        Task::Prune(PruneTask { sweep: true, grace_s: 86_400, ..PruneTask::default() }),
    ] {
        run(&site, task, &seal).await.summary();
    }
    // Somewhere else, with the key out of the safe: by this program, and by age itself.
    run(&site, facts(), |job| with_identity(job, &in_the_safe)).await.summary();
    run(&site, restore_task(&site, "out"), |job| with_identity(job, &in_the_safe)).await.summary();
    same_tree(&site.source(), &site.path("out"));
    let opens = |identity: &str, key: &str| {
        let mut age = std::process::Command::new("age");
        let done =
            age.args(["-d", "-o", "/dev/null", "-i"]).arg(site.path(identity)).arg(site.target().join(key)).output();
        done.unwrap().status.success()
    };
    let volumes = site.objects_like("volumes/", ".age");
    assert!(volumes.len() >= 2);
    for key in volumes {
        assert!(opens("recovery.key", &key) && !opens("age.key", &key), "{key}");
    }
    for key in site.objects_like("catalogs/", ".age") {
        assert!(opens("recovery.key", &key) && opens("age.key", &key), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_across_the_border_of_sealed_mode_needs_both_identities() {
    let mut site = Site::new().await;
    site.write("old", &noise(1, 300_000));
    site.backup().await.summary();
    let (recovery, in_the_safe) = identity(&site, "recovery.key");
    site.write("new", &noise(2, 50_000));
    site.night += 1;
    run(&site, Task::Backup(Box::new(site.backup_task())), sealed_to(&recovery)).await.summary();
    for reference in [&in_the_safe, &format!("file:{}", site.path("age.key").display()).parse().unwrap()] {
        let task = restore_task(&site, "never");
        let fault = run(&site, task, |job| with_identity(job, reference)).await.outcome.unwrap_err();
        assert_eq!(fault.code(), "wrong_key", "{reference}");
    }
    let both = ["age.key", "recovery.key"].map(|name| std::fs::read_to_string(site.path(name)).unwrap()).concat();
    std::fs::write(site.path("both.key"), both).unwrap();
    std::fs::set_permissions(site.path("both.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let both = format!("file:{}", site.path("both.key").display()).parse().unwrap();
    run(&site, restore_task(&site, "out"), |job| with_identity(job, &both)).await.summary();
    same_tree(&site.source(), &site.path("out"));

    // Sealed mode off again: as soon as no volume of it is needed, the host's own file is enough.
    std::fs::remove_file(site.source().join("new")).unwrap();
    site.backup().await.summary();
    site.restore_and_compare("after").await;
}
