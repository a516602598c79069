//! Where a bucket keeps versions, what hides a good one is read around, and told.

use std::collections::BTreeSet;

use dualsync_archive_store::contract::{Key, Store as _};
use dualsync_model::event::{Event, Finding};
use dualsync_model::job::{
    CheckTask, Depth, FactsTask, InitTask, ListTask, LockMode, PruneTask, RestoreTask, Shape, Task,
};
use dualsync_model::outcome::Exit;
use futures::FutureExt as _;

use crate::memory::{GRACE_S, Memory, sweep};
use crate::prune::{nights, pruned};
use crate::site::{COMMIT, Ended, noise, run_on, same_tree};

/// What a thief or a broken tool does to an object.
type Harm = fn(&Memory, &Key);

fn mark(memory: &Memory, key: &Key) {
    // In memory nothing is waited for.
    memory.store.delete(key).now_or_never().unwrap().unwrap();
}

fn put_junk(memory: &Memory, key: &Key) {
    memory.store.replace(key.clone(), "something else".into());
}

fn flip(memory: &Memory, key: &Key) {
    let mut bytes = memory.store.peek(key).unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 2;
    bytes.iter_mut().skip(20).step_by(1000).for_each(|byte| *byte ^= 1);
    memory.store.replace(key.clone(), bytes.into());
}

const HARMS: [(&str, Harm); 3] = [("a marker", mark), ("junk", put_junk), ("flipped bits", flip)];

/// Runs a task on a target that is to lock.
async fn run(memory: &Memory, task: Task) -> Ended {
    let mut job = memory.site.job(task);
    job.now = memory.store.now();
    job.target.immutability = Some(LockMode::Governance);
    run_on(&job, memory.store.clone(), COMMIT).await
}

fn findings(ended: &Ended) -> Vec<Finding> {
    let found = ended.events.iter().filter_map(|event| match event {
        Event::Finding(finding) => Some(finding.clone()),
        _ => None,
    });
    found.collect()
}

fn check(depth: Depth) -> Task {
    Task::Check(CheckTask { point: None, depth, slice: None })
}

fn points(ended: &Ended) -> usize {
    ended.events.iter().filter(|event| matches!(event, Event::Point(_))).count()
}

/// Restores the newest point, or some of it, and compares it with the source.
async fn restored(memory: &Memory, paths: &[&str]) -> Ended {
    let to = tempfile::tempdir().unwrap();
    let task = RestoreTask {
        point: memory.site.backup_task().point,
        to: to.path().join("tree"),
        shape: Shape::Tree,
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        resume: false,
        overwrite: false,
        dry_run: false,
        kernel_mount: false,
    };
    let ended = run(memory, Task::Restore(task)).await;
    ended.summary();
    if paths.is_empty() {
        same_tree(&memory.site.source(), &to.path().join("tree"));
    }
    for path in paths {
        let read = |root: &std::path::Path| std::fs::read(root.join(path)).unwrap();
        assert!(read(&memory.site.source()) == read(&to.path().join("tree")), "{path}");
    }
    ended
}

/// One night in a bucket that keeps versions: a small file, and one that fills frames of its own.
async fn one_night() -> Memory {
    let mut memory = Memory::new().await;
    memory.store.keep_versions();
    memory.site.write("small", &noise(1, 3_000));
    memory.site.write("big", &noise(2, 9 << 20));
    memory.night(memory.store.clone(), COMMIT).await.summary();
    // What the state folder remembers would hide what is wrong in the store.
    std::fs::remove_dir_all(memory.site.path("state")).unwrap();
    std::fs::create_dir(memory.site.path("state")).unwrap();
    memory
}

/// What a point needs and what opens it: all but signs of life.
fn needed(memory: &Memory) -> BTreeSet<String> {
    let keys = memory.store.keys().into_iter().map(|key| key.to_string());
    keys.filter(|key| !key.starts_with("runs/")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_from_below_what_hides_it_and_told() {
    for (what, harm) in HARMS {
        let memory = one_night().await;
        let all = needed(&memory);
        assert!(all.len() >= 10, "{all:?}");
        for key in &all {
            harm(&memory, &key.parse().unwrap());
        }
        let parts = ["volumes/", "catalogs/", "manifest.json:", "refs.jsonl", "repo.json"];
        // Of single files the host keeps what leads to them, and reads ranges of volumes.
        for (paths, parts) in [(&[][..], &parts[..]), (&["small"], &parts[..1]), (&["big"], &parts[..1])] {
            let told = restored(&memory, paths).await.warnings("shadowed");
            for part in parts {
                assert!(told.iter().any(|text| text.contains(part)), "{what}: {part} in {told:?}");
            }
        }
        let listed = run(&memory, Task::List(ListTask::default())).await;
        assert_eq!(points(&listed), 1, "{what}");
        assert!(
            findings(&listed).iter().any(|found| found.kind == "shadowed" && found.object.contains("manifest.json"))
        );
        let checked = run(&memory, check(Depth::Objects)).await;
        assert_eq!(checked.outcome.as_ref().unwrap_err().exit(), Exit::Damaged);
        let found = findings(&checked);
        assert!(found.iter().all(|found| found.kind == "shadowed"), "{what}: {found:?}");
        assert_eq!(found.iter().map(|found| found.object.clone()).collect::<BTreeSet<_>>(), all, "{what}");
        let point = memory.site.backup_task().point;
        let facts = run(&memory, Task::Facts(FactsTask { point, slice: None, kernel_mount: false })).await;
        assert_eq!(facts.outcome.as_ref().unwrap_err().exit(), Exit::Damaged);
        assert!(findings(&facts).iter().all(|found| found.kind == "shadowed"), "{what}: {:?}", findings(&facts));
        let good = facts.events.iter().filter(|event| matches!(event, Event::Fact(fact) if fact.sha256.is_some()));
        assert_eq!(good.count(), 2, "{what}: both files are what they were");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_tells_what_is_shadowed_and_reads_none_of_it() {
    let memory = one_night().await;
    let ask = async || {
        let before = memory.store.requests();
        let ended = run(&memory, check(Depth::Presence)).await;
        let after = memory.store.requests();
        (findings(&ended), after.get - before.get, after.list - before.list)
    };
    let (found, gets, lists) = ask().await;
    assert!(found.is_empty(), "{found:?}");
    let data: BTreeSet<_> =
        needed(&memory).into_iter().filter(|key| !key.starts_with("points/") && key != "repo.json").collect();
    for key in &data {
        mark(&memory, &key.parse().unwrap());
    }
    let (found, more_gets, more_lists) = ask().await;
    assert!(found.iter().all(|found| found.kind == "shadowed"), "{found:?}");
    assert_eq!(found.into_iter().map(|found| found.object).collect::<BTreeSet<_>>(), data);
    assert_eq!((more_gets, more_lists), (gets, lists + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_with_other_bytes_is_no_better() {
    let memory = one_night().await;
    let volume = memory.store.keys().into_iter().find(|key| key.as_str().starts_with("volumes/")).unwrap();
    memory.store.remove(&volume);
    put_junk(&memory, &volume);
    put_junk(&memory, &volume);
    let found = findings(&run(&memory, check(Depth::Objects)).await);
    assert_eq!((found.len(), found[0].kind.as_str()), (1, "truncated"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_second_repository_is_made_over_one_that_is_hidden() {
    let memory = one_night().await;
    for key in &needed(&memory) {
        mark(&memory, &key.parse().unwrap());
    }
    let init = || Task::Init(InitTask::default());
    let ended = run(&memory, init()).await;
    ended.summary();
    let created = ended.events.iter().any(|event| matches!(event, Event::Repository(found) if found.created));
    assert!(!created && memory.store.peek(&"repo.json".parse().unwrap()).is_none(), "{:?}", ended.events);
    memory.store.remove(&"repo.json".parse().unwrap());
    assert!(run(&memory, init()).await.outcome.is_err(), "there are points, and what opens them is gone");
}

/// Three nights of which two manifests are hidden, the newest among them.
async fn hidden() -> Memory {
    let memory = nights(3).await;
    memory.store.keep_versions();
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    for copy in &copies[1..] {
        for name in ["manifest.json", "manifest.json.minisig"] {
            mark(&memory, &copy.manifest.replace("manifest.json", name).parse().unwrap());
        }
        memory.advance(60);
    }
    memory
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_manifests_stay_points_in_the_chain_and_for_who_prunes() {
    let mut memory = hidden().await;
    let listed = run(&memory, Task::List(ListTask::default())).await;
    assert_eq!(points(&listed), 3);
    assert!(findings(&listed).iter().all(|found| found.kind == "shadowed"), "{:?}", findings(&listed));
    let swept = run(&memory, Task::Prune(sweep(&[], false))).await;
    assert_eq!(pruned(&swept).marked_objects, 0, "what they name is needed");
    assert!(!swept.warnings("shadowed").is_empty());
    memory.site.night += 1;
    let night = run(&memory, Task::Backup(Box::new(memory.site.backup_task()))).await;
    assert!(
        night.summary().exit_code == 0
            && !night.warnings("shadowed").is_empty()
            && night.warnings("rollback").is_empty()
    );
    let listed = run(&memory, Task::List(ListTask::default())).await;
    assert_eq!(points(&listed), 4);
    assert!(findings(&listed).iter().all(|found| found.kind == "shadowed"), "{:?}", findings(&listed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_does_not_come_back_from_below_a_marker() {
    let mut memory = hidden().await;
    // A host that does not look below has called them dropped.
    memory.site.night += 1;
    run_on(&memory.site.job(Task::Backup(Box::new(memory.site.backup_task()))), memory.store.clone(), COMMIT)
        .await
        .summary();
    memory.advance(GRACE_S);
    let listed = run(&memory, Task::List(ListTask::default())).await;
    assert_eq!((points(&listed), findings(&listed)), (2, Vec::new()));
    let task = PruneTask { grace_s: GRACE_S.unsigned_abs(), ..PruneTask::default() };
    assert!(run(&memory, Task::Prune(task)).await.warnings("shadowed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_is_asked_for_is_found_below_a_marker_without_immutability() {
    let memory = hidden().await;
    memory.assert_restorable(memory.site.backup_task().point.to_string().as_str(), &memory.site.source()).await;
    let listed = run_on(&memory.site.job(Task::List(ListTask::default())), memory.store.clone(), "").await;
    // Without the newest manifest nobody misses the others: only who has immutability looks each time.
    assert_eq!(points(&listed), 1);
}
