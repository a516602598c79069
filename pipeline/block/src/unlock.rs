//! From a key at hand to every key of the repository: `repo.json`, then slot by slot back to the first key.
//!
//! `repo.json` is written once and proved by the first key for ever. A key that came later has a slot that
//! holds the one before it; the walk ends where the MAC of `repo.json` fits. A wrong key, a missing repository,
//! an unknown version and damage are four different answers.

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, ObjectInfo, Store, StoreError};
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::document::Unproven;
use crate::fetch::{ObjectError, Problem};
use crate::format::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, DOCUMENT_BYTES_MAX, VERSION};
use crate::keys::{Branches, KeyId, KeyTree, RepositoryId, RepositoryKey};
use crate::names;
use crate::repository::{RepoInfo, RepositoryError};
use crate::secret::{Retention, Secret};
use crate::slot::{self, KeySlot};
use crate::wrap::{Bound, Opener};

/// A repository rotates its key at most so often; a reader walks no further.
pub const ROTATIONS_MAX: usize = 64;
/// A passphrase is tried with so many slots: each takes the memory and up to seconds of time that it asks for. Nobody makes
/// so many; who may put can, and then it is slow, and `keys list` tells which ones a key of the repository made.
const TRIES_MAX: usize = 64;

/// What a key opened.
#[derive(Debug)]
pub struct Unlocked {
    /// Every key, the one at hand first.
    pub keys: KeyTree,
    /// The slots of these keys, in their order. That of the first key, which `repo.json` proves, is what it must be
    /// and was not read: `check` reads it, and opening a repository at 4 a.m. does not hang on it.
    pub slots: Vec<KeySlot>,
    /// What `repo.json` says.
    pub info: RepoInfo,
    /// Digest of `repo.json`.
    pub repo_sha256: Sha256,
    /// Bytes that were fetched.
    pub fetched_bytes: u64,
}

impl Unlocked {
    /// Every place where a slot of these keys lies.
    pub fn slot_places(&self) -> Vec<Key> {
        let slots = self.keys.all().zip(&self.slots);
        slots.flat_map(|(keys, slot)| slot.places(keys.key_id())).collect()
    }

    /// Digest of the newest `recover.py`.
    pub fn recover_sha256(&self) -> Sha256 {
        self.slots.iter().find_map(|slot| slot.recover_sha256).unwrap_or(self.info.recover_sha256)
    }
}

/// Opens the repository in `store` with the key at hand.
pub async fn unlock(store: &dyn Store, key: &RepositoryKey) -> Result<Unlocked, RepositoryError> {
    let ((_, id), bytes) = describe(store).await?;
    let unproven = Unproven::parse(&bytes).map_err(damaged_repo)?;
    let mut walk = Walk { store, id, keys: KeyTree::new(key, id), slots: Vec::new(), fetched: bytes.len() as u64 };
    let mut proved = unproven.prove::<RepoInfo>(&walk.keys.oldest().own_mac_key(), names::REPO);
    while walk.step(proved.is_ok()).await? {
        proved = unproven.prove(&walk.keys.oldest().own_mac_key(), names::REPO);
    }
    let info = proved.map_err(damaged_repo)?;
    check_block_bytes(&info)?;
    let Walk { keys, slots, fetched, .. } = walk;
    Ok(Unlocked { keys, slots, info, repo_sha256: Sha256::of(&bytes), fetched_bytes: fetched })
}

fn damaged_repo(problem: impl Into<Problem>) -> RepositoryError {
    RepositoryError::Damaged(ObjectError::new(names::fixed(names::REPO), problem))
}

struct Walk<'a> {
    store: &'a dyn Store,
    id: RepositoryId,
    keys: KeyTree,
    slots: Vec<KeySlot>,
    fetched: u64,
}

impl Walk<'_> {
    /// Reads the slot of the oldest key so far; whether it led to one more key. `is_first` when `repo.json` says
    /// that this key is the first: it proves a raw key alone, and only where it does not, the slot is asked
    /// whether the key is another one or `repo.json` was changed.
    async fn step(&mut self, is_first: bool) -> Result<bool, RepositoryError> {
        let id = self.keys.oldest().key_id();
        if is_first {
            self.slots.push(KeySlot::raw(self.keys.oldest(), self.id));
            return Ok(false);
        }
        let damaged = |problem: Problem| RepositoryError::Damaged(ObjectError::new(names::key_slot(id), problem));
        let slot = match slot_of(self.store, self.keys.oldest(), &mut self.fetched).await? {
            Ok(slot) => slot,
            Err(_) if self.slots.is_empty() => {
                return Err(RepositoryError::WrongKey { key_id: id, place: self.store.describe() });
            }
            Err(absent) => return Err(damaged(absent.into())),
        };
        let previous = slot.open_previous(self.keys.oldest(), self.id).map_err(|error| damaged(error.into()))?;
        self.slots.push(slot);
        let Some(key) = previous.filter(|_| self.slots.len() <= ROTATIONS_MAX) else { return Ok(false) };
        self.keys.push_older(&key);
        Ok(true)
    }
}

/// The slot of a key, from its first place or its second; what the store says when it is in neither.
async fn slot_of(
    store: &dyn Store,
    keys: &Branches,
    fetched: &mut u64,
) -> Result<Result<KeySlot, StoreError>, RepositoryError> {
    let (id, mac) = (keys.key_id(), keys.own_mac_key());
    let mut wrong = None;
    let mut absent = None;
    for place in [names::key_slot(id), names::key_slot_copy(id)] {
        let bytes = match store.get(&place).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                absent = Some(error);
                continue;
            }
            other => other?,
        };
        *fetched += bytes.len() as u64;
        match KeySlot::prove(&bytes, &place, &mac) {
            Ok(slot) => return Ok(Ok(slot)),
            Err(error) => wrong = Some(error),
        }
    }
    match (wrong, absent) {
        (None, Some(absent)) => Ok(Err(absent)),
        (wrong, _) => Err(RepositoryError::Damaged(wrong.expect("two places were looked at"))),
    }
}

/// Opens the repository with whatever a key file holds.
pub async fn unlock_with(store: &dyn Store, secret: &Secret) -> Result<Unlocked, RepositoryError> {
    match secret {
        Secret::Retention(retention) => unlock_manifests(store, retention).await,
        other => unlock(store, &repository_key(store, other).await?).await,
    }
}

/// The repository key that a secret is or leads to; that of a retention key nobody can have.
pub async fn repository_key(store: &dyn Store, secret: &Secret) -> Result<RepositoryKey, RepositoryError> {
    let opener = match secret {
        Secret::Raw(key) => return Ok(key.clone()),
        Secret::Retention(retention) => return Err(RepositoryError::ManifestsOnly { slot: retention.slot }),
        Secret::Passphrase(words) => Opener::Passphrase(words),
        Secret::Slot(key) => Opener::Key(key),
    };
    let (repo, _) = describe(store).await?;
    let mut tries = 0;
    // The newest first: an older one may hold a key from before a rotation.
    let mut slots = removable(store).await?;
    slots.sort_by_key(|found| std::cmp::Reverse(found.slot.created_at));
    for Removable { id, slot, .. } in slots {
        let (Some(wrap), Some(key)) = (&slot.wrap, KeyId::from_text(&slot.key_id)) else { continue };
        // Only a passphrase is stretched; a slot key is compared with nothing but slots of its own kind.
        if matches!(opener, Opener::Passphrase(_)) && wrap.argon2id.is_some() {
            if tries == TRIES_MAX {
                tracing::warn!("the passphrase opens none of the {TRIES_MAX} newest slots: the others are not tried");
                break;
            }
            tries += 1;
        }
        match wrap.open(opener, Bound { repository: repo.1, slot: id, key }) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, slot = %id, "a key slot is passed over"),
        }
    }
    Err(RepositoryError::NoSlot { place: store.describe() })
}

/// A slot that can be removed, as it claims to be.
pub struct Removable {
    /// Its own id, as its name says.
    pub id: KeyId,
    /// What it says.
    pub slot: KeySlot,
    bytes: Bytes,
}

impl Removable {
    /// Whether a holder of one of these keys made it; another one's is nobody's business, or somebody's forgery.
    pub fn is_proved_by(&self, keys: &KeyTree) -> bool {
        KeySlot::prove(&self.bytes, &names::key_slot(self.id), &keys.mac_key()).is_ok()
    }
}

/// Every slot that claims to be one that can be removed.
pub async fn removable(store: &dyn Store) -> Result<Vec<Removable>, StoreError> {
    let mut slots = Vec::new();
    for ObjectInfo { key, size, .. } in store.list(names::KEYS, None).await? {
        let Some(id) = names::parse_key_slot(key.as_str()).filter(|_| size <= DOCUMENT_BYTES_MAX) else { continue };
        let bytes = match store.get(&key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        let slot = Unproven::parse(&bytes).and_then(|slot| slot.claim::<KeySlot>());
        slots.extend(slot.ok().filter(KeySlot::is_removable).map(|slot| Removable { id, slot, bytes }));
    }
    Ok(slots)
}

/// What `repo.json` claims, and its bytes.
async fn describe(store: &dyn Store) -> Result<((RepoInfo, RepositoryId), Bytes), RepositoryError> {
    let place = store.describe();
    let bytes = match store.get(&names::fixed(names::REPO)).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(RepositoryError::Missing { place }),
        other => other?,
    };
    let claimed: RepoInfo = Unproven::parse(&bytes).and_then(|text| text.claim()).map_err(damaged_repo)?;
    if claimed.version != VERSION {
        return Err(RepositoryError::UnknownVersion { place, version: claimed.version });
    }
    let id = RepositoryId::from_text(&claimed.id).ok_or_else(|| damaged_repo(Problem::Digest))?;
    Ok(((claimed, id), bytes))
}

/// Opens it for who deletes: no key leads to another, all of them are in the file.
async fn unlock_manifests(store: &dyn Store, retention: &Retention) -> Result<Unlocked, RepositoryError> {
    let ((_, id), bytes) = describe(store).await?;
    let keys = KeyTree::of_retention(retention).filter(|_| id == retention.repository);
    let removed = || RepositoryError::Removed { slot: retention.slot, place: store.describe() };
    let keys = keys.ok_or_else(removed)?;
    let proved = Unproven::parse(&bytes).and_then(|text| text.prove(&keys.oldest().own_mac_key(), names::REPO));
    let info: RepoInfo = proved.map_err(damaged_repo)?;
    check_block_bytes(&info)?;
    let place = names::key_slot(retention.slot);
    let registered = match store.get(&place).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(removed()),
        other => other?,
    };
    let registered = KeySlot::prove(&registered, &place, &keys.mac_key()).map_err(RepositoryError::Damaged)?;
    if registered.kind != slot::RETENTION {
        return Err(removed());
    }
    let mut unlocked =
        Unlocked { keys, slots: Vec::new(), info, repo_sha256: Sha256::of(&bytes), fetched_bytes: bytes.len() as u64 };
    for keys in unlocked.keys.clone().all() {
        unlocked.slots.extend(slot_of(store, keys, &mut unlocked.fetched_bytes).await?.ok());
    }
    Ok(unlocked)
}

fn check_block_bytes(info: &RepoInfo) -> Result<(), RepositoryError> {
    let fits = info.block_bytes.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&info.block_bytes);
    if fits { Ok(()) } else { Err(damaged_repo(Problem::TooLong)) }
}

/// A key that came in the place of the newest of `keys`, as its slot says and a holder of theirs announced; of
/// several, made at the same time, the one whose slot the store has had for longest.
pub async fn successor(store: &dyn Store, keys: &KeyTree) -> Result<Option<KeyId>, StoreError> {
    let places = |id| [names::key_slot(id), names::key_slot_copy(id)];
    let known: Vec<Key> = keys.all().flat_map(|branches| places(branches.key_id())).collect();
    let mut found: Option<(Timestamp, KeyId)> = None;
    for ObjectInfo { key, modified, size } in store.list(names::KEYS, None).await? {
        if known.contains(&key) || size > DOCUMENT_BYTES_MAX {
            continue;
        }
        let bytes: Bytes = match store.get(&key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        let claimed = Unproven::parse(&bytes).and_then(|slot| slot.claim::<KeySlot>());
        let id = claimed
            .ok()
            .filter(|slot| slot.kind == slot::ROTATED)
            .and_then(|slot| slot.replaces(keys.newest(), keys.repository()));
        // The name must be the key's: the same text under another name is none.
        let id = id.filter(|id| places(*id).contains(&key));
        found = found.into_iter().chain(id.map(|id| (modified, id))).min_by_key(|(at, id)| (*at, id.0));
    }
    Ok(found.map(|(_, id)| id))
}
