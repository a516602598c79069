//! Deletions go on side by side, and each one keeps its own order; beside a restore the copy that it reads stays.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dualsync_archive_store::contract::{Conditional, Key, ObjectInfo, Receipt, Reply, Store};
use dualsync_archive_store::faulty::FaultyStore;
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::event::{Requests, RetiredAction};
use dualsync_model::job::{RestoreTask, Shape, Task};
use dualsync_model::time::Timestamp;

use crate::memory::{GRACE_S, sweep};
use crate::prune::{actions, nights, pruned};
use crate::site::{noise, run_on};

/// Counts the deletions that are under way, and notes puts and deletions in the order of their ends.
#[derive(Debug)]
struct Counting {
    behind: Arc<MemoryStore>,
    now: AtomicUsize,
    most: AtomicUsize,
    done: Mutex<Vec<String>>,
}

impl Counting {
    fn over(behind: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { behind, now: AtomicUsize::new(0), most: AtomicUsize::new(0), done: Mutex::default() })
    }

    fn at(&self, what: &str) -> usize {
        self.done.lock().unwrap().iter().position(|done| done == what).unwrap_or_else(|| panic!("{what} was not done"))
    }
}

impl Store for Counting {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Receipt> {
        self.done.lock().unwrap().push(format!("put {key}"));
        self.behind.put(key, body, sha256)
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Bytes> {
        self.behind.get(key)
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Reply<'a, Bytes> {
        self.behind.get_range(key, offset, len)
    }

    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>> {
        self.behind.head(key)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>> {
        self.behind.list(prefix, after)
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        Box::pin(async move {
            self.most.fetch_max(1 + self.now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            // Whoever has begun as well gets his turn before this one ends.
            tokio::task::yield_now().await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            self.done.lock().unwrap().push(format!("delete {key}"));
            self.behind.delete(key).await
        })
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Conditional> {
        self.behind.put_if_absent(key, body, sha256)
    }

    fn now(&self) -> Timestamp {
        self.behind.now()
    }

    fn has_clock(&self) -> bool {
        self.behind.has_clock()
    }

    fn requests(&self) -> Requests {
        self.behind.requests()
    }

    fn describe(&self) -> String {
        self.behind.describe()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_overlap_up_to_a_bound_and_keep_their_order() {
    let memory = nights(6).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    memory.prune(memory.store.clone(), sweep(&copies[..5], false)).await.summary();
    memory.advance(GRACE_S);
    let store = Counting::over(memory.store.clone());
    memory.prune(store.clone(), sweep(&copies[..5], false)).await.summary();
    assert_eq!(store.most.load(Ordering::SeqCst), 8, "objects");
    memory.assert_nothing_is_missing();
    let marks_before = memory.store.keys();
    for copy in &copies[..5] {
        let digest = dualsync_archive::digest::Digest::of(copy.manifest.as_bytes());
        let is_said =
            |key: &&Key| key.as_str().starts_with(&format!("marks/{digest}-")) && key.as_str().ends_with(".deleting");
        let said = marks_before.iter().find(is_said).unwrap();
        let signature = copy.manifest.replace("manifest.json", "manifest.json.minisig");
        let order = [
            store.at(&format!("put {said}")),
            store.at(&format!("delete {}", copy.manifest)),
            store.at(&format!("delete {signature}")),
        ];
        assert!(order.is_sorted(), "{order:?}");
    }

    // What is cleared away a month later: no mark outlives what took it back.
    memory.advance(40 * 86_400);
    let store = Counting::over(memory.store.clone());
    memory.prune(store.clone(), sweep(&[], false)).await.summary();
    assert_eq!(store.most.load(Ordering::SeqCst), 8, "marks");
    let done = store.done.lock().unwrap().clone();
    let companions = done.iter().filter(|done| done.starts_with("delete marks/") && done.ends_with(".deleting"));
    assert!(companions.clone().count() > 8);
    for companion in companions {
        assert!(store.at(companion.trim_end_matches(".deleting")) < store.at(companion), "{companion}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_copy_that_is_brought_back_stays_until_the_restore_has_ended() {
    let memory = nights(3).await;
    memory.advance(GRACE_S);
    let copies = memory.copies().await;
    let prune = || memory.prune(memory.store.clone(), sweep(&copies[..1], false));
    assert_eq!(actions(&prune().await), [RetiredAction::Marked]);
    memory.advance(GRACE_S);

    // The mark is due. A restore has said that it reads the copy, and waits for the store to hand out a volume.
    let (open, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let slow = FaultyStore::new(memory.store.clone(), move |call| {
        if call.object.starts_with("volumes/") {
            // Ends when the test drops the other end.
            let _ = wait.lock().unwrap().recv();
        }
        None
    });
    let to = tempfile::tempdir().unwrap();
    let job = memory.site.job(Task::Restore(RestoreTask {
        point: copies[0].point.clone(),
        to: to.path().join("tree"),
        shape: Shape::Tree,
        paths: Vec::new(),
        resume: false,
        overwrite: false,
        dry_run: false,
        kernel_mount: false,
    }));
    let runs = || memory.store.keys().iter().filter(|key| key.as_str().starts_with("runs/")).count();
    let before = runs();
    let runtime = tokio::runtime::Handle::current();
    let restore = tokio::task::spawn_blocking(move || runtime.block_on(run_on(&job, Arc::new(slow), "")));
    while runs() == before && !restore.is_finished() {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        let ended = prune().await;
        assert_eq!(actions(&ended), [RetiredAction::Kept]);
        assert_eq!(pruned(&ended).deleted_objects, 0);
        memory.advance(GRACE_S / 3);
    }

    drop(open);
    restore.await.unwrap().summary();
    assert_eq!(std::fs::read(to.path().join("tree/changes")).unwrap(), noise(10, 20_000));
    assert_eq!(actions(&prune().await), [RetiredAction::Deleted]);
    memory.assert_nothing_is_missing();
}
