//! A folder as a store, where it differs from a bucket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use dualsync_archive_store::contract::{ErrorKind, Key, Receipt, Store, StoreError};
use dualsync_archive_store::digest::sha256;
use dualsync_archive_store::directory::DirectoryStore;
use dualsync_archive_store::open;
use dualsync_archive_store::service::Patience;
use dualsync_model::job::{Place, Target};
use dualsync_model::time::Timestamp;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

fn store() -> (TempDir, DirectoryStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(folder.path(), "", NOW).unwrap();
    (folder, store)
}

async fn put(store: &dyn Store, name: &str, body: &'static [u8]) -> Result<Receipt, StoreError> {
    store.put(&Key::new(name).unwrap(), Bytes::from_static(body), sha256(body)).await
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_unmounted_target_is_an_error_and_stays_as_it_is() {
    let (folder, _) = store();
    let nas = folder.path().join("nas");
    let error = DirectoryStore::open(&nas, "p", NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingBucket);
    assert!(error.to_string().ends_with("there is no such bucket or directory"), "{error}");
    assert!(error.hint().contains("mount the directory"));
    assert_eq!(names(&folder), [""; 0]);
    fs::write(&nas, "not a folder").unwrap();
    assert_eq!(DirectoryStore::open(&nas, "", NOW).unwrap_err().kind(), ErrorKind::MissingBucket);
    assert_eq!(DirectoryStore::open(folder.path(), "a//b", NOW).unwrap_err().kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn links_lead_neither_writes_nor_reads_out_of_the_target() {
    let (folder, store) = store();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("shadow"), "secret").unwrap();
    symlink(outside.path(), folder.path().join("volumes")).unwrap();
    symlink(outside.path().join("shadow"), folder.path().join("repo.json")).unwrap();
    for name in ["volumes/1", "volumes/web/1"] {
        assert_eq!(put(&store, name, b"x").await.unwrap_err().kind(), ErrorKind::Denied);
    }
    fs::create_dir(folder.path().join("points")).unwrap();
    symlink(outside.path(), folder.path().join("points/web")).unwrap();
    for name in ["volumes/shadow", "repo.json"] {
        let error = store.get(&Key::new(name).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
    assert_eq!(store.list("", None).await.unwrap(), []);
    assert_eq!(fs::read_to_string(outside.path().join("shadow")).unwrap(), "secret");
}

#[tokio::test]
async fn what_a_crash_left_behind_is_passed_over() {
    let (folder, store) = store();
    fs::write(folder.path().join(".unfinished-0011223344556677"), "half").unwrap();
    put(&store, "repo.json", b"{}").await.unwrap();
    let listed = store.list("", None).await.unwrap();
    assert_eq!(listed.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["repo.json"]);
}

#[tokio::test]
async fn a_finished_put_leaves_one_file_and_a_refused_one_none() {
    let (folder, store) = store();
    fs::create_dir(folder.path().join("taken")).unwrap();
    put(&store, "a", b"1").await.unwrap();
    put(&store, "a", b"1").await.unwrap();
    assert_eq!(put(&store, "a", b"2").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    put(&store, "taken", b"by a folder").await.unwrap_err();
    assert_eq!(names(&folder), ["a", "taken"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_once_never_mix_their_bytes() {
    let (_folder, store) = store();
    let store = Arc::new(store);
    let bodies: [&[u8]; 3] = [b"one", b"two", b"one"];
    let tasks = (0..30).map(|number| {
        let (store, body) = (Arc::clone(&store), bodies[number % 3]);
        tokio::spawn(async move {
            let outcome = put(store.as_ref(), "points/web/manifest", body).await;
            (body, outcome.map_err(|error| error.kind()))
        })
    });
    let outcomes = futures::future::join_all(tasks).await;
    let winner = store.get(&Key::new("points/web/manifest").unwrap()).await.unwrap();
    for (body, outcome) in outcomes.into_iter().map(Result::unwrap) {
        let expected = if winner == body { Ok(()) } else { Err(ErrorKind::AlreadyExists) };
        assert_eq!(outcome.map(drop), expected);
    }
}

/// The test runs itself again as root of a name space of its own, where it may mount a small disk.
#[test]
fn a_full_disk_is_called_full_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=300k none \"$SMALL_DISK\"; exec \"$0\" --exact --nocapture on_a_small_disk")
        .arg(std::env::current_exe().unwrap())
        .env("SMALL_DISK", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    if said.contains("not permitted") || said.contains("ermission denied") {
        let must_run = std::env::var_os("DUALSYNC_NO_SKIP").is_some();
        assert!(!must_run, "this host gives no name spaces to users, and DUALSYNC_NO_SKIP is set");
        println!("skipped: this host gives no name spaces to users");
    } else {
        assert!(run.status.success() && said.contains("it was full"), "{said}");
    }
}

#[tokio::test]
async fn on_a_small_disk() {
    // Does its work only where the test above has put it.
    let Some(disk) = std::env::var_os("SMALL_DISK") else { return };
    let store = DirectoryStore::open(disk.as_ref(), "", NOW).unwrap();
    let body = Bytes::from(vec![1; 200 << 10]);
    let (first, second) = (Key::new("v/1").unwrap(), Key::new("v/2").unwrap());
    store.put(&first, body.clone(), sha256(&body)).await.unwrap();
    let error = store.put(&second, body.clone(), sha256(&body)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    assert!(error.to_string().ends_with("the store is full") && !error.may_retry());
    assert_eq!(fs::read_dir(std::path::Path::new(&disk).join("v")).unwrap().count(), 1);
    assert_eq!(store.get(&first).await.unwrap(), body);
    println!("it was full");
}

#[tokio::test]
async fn a_job_opens_its_directory_within_its_budget() {
    let (folder, _) = store();
    let place = Place::Directory { path: folder.path().into() };
    let target = Target { name: "nas".into(), place, prefix: "web-01".into(), credentials: None, immutability: None };
    let store = open(&target, NOW, Some(100 << 20), Patience::default()).await.unwrap();
    put(store.as_ref(), "repo.json", b"{}").await.unwrap();
    assert_eq!(fs::read(folder.path().join("web-01/repo.json")).unwrap(), b"{}");
    assert!(!store.has_clock());
    assert!((0..60).contains(&store.now().seconds_since(NOW)));
}

#[tokio::test]
async fn a_job_with_a_bucket_is_refused_without_good_credentials() {
    let place = Place::S3 { endpoint: "http://127.0.0.1:9".into(), region: "r".into(), bucket: "b".into() };
    let mut target =
        Target { name: "paris".into(), place, prefix: String::new(), credentials: None, immutability: None };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "[default]\naws_access_key_id = hunter2\n").unwrap();
    for credentials in [None, Some(format!("file:{}", file.path().display()))] {
        target.credentials = credentials.map(|reference| reference.parse().unwrap());
        let error = open(&target, NOW, None, Patience::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    fs::write(file.path(), "[default]\naws_access_key_id = A\naws_secret_access_key = B\n").unwrap();
    let store = open(&target, NOW, None, Patience::default()).await.unwrap();
    assert_eq!((store.describe().as_str(), store.requests().total()), ("bucket b at http://127.0.0.1:9", 0));
}

#[tokio::test]
async fn a_service_outside_this_build_is_refused_by_name() {
    let place = Place::Service { service: "dropbox".into(), options: [].into() };
    let target = Target { name: "box".into(), place, prefix: "web".into(), credentials: None, immutability: None };
    let error = open(&target, NOW, None, Patience::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("dropbox target box"), "{error}");
}

#[tokio::test]
async fn a_directory_proves_nothing_but_what_it_was_seen_to_hold() {
    let (_folder, store) = store();
    assert_eq!(put(&store, "volumes/1", b"body").await.unwrap(), Receipt::Taken);
    assert_eq!(put(&store, "volumes/1", b"body").await.unwrap(), Receipt::Proved, "the second put has read it");
}
