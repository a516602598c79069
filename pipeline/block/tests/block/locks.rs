//! Object locks: everything a point needs is under one, the store is seen to enforce it, and a prune makes it longer.

use std::sync::Arc;

use bytes::Bytes;
use dualsync_block::backup::{BackupError, Settings, backup};
use dualsync_block::digest::Sha256;
use dualsync_block::keyfile;
use dualsync_block::locking::{LockError, hold};
use dualsync_block::names;
use dualsync_block::prune::{PruneError, prune_and_lock};
use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock, Operation, Store};
use dualsync_block_store::faulty::{Call, Fault, FaultyStore};
use dualsync_model::event::{Event, Pruned};
use dualsync_model::job::{Anchor, Lock, LockMode, PruneTask};
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;

use crate::support::{BLOCK, Lines, Workshop, events, noise, point, settings, sweep, task};
use dualsync_block::trouble::Trouble;

const MODE: LockMode = LockMode::Compliance;
const DAY_S: i64 = 86_400;

fn until(night: u32, days: i64) -> Timestamp {
    point(night).time().plus_seconds(days * DAY_S)
}

/// Backs a night up under a lock of so many days.
async fn locked_night(
    shop: &Workshop,
    store: Arc<dyn Store>,
    night: u32,
    days: i64,
) -> (Result<(), BackupError>, Lines) {
    shop.begin_night(night);
    let source = shop.source(&noise(3 * BLOCK, u64::from(night)));
    let lock = Some(ObjectLock { mode: MODE, until: until(night, days) });
    let (events, lines) = events();
    let repository = shop.open_on(store).await;
    let mut commands = &b"{\"command\":\"commit\"}\n"[..];
    let settings = Settings { lock, ..settings() };
    let made = backup(repository, &task(night, &source), settings, &events, &mut commands).await;
    (made.map(drop), lines)
}

/// What a night needs: its manifest, map objects and packs.
fn needs(shop: &Workshop, night: u32) -> Vec<Key> {
    let clear = shop.clear(night);
    let packs = clear.packs.iter().map(|reference| names::pack(&reference.sha256));
    let maps = clear.maps.iter().map(|reference| names::map(&reference.sha256));
    packs.chain(maps).chain([shop.manifest(night).parse().unwrap()]).collect()
}

async fn lock_of(shop: &Workshop, key: &Key) -> Option<ObjectLock> {
    shop.store.lock_of(key, None).await.unwrap()
}

fn locks(shop: &Workshop, night: u32, days: i64) -> PruneTask {
    let leaving = shop.leaving(&[night]).remove(0);
    let lock = Lock { manifest: leaving.manifest, sha256: leaving.sha256, until: until(night, days) };
    PruneTask { locks: vec![lock], sweep: false, ..sweep(Vec::new()) }
}

async fn lock_longer(shop: &Workshop, task: &PruneTask) -> Result<Pruned, PruneError> {
    lock_on(shop, Arc::clone(&shop.store), task, MODE).await.0
}

/// The same through another store and by another mode.
async fn lock_on(
    shop: &Workshop,
    store: Arc<dyn Store>,
    task: &PruneTask,
    mode: LockMode,
) -> (Result<Pruned, PruneError>, Lines) {
    let repository = shop.open_on(store).await;
    let (events, lines) = events();
    (prune_and_lock(&repository, task, shop.store.now(), Some(mode), &events).await, lines)
}

/// The lock of the version that was put first.
async fn lock_of_first(shop: &Workshop, key: &Key) -> Option<ObjectLock> {
    let versions = shop.memory.peek_versions(key.as_str());
    let first = versions.iter().rfind(|version| version.key == *key && !version.is_marker).unwrap();
    shop.store.lock_of(key, Some(&first.id)).await.unwrap()
}

async fn one_locked_night() -> Workshop {
    let shop = Workshop::versioned().await;
    locked_night(&shop, Arc::clone(&shop.store), 1, 20).await.0.unwrap();
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_point_needs_is_locked() {
    let shop = Workshop::versioned().await;
    locked_night(&shop, Arc::clone(&shop.store), 1, 20).await.0.unwrap();
    let needed = needs(&shop, 1);
    assert!(needed.len() >= 3, "{needed:?}");
    for key in needed {
        assert_eq!(lock_of(&shop, &key).await, Some(ObjectLock { mode: MODE, until: until(1, 20) }), "{key}");
    }
    let heartbeat = shop.keys("runs/").into_iter().find(|key| !key.contains("checkpoint")).unwrap();
    let short = lock_of(&shop, &heartbeat.parse().unwrap()).await.unwrap();
    assert!(short.until < shop.store.now().plus_seconds(3600), "the heartbeat only proves: {short:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_only_pretends_to_lock_gets_no_point() {
    let plain = Workshop::new().await;
    let (ended, lines) = locked_night(&plain, Arc::clone(&plain.store), 1, 20).await;
    let error = ended.unwrap_err();
    assert!(matches!(error, BackupError::Lock(LockError::None(_))), "{error:?}");
    let trouble = Trouble::from(error);
    assert_eq!((trouble.exit(), trouble.failure().code.as_str()), (Exit::Failed, "refused"));
    assert!(plain.keys("packs/").is_empty() && plain.keys("points/").is_empty(), "nothing else was put before");
    assert!(!lines.all().iter().any(|event| matches!(event, Event::Prepared(_))));

    let shop = Workshop::versioned().await;
    let is_proof = |call: &Call<'_>| call.operation == Operation::Delete && call.object.starts_with("runs/");
    let memory = Arc::clone(&shop.memory);
    let obeys = FaultyStore::new(Arc::clone(&shop.store), move |call| {
        if is_proof(&call) {
            // To this store the lock has ended.
            memory.set_now(memory.now().plus_seconds(DAY_S));
        }
        None
    });
    let error = locked_night(&shop, Arc::new(obeys), 1, 20).await.0.unwrap_err();
    assert!(matches!(error, BackupError::Lock(LockError::Obeyed(_))), "{error:?}");
    assert!(error.to_string().contains("deleted the object all the same"), "{error}");
    let silent = FaultyStore::new(Arc::clone(&shop.store), move |call| {
        is_proof(&call).then_some(Fault::Fail(ErrorKind::Timeout))
    });
    let error = locked_night(&shop, Arc::new(silent), 1, 20).await.0.unwrap_err();
    assert!(matches!(error, BackupError::Lock(LockError::Store(_))), "no answer proves nothing: {error:?}");
    assert!(shop.keys("packs/").is_empty() && shop.keys("points/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_may_not_touch_versions_go_by_what_is_read_back() {
    for (operation, folder) in [(Operation::List, "runs/web/"), (Operation::Delete, "runs/")] {
        let shop = Workshop::versioned().await;
        let put_only = FaultyStore::new(Arc::clone(&shop.store), move |call| {
            let is_asked = call.operation == operation && call.object.starts_with(folder) && call.object.len() > 20;
            is_asked.then_some(Fault::Fail(ErrorKind::Denied))
        });
        locked_night(&shop, Arc::new(put_only), 1, 20).await.0.unwrap();
        assert!(lock_of(&shop, &needs(&shop, 1)[0]).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_makes_locks_longer_once_and_never_shorter() {
    let shop = Workshop::versioned().await;
    locked_night(&shop, Arc::clone(&shop.store), 1, 20).await.0.unwrap();
    let needed = needs(&shop, 1);
    let pruned = lock_longer(&shop, &locks(&shop, 1, 50)).await.unwrap();
    let slot = keyfile::read(&shop.key).await.unwrap().id();
    let ways_in =
        ["repo.json", "README.txt", "recover.py", &format!("keys/{slot}.json")].map(|key| key.parse().unwrap());
    assert_eq!(pruned.locked_objects, (needed.len() + ways_in.len()) as u64);
    for key in needed.iter().chain(&ways_in) {
        assert_eq!(lock_of(&shop, key).await.unwrap().until, until(1, 50), "{key}");
    }
    // A night without news asks for nothing.
    let before = shop.store.requests();
    let pruned = lock_longer(&shop, &locks(&shop, 1, 50)).await.unwrap();
    let after = shop.store.requests();
    assert_eq!((pruned.locked_objects, after.put - before.put, after.head - before.head), (0, 0, 0));
    // Without what the state folder remembers it asks, and changes nothing.
    std::fs::remove_file(shop.state().join("locks.txt")).unwrap();
    for days in [50, 30] {
        assert_eq!(lock_longer(&shop, &locks(&shop, 1, days)).await.unwrap().locked_objects, 0, "{days} days");
    }
    assert_eq!(lock_of(&shop, &needed[0]).await.unwrap().until, until(1, 50));
    let dry = PruneTask { dry_run: true, ..locks(&shop, 1, 90) };
    lock_longer(&shop, &dry).await.unwrap();
    assert_eq!(lock_of(&shop, &needed[0]).await.unwrap().until, until(1, 50), "a dry run changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_without_a_mode_are_wrong_usage() {
    let shop = Workshop::versioned().await;
    locked_night(&shop, Arc::clone(&shop.store), 1, 20).await.0.unwrap();
    let error = shop.prune(&locks(&shop, 1, 50)).await.0.unwrap_err();
    assert!(matches!(error, PruneError::NoMode) && Trouble::from(error).exit() == Exit::Usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_thief_puts_on_top_does_not_keep_the_good_version_from_being_locked() {
    let shop = one_locked_night().await;
    let (task, needed, slot) = (locks(&shop, 1, 50), needs(&shop, 1), shop.keys("keys/").remove(0).parse().unwrap());
    let junk = |key: &Key| shop.memory.replace(key.clone(), Bytes::from_static(b"junk"));
    for key in needed.iter().chain([&slot]) {
        junk(key);
        junk(key);
        if key.as_str().starts_with("packs/") {
            shop.memory.remove(key);
        }
    }
    let before = shop.store.requests();
    let (pruned, lines) = lock_on(&shop, Arc::clone(&shop.store), &task, MODE).await;
    let after = shop.store.requests();
    assert_eq!(pruned.unwrap().locked_objects, needed.len() as u64 + 4);
    for key in needed.iter().chain([&slot]) {
        let lock = ObjectLock { mode: MODE, until: until(1, 50) };
        assert_eq!(lock_of_first(&shop, key).await, Some(lock), "{key}");
        let versions = shop.memory.peek_versions(key.as_str());
        let newest = versions.iter().find(|version| !version.is_marker).unwrap();
        assert_eq!(
            shop.store.lock_of(key, Some(&newest.id)).await.unwrap(),
            Some(lock),
            "it may be a second put: {key}"
        );
    }
    assert_eq!(lines.warnings(), ["shadowed"], "{:?}", lines.all());
    // Folder by folder, and once.
    let between = shop.store.requests();
    let (pruned, lines) = lock_on(&shop, Arc::clone(&shop.store), &task, MODE).await;
    let quiet = shop.store.requests();
    assert_eq!((pruned.unwrap().locked_objects, lines.warnings()), (0, Vec::new()));
    assert_eq!((quiet.put - between.put, quiet.head - between.head), (0, 0), "nothing is asked about");
    let listings = (after.list - before.list) - (quiet.list - between.list);
    assert_eq!(listings, 7, "packs, maps, points, keys, and the three objects of the top folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mode_and_another_first_version_are_noticed() {
    let shop = one_locked_night().await;
    let pack = needs(&shop, 1).remove(0);
    let governance = ObjectLock { mode: LockMode::Governance, until: until(1, 60) };
    let laxer = lock_on(&shop, Arc::clone(&shop.store), &locks(&shop, 1, 60), LockMode::Governance).await.0.unwrap();
    assert_eq!(
        lock_of(&shop, &pack).await,
        Some(ObjectLock { mode: MODE, ..governance }),
        "compliance stays, and lasts"
    );
    let repo = "repo.json".parse().unwrap();
    assert_eq!(
        (lock_of(&shop, &repo).await, laxer.locked_objects),
        (Some(governance), needs(&shop, 1).len() as u64 + 4)
    );
    let stricter = lock_longer(&shop, &locks(&shop, 1, 50)).await.unwrap();
    assert_eq!(lock_of(&shop, &repo).await, Some(ObjectLock { mode: MODE, ..governance }), "stricter, and as long");
    assert_eq!(stricter.locked_objects, 4);
    // Where the store lets nobody make it stricter, it is made longer, and somebody is told.
    let fork = shop.fork();
    lock_on(&fork, Arc::clone(&fork.store), &locks(&shop, 1, 70), LockMode::Governance).await.0.unwrap();
    let readme: Key = "README.txt".parse().unwrap();
    fork.store.delete(&readme).await.unwrap();
    let lax = ObjectLock { mode: LockMode::Governance, until: until(1, 20) };
    let body = shop.memory.peek(&readme).unwrap();
    fork.store.put_locked(&readme, body.clone(), Sha256::of(&body).0, lax).await.unwrap();
    let puts = std::sync::atomic::AtomicU64::new(0);
    let refuses = FaultyStore::new(Arc::clone(&fork.store), move |call| {
        let is_lock = call.operation == Operation::Put && call.object == "README.txt";
        // The second: the first version is stricter already.
        let is_second = is_lock && puts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
        is_second.then_some(Fault::Fail(ErrorKind::Denied))
    });
    let (ended, lines) = lock_on(&fork, Arc::new(refuses), &locks(&shop, 1, 80), MODE).await;
    ended.unwrap();
    assert!(lines.warnings().contains(&"locks".to_owned()), "{:?}", lines.all());
    assert_eq!(lock_of(&fork, &readme).await, Some(ObjectLock { until: until(1, 80), ..lax }));
    // The first version was taken away after its lock had ended: what is the first one now is locked.
    let first = shop.memory.peek_versions(pack.as_str()).pop().unwrap();
    let fork = shop.fork_at(until(1, 61));
    fork.memory.replace(pack.clone(), shop.memory.peek(&pack).unwrap());
    fork.store.delete_version(&pack, &first.id).await.unwrap();
    let task = locks(&shop, 1, 90);
    lock_longer(&fork, &task).await.unwrap();
    assert_eq!(lock_of_first(&fork, &pack).await.map(|lock| lock.until), Some(until(1, 90)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_locked_or_read_keeps_nothing_else_from_being_locked() {
    let shop = one_locked_night().await;
    let (needed, task) = (needs(&shop, 1), locks(&shop, 1, 50));
    let pack = needed[0].clone();
    let is_pack = pack.clone();
    let refuses = FaultyStore::new(Arc::clone(&shop.store), move |call| {
        let is_lock = call.operation == Operation::Put && call.object == is_pack.as_str();
        is_lock.then_some(Fault::Fail(ErrorKind::Denied))
    });
    let error = lock_on(&shop, Arc::new(refuses), &task, MODE).await.0.unwrap_err();
    assert!(matches!(&error, PruneError::Locks { refused: 1, first, .. } if *first == pack), "{error:?}");
    assert_eq!(Trouble::from(error).exit(), Exit::Failed);
    let is_long = async |key: &Key| lock_of_first(&shop, key).await.unwrap().until == until(1, 50);
    for key in &needed[1..] {
        assert!(is_long(key).await, "{key}");
    }
    assert!(!is_long(&pack).await);
    // One name that is no manifest's, one manifest that is junk, and one that nobody can read: the locks come first.
    shop.memory.replace("points/junk".parse().unwrap(), Bytes::from_static(b"junk"));
    let strange = names::manifest("points/web/20261123T020000Z-0011223344556677", &Sha256::of(b"never"));
    let sealed = names::manifest("points/web/20261124T020000Z-0011223344556677", &Sha256::of(b"never"));
    for key in [&strange, &sealed] {
        shop.memory.replace(key.clone(), Bytes::from_static(b"junk"));
    }
    let by_another_key = sealed.clone();
    let refuses = FaultyStore::new(Arc::clone(&shop.store), move |call| {
        let is_sealed = call.operation == Operation::Get && call.object == by_another_key.as_str();
        is_sealed.then_some(Fault::Fail(ErrorKind::Denied))
    });
    let (pruned, lines) = lock_on(&shop, Arc::new(refuses), &task, MODE).await;
    assert_eq!(pruned.unwrap().locked_objects, 1, "the pack of before");
    assert!(is_long(&pack).await);
    let told: Vec<_> = lines.findings().into_iter().map(|finding| finding.object).collect();
    for object in ["points/junk", strange.as_str(), sealed.as_str()] {
        assert!(told.iter().any(|told| told == object), "{object}: {told:?}");
    }
    // Deleting waits for somebody who looks; locking does not.
    let sweeps = PruneTask { sweep: true, ..locks(&shop, 1, 70) };
    let error = lock_longer(&shop, &sweeps).await.unwrap_err();
    assert!(matches!(error, PruneError::Unreadable(3)), "{error:?}");
    let foreign = Anchor { sequence: 9, sha256: "ab".repeat(32) };
    let older = PruneTask { remembered: Some(foreign), ..locks(&shop, 1, 80) };
    for (task, days) in [(&sweeps, 70), (&older, 80)] {
        let _ = lock_longer(&shop, task).await;
        for key in &needed {
            assert_eq!(lock_of_first(&shop, key).await.unwrap().until, until(1, days), "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_do_not_list_versions_lock_what_lies_on_top_and_say_so() {
    let shop = one_locked_night().await;
    let blind = FaultyStore::new(Arc::clone(&shop.store), |call| {
        let is_versions = call.operation == Operation::List && call.object == "repo.json";
        is_versions.then_some(Fault::Fail(ErrorKind::Denied))
    });
    let (pruned, lines) = lock_on(&shop, Arc::new(blind), &locks(&shop, 1, 50), MODE).await;
    assert_eq!(
        (pruned.unwrap().locked_objects, lines.warnings()),
        (needs(&shop, 1).len() as u64 + 4, vec!["versions".to_owned()])
    );
    for key in needs(&shop, 1) {
        assert_eq!(lock_of(&shop, &key).await.unwrap().until, until(1, 50), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slots_of_a_rotation_are_locked_before_the_next_run() {
    let shop = one_locked_night().await;
    let slots = shop.open().await.slot_places().to_vec();
    let gone = "keys/00000000000000000000000000000000.json".parse().unwrap();
    hold(&*shop.store, &[slots.clone(), vec![gone]].concat(), MODE).await.unwrap();
    for slot in shop.keys("keys/") {
        let lock = lock_of(&shop, &slot.parse().unwrap()).await.unwrap();
        assert!(slots.iter().any(|place| place.as_str() == slot) && lock.mode == MODE, "{slot}: {lock:?}");
        assert!(lock.until.seconds_since(shop.store.now()) >= 13 * DAY_S, "{lock:?}");
    }
}
