//! Facts of points made by hand: every field, every state, damage, slices.

use dualsync_model::event::Finding;
use dualsync_model::path::RawPath;
use dualsync_model::time::Timestamp;

use super::*;
use crate::digest::Digest;
use crate::events::tests::Sink;
use crate::sample::{Made, Sample, meta};
use crate::tree::meta::{Extent, Meta, Xattr};

struct Ran {
    outcome: Result<Summary, Fault>,
    facts: Vec<Fact>,
    findings: Vec<Finding>,
}

impl Ran {
    fn fact(&self, path: &str) -> &Fact {
        self.facts.iter().find(|fact| fact.path.as_bytes() == path.as_bytes()).unwrap()
    }

    fn paths(&self) -> Vec<String> {
        self.facts.iter().map(|fact| fact.path.to_string()).collect()
    }
}

async fn run_slice(made: &Made, slice: Option<Slice>) -> Ran {
    let state = tempfile::tempdir().unwrap();
    let sink = Sink::default();
    let task = FactsTask { point: made.point.clone(), slice, kernel_mount: false };
    let outcome = facts(&made.repository, None, &task, state.path(), &Events::new(sink.clone())).await;
    let mut ran = Ran { outcome, facts: Vec::new(), findings: Vec::new() };
    for event in sink.events() {
        match event {
            Event::Fact(fact) => ran.facts.push(*fact),
            Event::Finding(finding) => {
                assert!(ran.facts.is_empty(), "findings come first");
                ran.findings.push(finding);
            }
            _ => {}
        }
    }
    assert!(ran.facts.is_sorted_by(|a, b| a.path < b.path), "{:?}", ran.paths());
    ran
}

async fn run(made: &Made) -> Ran {
    run_slice(made, None).await
}

/// Three volumes: small files in the first and last, a file in parts across the last two.
fn sample() -> Sample {
    let mut sample = Sample::new();
    sample.directory("");
    sample.directory("d");
    sample.file("d/a", b"alpha");
    sample.frame();
    sample.file("d/b", b"beta");
    sample.volume();
    sample.parted("big", meta(EntryKind::File, 9), &[b"abc", b"def", b"ghi"]);
    sample.volume();
    sample.file("z", b"zeta");
    sample
}

fn hex(content: &[u8]) -> String {
    Digest::of(content).hex()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_digest_is_that_of_the_whole_content() {
    let mut sample = sample();
    let extents = Some(vec![Extent { offset: 2, length: 3 }]);
    sample.content(RawPath::new("sparse"), Meta { extents, ..meta(EntryKind::File, 8) }, b"xyz");
    let hole = sample.entry("hole", Meta { extents: Some(Vec::new()), ..meta(EntryKind::File, 100_000) });
    hole.sha256 = Some(Digest::of(&vec![0; 100_000]));
    sample.entry("empty", meta(EntryKind::File, 0)).sha256 = Some(Digest::of(b""));
    let ran = run(&sample.finish()).await;
    assert_eq!(ran.paths(), [".", "big", "d", "d/a", "d/b", "empty", "hole", "sparse", "z"]);
    let check = |path: &str, content: &[u8]| assert_eq!(ran.fact(path).sha256, Some(hex(content)), "{path}");
    check("d/a", b"alpha");
    check("d/b", b"beta");
    check("big", b"abcdefghi");
    check("empty", b"");
    check("sparse", b"\0\0xyz\0\0\0");
    check("hole", &vec![0; 100_000]);
    assert_eq!(ran.fact("d").sha256, None);
    assert!(ran.facts.iter().all(|fact| fact.state == FactState::Good));
    assert_eq!((ran.outcome.unwrap().items, ran.findings), (9, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_comes_from_the_catalog() {
    let xattr = Xattr { name: b"user.a".to_vec(), value: b"1".to_vec() };
    let mut sample = Sample::new();
    sample.directory("");
    let strange = Meta {
        mode: 0o4711,
        uid: 7,
        gid: 8,
        mtime: Timestamp::new(-5, 9).unwrap(),
        device: Some((1, 3)),
        links: 2,
        inode: 99,
        xattrs: Some(vec![xattr.clone()]),
        ..meta(EntryKind::CharDevice, 0)
    };
    sample.entry("device", strange);
    let target = Some(RawPath::new(b"\xff".to_vec()));
    sample.entry("link", Meta { link_target: target.clone(), xattrs: None, ..meta(EntryKind::Symlink, 1) });
    sample.entry("mount", meta(EntryKind::Directory, 0)).mount_point = true;
    let ran = run(&sample.finish()).await;
    let device = ran.fact("device");
    assert_eq!((device.mode, device.uid, device.gid, device.device), (0o4711, 7, 8, Some((1, 3))));
    assert_eq!((device.mtime, device.hard_link), (Timestamp::new(-5, 9).unwrap(), Some(99)));
    assert_eq!(device.xattrs, Some(xattr_digest(&[xattr])));
    let link = ran.fact("link");
    assert_eq!((&link.link_target, link.size, &link.xattrs), (&target, 1, &None));
    assert_eq!((ran.fact("").xattrs.as_deref(), &ran.fact("mount").state), (Some(""), &FactState::MountPoint));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_many_files_share_is_hashed_for_each_of_them() {
    let mut sample = sample();
    let meta_of_a = meta(EntryKind::File, 5);
    for n in 0..5000 {
        let entry = sample.entry(&format!("copies/{n:04}"), meta_of_a.clone());
        entry.sha256 = Some(Digest::of(b"alpha"));
    }
    let made = sample.finish_with(|entries| {
        let at = entries.iter().find(|(entry, _)| entry.path.as_bytes() == b"d/a").unwrap().0.at.clone();
        for (entry, _) in entries.iter_mut().filter(|(entry, _)| entry.path.as_bytes().starts_with(b"copies/")) {
            entry.at = at.clone();
        }
        entries.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    });
    let ran = run(&made).await;
    let copies: Vec<_> = ran.facts.iter().filter(|fact| fact.path.as_bytes().starts_with(b"copies/")).collect();
    assert_eq!(copies.len(), 5000);
    assert!(copies.iter().all(|fact| fact.sha256 == Some(hex(b"alpha"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_volume_marks_the_files_in_it_and_no_others() {
    type Harm = fn(&Made, &dualsync_archive_store::contract::Key);
    let harms: [(&str, Harm); 3] =
        [("missing", |made, key| drop(made.store.remove(key))), ("truncated", Made::truncate), ("digest", Made::flip)];
    for (kind, harm) in harms {
        for (volume, hit) in [("00000", &["d/a", "d/b"][..]), ("00001", &["big"]), ("00002", &["z"])] {
            let made = sample().finish();
            let key = made.key("volumes/", &format!("{volume}.tar.zst.age"));
            harm(&made, &key);
            let ran = run(&made).await;
            assert_eq!(ran.outcome.unwrap_err().exit(), Exit::Damaged, "{kind} {volume}");
            assert_eq!(ran.findings.len(), 1, "{:?}", ran.findings);
            assert_eq!(ran.findings[0].object, key.as_str());
            let damaged: Vec<_> = ran
                .facts
                .iter()
                .filter(|fact| matches!(&fact.state, FactState::Damaged { object, .. } if object == key.as_str()))
                .map(|fact| fact.path.to_string())
                .collect();
            assert_eq!(damaged, hit, "{kind} {volume}");
            assert_eq!(ran.facts.len(), 6);
            assert!(ran.facts.iter().all(|fact| fact.kind == EntryKind::Directory
                || damaged.contains(&fact.path.to_string()) != fact.sha256.is_some()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_contradicts_its_own_note_is_damaged_and_says_what_it_holds() {
    let mut sample = sample();
    sample.file("liar", b"stored").sha256 = Some(Digest::of(b"noted"));
    let ran = run(&sample.finish()).await;
    let liar = ran.fact("liar");
    assert_eq!(liar.sha256, Some(hex(b"stored")));
    assert!(matches!(&liar.state, FactState::Damaged { problem, .. } if problem.contains("another SHA-256")));
    assert_eq!(ran.findings[0].paths, [RawPath::new("liar")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_writer_noted_comes_along() {
    let mut sample = sample();
    sample.entry("lost", meta(EntryKind::File, 9)).state = State::Unreadable { problem: "EIO".into() };
    sample.file("moved", b"half").state = State::Changed { problem: "shrank".into() };
    sample.entry("nothing", meta(EntryKind::File, 9)).sha256 = Some(Digest::of(b"nine byte"));
    let ran = run(&sample.finish()).await;
    assert_eq!(ran.fact("lost").state, FactState::Unreadable { problem: "EIO".into() });
    let moved = ran.fact("moved");
    assert_eq!((&moved.state, &moved.sha256), (&FactState::Changed { problem: "shrank".into() }, &Some(hex(b"half"))));
    assert!(matches!(ran.fact("nothing").state, FactState::Damaged { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_list_everything_and_read_everything_once() {
    let made = sample().finish();
    let mut read = Vec::new();
    for index in 1..=4 {
        let ran = run_slice(&made, Slice::new(index, 4)).await;
        assert_eq!(ran.facts.len(), 6);
        for fact in &ran.facts {
            match (fact.kind, &fact.sha256, &fact.state) {
                (EntryKind::File, Some(_), FactState::Good) => read.push(fact.path.to_string()),
                (EntryKind::File, None, FactState::Skipped) | (EntryKind::Directory, None, FactState::Good) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    read.sort();
    assert_eq!(read, ["big", "d/a", "d/b", "z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_part_of_the_catalog_is_a_finding_and_the_rest_is_listed() {
    let made = sample().segments_of(2).finish();
    let listing = Listing::open(&made.repository, &Copy::find(&made.repository, &made.point).await.unwrap()).await;
    made.store.remove(&listing.unwrap().keys()[1].parse().unwrap());
    let ran = run(&made).await;
    assert_eq!(ran.outcome.unwrap_err().exit(), Exit::Damaged);
    assert_eq!(ran.findings[0].kind, "missing");
    let listed: Vec<_> = ran.facts.iter().map(|fact| fact.path.to_string()).collect();
    assert_eq!(listed, [".", "big", "d/b", "z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_lost_entry_are_not_given_to_the_one_before() {
    let sample = || {
        let mut sample = Sample::new().splits_parts();
        sample.directory("");
        sample.parted("a", meta(EntryKind::File, 6), &[b"abc", b"def"]);
        sample.parted("b", meta(EntryKind::File, 3), &[b"ghi"]);
        sample
    };
    let ran = run(&sample().finish()).await;
    assert_eq!(ran.fact("a").sha256, Some(hex(b"abcdef")));
    assert_eq!(ran.fact("b").sha256, Some(hex(b"ghi")));
    let made = sample().finish();
    let listing = Listing::open(&made.repository, &Copy::find(&made.repository, &made.point).await.unwrap()).await;
    // The segment with the last parts of `a` and the entry `b`; the one after holds the parts of `b`.
    made.store.remove(&listing.unwrap().keys()[1].parse().unwrap());
    let ran = run(&made).await;
    assert_eq!(ran.paths(), [".", "a"]);
    let FactState::Damaged { problem, .. } = &ran.fact("a").state else { panic!("{:?}", ran.facts) };
    assert_eq!(problem, "less data is stored than the file has");
}
