//! What only a directory can do wrong: links, crumbs of a crash, a full disk, two writers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, Store, StoreError};
use dualsync_block_store::digest::sha256;
use dualsync_block_store::directory::DirectoryStore;
use dualsync_model::time::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn open(path: &Path) -> DirectoryStore {
    DirectoryStore::open(path, "", NOW).unwrap()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

async fn put(store: &dyn Store, name: &str, body: &'static [u8]) -> Result<(), StoreError> {
    store.put(&key(name), Bytes::from_static(body), sha256(body)).await
}

#[tokio::test]
async fn the_folder_of_the_target_is_never_made() {
    let folder = tempfile::tempdir().unwrap();
    let unmounted = folder.path().join("nas");
    let error = DirectoryStore::open(&unmounted, "web-01", NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingBucket);
    assert!(error.to_string().contains("nas/web-01: the bucket or directory does not exist"), "{error}");
    assert!(!unmounted.exists());
    fs::write(&unmounted, "a file").unwrap();
    assert_eq!(DirectoryStore::open(&unmounted, "", NOW).unwrap_err().kind(), ErrorKind::MissingBucket);
    let error = DirectoryStore::open(folder.path(), "../escape", NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_planted_link_leads_nothing_out_and_nothing_in() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), inside.path().join("packs")).unwrap();
    symlink(outside.path().join("secret"), inside.path().join("repo.json")).unwrap();
    let store = open(inside.path());
    assert_eq!(put(&store, "packs/aa", b"x").await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(put(&store, "packs/bb/cc", b"x").await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(store.get(&key("packs/secret")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(store.get(&key("repo.json")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert!(store.list("", None).await.unwrap().is_empty());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn crumbs_of_a_crash_are_no_objects_and_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("packs")).unwrap();
    fs::write(folder.path().join("packs/.tmp-0123456789abcdef"), "half an obj").unwrap();
    fs::create_dir(folder.path().join(".tmp-folder")).unwrap();
    fs::write(folder.path().join(".tmp-folder/x"), "x").unwrap();
    let store = open(folder.path());
    put(&store, "packs/a", b"whole").await.unwrap();
    let listed = store.list("", None).await.unwrap();
    assert_eq!(listed.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["packs/a"]);
}

#[tokio::test]
async fn a_write_that_succeeds_or_is_refused_leaves_no_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "a", b"one").await.unwrap();
    put(&store, "a", b"one").await.unwrap();
    put(&store, "a", b"two").await.unwrap_err();
    fs::create_dir(folder.path().join("b")).unwrap();
    put(&store, "b", b"a folder has this name").await.unwrap_err();
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_one_wins_and_the_equal_ones_agree() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let writers: Vec<_> = (0..24)
        .map(|number| {
            let store = Arc::clone(&store);
            let body: &'static [u8] = if number % 3 == 0 { b"odd one" } else { b"the same" };
            tokio::spawn(async move { (body, put(store.as_ref(), "deep/folder/object", body).await) })
        })
        .collect();
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.push(writer.await.unwrap());
    }
    let kept = store.get(&key("deep/folder/object")).await.unwrap();
    for (body, outcome) in outcomes {
        match outcome {
            Ok(()) => assert_eq!(kept, body),
            Err(error) => assert!(error.kind() == ErrorKind::AlreadyExists && kept != body, "{error:?}"),
        }
    }
}

/// Runs `full_disk` again in a mount namespace of its own, on a file system of 256 KiB.
#[test]
fn a_full_disk_is_told_in_one_sentence_and_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=256k none \"$0\" && exec \"$1\" --exact --nocapture inside::full_disk";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .args([folder.path(), &std::env::current_exe().unwrap()])
        .env("FULL_DISK", folder.path())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if err.contains("Operation not permitted") || err.contains("permission denied") {
        let must_run = std::env::var_os("DUALSYNC_NO_SKIP").is_some();
        assert!(!must_run, "no user namespaces here, and DUALSYNC_NO_SKIP is set");
        println!("skipped: no user namespaces here");
        return;
    }
    assert!(output.status.success() && out.contains("was full"), "{out}{err}");
}

mod inside {
    use super::*;

    #[tokio::test]
    async fn full_disk() {
        let Some(folder) = std::env::var_os("FULL_DISK") else { return };
        let store = open(Path::new(&folder));
        let body = Bytes::from(vec![7; 200 << 10]);
        store.put(&key("first"), body.clone(), sha256(&body)).await.unwrap();
        let error = store.put(&key("second"), body.clone(), sha256(&body)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.to_string().ends_with("there is no space left"), "{error}");
        assert!(!error.may_retry());
        assert_eq!(store.list("", None).await.unwrap().len(), 1);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "the temporary file is gone");
        println!("was full");
    }
}

#[tokio::test]
async fn the_time_of_a_directory_is_the_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "a", b"one").await.unwrap();
    assert!(!store.has_clock());
    assert!((0..60).contains(&store.now().seconds_since(NOW)));
}
