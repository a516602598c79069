//! What a store that enforces locks does with those of this path: a real Ceph gateway.

use bytes::Bytes;
use dualsync_archive_store::contract::{ErrorKind, Key, Lock, Receipt, StoreError};
use dualsync_archive_store::digest::sha256;
use dualsync_archive_store::open;
use dualsync_archive_store::service::Patience;
use dualsync_e2e::needs;
use dualsync_e2e::rgw::{COMMANDS, Rgw};
use dualsync_model::job::{LockMode, Place, Target};
use dualsync_model::time::Timestamp;

#[test]
fn a_gateway_enforces_the_locks_of_the_archive_path() {
    if !needs::commands(&COMMANDS) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rgw = Rgw::start(folder.path());
    let bucket = rgw.bucket("locked", true);
    let credentials = folder.path().join("credentials");
    std::fs::write(&credentials, &bucket.credentials).unwrap();
    std::fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let target = Target {
        name: "fr".to_owned(),
        place: Place::S3 { endpoint: bucket.endpoint, region: bucket.region.to_owned(), bucket: bucket.name },
        prefix: "web 01".to_owned(),
        credentials: Some(format!("file:{}", credentials.display()).parse().unwrap()),
        immutability: None,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = open(&target, Timestamp::from_seconds(0), None, Patience::brief()).await.unwrap();
        let key: Key = "volumes/web/1=2+3.tar".parse().unwrap();
        for body in ["first", "second"] {
            let put = store.put(&key, Bytes::from_static(body.as_bytes()), sha256(body.as_bytes())).await;
            assert_eq!(put.unwrap(), Receipt::Proved, "the gateway's ETag is the MD5 of what it has");
        }
        assert_eq!(store.lock_of(&key, None).await.unwrap(), None);
        let lock = Lock { mode: LockMode::Governance, until: store.now().plus_seconds(3_600) };
        store.lock(&key, None, lock).await.unwrap();
        let told = store.lock_of(&key, None).await.unwrap().unwrap();
        assert_eq!((told.mode, told.until.seconds_since(lock.until).abs() <= 1), (lock.mode, true));
        // The first version is not locked and goes; the second stays.
        let purged = store.purge(&key).await.unwrap();
        assert_eq!((purged.locked, purged.locked_bytes), (1, 6));
        assert_eq!(store.get(&key).await.unwrap(), b"second"[..]);
        let longer = Lock { until: lock.until.plus_seconds(3_600), ..lock };
        store.lock(&key, None, longer).await.unwrap();
        assert!(store.lock(&key, None, lock).await.is_err(), "never shorter");
        // By version: what somebody puts on top changes nothing for what lies below.
        let good = store.versions(key.as_str()).await.unwrap().unwrap().remove(0).id;
        store.delete(&key).await.unwrap();
        let told = store.versions(key.as_str()).await.unwrap().unwrap();
        assert!(
            told.len() == 2 && told[0].id == good && told[1].is_marker,
            "a marker of the same second is on top: {told:?}"
        );
        assert_eq!(store.get_version(&key, &good, 6).await.unwrap(), b"second"[..]);
        let kind = |outcome: Result<Bytes, StoreError>| outcome.unwrap_err().kind();
        assert_eq!(kind(store.get_version(&key, &good, 5).await), ErrorKind::TooLarge);
        let stricter = Lock { mode: LockMode::Compliance, until: longer.until.plus_seconds(60) };
        store.lock(&key, Some(&good), stricter).await.unwrap();
        let told = store.lock_of(&key, Some(&good)).await.unwrap().unwrap();
        assert!(told.mode == LockMode::Compliance && told.covers(Lock { until: longer.until, ..stricter }));
        let weaker = Lock { mode: LockMode::Governance, until: stricter.until.plus_seconds(60) };
        let refusal = store.lock(&key, Some(&good), weaker).await.unwrap_err();
        assert!([ErrorKind::Denied, ErrorKind::Locked].contains(&refusal.kind()), "{refusal:?}");
        assert_eq!(store.purge(&key).await.unwrap().locked, 1);
        // Without a lock everything goes, the marker of a plain deletion too.
        let other: Key = "marks/1".parse().unwrap();
        store.put(&other, Bytes::from_static(b"x"), sha256(b"x")).await.unwrap();
        store.delete(&other).await.unwrap();
        assert_eq!(store.versions("marks/").await.unwrap().unwrap().len(), 2);
        assert_eq!(store.purge(&other).await.unwrap().locked, 0);
        assert_eq!(store.versions("").await.unwrap().unwrap().len(), 1);
    });
}
