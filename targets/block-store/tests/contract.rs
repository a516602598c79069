//! The contract of `Store`, asked of every store there is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod support {
    pub mod garage;
    pub mod port;
}

use std::sync::Arc;

use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, Store};
use dualsync_block_store::digest::sha256;
use dualsync_block_store::directory::DirectoryStore;
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_block_store::memory::MemoryStore;
use dualsync_block_store::pause::Pause;
use dualsync_block_store::retry::{Patience, RetryingStore};
use dualsync_block_store::s3::{Bucket, S3Store};
use dualsync_model::time::Timestamp;
use support::garage::{BUCKET, Garage, REGION};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

async fn put(store: &dyn Store, name: &str, body: &[u8]) {
    store.put(&key(name), Bytes::copy_from_slice(body), sha256(body)).await.unwrap();
}

/// Everything a path relies on, below the folder `at` of a store that has nothing there yet.
async fn keeps_the_contract(store: &dyn Store, at: &str) {
    let name = |text: &str| format!("{at}/{text}");
    let before = store.requests();

    // Nothing there yet.
    assert!(store.head(&key(&name("packs/aa/1"))).await.unwrap().is_none());
    assert_eq!(store.get(&key(&name("packs/aa/1"))).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.get_range(&key(&name("packs/aa/1")), 0, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(store.list(&name(""), None).await.unwrap().is_empty());

    // What was put comes back, whole, in part, and twice; an empty object is an object.
    let body: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    put(store, &name("packs/aa/1"), &body).await;
    put(store, &name("packs/aa/1"), &body).await;
    put(store, &name("packs/empty"), b"").await;
    assert_eq!(store.get(&key(&name("packs/aa/1"))).await.unwrap(), body);
    assert_eq!(store.get(&key(&name("packs/empty"))).await.unwrap(), Bytes::new());
    let whole = key(&name("packs/aa/1"));
    assert_eq!(store.get_range(&whole, 4_000, 8).await.unwrap(), body[4_000..4_008]);
    assert_eq!(store.get_range(&whole, 799_999, 1).await.unwrap(), body[799_999..]);
    assert_eq!(store.get_range(&whole, 5, 0).await.unwrap(), Bytes::new());
    for (offset, len) in [(799_999, 2), (800_000, 1), (0, 800_001), (u64::MAX, 1), (1, u64::MAX)] {
        let error = store.get_range(&whole, offset, len).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "{offset} + {len}");
    }
    let info = store.head(&whole).await.unwrap().unwrap();
    assert_eq!((info.key, info.size), (whole, 800_000));

    // Listings are sorted by bytes, cut by any prefix, and go on behind a key.
    for text in ["b", "a/b", "a-b", "a/b c", "a/ä", "a.d/x"] {
        put(store, &name(&format!("list/{text}")), text.as_bytes()).await;
    }
    let listed = async |prefix: &str, after: Option<&str>| -> Vec<String> {
        let after = after.map(|after| name(&format!("list/{after}")));
        let found = store.list(&name(prefix), after.as_deref()).await.unwrap();
        found.iter().map(|info| info.key.as_str()[name("list/").len()..].to_owned()).collect()
    };
    let all = ["a-b", "a.d/x", "a/b", "a/b c", "a/ä", "b"];
    assert_eq!(listed("list/", None).await, all);
    assert_eq!(listed("list", None).await, all);
    assert_eq!(listed("list/", Some("a/b")).await, all[3..]);
    assert_eq!(listed("list/", Some("a/a")).await, all[2..]);
    assert_eq!(listed("list/a/", None).await, all[2..5]);
    assert_eq!(listed("list/a", Some("a.d/x")).await, all[2..5]);
    assert_eq!(listed("list/a/b", None).await, all[2..4]);
    assert!(listed("list/c", None).await.is_empty());
    assert!(listed("list/", Some("b")).await.is_empty());

    // What is deleted is gone, and deleting it again is no error.
    let doomed = key(&name("list/b"));
    store.delete(&doomed).await.unwrap();
    store.delete(&doomed).await.unwrap();
    assert!(store.head(&doomed).await.unwrap().is_none());
    assert_eq!(listed("list/", None).await, all[..5]);

    let after = store.requests();
    assert!(after.put >= before.put + 8 && after.get >= before.get + 9 && after.list >= before.list + 11);
    assert!(after.head >= before.head + 3 && after.delete >= before.delete + 2);
    assert!(!store.describe().is_empty());
}

/// A store that can tell refuses other bytes under a present key, and keeps the first.
async fn never_overwrites(store: &dyn Store, at: &str) {
    let name = key(&format!("{at}/once"));
    put(store, name.as_str(), b"first").await;
    for other in ["other", "longer than the first"] {
        let body = Bytes::from_static(other.as_bytes());
        let error = store.put(&name, body.clone(), sha256(&body)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }
    assert_eq!(store.get(&name).await.unwrap(), b"first"[..]);
}

/// A body that does not fit its digest does not become an object.
async fn checks_digests(store: &dyn Store, at: &str) {
    let name = key(&format!("{at}/wrong"));
    let error = store.put(&name, Bytes::from_static(b"body"), sha256(b"other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checksum);
    assert!(store.head(&name).await.unwrap().is_none());
}

async fn all(store: &dyn Store) {
    keeps_the_contract(store, "a").await;
    never_overwrites(store, "b").await;
    checks_digests(store, "c").await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    all(&MemoryStore::new(NOW)).await;
}

#[tokio::test]
async fn a_store_whose_every_third_call_fails_keeps_the_contract_by_trying_again() {
    for fault in [Fault::Fail(ErrorKind::Unavailable), Fault::Fail(ErrorKind::Throttled), Fault::LoseAnswer] {
        let memory = Arc::new(MemoryStore::new(NOW));
        let faulty = FaultyStore::new(memory, move |call| (call.number % 3 == 0).then_some(fault));
        let pause = Pause::new(|_| Box::pin(std::future::ready(())));
        all(&RetryingStore::new(Arc::new(faulty), Patience::default(), pause)).await;
    }
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    all(&DirectoryStore::open(folder.path(), "", NOW).unwrap()).await;
    let below: Arc<dyn Store> = Arc::new(DirectoryStore::open(folder.path(), "web-01/block", NOW).unwrap());
    all(below.as_ref()).await;
}

#[tokio::test]
async fn a_bucket_keeps_the_contract() {
    let Some(garage) = Garage::start() else { return };
    for prefix in ["", "web-01/block"] {
        let credentials = Credentials::new(&garage.access_key, &garage.secret_key, None, None, "test");
        let place = Bucket { endpoint: &garage.endpoint, region: REGION, bucket: BUCKET, prefix };
        let store = S3Store::open(place, credentials, NOW).unwrap();
        keeps_the_contract(&store, "a").await;
        checks_digests(&store, "c").await;
        assert!(store.has_clock());
    }
}
