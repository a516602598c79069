//! Object locks: everything a point needs is under one, the store is seen to enforce it, and a prune makes it longer.

use std::sync::Arc;

use dualsync_block::backup::{BackupError, Settings, backup};
use dualsync_block::keyfile;
use dualsync_block::locking::LockError;
use dualsync_block::names;
use dualsync_block::prune::{PruneError, prune_and_lock};
use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock, Operation, Store};
use dualsync_block_store::faulty::{Call, Fault, FaultyStore};
use dualsync_model::event::{Event, Pruned};
use dualsync_model::job::{Lock, LockMode, PruneTask};
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
    let repository = shop.open().await;
    prune_and_lock(&repository, task, shop.store.now(), Some(MODE), &events().0).await
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
