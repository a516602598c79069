//! The world that all actors share: a store in memory, its clock, and a scheduler that lets one call go at a time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dualsync_archive::digest::Digest;
use dualsync_archive::refs::parse_refs;
use dualsync_archive_store::contract::{
    Conditional, ErrorKind, Key, ObjectInfo, Operation, Receipt, Reply, Store, StoreError,
};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;
use tokio::sync::{Notify, oneshot};

pub const GRACE_S: i64 = 86_400;
pub const HOUR_S: i64 = 3_600;

/// Numbers that look random and are the same in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What is hidden from whom, to see what safety rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    Nothing,
    /// Deleters do not see that runs are alive: the courtesy is gone, and nothing may be lost all the same.
    Runs,
    /// Backups do not see marks: now something must be lost, or this test could not fail.
    Marks,
    /// Deleters do not see manifests that came after the beginning: they go by an older listing.
    NewManifests,
}

#[derive(Default)]
pub struct Waiting {
    pub calls: Vec<Call>,
    pub finished: usize,
}

/// A call that waits for its turn.
pub struct Call {
    pub actor: usize,
    pub go: oneshot::Sender<()>,
    pub over: Arc<AtomicBool>,
}

/// Lets one call go at a time.
#[derive(Default)]
pub struct Scheduler {
    pub waiting: Mutex<Waiting>,
    pub changed: Notify,
}

impl Scheduler {
    pub fn with<T>(&self, act: impl FnOnce(&mut Waiting) -> T) -> T {
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn change(&self, act: impl FnOnce(&mut Waiting)) {
        self.with(act);
        self.changed.notify_one();
    }

    pub async fn turn(&self, actor: usize) -> Turn<'_> {
        let (go, gone) = oneshot::channel();
        let over = Arc::<AtomicBool>::default();
        let turn = Turn { scheduler: self, over: over.clone() };
        self.change(|waiting| waiting.calls.push(Call { actor, go, over }));
        gone.await.unwrap();
        turn
    }
}

/// Tells the scheduler that a call has come back, or was given up at any moment.
pub struct Turn<'a> {
    scheduler: &'a Scheduler,
    over: Arc<AtomicBool>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.scheduler.changed.notify_one();
    }
}

/// What all actors share.
pub struct World {
    pub store: MemoryStore,
    pub scheduler: Scheduler,
    pub now: Mutex<Timestamp>,
    pub has_clock: bool,
    /// Whether something was done since the last look by which an object can be lost.
    pub touched: AtomicBool,
    /// Whether the backup has looked around, and not yet begun to commit.
    pub is_sending: AtomicBool,
    /// Marks of which somebody was told that they are taken back: none of them may delete its copy.
    pub taken_back: Mutex<BTreeSet<String>>,
    /// What happened to a manifest and should not have.
    pub wrong: Mutex<Option<String>>,
    /// The objects of points that were there at the beginning.
    pub known: BTreeSet<String>,
}

impl World {
    pub fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    pub fn advance(&self, seconds: i64) {
        let mut now = self.now.lock().unwrap();
        *now = now.plus_seconds(seconds);
        self.store.set_now(*now);
    }

    /// Marks on an object with this companion.
    fn marks_with(&self, object: &str, suffix: &str) -> BTreeSet<String> {
        let prefix = format!("marks/{}-", Digest::of(object.as_bytes()));
        let keys = self.store.keys().into_iter().map(|key| key.to_string()).filter(|key| key.starts_with(&prefix));
        keys.filter_map(|key| Some(key.strip_suffix(suffix)?.to_owned())).collect()
    }

    /// Somebody was told that the marks of this copy are taken back.
    pub fn was_taken_back(&self, manifest: &str) {
        self.taken_back.lock().unwrap().extend(self.marks_with(manifest, ".undone"));
    }

    /// A manifest goes only by a mark whose `.deleting` is there, and that nobody was told to be taken back.
    fn is_deleted(&self, key: &Key) {
        if !key.as_str().ends_with("/manifest.json") || self.store.peek(key).is_none() {
            return;
        }
        let taken_back = self.taken_back.lock().unwrap();
        if self.marks_with(key.as_str(), ".deleting").iter().all(|mark| taken_back.contains(mark)) {
            *self.wrong.lock().unwrap() = Some(format!("{key} goes by no mark that stands"));
        }
    }

    /// Every object that a manifest names is there.
    pub fn check(&self) -> Result<(), String> {
        for manifest in self.store.keys().iter().filter(|key| key.as_str().ends_with("/manifest.json")) {
            let beside = |name: &str| manifest.as_str().replace("manifest.json", name);
            // A copy that goes meanwhile loses its manifest first: whose manifest is still there has lost something.
            let is_there = || self.store.peek(manifest).is_some();
            let peek = |key: String| match self.store.peek(&key.parse().unwrap()) {
                None if is_there() => Err(format!("{key} for {manifest}")),
                found => Ok(found.unwrap_or_default()),
            };
            for name in ["SHA256SUMS", "manifest.json.minisig"] {
                peek(beside(name))?;
            }
            for one in parse_refs(&peek(beside("refs.jsonl"))?).unwrap() {
                peek(one.key)?;
            }
        }
        Ok(())
    }
}

/// The store as one actor sees it.
pub struct Stepping {
    pub world: Arc<World>,
    pub actor: usize,
    /// This host's clock against the store's.
    pub ahead: i64,
    pub hidden: Hidden,
    pub dice: Mutex<Dice>,
    pub calls: AtomicU64,
    pub marks_asked: AtomicU64,
    /// When the marks were asked for: first, and last.
    pub marks: Mutex<Option<(Timestamp, Timestamp)>>,
}

impl std::fmt::Debug for Stepping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "actor {}", self.actor)
    }
}

impl Stepping {
    async fn step<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
        late: Option<StoreError>,
    ) -> Result<T, StoreError> {
        // The first answer tells the time, which is compared with the job's before anything else happens.
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.actor == 0 {
            let is_committing = self.marks_asked.load(Ordering::Relaxed) > 1;
            // A manifest must be there early to be overlooked for a whole grace.
            let is_slow = number > 12 && !is_committing && self.hidden != Hidden::NewManifests;
            self.world.is_sending.store(is_slow, Ordering::Relaxed);
        }
        if number == 0 {
            return call.await;
        }
        let turn = self.world.scheduler.turn(self.actor).await;
        if let Some(late) = late.filter(|_| self.is_late()) {
            return Err(late);
        }
        let answer = call.await;
        drop(turn);
        if self.dice.lock().unwrap().roll(4) == 0 {
            // The store has done it; its answer takes its time.
            drop(self.world.scheduler.turn(self.actor).await);
        }
        answer
    }

    fn asked_for_marks(&self) {
        self.marks_asked.fetch_add(1, Ordering::Relaxed);
        let now = self.world.now();
        let mut marks = self.marks.lock().unwrap();
        *marks = Some((marks.map_or(now, |(first, _)| first), now));
    }

    /// A backup has a quarter of the grace from its last listing of marks, a deleter an eighth from its first.
    fn is_late(&self) -> bool {
        let Some((first, last)) = *self.marks.lock().unwrap() else { return false };
        let (since, limit) = if self.actor == 0 { (last, GRACE_S / 4) } else { (first, GRACE_S / 8) };
        self.world.now().seconds_since(since) > limit
    }
}

impl Store for Stepping {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Receipt> {
        let is_timed = key.as_str().contains("/manifest.json") || key.as_str().ends_with(".undone");
        let late = is_timed.then(|| StoreError::new(ErrorKind::Timeout, Operation::Put, "late", key.as_str()));
        let call = async move {
            // Of what is put, only a manifest can find something missing.
            self.world.touched.fetch_or(is_timed, Ordering::Relaxed);
            self.world.store.put(key, body, sha256).await
        };
        Box::pin(self.step(call, late))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Bytes> {
        Box::pin(self.step(async move { self.world.store.get(key).await }, None))
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Reply<'a, Bytes> {
        Box::pin(self.step(async move { self.world.store.get_range(key, offset, len).await }, None))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>> {
        Box::pin(self.step(async move { self.world.store.head(key).await }, None))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>> {
        if prefix == "marks/" {
            self.asked_for_marks();
        }
        let is_hidden = match self.hidden {
            Hidden::Nothing => false,
            Hidden::Marks if self.actor == 0 => prefix == "marks/",
            _ => self.actor != 0 && prefix == "runs/",
        };
        let is_stale = self.hidden == Hidden::NewManifests && self.actor != 0 && prefix == "points/";
        Box::pin(self.step(
            async move {
                let mut found = self.world.store.list(prefix, after).await?;
                found.retain(|info| !is_stale || self.world.known.contains(info.key.as_str()));
                Ok(if is_hidden { Vec::new() } else { found })
            },
            None,
        ))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()> {
        let call = async move {
            self.world.touched.store(true, Ordering::Relaxed);
            self.world.is_deleted(key);
            self.world.store.delete(key).await
        };
        Box::pin(self.step(call, None))
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Conditional> {
        Box::pin(self.step(async move { self.world.store.put_if_absent(key, body, sha256).await }, None))
    }

    fn now(&self) -> Timestamp {
        // A store with a clock is asked what time it is; without one the host's own clock counts.
        self.world.now().plus_seconds(if self.world.has_clock { 0 } else { self.ahead })
    }

    fn has_clock(&self) -> bool {
        self.world.has_clock
    }

    fn requests(&self) -> Requests {
        Requests::default()
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}
