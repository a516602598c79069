//! A copy's mark is taken back at any age, and whoever deletes meanwhile sees it or is seen.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dualsync_block::names;
use dualsync_block::prune::prune;
use dualsync_block_store::contract::{Answer, ErrorKind, Key, ObjectInfo, Operation, Seen, Setting, Store, StoreError};
use dualsync_block_store::digest::sha256;
use dualsync_block_store::memory::MemoryStore;
use dualsync_model::event::{CopyState, Requests, RetiredAction};
use dualsync_model::job::PruneTask;
use dualsync_model::time::Timestamp;
use tokio::sync::Mutex;

use crate::prune::{assert_whole, only, three_nights};
use crate::support::{BLOCK, Workshop, events, sweep};

fn undo(shop: &Workshop, night: u32) -> PruneTask {
    PruneTask { undo: vec![shop.manifest(night)], grace_s: 86_400, ..PruneTask::default() }
}

/// Digests of what a night names and no other one of `others`.
fn only_of(shop: &Workshop, night: u32, others: &[u32]) -> HashSet<String> {
    let named = |night: u32| {
        let clear = shop.clear(night);
        clear.packs.into_iter().chain(clear.maps).map(|reference| reference.sha256.to_string()).collect::<HashSet<_>>()
    };
    let mut own = named(night);
    for other in others {
        own.retain(|object| !named(*other).contains(object));
    }
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_widened_after_the_grace_keeps_the_copy_whole() {
    let (shop, nights) = three_nights().await;
    shop.prune(&sweep(shop.leaving(&[1]))).await.0.unwrap();
    assert!(!shop.keys("marks/").is_empty());
    // The next night comes a little more than a grace later.
    shop.pass_hours(25);
    let wider = PruneTask { undo: vec![shop.manifest(1)], ..sweep(Vec::new()) };
    let dry = shop.prune(&PruneTask { dry_run: true, ..wider.clone() }).await.1.retired();
    assert_eq!(shop.prune(&wider).await.1.retired(), [(1, RetiredAction::Undone)]);
    assert_eq!(dry, [(1, RetiredAction::Undone)]);
    for hours in [0, 25, 25 * 24, 40 * 24] {
        shop.pass_hours(hours);
        let told = shop.list().await.1.points().remove(0);
        assert_eq!((told.state, told.mark), (CopyState::Available, None));
        assert_eq!(shop.prune(&sweep(Vec::new())).await.0.unwrap().deleted_objects, 0, "{hours} h later");
        assert!(shop.restored(1).await == nights[0]);
        assert_whole(&shop, "what was taken back late").await;
    }
    // Who wants to delete it after all begins anew.
    assert_eq!(shop.prune(&sweep(shop.leaving(&[1]))).await.1.retired(), [(1, RetiredAction::Marked)]);
    assert_eq!(shop.prune(&sweep(shop.leaving(&[1]))).await.1.retired(), [(1, RetiredAction::Waiting)]);
    shop.pass_hours(25);
    assert_eq!(shop.prune(&sweep(shop.leaving(&[1]))).await.1.retired(), [(1, RetiredAction::Deleted)]);
    assert_whole(&shop, "the others").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_uses_nothing_of_a_copy_that_was_taken_back_late() {
    for (hours, is_late) in [(17, false), (25, true)] {
        let (shop, nights) = three_nights().await;
        // By a host that may not delete: only the copy itself is marked.
        let mut task = PruneTask { sweep: false, ..sweep(shop.leaving(&[3])) };
        task.drop[0].asked = true;
        shop.prune(&task).await.0.unwrap();
        shop.pass_hours(hours);
        let told = shop.prune(&undo(&shop, 3)).await.1.retired();
        assert_eq!(told, [(3, RetiredAction::Undone)]);
        let own = only_of(&shop, 3, &[2]);
        let made = shop.night(4, &nights[2]).await;
        let named = only_of(&shop, 4, &[]);
        assert_eq!(own.intersection(&named).count() == 0, is_late, "after {hours} h");
        assert_eq!(made.added_bytes > 35 * BLOCK as u64, is_late, "{made:?}");
        assert!(shop.restored(4).await == nights[2] && shop.restored(3).await == nights[2]);
        assert_whole(&shop, "both").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_taken_back_late_is_no_reason_to_take_back_the_marks_of_its_objects() {
    for (hours, is_late) in [(2, false), (10, true)] {
        let (shop, _) = three_nights().await;
        // A host that may not delete marks the copy, the deleter elsewhere marks what only it needs half a day later.
        shop.prune(&PruneTask { sweep: false, ..sweep(shop.leaving(&[1])) }).await.0.unwrap();
        shop.pass_hours(15);
        assert!(shop.prune(&sweep(Vec::new())).await.0.unwrap().marked_objects > 0);
        shop.pass_hours(hours);
        shop.prune(&undo(&shop, 1)).await.0.unwrap();
        shop.prune(&sweep(Vec::new())).await.0.unwrap();
        let undone = shop.keys("marks/").into_iter().filter(|key| key.ends_with(".undone")).count();
        assert_eq!(undone == 1, is_late, "{undone} marks taken back, {hours} h later");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_begun_and_taken_back_leaves_no_trace_for_ever() {
    let (shop, nights) = three_nights().await;
    let manifest = shop.manifest(1);
    shop.mark(&manifest, &[names::Companion::Deleting, names::Companion::Undone]).await;
    assert_eq!(shop.list().await.1.points()[0].state, CopyState::Available);
    // Whoever put `.deleting` may have looked before `.undone` came: nothing is promised.
    assert_eq!(shop.prune(&undo(&shop, 1)).await.1.retired(), [(1, RetiredAction::Refused)]);
    let left = || shop.keys(&format!("marks/{}", names::digest_of(&manifest).unwrap())).len();
    for (days, marks) in [(29, 3), (2, 0)] {
        shop.pass_hours(days * 24);
        shop.prune(&sweep(Vec::new())).await.0.unwrap();
        assert_eq!(left(), marks, "{days} days later");
    }
    assert!(shop.restored(1).await == nights[0]);
}

const ACTORS: usize = 3;

/// Whose turn it is, one call at a time; shared by the stores of all actors.
struct Order {
    memory: Arc<MemoryStore>,
    turns: Mutex<VecDeque<usize>>,
    /// Actors that have come to their first call of the race, or have ended.
    arrived: [AtomicUsize; ACTORS],
    /// Who dies when its turns are over.
    crashes: [bool; ACTORS],
    /// Whether a second put of one key replaces the first, as in a bucket.
    replaces: bool,
}

impl Order {
    async fn end(&self, actor: usize) {
        self.turns.lock().await.retain(|turn| *turn != actor);
        self.arrived[actor].store(1, Ordering::SeqCst);
    }

    async fn turn<T>(&self, actor: usize, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.arrived[actor].store(1, Ordering::SeqCst);
        while self.arrived.iter().any(|arrived| arrived.load(Ordering::SeqCst) == 0) {
            tokio::task::yield_now().await;
        }
        loop {
            let mut turns = self.turns.lock().await;
            if turns.front() == Some(&actor) {
                turns.pop_front();
                return call.await;
            }
            if !turns.contains(&actor) && self.crashes[actor] {
                return Err(StoreError::new(ErrorKind::Other, Operation::Put, "the host is off", ""));
            }
            if turns.is_empty() {
                return call.await;
            }
            drop(turns);
            tokio::task::yield_now().await;
        }
    }
}

/// The store as one of the racing actors sees it: what the race is about goes in turns.
struct Racing {
    order: Arc<Order>,
    actor: usize,
    manifest: String,
}

impl std::fmt::Debug for Racing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "actor {}", self.actor)
    }
}

impl Racing {
    async fn put_now(&self, key: &Key, body: Bytes, digest: [u8; 32]) -> Result<(), StoreError> {
        if self.order.replaces {
            assert_eq!(sha256(&body), digest);
            self.order.memory.replace(key.clone(), body);
            return Ok(());
        }
        self.order.memory.put(key, body, digest).await
    }
}

impl Store for Racing {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, digest: [u8; 32]) -> Answer<'a, ()> {
        let of_copy = names::digest_of(&self.manifest).unwrap();
        let is_raced = key.as_str().contains('.') && key.as_str().contains(&of_copy.to_string());
        let put = self.put_now(key, body, digest);
        if is_raced { Box::pin(self.order.turn(self.actor, put)) } else { Box::pin(put) }
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        self.order.memory.get(key)
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        self.order.memory.get_range(key, offset, len)
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        self.order.memory.head(key)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        let list = self.order.memory.list(prefix, after);
        let is_look = prefix.starts_with("marks/") && prefix != "marks/";
        if is_look { Box::pin(self.order.turn(self.actor, list)) } else { list }
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        let delete = self.order.memory.delete(key);
        let is_raced = key.as_str() == self.manifest || key.as_str().ends_with(".deleting");
        if is_raced { Box::pin(self.order.turn(self.actor, delete)) } else { delete }
    }

    fn clear_leftovers(&self) -> Answer<'_, u64> {
        self.order.memory.clear_leftovers()
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        self.order.memory.put_if_absent(key, body, sha256)
    }

    fn setting<'a>(&'a self, setting: Setting, scratch: &'a Key) -> Answer<'a, Seen> {
        self.order.memory.setting(setting, scratch)
    }

    fn now(&self) -> Timestamp {
        self.order.memory.now()
    }

    fn has_clock(&self) -> bool {
        self.order.memory.has_clock()
    }

    fn requests(&self) -> Requests {
        self.order.memory.requests()
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

/// What became of the copy of night 1.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    /// Somebody was told that it stays.
    is_promised: bool,
    is_there: bool,
}

/// Actor 0 takes back what the others delete; `base` holds a copy that was marked for more than a grace.
async fn race(
    base: &Workshop,
    (turns, what): (&[usize], &str),
    deleters: usize,
    crashes: [bool; 3],
    replaces: bool,
) -> End {
    let shop = base.fork_at(base.store.now());
    let manifest = shop.manifest(1);
    let order = Arc::new(Order {
        memory: Arc::clone(&shop.memory),
        turns: Mutex::new(turns.iter().copied().collect()),
        arrived: Default::default(),
        crashes,
        replaces,
    });
    let act = async |actor: usize| {
        let store = Racing { order: Arc::clone(&order), actor, manifest: manifest.clone() };
        let task = if actor == 0 { undo(&shop, 1) } else { sweep(shop.leaving(&[1])) };
        let mut told = Vec::new();
        if actor <= deleters {
            let repository = shop.open_on(Arc::new(store)).await;
            let (events, lines) = events();
            let ended = prune(&repository, &task, shop.store.now(), &events).await;
            assert!(ended.is_ok() || crashes[actor], "{what}: actor {actor}: {ended:?}");
            told = only(&lines, RetiredAction::Undone);
        }
        order.end(actor).await;
        told
    };
    let (told, ..) = tokio::join!(act(0), act(1), act(2));
    let is_promised = !told.is_empty();
    let is_there = shop.keys("points/").contains(&manifest);
    assert_eq!(shop.list().await.0.unwrap().findings, 0, "{what}: a deletion that nothing proves");
    assert_whole(&shop, what).await;
    let end = End { is_promised, is_there };
    if is_promised {
        assert!(is_there, "{what}: {end:?}");
        // Even whoever still wants to delete it has to wait for a whole grace.
        let next = shop.prune(&sweep(shop.leaving(&[1]))).await;
        assert_eq!(next.1.retired(), [(1, RetiredAction::Marked)], "{what}");
    } else if is_there {
        shop.prune(&sweep(shop.leaving(&[1]))).await.0.unwrap();
    }
    assert_eq!(shop.list().await.0.unwrap().findings, 0, "{what}, one sweep later");
    assert_whole(&shop, what).await;
    end
}

async fn marked_for_a_grace() -> Workshop {
    let (shop, _) = three_nights().await;
    shop.prune(&sweep(shop.leaving(&[1]))).await.0.unwrap();
    shop.pass_hours(25);
    shop
}

/// Every order of `undo` steps of actor 0 and `delete` steps of actor 1.
fn orders(undo: usize, delete: usize) -> Vec<Vec<usize>> {
    if undo + delete == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (actor, left) in
        [(0, undo.checked_sub(1).map(|undo| (undo, delete))), (1, delete.checked_sub(1).map(|delete| (undo, delete)))]
    {
        let Some((undo, delete)) = left else { continue };
        all.extend(orders(undo, delete).into_iter().map(|rest| [vec![actor], rest].concat()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_back_and_whoever_deletes_see_each_other_in_every_order() {
    let base = marked_for_a_grace().await;
    let mut ends = std::collections::BTreeMap::new();
    // Two steps to take back (put, look), three to delete (put, look, delete); whoever has fewer is cut off.
    for (undo, delete) in (0..=2).flat_map(|undo| (0..=3).map(move |delete| (undo, delete))) {
        let crashes = [undo < 2, delete < 3, false];
        for turns in orders(undo, delete) {
            let what = format!("{turns:?}, cut off: {crashes:?}");
            let end = race(&base, (&turns, &what), 1, crashes, false).await;
            *ends.entry(end).or_insert(0) += 1;
        }
    }
    println!("{ends:?}");
    // Kept, deleted, and kept although nobody was told so.
    assert_eq!(ends.len(), 3, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_deleters_that_share_an_announcement_break_no_promise() {
    let base = marked_for_a_grace().await;
    let mut ends = std::collections::BTreeMap::new();
    for seed in 0..200_u64 {
        let bytes = blake3::hash(&seed.to_le_bytes());
        let turns: Vec<usize> = bytes.as_bytes().iter().map(|byte| usize::from(byte % 3)).collect();
        // In a bucket the second put of one name replaces the first.
        let end = race(&base, (&turns, &format!("seed {seed}")), 2, [false; 3], seed % 2 == 0).await;
        *ends.entry(end).or_insert(0) += 1;
    }
    println!("{ends:?}");
    assert!(ends.len() >= 2, "{ends:?}");
}
