//! The world that a run and its deleters share: a store in memory, its clock, and one turn for each call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dualsync_block::manifest::Clear;
use dualsync_block::names;
use dualsync_block_store::contract::{Answer, ErrorKind, Key, ObjectInfo, Operation, Seen, Setting, Store, StoreError};
use dualsync_block_store::memory::MemoryStore;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;
use tokio::sync::{Notify, oneshot};

pub const GRACE_S: i64 = 86_400;
/// The actor that makes a point.
pub const RUN: usize = 0;

/// Numbers that look random and are the same for the same seed (SplitMix64, Steele and others, 2014).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }
}

/// What is taken out of the proof, to see that the proof needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// The run does not see the marks when it looks again before its manifest.
    BlindRun,
    /// The run puts its manifest however long ago it looked.
    SlowRun,
    /// Deleters go by the manifests that were there when the marks were put.
    StaleDeleter,
}

struct Waiting {
    actor: usize,
    go: oneshot::Sender<()>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    under_way: usize,
    /// Who is at work, and whether it waits for something else than the store.
    alive: BTreeMap<usize, bool>,
    /// When the run began its last look at the marks.
    looked_at: Option<Timestamp>,
    /// The manifests that were there when the marks were put.
    remembered: Vec<ObjectInfo>,
}

pub struct World {
    pub memory: Arc<MemoryStore>,
    pub has_clock: bool,
    pub broken: Broken,
    /// Whether deleters see that runs are alive: a courtesy on which nothing may rest.
    pub hides_runs: bool,
    state: Mutex<State>,
    changed: Notify,
    /// The run was told to commit.
    pub is_committing: AtomicBool,
    /// And has looked at the marks since.
    pub has_looked: AtomicBool,
    /// Something was done by which an object can be lost.
    touched: AtomicBool,
}

impl World {
    pub fn new(memory: MemoryStore, has_clock: bool, hides_runs: bool, broken: Broken) -> Self {
        Self {
            memory: Arc::new(memory),
            has_clock,
            broken,
            hides_runs,
            state: Mutex::default(),
            changed: Notify::new(),
            is_committing: AtomicBool::new(false),
            has_looked: AtomicBool::new(false),
            touched: AtomicBool::new(false),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let done = act(&mut self.state.lock().unwrap());
        self.changed.notify_one();
        done
    }

    pub fn now(&self) -> Timestamp {
        self.memory.now()
    }

    pub fn advance(&self, seconds: i64) {
        self.memory.set_now(self.now().plus_seconds(seconds));
    }

    /// `parked` is somebody who waits for something else than the store.
    pub fn join(&self, actor: usize, parked: bool) {
        self.with(|state| state.alive.insert(actor, parked));
    }

    pub fn leave(&self, actor: usize) {
        self.with(|state| state.alive.remove(&actor));
    }

    pub fn is_alive(&self, actor: usize) -> bool {
        self.with(|state| state.alive.contains_key(&actor))
    }

    pub async fn remember_manifests(&self) {
        let listed = self.memory.list(names::POINTS, None).await.unwrap();
        self.with(|state| state.remembered = listed);
    }

    /// Waits until everybody waits; who waits for the store, one for each call.
    pub async fn ready(&self) -> Vec<usize> {
        loop {
            let changed = self.changed.notified();
            let ready = self.with(|state| {
                state.waiting.retain(|waiting| !waiting.go.is_closed());
                let waits = |actor: &usize| state.waiting.iter().any(|waiting| waiting.actor == *actor);
                let all = state.alive.iter().all(|(actor, parked)| *parked || waits(actor));
                (all && state.under_way == 0).then(|| state.waiting.iter().map(|waiting| waiting.actor).collect())
            });
            if let Some(ready) = ready {
                return ready;
            }
            changed.await;
        }
    }

    /// Lets one call of `actor` go.
    pub fn let_go(&self, actor: usize, dice: &mut Dice) {
        self.with(|state| {
            let calls: Vec<usize> = (0..state.waiting.len()).filter(|at| state.waiting[*at].actor == actor).collect();
            let call = state.waiting.swap_remove(dice.pick(&calls));
            state.under_way += usize::from(call.go.send(()).is_ok());
        });
    }

    async fn turn(&self, actor: usize) -> Turn<'_> {
        let (go, gone) = oneshot::channel();
        self.with(|state| state.waiting.push(Waiting { actor, go }));
        gone.await.unwrap();
        Turn(self)
    }

    /// What a manifest names and is not there; asked only after something changed.
    pub fn lost(&self) -> Option<String> {
        if !self.touched.swap(false, Ordering::SeqCst) {
            return None;
        }
        let keys = self.memory.keys();
        let manifests = keys.iter().filter(|key| key.as_str().starts_with(names::POINTS));
        let mut named = manifests.flat_map(|manifest| {
            let clear = Clear::read(&self.memory.peek(manifest).unwrap()).unwrap().0;
            let packs = clear.packs.iter().map(|reference| names::pack(&reference.sha256));
            packs.chain(clear.maps.iter().map(|reference| names::map(&reference.sha256))).collect::<Vec<_>>()
        });
        named.find(|key| self.memory.peek(key).is_none()).map(|key| key.to_string())
    }
}

/// A call that was let go; over when it has come back or was given up.
struct Turn<'a>(&'a World);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.under_way -= 1);
    }
}

/// The store as one actor sees it: each call waits for its turn.
pub struct Stepping {
    pub world: Arc<World>,
    pub actor: usize,
    /// How far this host's clock is ahead of the others'.
    pub ahead_s: i64,
    pub dice: Mutex<Dice>,
}

impl std::fmt::Debug for Stepping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "actor {}", self.actor)
    }
}

impl Stepping {
    async fn step<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let turn = self.world.turn(self.actor).await;
        let answer = call.await;
        drop(turn);
        let is_slow = self.dice.lock().unwrap().once_in(6);
        if is_slow {
            // The store has done it, and the answer takes its time.
            drop(self.world.turn(self.actor).await);
        }
        answer
    }

    fn is_committing_run(&self) -> bool {
        self.actor == RUN && self.world.is_committing.load(Ordering::SeqCst)
    }

    /// The run gives a manifest up when it is late; one that was given up may arrive all the same, a little later.
    fn is_given_up(&self) -> Option<bool> {
        let looked_at = self.world.with(|state| state.looked_at)?;
        let late_s = self.world.now().seconds_since(looked_at) - GRACE_S / 4;
        let is_late = late_s > 0 && self.world.broken != Broken::SlowRun;
        is_late.then(|| late_s < GRACE_S / 8 && self.dice.lock().unwrap().once_in(2))
    }

    async fn put_now(&self, key: &Key, body: Bytes, sha256: [u8; 32]) -> Result<(), StoreError> {
        let is_manifest = key.as_str().starts_with(names::POINTS);
        let given_up = if is_manifest { self.is_given_up() } else { None };
        if given_up != Some(false) {
            self.world.touched.fetch_or(is_manifest, Ordering::SeqCst);
            self.world.memory.put(key, body, sha256).await?;
        }
        match given_up {
            Some(_) => Err(StoreError::new(ErrorKind::Timeout, Operation::Put, "given up", key.as_str())),
            None => Ok(()),
        }
    }

    async fn list_now(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut listed = self.world.memory.list(prefix, after).await?;
        let is_look = self.is_committing_run() && prefix == names::MARKS;
        self.world.has_looked.fetch_or(is_look, Ordering::SeqCst);
        let is_deleter = self.actor != RUN;
        let is_blind = is_look && self.world.broken == Broken::BlindRun;
        if is_blind || (is_deleter && self.world.hides_runs && prefix == names::RUNS) {
            listed.clear();
        }
        if is_deleter && self.world.broken == Broken::StaleDeleter && prefix == names::POINTS {
            let remembered = self.world.with(|state| state.remembered.clone());
            listed.retain(|object| remembered.is_empty() || remembered.contains(object));
        }
        Ok(listed)
    }
}

impl Store for Stepping {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        Box::pin(self.step(self.put_now(key, body, sha256)))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        // Opening the repository is no part of any race.
        let is_fixed = key.as_str() == names::REPO || key.as_str().starts_with("keys/");
        let get = self.world.memory.get(key);
        if is_fixed { get } else { Box::pin(self.step(get)) }
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        Box::pin(self.step(self.world.memory.get_range(key, offset, len)))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        Box::pin(self.step(self.world.memory.head(key)))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        if self.is_committing_run() && prefix == names::POINTS {
            self.world.with(|state| state.looked_at = Some(self.world.now()));
        }
        Box::pin(self.step(self.list_now(prefix, after)))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        Box::pin(self.step(async move {
            self.world.touched.store(true, Ordering::SeqCst);
            self.world.memory.delete(key).await
        }))
    }

    fn clear_leftovers(&self) -> Answer<'_, u64> {
        self.world.memory.clear_leftovers()
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        self.world.memory.put_if_absent(key, body, sha256)
    }

    fn setting<'a>(&'a self, setting: Setting, scratch: &'a Key) -> Answer<'a, Seen> {
        self.world.memory.setting(setting, scratch)
    }

    fn now(&self) -> Timestamp {
        let looked_at = self.world.with(|state| state.looked_at);
        match looked_at.filter(|_| self.actor == RUN && self.world.broken == Broken::SlowRun) {
            // To this run no time passes.
            Some(looked_at) => looked_at,
            // Where the store has no clock the host's own counts.
            None => self.world.now().plus_seconds(if self.world.has_clock { 0 } else { self.ahead_s }),
        }
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
