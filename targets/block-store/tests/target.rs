//! From the words of a job to a store that works.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bytes::Bytes;
use dualsync_block_store::contract::ErrorKind;
use dualsync_block_store::digest::sha256;
use dualsync_block_store::open;
use dualsync_block_store::retry::Patience;
use dualsync_model::job::{Place, Target};
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn bucket(credentials: Option<SecretRef>) -> Target {
    let place = Place::S3 { endpoint: "http://127.0.0.1:9".into(), region: "r".into(), bucket: "b".into() };
    Target { name: "frankfurt".into(), place, prefix: "web-01".into(), credentials, immutability: None }
}

fn credentials_file(folder: &Path, content: &str, mode: u32) -> SecretRef {
    let path = folder.join("credentials");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    SecretRef::File(path)
}

const GOOD: &str = "[default]\naws_access_key_id = A\naws_secret_access_key = hunter2\n";

#[tokio::test]
async fn a_directory_target_works_with_and_without_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Directory { path: folder.path().into() };
    let target = Target { name: "nas".into(), place, prefix: "web-01".into(), credentials: None, immutability: None };
    for (bandwidth, name) in [(None, "free"), (Some(50 << 20), "limited")] {
        let store = open(&target, NOW, bandwidth, Patience::default()).await.unwrap();
        let body = Bytes::from_static(b"body");
        store.put(&name.parse().unwrap(), body.clone(), sha256(&body)).await.unwrap();
        assert_eq!(fs::read(folder.path().join("web-01").join(name)).unwrap(), body);
    }
}

#[tokio::test]
async fn a_bucket_target_is_complete_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&bucket(Some(credentials_file(folder.path(), GOOD, 0o600))), NOW, None, Patience::default())
        .await
        .unwrap();
    assert_eq!(store.describe(), "bucket b/web-01 at http://127.0.0.1:9");
    assert_eq!(store.requests().total(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_the_credentials_is_said_and_they_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |credentials: Option<SecretRef>, words: &str| {
        let error = open(&bucket(credentials), NOW, None, Patience::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().starts_with("cannot open target frankfurt"), "{error}");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(words) && !format!("{error:?}").contains("hunter2"), "{cause}");
    };
    check(None, "no credentials").await;
    check(Some(credentials_file(folder.path(), GOOD, 0o644)), "chmod 0600").await;
    check(
        Some(credentials_file(folder.path(), "[default]\naws_access_key_id=hunter2", 0o600)),
        "aws_secret_access_key",
    )
    .await;
    check(Some("file:/nonexistent/file".parse().unwrap()), "cannot read the secret").await;
}

#[tokio::test]
async fn services_of_the_other_path_are_refused() {
    let place = Place::Service { service: "sftp".into(), options: [].into() };
    let target = Target { name: "x".into(), place, prefix: String::new(), credentials: None, immutability: None };
    assert_eq!(open(&target, NOW, None, Patience::default()).await.unwrap_err().kind(), ErrorKind::Unsupported);
}
