//! A site whose target is in memory, where a test can look at everything.

use std::sync::Arc;

use dualsync_archive_store::contract::{Key, Store};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::event::{Event, Point};
use dualsync_model::job::{InitTask, Leaving, ListTask, PruneTask, RestoreTask, Shape, Task};

use crate::site::{Ended, Site, run_on, same_tree};

/// A site whose target is in memory.
pub struct Memory {
    /// Source, keys and state.
    pub site: Site,
    /// The target.
    pub store: Arc<MemoryStore>,
}

impl Memory {
    pub async fn new() -> Self {
        let mut site = Site::bare();
        let store = Arc::new(MemoryStore::new(site.now()));
        let ended = run_on(&site.job(Task::Init(InitTask::default())), store.clone(), "").await;
        site.pin(&ended);
        Self { site, store }
    }

    pub async fn night(&mut self, store: Arc<dyn Store>, input: &'static str) -> Ended {
        self.site.night += 1;
        run_on(&self.site.job(Task::Backup(Box::new(self.site.backup_task()))), store, input).await
    }

    /// Lets the store's clock go on; from the first time on it has one.
    pub fn advance(&self, seconds: i64) {
        self.store.set_now(self.store.now().plus_seconds(seconds));
    }

    /// A prune job at the store's time.
    pub async fn prune(&self, store: Arc<dyn Store>, task: PruneTask) -> Ended {
        let mut job = self.site.job(Task::Prune(task));
        job.now = self.store.now();
        run_on(&job, store, "").await
    }

    /// What `list` says of each copy, the oldest first.
    pub async fn copies(&self) -> Vec<Point> {
        let listed = run_on(&self.site.job(Task::List(ListTask::default())), self.store.clone(), "").await;
        listed.summary();
        let points = listed.events.into_iter().filter_map(|event| match event {
            Event::Point(point) => Some(*point),
            _ => None,
        });
        points.collect()
    }

    /// Points that `list` gives; it must find nothing wrong.
    pub async fn points(&self) -> Vec<String> {
        let listed = run_on(&self.site.job(Task::List(ListTask::default())), self.store.clone(), "").await;
        assert_eq!(listed.summary().incomplete, 0, "{:?}", listed.events);
        let points = listed.events.iter().filter_map(|event| match event {
            Event::Point(point) => Some(point.point.to_string()),
            _ => None,
        });
        points.collect()
    }

    /// Every object that a manifest names is there, as long as it should be and with its digest.
    pub fn assert_nothing_is_missing(&self) {
        let is_list = |key: &Key| key.as_str().ends_with("refs.jsonl");
        for list in self.store.keys().into_iter().filter(is_list) {
            let manifest: Key = list.as_str().replace("refs.jsonl", "manifest.json").parse().unwrap();
            if self.store.peek(&manifest).is_none() {
                continue;
            }
            let refs = dualsync_archive::refs::parse_refs(&self.store.peek(&list).unwrap()).unwrap();
            for one in refs {
                let stored =
                    self.store.peek(&one.key.parse().unwrap()).unwrap_or_else(|| panic!("{} is missing", one.key));
                assert_eq!(
                    (stored.len() as u64, dualsync_archive::digest::Digest::of(&stored)),
                    (one.bytes, one.sha256)
                );
            }
        }
    }

    pub async fn assert_restorable(&self, point: &str, wanted: &std::path::Path) {
        let to = tempfile::tempdir().unwrap();
        let task = RestoreTask {
            point: point.parse().unwrap(),
            to: to.path().join("tree"),
            shape: Shape::Tree,
            paths: Vec::new(),
            resume: false,
            overwrite: false,
            dry_run: false,
            kernel_mount: false,
        };
        run_on(&self.site.job(Task::Restore(task)), self.store.clone(), "").await.summary();
        same_tree(wanted, &to.path().join("tree"));
    }
}

/// The grace of all tests, seconds.
pub const GRACE_S: i64 = 86_400;

/// A sweep that lets these copies go.
pub fn sweep(copies: &[Point], asked: bool) -> PruneTask {
    let leaving = |copy: &Point| Leaving {
        point: copy.point.clone(),
        manifest: copy.manifest.clone(),
        sha256: copy.anchor.sha256.clone(),
        reason: "left the contract".into(),
        asked,
    };
    let (drop, grace_s) = (copies.iter().map(leaving).collect(), GRACE_S.unsigned_abs());
    PruneTask { drop, grace_s, sweep: true, ..PruneTask::default() }
}
