//! `keys`: tells what opens the repository, and puts a new key in the place of the one at hand.
//!
//! A rotation goes forward in five steps, and a crash after any of them loses nothing:
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | 1. the new key is written beside the old one as `<name>.new` and synced | the old key works as before; the next rotation takes this draft |
//! | 2. its slot, with the old key sealed inside, is put, then the slot's second copy | both keys open everything. Every job finds the draft beside the key file and goes on with it; the next rotation finishes |
//! | 3. the repository is opened anew with the new key, down to the first one | the same |
//! | 4. the old key gets the second name `<name>.<key id>` | the same |
//! | 5. the draft is renamed over the key file | done |
//!
//! The slot comes before the rename: else a crash would leave a host whose only key opens nothing. The draft comes
//! before the slot: else the store would tell everybody to use a key that is nowhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Store, StoreError};
use dualsync_model::keys::KeySlot as KeySlotEvent;
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::events::Events;
use crate::init::RECOVER_TEXT;
use crate::keyfile::{self, KeyFileError};
use crate::keys::{KeyId, KeyTree, RepositoryKey};
use crate::names;
use crate::repository::RepositoryError;
use crate::seal::{NoRandomness, random_bytes};
use crate::secret::Secret;
use crate::slot::{self, KeySlot};
use crate::unlock::{ROTATIONS_MAX, Unlocked, successor, unlock};

/// Longer than the second that a store's times are rounded to.
const TICK: Duration = Duration::from_millis(2100);

/// Why the key was not rotated, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The repository does not open.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A key cannot be read or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The store does not answer.
    #[error("cannot put the slot of the new key")]
    Store(#[from] StoreError),
    /// No key could be drawn.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The key at hand is no file.
    #[error("{0} is no file that could be replaced: name a new file for the new key")]
    NotAFile(SecretRef),
    /// Two places for one key.
    #[error("the key at hand is the file {}: it is replaced, and needs no other file", .0.display())]
    IsAFile(PathBuf),
    /// A file that holds a key already.
    #[error("{} holds key {id}, which is no new key of this repository", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
        /// Its key.
        id: KeyId,
    },
    /// It was done too often.
    #[error("the key of this repository was rotated {ROTATIONS_MAX} times, and readers follow no more")]
    TooOften,
}

/// What a rotation leaves.
#[derive(Debug)]
pub struct Rotated {
    /// What the new key opens.
    pub unlocked: Unlocked,
    /// The key that came before it.
    pub old: KeyId,
    /// Where the new key is, and where the old one was kept.
    pub files: Vec<PathBuf>,
}

/// Where the new key is written.
enum Place {
    /// In the place of the file at hand, after a draft beside it.
    InPlace(PathBuf),
    /// In a new file, which a person puts where it belongs.
    To(PathBuf),
}

impl Place {
    fn of(reference: &SecretRef, to: Option<&Path>) -> Result<Self, RotateError> {
        match (reference, to) {
            (SecretRef::File(path), None) => Ok(Self::InPlace(keyfile::real(path))),
            (SecretRef::File(path), Some(_)) => Err(RotateError::IsAFile(path.clone())),
            (_, Some(to)) => Ok(Self::To(to.to_owned())),
            (_, None) => Err(RotateError::NotAFile(reference.clone())),
        }
    }

    /// The file that holds the new key before the store knows it.
    fn draft(&self) -> PathBuf {
        match self {
            Self::InPlace(path) => keyfile::draft_of(path),
            Self::To(path) => path.clone(),
        }
    }
}

/// The key at hand, or the one that an unfinished rotation left beside it, when that one comes after the key at hand in the
/// store's order too. The draft of a host that lost against another rotation opens its own slot and is never used.
pub async fn key_at_hand(store: &dyn Store, reference: &SecretRef, events: &Events) -> Result<Secret, KeyFileError> {
    let secret = keyfile::read_any(reference).await?;
    let Secret::Raw(key) = &secret else { return Ok(secret) };
    let Ok(Some(draft)) = keyfile::read_draft(reference).await else { return Ok(secret) };
    let Ok(before) = unlock(store, key).await else { return Ok(secret) };
    if !matches!(successor(store, &before.keys).await, Ok(Some(by)) if by == draft.id()) {
        return Ok(secret);
    }
    match unlock(store, &draft).await {
        Ok(unlocked) if unlocked.keys.of(key.id()).is_some() => {
            let message = "a rotation of the key was cut off: its new key is used; `dualsync keys rotate` finishes it";
            events.warn("rotation_unfinished", message.to_owned());
            Ok(Secret::Raw(draft))
        }
        _ => Ok(secret),
    }
}

/// Draws a new key and makes it the newest of the repository, or finishes what an earlier rotation began.
pub async fn rotate(
    store: &Arc<dyn Store>,
    reference: &SecretRef,
    to: Option<&Path>,
    now: Timestamp,
) -> Result<Rotated, RotateError> {
    let place = Place::of(reference, to)?;
    let old = keyfile::read(reference).await?;
    let before = unlock(&**store, &old).await?;
    let begun = successor(&**store, &before.keys).await?;
    let draft = SecretRef::File(place.draft());
    let new = match begun {
        // Only who holds the draft of that rotation may finish it: two new keys would each miss what the other seals.
        Some(by) if keyfile::is_absent(&draft) => return Err(rotated(&**store, &before.keys, by).into()),
        None if keyfile::is_absent(&draft) => {
            if before.slots.len() > ROTATIONS_MAX {
                return Err(RotateError::TooOften);
            }
            let new = RepositoryKey::new(random_bytes()?);
            let beside = if let Place::InPlace(path) = &place { Some(path.as_path()) } else { None };
            keyfile::write(&place.draft(), &new, beside)?;
            new
        }
        _ => keyfile::read(&draft).await?,
    };
    if before.keys.of(new.id()).is_some() {
        return Err(RotateError::Taken { path: place.draft(), id: new.id() });
    }
    if begun.is_none() {
        put_slot(&**store, &before, &old, &new, now).await?;
        // A store tells whole seconds. Who looks while the second still goes on may not see the slot of another host that will
        // have the same time and a lower id; after it, whatever comes is later, and all who look see the same.
        tokio::time::sleep(TICK).await;
    }
    // Of two rotations at once the store's order decides, the same for both.
    match successor(&**store, &before.keys).await? {
        Some(by) if by != new.id() => return Err(rotated(&**store, &before.keys, by).into()),
        _ => {}
    }
    put_copy(&**store, &unlock(&**store, &new).await?).await?;
    let unlocked = unlock(&**store, &new).await?;
    // A draft of an earlier rotation that lost leads back to a key from before the one at hand: it would shut out what that seals.
    if unlocked.keys.of(old.id()).is_none() {
        return Err(RotateError::Taken { path: place.draft(), id: new.id() });
    }
    let files = match &place {
        Place::InPlace(path) => vec![path.clone(), keyfile::replace(path, &old)?],
        Place::To(path) => vec![path.clone()],
    };
    Ok(Rotated { unlocked, old: old.id(), files })
}

fn rotated(store: &dyn Store, keys: &KeyTree, by: KeyId) -> RepositoryError {
    RepositoryError::Rotated { key_id: keys.key_id(), by, place: store.describe() }
}

async fn put_slot(
    store: &dyn Store,
    before: &Unlocked,
    old: &RepositoryKey,
    new: &RepositoryKey,
    now: Timestamp,
) -> Result<(), RotateError> {
    // Before the slot that names it: an older repository has one that does not follow rotations.
    let ours = Sha256::of(RECOVER_TEXT.as_bytes());
    let recover = (before.recover_sha256() != ours).then_some(ours);
    if let Some(sha256) = &recover {
        put(store, names::recover(sha256).as_str(), RECOVER_TEXT.as_bytes().to_vec()).await?;
    }
    let keys = KeyTree::new(new, before.keys.repository());
    let slot = KeySlot::rotated(&keys, old, now, recover)?;
    let place = names::key_slot(keys.key_id());
    Ok(put(store, place.as_str(), slot.encode(keys.newest(), &place)).await?)
}

/// The second copy of the newest slot.
async fn put_copy(store: &dyn Store, unlocked: &Unlocked) -> Result<(), RotateError> {
    let Some(slot) = unlocked.slots.first() else { return Ok(()) };
    let place = names::key_slot_copy(unlocked.keys.key_id());
    Ok(put(store, place.as_str(), slot.encode(unlocked.keys.newest(), &place)).await?)
}

/// A directory refuses to replace what an earlier try wrote: that is then read back.
async fn put(store: &dyn Store, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
    let sha256 = Sha256::of(&bytes);
    match store.put(&names::fixed(name), Bytes::from(bytes), sha256.0).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// One line for each key, the newest first.
pub fn lines(unlocked: &Unlocked) -> Vec<KeySlotEvent> {
    let keys: Vec<_> = unlocked.keys.all().collect();
    let count = keys.len();
    let line = |(at, keys): (usize, &&crate::keys::Branches)| {
        let slot = unlocked.slots.get(at);
        let created_at = slot.and_then(|slot| slot.created_at);
        KeySlotEvent {
            id: keys.key_id().to_string(),
            kind: slot.map_or(slot::RAW, |slot| slot.kind.as_str()).to_owned(),
            opens: opens(at, count),
            created_at: created_at.or_else(|| (at + 1 == count).then_some(unlocked.info.created_at)),
            current: at == 0,
            files: Vec::new(),
        }
    };
    keys.iter().enumerate().map(line).collect()
}

fn opens(at: usize, count: usize) -> String {
    match (at, count) {
        (0, 1) => "everything".to_owned(),
        (0, _) => format!("everything, through {} older keys", count - 1),
        (_, _) if at + 1 == count => "what was stored before the first rotation".to_owned(),
        _ => "what was stored before the next rotation".to_owned(),
    }
}
