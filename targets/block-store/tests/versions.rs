//! Versions, delete markers and locks: in memory, and on a real Ceph gateway where there is one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock, Store};
use dualsync_block_store::digest::sha256;
use dualsync_block_store::memory::MemoryStore;
use dualsync_block_store::probe;
use dualsync_block_store::s3::{Bucket, S3Store};
use dualsync_block_store::versions::{Remains, erase};
use dualsync_e2e::needs;
use dualsync_e2e::rgw::{COMMANDS, Rgw};
use dualsync_model::event::CapabilityState;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

async fn put(store: &dyn Store, name: &str, body: &'static [u8]) {
    store.put(&key(name), Bytes::from_static(body), sha256(body)).await.unwrap();
}

async fn ids(store: &dyn Store, name: &str) -> Vec<(String, bool)> {
    let versions = store.versions(name).await.unwrap();
    versions.into_iter().map(|version| (version.id, version.is_marker)).collect()
}

/// What was overwritten or deleted is still there, and goes by its id.
async fn keeps_what_is_overwritten(store: &dyn Store) {
    assert!(store.keeps_versions().await.unwrap());
    put(store, "packs/aa/1", b"good").await;
    put(store, "packs/aa/1", b"other").await;
    put(store, "packs/aa/1x", b"a neighbour").await;
    store.delete(&key("packs/aa/1")).await.unwrap();
    assert!(store.head(&key("packs/aa/1")).await.unwrap().is_none());
    let versions = store.versions("packs/").await.unwrap();
    let own: Vec<_> = versions.iter().filter(|version| version.key == key("packs/aa/1")).collect();
    assert_eq!((own.len(), own.iter().filter(|version| version.is_marker).count()), (3, 1), "{versions:?}");
    assert!(own.iter().all(|version| version.is_latest == version.is_marker), "{versions:?}");
    let good = own.iter().find(|version| version.size == 4).unwrap();
    assert_eq!(store.get_version(&good.key, &good.id).await.unwrap(), b"good"[..]);

    assert_eq!(erase(store, &key("packs/aa/1"), true).await.unwrap(), Remains::default());
    let left = ids(store, "packs/").await;
    assert_eq!(left.len(), 1, "only the neighbour: {left:?}");
    // A second time, and of what never was.
    assert_eq!(erase(store, &key("packs/aa/1"), true).await.unwrap(), Remains::default());
    assert_eq!(erase(store, &key("packs/aa/1x"), true).await.unwrap(), Remains::default());
    assert!(ids(store, "packs/").await.is_empty());
}

/// A locked version stays until its time, hidden and counted; the lock is read back and made longer, never shorter.
async fn keeps_what_is_locked(store: &dyn Store, mode: LockMode) {
    let name = format!("packs/bb/{}", if mode == LockMode::Governance { "governance" } else { "compliance" });
    let (object, body) = (key(&name), Bytes::from_static(b"sealed"));
    let lock = ObjectLock { mode, until: store.now().plus_seconds(3600).whole_second() };
    store.put_locked(&object, body.clone(), sha256(&body), lock).await.unwrap();
    assert_eq!(store.get(&object).await.unwrap(), body);
    let told = store.lock_of(&object, None).await.unwrap().unwrap();
    assert!(told.mode == mode && (0..=1).contains(&told.until.seconds_since(lock.until)), "{told:?} for {lock:?}");
    let longer = ObjectLock { until: lock.until.plus_seconds(3600), ..lock };
    store.extend_lock(&object, None, longer).await.unwrap();
    let told = store.lock_of(&object, None).await.unwrap().unwrap();
    assert!((0..=1).contains(&told.until.seconds_since(longer.until)), "{told:?} for {longer:?}");
    assert_eq!(store.extend_lock(&object, None, lock).await.unwrap_err().kind(), ErrorKind::Denied, "shorter");
    let version = ids(store, &name).await.remove(0).0;
    assert_eq!(store.delete_version(&object, &version).await.unwrap_err().kind(), ErrorKind::Denied);

    let remains = Remains { versions: 1, bytes: 6 };
    assert_eq!(erase(store, &object, true).await.unwrap(), remains);
    assert!(store.head(&object).await.unwrap().is_none(), "what is locked does not come back");
    assert_eq!(erase(store, &object, true).await.unwrap(), remains, "and tells the same the next time");
    let left = ids(store, &name).await;
    assert_eq!(left.iter().filter(|(_, is_marker)| *is_marker).count(), 1, "no marker for each try: {left:?}");
    assert_eq!(store.get_version(&object, &version).await.unwrap(), body);
}

/// The good version under junk and under a marker is found as the oldest, and locked by its id; a lock gets stricter, never laxer.
async fn locks_what_is_covered(store: &dyn Store) {
    let object = key("packs/dd/1");
    for body in [&b"good"[..], b"junk!", b"junk again"] {
        put(store, object.as_str(), body).await;
    }
    store.delete(&object).await.unwrap();
    let listed = store.versions("packs/dd/").await.unwrap();
    let sizes: Vec<_> = listed.iter().filter(|version| !version.is_marker).map(|version| version.size).collect();
    assert_eq!(sizes, [10, 5, 4], "the newest first: {listed:?}");
    let good = listed.iter().find(|version| version.size == 4).unwrap().id.clone();
    let until = store.now().plus_seconds(7200).whole_second();
    assert_eq!(store.lock_of(&object, Some(&good)).await.unwrap(), None);
    for mode in [LockMode::Governance, LockMode::Compliance] {
        store.extend_lock(&object, Some(&good), ObjectLock { mode, until }).await.unwrap();
        let told = store.lock_of(&object, Some(&good)).await.unwrap().unwrap();
        assert!(told.mode == mode && (0..=1).contains(&told.until.seconds_since(until)), "{told:?}");
    }
    let laxer = ObjectLock { mode: LockMode::Governance, until: until.plus_seconds(3600) };
    assert_eq!(store.extend_lock(&object, Some(&good), laxer).await.unwrap_err().kind(), ErrorKind::Denied, "laxer");
    let junk = listed.iter().find(|version| version.size == 5).unwrap();
    store.delete_version(&object, &junk.id).await.unwrap();
    assert_eq!(store.delete_version(&object, &good).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(store.get_version(&object, &good).await.unwrap(), b"good"[..]);
}

#[tokio::test]
async fn memory_keeps_versions_and_locks() {
    let now = Timestamp::from_seconds(1_800_000_000);
    let store = MemoryStore::versioned(now);
    store.set_now(now);
    keeps_what_is_overwritten(&store).await;
    locks_what_is_covered(&store).await;
    for mode in [LockMode::Governance, LockMode::Compliance] {
        keeps_what_is_locked(&store, mode).await;
    }
    // When the lock has ended everything goes.
    store.set_now(now.plus_seconds(3 * 3600));
    assert_eq!(erase(&store, &key("packs/bb/governance"), true).await.unwrap(), Remains::default());
    assert!(ids(&store, "packs/bb/governance").await.is_empty());
    // Where there are none nobody is told that there are.
    let plain = MemoryStore::new(now);
    assert!(!plain.keeps_versions().await.unwrap());
    assert_eq!(plain.versions("").await.unwrap_err().kind(), ErrorKind::Unsupported);
    put(&plain, "packs/cc/1", b"x").await;
    erase(&plain, &key("packs/cc/1"), false).await.unwrap();
    assert!(plain.keys().is_empty());
}

#[tokio::test]
async fn a_real_gateway_keeps_versions_and_locks() {
    if !needs::commands(&COMMANDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rgw = Rgw::start(folder.path());
    let open = |name: &str, lock: bool| {
        let bucket = rgw.bucket(name, lock);
        let secret = |word: &str| {
            let line = bucket.credentials.lines().find(|line| line.starts_with(word)).unwrap();
            line.split_once(" = ").unwrap().1.to_owned()
        };
        let (id, secret) = (secret("aws_access_key_id"), secret("aws_secret_access_key"));
        let credentials = Credentials::new(id, secret, None, None, "test");
        let place =
            Bucket { endpoint: &bucket.endpoint, region: bucket.region, bucket: &bucket.name, prefix: "web-01" };
        S3Store::open(place, credentials, Timestamp::default()).unwrap()
    };
    let store = open("locked", true);
    keeps_what_is_overwritten(&store).await;
    locks_what_is_covered(&store).await;
    for mode in [LockMode::Governance, LockMode::Compliance] {
        keeps_what_is_locked(&store, mode).await;
    }
    let seen = probe(&store, store.now()).await.unwrap();
    for name in ["versioning", "object_lock", "delete"] {
        let capability = seen.iter().find(|capability| capability.name == name).unwrap();
        assert_eq!(capability.state, CapabilityState::Enforced, "{capability:?}");
    }
    let plain = open("plain", false);
    assert!(!plain.keeps_versions().await.unwrap());
    let seen = probe(&plain, store.now()).await.unwrap();
    assert_eq!(seen.iter().find(|seen| seen.name == "object_lock").unwrap().state, CapabilityState::Absent);
    assert!(plain.list("", None).await.unwrap().is_empty());
}
