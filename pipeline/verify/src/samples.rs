//! Facts, lines and manifests for the tests of this crate.

use std::io;

use dualsync_model::event::{Event, Finding, Point, Requests, Summary};
use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::path::RawPath;
use dualsync_model::time::Timestamp;

/// What a program sent.
pub type Lines = Vec<Result<Event, io::Error>>;

/// A good file whose digest is a function of `content`, with the length of `content`.
pub fn file(path: &str, content: &str) -> Fact {
    Fact {
        path: RawPath::new(path),
        kind: EntryKind::File,
        size: content.len() as u64,
        mtime: Timestamp::new(1_700_000_000, 123).unwrap(),
        mtime_whole_seconds: false,
        mode: 0o644,
        uid: 0,
        gid: 0,
        link_target: None,
        device: None,
        xattrs: Some(String::new()),
        hard_link: None,
        sha256: Some(format!("digest of {content}")),
        state: FactState::Good,
    }
}

/// A good directory.
pub fn directory(path: &str) -> Fact {
    Fact { kind: EntryKind::Directory, mode: 0o755, sha256: None, ..file(path, "") }
}

/// The summary of a job that was done.
pub fn summary() -> Summary {
    let requests = Requests { get: 4, list: 1, ..Requests::default() };
    Summary { fetched_bytes: 4096, objects: 3, requests, ..Summary::default() }
}

/// All facts and the summary.
pub fn lines(facts: impl IntoIterator<Item = Fact>) -> Lines {
    let facts = facts.into_iter().map(|fact| Ok(Event::Fact(Box::new(fact))));
    facts.chain([Ok(Event::Summary(summary()))]).collect()
}

/// A finding about `object`.
pub fn finding(object: &str, kind: &str) -> Finding {
    Finding {
        target: "frankfurt".into(),
        object: object.into(),
        kind: kind.into(),
        problem: format!("it is {kind}"),
        points: Vec::new(),
        paths: vec![RawPath::new("etc/passwd")],
    }
}

/// A manifest.
pub fn point() -> Point {
    let json = r#"{"point":"web@20261120T020000Z","business_date":"2026-11-19","class":"auto",
        "created_at":"2026-11-20T02:00:00Z","snapshot_id":"5e","snapshot_method":"freeze","frozen":true,
        "size_bytes":1,"stored_bytes":1,"added_bytes":1,"duration_s":1,"sequence":7,"sha256":"ab",
        "manifest":"points/web/x","state":"available"}"#;
    serde_json::from_str(json).unwrap()
}
