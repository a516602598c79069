//! A new key in the place of the old one: what each key opens, and what a crash in between leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dualsync_block::check::{Access, check};
use dualsync_block::keyfile;
use dualsync_block::repository::{Repository, RepositoryError};
use dualsync_block::rotate::{RotateError, Rotated, key_at_hand, lines, rotate};
use dualsync_block::secret::Secret;
use dualsync_block::trouble::Trouble;
use dualsync_block_store::contract::{ErrorKind, Store};
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_model::event::RetiredAction;
use dualsync_model::job::{CheckTask, Depth};
use dualsync_model::outcome::Exit;
use dualsync_model::secret::SecretRef;

use crate::support::{BLOCK, Workshop, events, noise, restore_task, sweep, task};

async fn rotated(shop: &Workshop) -> Rotated {
    rotate(&shop.store, &shop.key, None, shop.store.now()).await.unwrap()
}

fn path(shop: &Workshop) -> PathBuf {
    let SecretRef::File(path) = &shop.key else { panic!("the key is a file") };
    path.clone()
}

/// The same store with the key in this file.
fn with_key(shop: &Workshop, path: &Path) -> Workshop {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretRef::File(path.to_owned());
    Workshop {
        folder,
        memory: Arc::clone(&shop.memory),
        store: Arc::clone(&shop.store),
        key,
        is_versioned: shop.is_versioned,
    }
}

async fn can_write(shop: &Workshop) -> Result<(), RepositoryError> {
    shop.open().await.require_newest_key().await
}

#[tokio::test(flavor = "multi_thread")]
async fn new_points_need_the_new_key_and_old_ones_open_with_both() {
    let shop = Workshop::new().await;
    let first = noise(40 * BLOCK, 1);
    shop.night(1, &first).await;
    let done = rotated(&shop).await;
    let mut second = first.clone();
    second[5 * BLOCK..6 * BLOCK].copy_from_slice(&noise(BLOCK, 2));
    shop.begin_night(2);
    let made = shop.night(2, &second).await;
    assert!(made.added_bytes < 10 * BLOCK as u64, "unchanged blocks stay in the old packs: {}", made.added_bytes);
    assert!(shop.restored(1).await == first && shop.restored(2).await == second);
    let (checked, told) = shop.check(Depth::Objects).await;
    assert_eq!(checked.unwrap().findings, 0, "{:?}", told.findings());
    assert_eq!(shop.list().await.0.unwrap().points, 2);

    let [now, kept] = done.files.as_slice() else { panic!("{:?}", done.files) };
    assert_eq!((now, fs::metadata(kept).unwrap().permissions().mode() & 0o777), (&path(&shop), 0o600));
    let old = with_key(&shop, kept);
    assert!(old.restored(1).await == first);
    let to = old.folder.path().join("none.img");
    let refused = old.restore(&restore_task(2, &to)).await.0.unwrap_err();
    assert_eq!(Trouble::from(refused).exit(), Exit::WrongKey);
    let error = can_write(&old).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Rotated { .. }) && error.to_string().contains("was rotated"), "{error}");
    can_write(&shop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_rotated_three_times_opens_every_night() {
    let shop = Workshop::new().await;
    let mut nights = Vec::new();
    for night in 1..=4 {
        let bytes = noise(12 * BLOCK, u64::from(night));
        shop.begin_night(night);
        shop.night(night, &bytes).await;
        nights.push(bytes);
        if night < 4 {
            rotated(&shop).await;
        }
    }
    for (night, bytes) in (1..).zip(&nights) {
        assert!(shop.restored(night).await == *bytes, "night {night}");
    }
    let key = keyfile::read(&shop.key).await.unwrap();
    let told = lines(&dualsync_block::unlock::unlock(&*shop.store, &key).await.unwrap());
    assert_eq!(
        told.iter().map(|slot| slot.kind.as_str()).collect::<Vec<_>>(),
        ["rotated", "rotated", "rotated", "raw"]
    );
    assert_eq!(told.iter().filter(|slot| slot.current).count(), 1);
    assert!(told.iter().all(|slot| slot.created_at.is_some()));
    // Marks of before are proved, and deleting goes on.
    shop.pass_hours(24);
    let (_, marked) = shop.prune(&sweep(shop.leaving(&[1]))).await;
    assert_eq!(marked.retired(), [(1, RetiredAction::Marked)]);
    rotated(&shop).await;
    shop.pass_hours(25);
    let (_, deleted) = shop.prune(&sweep(shop.leaving(&[1]))).await;
    assert_eq!(deleted.retired(), [(1, RetiredAction::Deleted)]);
    assert!(shop.restored(2).await == nights[1]);
}

/// After a crash: the job at hand works, old points are there, a rotation finishes, and all is well.
async fn goes_on(shop: &Workshop, first: &[u8], old: dualsync_block::keys::KeyId, what: &str) {
    let (events, told) = events();
    let Secret::Raw(key) = key_at_hand(&*shop.store, &shop.key, &events).await.unwrap() else { panic!("the key") };
    let repository = Repository::open(Arc::clone(&shop.store), "frankfurt", &key, &shop.state()).await.unwrap();
    repository.require_newest_key().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let is_new = key.id() != old;
    // Whoever goes on with the draft says so.
    let is_unfinished = keyfile::read(&shop.key).await.unwrap().id() != key.id();
    assert_eq!(told.warnings() == ["rotation_unfinished"], is_unfinished, "{what}");
    let source = shop.source(first);
    shop.begin_night(2);
    shop.backup(Arc::new(repository), &task(2, &source), "commit").await.0.unwrap();
    if keyfile::read(&shop.key).await.unwrap().id() == old {
        let done = rotated(shop).await;
        assert!(!is_new || done.unlocked.keys.key_id() == key.id(), "{what}: the draft is finished, not a second one");
    }
    let now = keyfile::read(&shop.key).await.unwrap();
    assert_ne!(now.id(), old, "{what}");
    assert!(!keyfile::draft_of(&path(shop)).exists(), "{what}");
    assert!(shop.restored(1).await == first && shop.restored(2).await == first, "{what}");
    let (checked, told) = shop.check(Depth::Presence).await;
    assert_eq!(checked.unwrap().findings, 0, "{what}: {:?}", told.findings());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_request_of_a_rotation_loses_nothing() {
    let shop = Workshop::new().await;
    let first = noise(12 * BLOCK, 1);
    shop.night(1, &first).await;
    let old = keyfile::read(&shop.key).await.unwrap().id();
    let mut calls = 0;
    loop {
        for fault in [Fault::Fail(ErrorKind::Timeout), Fault::LoseAnswer] {
            let mut fork = shop.fork();
            let key = fork.folder.path().join("block.key");
            fs::copy(path(&shop), &key).unwrap();
            fork.key = SecretRef::File(key);
            let faulty: Arc<dyn Store> = Arc::new(FaultyStore::at_call(Arc::clone(&fork.store), calls, fault));
            match rotate(&faulty, &fork.key, None, fork.store.now()).await {
                Ok(_) if calls > 8 => return,
                Ok(_) => panic!("call {calls} was not made"),
                Err(_) => goes_on(&fork, &first, old, &format!("call {calls}, {fault:?}")).await,
            }
        }
        calls += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_files_of_a_rotation_loses_nothing() {
    let first = noise(12 * BLOCK, 1);
    for kept in [false, true] {
        let shop = Workshop::new().await;
        shop.night(1, &first).await;
        let file = path(&shop);
        let old = keyfile::read(&shop.key).await.unwrap();
        let text = fs::read(&file).unwrap();
        rotated(&shop).await;
        // As it was before the rename, with the second name of the old key or without.
        fs::rename(&file, keyfile::draft_of(&file)).unwrap();
        let second = keyfile::kept_of(&file, old.id());
        if kept {
            fs::hard_link(&second, &file).unwrap();
        } else {
            fs::remove_file(second).unwrap();
            fs::write(&file, &text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        goes_on(&shop, &first, old.id(), &format!("kept: {kept}")).await;
        assert_eq!(fs::read(keyfile::kept_of(&file, old.id())).unwrap(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_or_damaged_slot_costs_nothing_and_is_told_and_put_back() {
    let shop = Workshop::new().await;
    let first = noise(12 * BLOCK, 1);
    shop.night(1, &first).await;
    rotated(&shop).await;
    let id = keyfile::read(&shop.key).await.unwrap().id();
    for place in [format!("keys/{id}.json"), format!("keys/{id}.copy.json")] {
        let fork = shop.fork();
        fork.memory.remove(&place.parse().unwrap());
        assert!(fork.restored(1).await == first, "{place}");
        let (_, told) = fork.check(Depth::Presence).await;
        let found: Vec<_> = told.findings().into_iter().map(|finding| (finding.object, finding.kind)).collect();
        assert_eq!(found, [(place.clone(), "missing".to_owned())]);
        let task = dualsync_model::job::InitTask::default();
        dualsync_block::init::init(
            Arc::clone(&fork.store),
            "frankfurt",
            &fork.key,
            &fork.state(),
            &task,
            fork.store.now(),
        )
        .await
        .unwrap();
        assert_eq!(fork.memory.peek(&place.parse().unwrap()), shop.memory.peek(&place.parse().unwrap()));

        let fork = shop.fork();
        fork.memory.replace(place.parse().unwrap(), "{\"mac\":\"\"}".into());
        assert!(fork.restored(1).await == first, "{place}");
        assert_eq!(fork.check(Depth::Presence).await.1.findings().len(), 1, "{place}");
    }
    let fork = shop.fork();
    for place in shop.keys(&format!("keys/{id}")) {
        fork.memory.remove(&place.parse().unwrap());
    }
    let key = keyfile::read(&shop.key).await.unwrap();
    let error = Repository::open(fork.store, "frankfurt", &key, &shop.state()).await.unwrap_err();
    assert!(matches!(error, RepositoryError::WrongKey { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_puts_into_the_bucket_rotates_nothing() {
    let shop = Workshop::new().await;
    shop.night(1, &noise(12 * BLOCK, 1)).await;
    // A rotation of another repository, copied here under its own name and claiming this one's key.
    let other = Workshop::new().await;
    rotated(&other).await;
    let (ours, theirs) = (keyfile::read(&shop.key).await.unwrap().id(), keyfile::read(&other.key).await.unwrap().id());
    let place = format!("keys/{theirs}.json");
    let slot = other.memory.peek(&place.parse().unwrap()).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&slot).unwrap();
    let text = String::from_utf8(slot.to_vec()).unwrap();
    let claimed = text.replace(said["previous"]["key_id"].as_str().unwrap(), &ours.to_string());
    assert_ne!(claimed, text);
    for body in [slot.clone(), claimed.into()] {
        shop.memory.replace(place.parse().unwrap(), body);
        can_write(&shop).await.unwrap();
        let (_, told) = shop.check(Depth::Presence).await;
        assert_eq!(told.findings().iter().map(|finding| finding.kind.as_str()).collect::<Vec<_>>(), ["forged"]);
    }
    rotated(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rotations_at_once_one_is_refused() {
    let shop = Workshop::new().await;
    shop.night(1, &noise(12 * BLOCK, 1)).await;
    let elsewhere = shop.folder.path().join("elsewhere.key");
    fs::copy(path(&shop), &elsewhere).unwrap();
    let other = with_key(&shop, &elsewhere);
    rotated(&shop).await;
    shop.pass_hours(1);
    let error = rotate(&other.store, &other.key, None, shop.store.now()).await.unwrap_err();
    assert!(matches!(error, RotateError::Repository(RepositoryError::Rotated { .. })), "{error}");
    assert!(!keyfile::draft_of(&elsewhere).exists(), "no key is drawn in vain");

    // The other one had drawn its key and put its slot a moment later: it is not taken.
    let draft = dualsync_block::keys::RepositoryKey::new([9; 32]);
    keyfile::write(&keyfile::draft_of(&elsewhere), &draft, None).unwrap();
    let error = rotate(&other.store, &other.key, None, shop.store.now()).await.unwrap_err();
    assert!(matches!(error, RotateError::Repository(RepositoryError::Rotated { .. })), "{error}");
    assert_ne!(keyfile::read(&other.key).await.unwrap().id(), draft.id());
    can_write(&shop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_draft_of_a_rotation_that_lost_is_never_used() {
    let shop = Workshop::new().await;
    shop.night(1, &noise(12 * BLOCK, 1)).await;
    let elsewhere = shop.folder.path().join("elsewhere.key");
    let first = keyfile::read(&shop.key).await.unwrap().id();
    fs::copy(path(&shop), &elsewhere).unwrap();
    // The other host drew a key and put its slot while it did not see this one's, and was then refused.
    let fork = shop.fork();
    let lost = rotated(&with_key(&fork, &elsewhere)).await.unlocked.keys.key_id();
    fs::rename(&elsewhere, keyfile::draft_of(&elsewhere)).unwrap();
    fs::copy(path(&shop), &elsewhere).unwrap();
    rotated(&shop).await;
    shop.pass_hours(1);
    let place: dualsync_block_store::contract::Key = format!("keys/{lost}.json").parse().unwrap();
    shop.memory.replace(place.clone(), fork.memory.peek(&place).unwrap());

    let other = SecretRef::File(elsewhere.clone());
    let at_hand = key_at_hand(&*shop.store, &other, &events().0).await.unwrap();
    let Secret::Raw(at_hand) = at_hand else { panic!("the file holds a key") };
    assert_eq!(at_hand.id(), first, "its nights would be sealed with a key that is on no sheet");
    // It gets the new key by hand, and the draft stays: the next rotation must not lead back past that key.
    fs::copy(path(&shop), &elsewhere).unwrap();
    let outcome = rotate(&shop.store, &other, None, shop.store.now()).await;
    assert!(matches!(outcome, Err(RotateError::Taken { .. })), "{outcome:?}");
    assert_eq!(keyfile::read(&other).await.unwrap().id(), keyfile::read(&shop.key).await.unwrap().id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_file_goes_to_a_file_that_is_named() {
    let shop = Workshop::new().await;
    let first = noise(12 * BLOCK, 1);
    shop.night(1, &first).await;
    let command: SecretRef = format!("command:cat {}", path(&shop).display()).parse().unwrap();
    let now = shop.store.now();
    assert!(matches!(rotate(&shop.store, &command, None, now).await, Err(RotateError::NotAFile(_))));
    let to = shop.folder.path().join("new.key");
    assert!(matches!(rotate(&shop.store, &shop.key, Some(&to), now).await, Err(RotateError::IsAFile(_))));
    let before = fs::read(path(&shop)).unwrap();
    let faulty: Arc<dyn Store> = Arc::new(FaultyStore::new(Arc::clone(&shop.store), |call| {
        (call.operation == dualsync_block_store::contract::Operation::Put).then_some(Fault::Fail(ErrorKind::Timeout))
    }));
    rotate(&faulty, &command, Some(&to), now).await.unwrap_err();
    let drawn = keyfile::read(&SecretRef::File(to.clone())).await.unwrap().id();
    let done = rotate(&shop.store, &command, Some(&to), now).await.unwrap();
    assert_eq!((done.unlocked.keys.key_id(), done.files), (drawn, vec![to.clone()]));
    assert_eq!(fs::read(path(&shop)).unwrap(), before, "the old key stays where it is");
    assert!(with_key(&shop, &to).restored(1).await == first);
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let taken = rotate(&shop.store, &SecretRef::File(to.clone()), None, now).await.unwrap();
    assert_eq!(taken.old, drawn);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_key_that_lists_says_that_it_was_rotated() {
    let shop = Workshop::new().await;
    shop.night(1, &noise(12 * BLOCK, 1)).await;
    let done = rotated(&shop).await;
    let old = with_key(&shop, &done.files[1]);
    let (events, told) = events();
    let access = Access::Opened(old.open().await);
    let task = CheckTask { point: None, depth: Depth::Presence, slice: None };
    assert_eq!(check(&access, &task, &events).await.unwrap().findings, 0, "{:?}", told.findings());
    shop.begin_night(2);
    shop.night(2, &noise(12 * BLOCK, 2)).await;
    let (listed, told) = old.list().await;
    assert_eq!(listed.unwrap().points, 1);
    assert_eq!(told.findings()[0].kind, "wrong_key");
}
