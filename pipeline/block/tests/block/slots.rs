//! Further ways in: passphrases, keys of files, and the key of a deleter.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use dualsync_block::admit::{self, AdmitError};
use dualsync_block::check::{Access, check};
use dualsync_block::keyfile;
use dualsync_block::list::list;
use dualsync_block::prune::prune;
use dualsync_block::repository::{Repository, RepositoryError};
use dualsync_block::restore::restore;
use dualsync_block::rotate::rotate;
use dualsync_block::secret::Secret;
use dualsync_block::trouble::Trouble;
use dualsync_block::unlock::unlock;
use dualsync_model::event::RetiredAction;
use dualsync_model::job::{CheckTask, Depth};
use dualsync_model::keys::{KeySlot, NewKey};
use dualsync_model::outcome::Exit;
use dualsync_model::secret::SecretRef;

use crate::support::{BLOCK, Workshop, events, noise, restore_task, sweep};

fn private(path: &Path, text: &str) -> SecretRef {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    SecretRef::File(path.to_owned())
}

async fn add(shop: &Workshop, new: &NewKey) -> Result<KeySlot, AdmitError> {
    let secret = keyfile::read_any(&shop.key).await.unwrap();
    admit::add(&*shop.store, &secret, new, shop.store.now()).await
}

async fn remove(shop: &Workshop, id: &str) -> Result<KeySlot, AdmitError> {
    let secret = keyfile::read_any(&shop.key).await.unwrap();
    admit::remove(&*shop.store, &secret, id).await
}

async fn opened(shop: &Workshop, key: &SecretRef, state: &str) -> Result<Arc<Repository>, RepositoryError> {
    let secret = keyfile::read_any(key).await.unwrap();
    let state = shop.folder.path().join(state);
    Repository::open_with(Arc::clone(&shop.store), "frankfurt", &secret, &state).await.map(Arc::new)
}

/// The night through another way in, on a machine that has nothing else.
async fn restored(shop: &Workshop, key: &SecretRef, night: u32) -> Vec<u8> {
    let repository = opened(shop, key, "empty").await.unwrap();
    let to = shop.folder.path().join("elsewhere.img");
    let _ = fs::remove_file(&to);
    let (events, _) = events();
    assert_eq!(restore(repository, &restore_task(night, &to), &events).await.unwrap().damaged, 0);
    fs::read(to).unwrap()
}

fn passphrase(from: SecretRef) -> NewKey {
    NewKey::Passphrase { from, memory_mib: Some(64) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_and_a_key_file_open_the_repository_on_an_empty_machine_until_they_are_removed() {
    let shop = Workshop::new().await;
    let first = noise(12 * BLOCK, 1);
    shop.night(1, &first).await;
    let words = private(&shop.folder.path().join("words"), "correct horse battery staple\n");
    let by_words = add(&shop, &passphrase(words)).await.unwrap();
    let file = shop.folder.path().join("spare.key");
    let by_file = add(&shop, &NewKey::KeyFile { to: file.clone() }).await.unwrap();
    assert_eq!((by_words.kind.as_str(), by_file.kind.as_str()), ("passphrase", "wrapped"));
    assert_eq!(by_file.files, [file.display().to_string()]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let raw = keyfile::read(&shop.key).await.unwrap();
    assert!(text.contains("dualsync-block-slot-1:") && !text.contains(&raw.to_line()[21..]), "not the key itself");
    let again = add(&shop, &NewKey::KeyFile { to: file.clone() }).await;
    assert!(matches!(again, Err(AdmitError::Key(_))), "what is there stays");

    let typed = private(
        &shop.folder.path().join("typed.key"),
        "# from the safe\ndualsync-block-passphrase-1:correct horse battery staple\n",
    );
    let spare = SecretRef::File(file);
    assert!(restored(&shop, &typed, 1).await == first && restored(&shop, &spare, 1).await == first);
    let (checked, told) = shop.check(Depth::Presence).await;
    assert_eq!(checked.unwrap().findings, 0, "{:?}", told.findings());
    let wrong = private(&shop.folder.path().join("wrong"), "dualsync-block-passphrase-1:correct horse battery maple\n");
    let error = opened(&shop, &wrong, "empty").await.unwrap_err();
    assert!(matches!(error, RepositoryError::NoSlot { .. }), "{error}");
    assert_eq!(Trouble::from(error).exit(), Exit::WrongKey);

    let only = keyfile::read_any(&typed).await.unwrap();
    let refused = admit::remove(&*shop.store, &only, &by_words.id).await;
    assert!(matches!(refused, Err(AdmitError::Needed { .. })), "the only way in of a host that has but the words");
    remove(&shop, &by_words.id).await.unwrap();
    assert!(matches!(opened(&shop, &typed, "empty").await, Err(RepositoryError::NoSlot { .. })));
    assert!(restored(&shop, &spare, 1).await == first, "the other one stays");
    remove(&shop, &by_file.id).await.unwrap();
    assert!(matches!(opened(&shop, &spare, "empty").await, Err(RepositoryError::NoSlot { .. })));
    assert!(shop.restored(1).await == first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_weak_or_the_last_way_in_is_refused() {
    let shop = Workshop::new().await;
    let at = |name: &str| shop.folder.path().join(name);
    for (name, words) in [("short", "too short"), ("lines", "two lines of words\nare not one")] {
        let refused = add(&shop, &passphrase(private(&at(name), words))).await;
        assert!(matches!(refused, Err(AdmitError::Short)), "{words}");
    }
    let words = private(&at("words"), "correct horse battery staple");
    for mib in [0, 63, 1025, u32::MAX] {
        let new = NewKey::Passphrase { from: words.clone(), memory_mib: Some(mib) };
        assert!(matches!(add(&shop, &new).await, Err(AdmitError::Argon(_))), "{mib}");
    }
    assert_eq!(shop.keys("keys/").len(), 1, "nothing was put");
    let raw = keyfile::read(&shop.key).await.unwrap().id().to_string();
    assert!(matches!(remove(&shop, &raw).await, Err(AdmitError::Needed { .. })));
    rotate(&shop.store, &shop.key, None, shop.store.now()).await.unwrap();
    let rotated = keyfile::read(&shop.key).await.unwrap().id().to_string();
    for needed in [&raw, &rotated] {
        assert!(matches!(remove(&shop, needed).await, Err(AdmitError::Needed { .. })), "{needed}");
    }
    for strange in ["", "../repo", "00112233445566778899aabbccddeeff"] {
        assert!(matches!(remove(&shop, strange).await, Err(AdmitError::NoSuch(_))), "{strange}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_no_key_of_the_repository_made_is_not_listed_and_hides_none() {
    let shop = Workshop::new().await;
    let first = noise(12 * BLOCK, 1);
    shop.night(1, &first).await;
    let words = private(&shop.folder.path().join("words"), "correct horse battery staple\n");
    let ours = add(&shop, &passphrase(words)).await.unwrap();
    // Who may put copies the slot under other names, a thousand years younger each.
    let bytes = shop.memory.peek(&format!("keys/{}.json", ours.id).parse().unwrap()).unwrap();
    let mut forged: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    forged["created_at"] = "3026-11-22T02:00:00Z".into();
    for number in 0..9 {
        let place = format!("keys/{number:032x}.json").parse().unwrap();
        shop.memory.replace(place, serde_json::to_vec(&forged).unwrap().into());
    }
    let unlocked = unlock(&*shop.store, &keyfile::read(&shop.key).await.unwrap()).await.unwrap();
    let listed = admit::lines(&*shop.store, &unlocked).await.unwrap();
    assert_eq!(listed.iter().map(|slot| &slot.id).collect::<Vec<_>>(), [&ours.id]);
    let (_, told) = shop.check(Depth::Presence).await;
    let kinds: Vec<_> = told.findings().into_iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, vec!["forged"; 9], "each is told");
    let line = "dualsync-block-passphrase-1:correct horse battery staple\n";
    let typed = private(&shop.folder.path().join("typed.key"), line);
    assert!(restored(&shop, &typed, 1).await == first, "the good one is found behind them");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_newer_keys_made_is_no_forgery_to_an_old_one() {
    let shop = Workshop::new().await;
    shop.night(1, &noise(12 * BLOCK, 1)).await;
    let SecretRef::File(path) = &shop.key else { panic!("the key is a file") };
    let old = shop.folder.path().join("old.key");
    fs::copy(path, &old).unwrap();
    for _ in 0..2 {
        rotate(&shop.store, &shop.key, None, shop.store.now()).await.unwrap();
    }
    add(&shop, &NewKey::KeyFile { to: shop.folder.path().join("spare.key") }).await.unwrap();
    let with_old = opened(&shop, &SecretRef::File(old), "old").await.unwrap();
    let (events, told) = events();
    let task = CheckTask { point: None, depth: Depth::Presence, slice: None };
    let checked = check(&Access::Opened(with_old), &task, &events).await.unwrap();
    assert_eq!(checked.findings, 0, "{:?}", told.findings());
    assert_eq!(told.warnings(), ["unproved"; 3], "two places of the newest key, and the spare one's slot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_from_before_a_rotation_opens_what_is_older_and_says_so() {
    let shop = Workshop::new().await;
    let first = noise(12 * BLOCK, 1);
    shop.night(1, &first).await;
    let file = shop.folder.path().join("spare.key");
    add(&shop, &NewKey::KeyFile { to: file.clone() }).await.unwrap();
    rotate(&shop.store, &shop.key, None, shop.store.now()).await.unwrap();
    shop.begin_night(2);
    shop.night(2, &noise(12 * BLOCK, 2)).await;
    let spare = SecretRef::File(file);
    assert!(restored(&shop, &spare, 1).await == first);
    let repository = opened(&shop, &spare, "empty").await.unwrap();
    assert!(matches!(repository.require_newest_key().await, Err(RepositoryError::Rotated { .. })));
    let secret = keyfile::read_any(&spare).await.unwrap();
    let new = NewKey::KeyFile { to: shop.folder.path().join("never.key") };
    let refused = admit::add(&*shop.store, &secret, &new, shop.store.now()).await;
    assert!(matches!(refused, Err(AdmitError::Repository(RepositoryError::Rotated { .. }))));
    let key = keyfile::read(&shop.key).await.unwrap();
    let unlocked = unlock(&*shop.store, &key).await.unwrap();
    let told = admit::lines(&*shop.store, &unlocked).await.unwrap();
    assert!(told[0].opens.contains("before a rotation"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retention_key_deletes_and_cannot_read() {
    let shop = Workshop::new().await;
    let nights: Vec<_> = (1..=3).map(|night| noise(12 * BLOCK, night)).collect();
    for (night, bytes) in (1..).zip(&nights[..2]) {
        shop.begin_night(night);
        shop.night(night, bytes).await;
    }
    rotate(&shop.store, &shop.key, None, shop.store.now()).await.unwrap();
    shop.begin_night(3);
    shop.night(3, &nights[2]).await;
    let file = shop.folder.path().join("retention.key");
    let made = add(&shop, &NewKey::Retention { to: file.clone() }).await.unwrap();
    assert_eq!(made.kind, "retention");
    let retention = SecretRef::File(file.clone());
    let held = fs::read_to_string(&file).unwrap();
    assert_eq!(held.matches("dualsync-block-retention-1:").count(), 2, "one line a key: {held}");

    let repository = opened(&shop, &retention, "pruner").await.unwrap();
    let (lines_of, told) = events();
    assert_eq!(list(&repository, None, &lines_of).await.unwrap().points, 3);
    assert_eq!(told.points().len(), 3);
    let access = Access::Opened(Arc::clone(&repository));
    let task = CheckTask { point: None, depth: Depth::Objects, slice: None };
    let (quiet, told) = events();
    assert_eq!(check(&access, &task, &quiet).await.unwrap().findings, 0, "{:?}", told.findings());
    let packs = shop.keys("packs/").len();
    for expected in [RetiredAction::Marked, RetiredAction::Deleted] {
        let (tell, told) = events();
        prune(&repository, &sweep(shop.leaving(&[1])), shop.store.now(), &tell).await.unwrap();
        assert_eq!(told.retired(), [(1, expected)]);
        shop.pass_hours(25);
    }
    let (tell, _) = events();
    prune(&repository, &sweep(Vec::new()), shop.store.now(), &tell).await.unwrap();
    assert!(shop.keys("packs/").len() < packs, "its packs are gone too");

    let to = shop.folder.path().join("never.img");
    assert!(!repository.keys().opens_content());
    let (tell, _) = events();
    let restored = restore(Arc::clone(&repository), &restore_task(3, &to), &tell).await;
    assert!(restored.map_or(true, |restored| restored.damaged == 12), "not a block of it");
    let _ = fs::remove_file(&to);
    let secret = keyfile::read_any(&retention).await.unwrap();
    let refused = admit::add(&*shop.store, &secret, &NewKey::KeyFile { to }, shop.store.now()).await;
    assert!(matches!(refused, Err(AdmitError::Repository(RepositoryError::ManifestsOnly { .. }))));
    assert!(shop.restored(2).await == nights[1] && shop.restored(3).await == nights[2]);

    // After a rotation it is outdated, and says that; removed, it is refused.
    rotate(&shop.store, &shop.key, None, shop.store.now()).await.unwrap();
    let outdated = opened(&shop, &retention, "pruner").await.unwrap();
    assert!(matches!(outdated.require_newest_key().await, Err(RepositoryError::Rotated { .. })));
    remove(&shop, &made.id).await.unwrap();
    assert!(matches!(opened(&shop, &retention, "pruner").await, Err(RepositoryError::Removed { .. })));
    let other = Workshop::new().await;
    assert!(matches!(opened(&other, &retention, "pruner").await, Err(RepositoryError::Removed { .. })));
    assert!(matches!(keyfile::read_any(&retention).await.unwrap(), Secret::Retention(_)));
}
