//! The damage matrix of `check`: each kind of harm to each kind of object.

use dualsync_archive_store::contract::Key;
use dualsync_model::event::Event;
use dualsync_model::fact::EntryKind;
use dualsync_model::slice::Slice;

use super::*;
use crate::events::tests::Sink;
use crate::record;
use crate::sample::{Made, Sample, meta};

fn made() -> Made {
    let mut sample = Sample::new();
    sample.directory("");
    sample.file("a", b"alpha");
    sample.volume();
    sample.parted("b", meta(EntryKind::File, 6), &[b"abc", b"def"]);
    sample.finish()
}

async fn run(made: &Made, task: CheckTask) -> (Result<Summary, Fault>, Vec<Finding>) {
    let sink = Sink::default();
    let outcome = check(&made.repository, &task, &Events::new(sink.clone())).await;
    let finding = |event| if let Event::Finding(finding) = event { Some(finding) } else { None };
    (outcome, sink.events().into_iter().filter_map(finding).collect())
}

fn task(depth: Depth) -> CheckTask {
    CheckTask { point: None, depth, slice: None }
}

#[tokio::test]
async fn an_intact_repository_has_no_findings() {
    for depth in [Depth::Presence, Depth::Objects] {
        let made = made();
        let (outcome, findings) = run(&made, task(depth)).await;
        let summary = outcome.unwrap();
        assert_eq!(findings, []);
        // Two volumes, segment, index, two lists, and the three texts of the repository.
        assert_eq!(summary.objects, 9);
        // One listing of the points, one of everything or of the records of runs.
        assert_eq!(summary.requests.list, 2);
        assert!(depth == Depth::Objects || summary.requests.get == 3, "{:?}", summary.requests);
    }
}

#[tokio::test]
async fn every_harm_to_every_object_is_found_and_named() {
    type Harm = fn(&Made, &Key);
    let harms: [(&str, Harm); 3] =
        [("missing", |made, key| drop(made.store.remove(key))), ("truncated", Made::truncate), ("digest", Made::flip)];
    let keys = made().store.keys();
    assert_eq!(keys.len(), 11);
    for number in 0..keys.len() {
        for (kind, harm) in harms {
            let made = made();
            // Keys differ from run to run, their number and order by kind does not.
            let key = made.store.keys()[number].clone();
            harm(&made, &key);
            check_harm(&made, &key, kind).await;
        }
    }
}

async fn check_harm(made: &Made, key: &Key, kind: &str) {
    let only = CheckTask { point: Some(made.point.clone()), ..task(Depth::Objects) };
    assert_eq!(run(made, only).await.0.unwrap_err().exit(), Exit::Damaged, "{kind} {key}");
    let (outcome, findings) = run(made, task(Depth::Objects)).await;
    if kind == "missing" && key.as_str().ends_with("/manifest.json") {
        // Without a manifest there is no point: only who asks for it, or a later one that lists it, can miss it.
        // What it named is nobody's then.
        assert_eq!((outcome.unwrap().incomplete, findings.len()), (7, 7), "{findings:?}");
        assert!(findings.iter().all(|finding| finding.kind == "unexpected"));
        return;
    }
    assert_eq!(outcome.unwrap_err().exit(), Exit::Damaged, "{kind} {key}");
    assert_eq!((findings.len(), findings[0].points.len()), (1, 1), "{kind} {key}: {findings:?}");
    let found = findings[0].kind.as_str();
    if key.as_str().contains("/manifest.json") {
        assert!(kind == found || found == "forged", "{kind} {key}: {findings:?}");
    } else {
        let size_unknown = ["README.txt", "recover.py", "repo.json"].contains(&key.as_str());
        let wanted = if size_unknown && kind == "truncated" { "digest" } else { kind };
        assert_eq!((findings[0].object.as_str(), found), (key.as_str(), wanted));
        let (presence, _) = run(made, task(Depth::Presence)).await;
        assert_eq!(presence.is_err(), wanted != "digest" || is_list(key), "{kind} {key}");
    }
}

/// Whether presence cannot do without the object's content.
fn is_list(key: &Key) -> bool {
    key.as_str().ends_with("/refs.jsonl")
}

#[tokio::test]
async fn slices_check_every_object_once() {
    let made = made();
    let mut objects = 0;
    for index in 1..=5 {
        let task = CheckTask { slice: Slice::new(index, 5), ..task(Depth::Objects) };
        objects += run(&made, task).await.0.unwrap().objects;
    }
    assert_eq!(objects, 9);
}

#[tokio::test]
async fn one_point_is_checked_alone() {
    let made = made();
    let only = CheckTask { point: Some(made.point.clone()), ..task(Depth::Objects) };
    assert_eq!(run(&made, only.clone()).await.0.unwrap().objects, 9);
    made.flip(&made.key("points/", "/manifest.json"));
    let (outcome, findings) = run(&made, only).await;
    assert_eq!((outcome.unwrap_err().exit(), findings[0].kind.as_str()), (Exit::Damaged, "forged"));
}

#[tokio::test]
async fn a_record_of_a_run_that_nobody_signed_is_forged() {
    let made = made();
    let secret = crate::manifest::tests::secret();
    let of = |repository: &str| {
        let record = serde_json::json!({ "format": crate::format::FORMAT, "version": 1, "repository": repository });
        record::write("runs/web/0000000000000001/0", &record, &secret)
    };
    let good = of(made.repository.id());
    made.store.replace("runs/web/0000000000000001/0".parse().unwrap(), good.clone().into());
    assert_eq!(run(&made, task(Depth::Objects)).await.1, []);
    made.store.replace("runs/web/0000000000000001/1".parse().unwrap(), good.into());
    let (_, findings) = run(&made, task(Depth::Objects)).await;
    assert_eq!((findings[0].kind.as_str(), findings[0].object.as_str()), ("forged", "runs/web/0000000000000001/1"));
    made.store.remove(&"runs/web/0000000000000001/1".parse().unwrap());
    made.store.replace("runs/web/0000000000000001/0".parse().unwrap(), of("of another repository").into());
    let (_, findings) = run(&made, task(Depth::Objects)).await;
    assert_eq!((findings[0].kind.as_str(), findings[0].object.as_str()), ("forged", "runs/web/0000000000000001/0"));
}

#[tokio::test]
async fn what_belongs_to_nothing_is_told_and_is_no_damage() {
    let made = made();
    let strangers = ["volumes/web/x", "notes.txt", "points/web/20261120T020000Z-0001020304050607/refs.jsonl"];
    for key in strangers {
        made.store.replace(key.parse().unwrap(), "x".into());
    }
    let (outcome, findings) = run(&made, task(Depth::Presence)).await;
    assert_eq!(outcome.unwrap().incomplete, 3);
    assert!(
        findings.iter().all(|finding| finding.kind == "unexpected" && strangers.contains(&finding.object.as_str()))
    );
    // A run that was alive in the last days explains what is newer than its start.
    let copy = Copy::find(&made.repository, &made.point).await.unwrap();
    let beat = crate::runs::Heartbeat::new(&made.repository, crate::runs::Purpose::Backup, copy.manifest.folder, None);
    let key = "runs/web/0001020304050607/0";
    made.store.replace(key.parse().unwrap(), record::write(key, &beat, &crate::manifest::tests::secret()).into());
    assert_eq!(run(&made, task(Depth::Presence)).await.1, []);
}
