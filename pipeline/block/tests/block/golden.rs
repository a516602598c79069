//! A small repository of format 1, made once: every later version of this code must read it.
//!
//! Two nights of one source, the second with a delta page, DEFLATE and raw blocks, a zero block.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use dualsync_block::check::{Access, check};
use dualsync_block::digest::Sha256;
use dualsync_block::events::Events;
use dualsync_block::init::RECOVER_TEXT;
use dualsync_block::keyfile;
use dualsync_block::points::Census;
use dualsync_block::repository::Repository;
use dualsync_block::restore::restore;
use dualsync_block::rotate::rotate;
use dualsync_block::secret::Secret;
use dualsync_block_store::contract::Store;
use dualsync_block_store::directory::DirectoryStore;
use dualsync_model::job::{CheckTask, Depth, RestoreTask, Shape};
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

/// SHA-256 of the source of each night.
const NIGHTS: [(&str, &str); 2] = [
    ("web@20261120T020000Z", include_str!("../golden/v1/night-1.sha256")),
    ("web@20261121T020000Z", include_str!("../golden/v1/night-2.sha256")),
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_opens_lists_checks_and_restores() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let folder = tempfile::tempdir().unwrap();
    copy(&golden, folder.path());
    let key_file = folder.path().join("block.key");
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let key = keyfile::read(&SecretRef::File(key_file)).await.unwrap();
    let now = Timestamp::from_compact("20261122T020000Z").unwrap();
    let store = Arc::new(DirectoryStore::open(&folder.path().join("repository"), "", now).unwrap());
    let repository = Repository::open(store, "golden", &key, &folder.path().join("state")).await.unwrap();
    let repository = Arc::new(repository);
    let census = Census::take(&repository).await.unwrap();
    assert!(census.findings.is_empty(), "{:?}", census.findings);
    let sequences: Vec<_> = census.heads.iter().map(|head| head.sequence).collect();
    assert_eq!(sequences, [1, 2]);
    let events = Events::new(Box::new(std::io::sink()));
    let task = CheckTask { point: None, depth: Depth::Objects, slice: None };
    assert_eq!(check(&Access::Opened(Arc::clone(&repository)), &task, &events).await.unwrap().findings, 0);
    for (point, sha256) in NIGHTS {
        let to = folder.path().join("restored.img");
        let task = RestoreTask {
            point: point.parse().unwrap(),
            to: to.clone(),
            shape: Shape::Image,
            paths: Vec::new(),
            resume: false,
            overwrite: true,
            dry_run: false,
            kernel_mount: false,
        };
        assert_eq!(restore(Arc::clone(&repository), &task, &events).await.unwrap().damaged, 0);
        assert_eq!(Sha256::of(&fs::read(&to).unwrap()).to_string(), sha256.trim(), "{point}");
    }
}

/// The old repository keeps its old `recover.py`, which knows no rotations: a newer one is put beside it.
#[tokio::test(flavor = "multi_thread")]
async fn version_1_can_be_rotated_and_its_new_recover_py_restores_with_the_new_key() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let folder = tempfile::tempdir().unwrap();
    copy(&golden, folder.path());
    let key_file = folder.path().join("block.key");
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let reference = SecretRef::File(key_file.clone());
    let now = Timestamp::from_compact("20261122T020000Z").unwrap();
    let at = folder.path().join("repository");
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&at, "", now).unwrap());
    let before = fs::read(at.join("recover.py")).unwrap();
    for _ in 0..2 {
        rotate(&store, &reference, None, now).await.unwrap();
    }
    let key = keyfile::read(&reference).await.unwrap();
    let repository = Repository::open(Arc::clone(&store), "golden", &key, &folder.path().join("state")).await.unwrap();
    let newest = format!("recover-{}.py", Sha256::of(RECOVER_TEXT.as_bytes()));
    assert_eq!(fs::read(at.join("recover.py")).unwrap(), before, "what was written once stays");
    assert_eq!(fs::read(at.join(&newest)).unwrap(), RECOVER_TEXT.as_bytes());
    assert_eq!(repository.recover_sha256(), Sha256::of(RECOVER_TEXT.as_bytes()));
    let told = dualsync_block::init::describe(&repository, &Secret::Raw(keyfile::read(&reference).await.unwrap()));
    assert_eq!(told.recover_sha256, repository.recover_sha256().to_string());
    assert!(told.facts.contains(&("recover.py to use".to_owned(), newest.clone())), "{:?}", told.facts);
    let events = Events::new(Box::new(std::io::sink()));
    let task = CheckTask { point: None, depth: Depth::Objects, slice: None };
    assert_eq!(check(&Access::Opened(Arc::new(repository)), &task, &events).await.unwrap().findings, 0);

    let recover = |script: &str, to: &Path| {
        std::process::Command::new("python3")
            .arg(at.join(script))
            .arg("--identity")
            .arg(&key_file)
            .args(["--point", NIGHTS[0].0, "--to"])
            .arg(to)
            .arg(&at)
            .output()
            .unwrap()
    };
    let to = folder.path().join("recovered.img");
    let done = recover(&newest, &to);
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(Sha256::of(&fs::read(&to).unwrap()).to_string(), NIGHTS[0].1.trim());
    assert!(!recover("recover.py", &folder.path().join("never.img")).status.success());
    // A slot that is lost is read from its second place; both lost, the newest key opens nothing.
    fs::remove_file(at.join(format!("keys/{}.json", key.id()))).unwrap();
    assert!(recover(&newest, &folder.path().join("again.img")).status.success());
    fs::remove_file(at.join(format!("keys/{}.copy.json", key.id()))).unwrap();
    let told = recover(&newest, &folder.path().join("never.img"));
    assert!(String::from_utf8_lossy(&told.stderr).contains("wrong key"), "{told:?}");
}
