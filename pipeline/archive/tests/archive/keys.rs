//! Who needs which key: reading needs any identity that the point names, looking after a repository needs none.

use std::os::unix::fs::PermissionsExt as _;

use dualsync_archive::seal::Identity;
use dualsync_archive_store::service::Patience;
use dualsync_model::job::{
    CheckTask, Depth, EvidenceTask, FactsTask, Job, Keys, ListTask, PruneTask, RestoreTask, Shape, Task,
};

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
