//! `keys add` and `keys remove`: further ways into the repository, each in a slot of its own.
//!
//! What is added wraps the newest key, or is only registered (a retention key); removing deletes the slot and makes
//! nothing unreadable that was copied before. The slots that other keys hang on cannot be removed, so there is
//! always a way in left.

use std::path::Path;

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Store, StoreError};
use dualsync_block_store::secret::resolve_secret;
use dualsync_model::keys::{KeySlot as KeySlotEvent, NewKey};
use dualsync_model::time::Timestamp;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::digest::Sha256;
use crate::format::KEY_BYTES;
use crate::keyfile::{self, KeyFileError};
use crate::keys::{KeyId, KeyTree, RepositoryId};
use crate::names;
use crate::repository::RepositoryError;
use crate::seal::{NoRandomness, random_bytes};
use crate::secret::{PASSPHRASE_CHARS_MIN, Retention, Secret};
use crate::slot::{self, KeySlot};
use crate::unlock::{Unlocked, removable, repository_key, successor, unlock};
use crate::wrap::{Argon, Bound, MEMORY_KIB, Opener, Wrap};

/// Why a way in was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The repository does not open.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A key cannot be read or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The store does not answer.
    #[error("cannot change the key slots")]
    Store(#[from] StoreError),
    /// No key could be drawn.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// Not what this program would take back.
    #[error("{0} MiB is not allowed for a passphrase: 64 to 1024 are")]
    Argon(u32),
    /// Too easy to guess.
    #[error("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters, in one line")]
    Short,
    /// There is no such slot.
    #[error("there is no key slot {0}")]
    NoSuch(String),
    /// It cannot go.
    #[error("slot {id} of kind {kind} cannot be removed: the repository, or the key file of this host, hangs on it")]
    Needed {
        /// Its id.
        id: String,
        /// Its kind.
        kind: String,
    },
}

/// Adds a way in. A file is written before its slot is put: cut off in between, it opens nothing.
pub async fn add(store: &dyn Store, secret: &Secret, new: &NewKey, now: Timestamp) -> Result<KeySlotEvent, AdmitError> {
    let key = repository_key(store, secret).await?;
    let unlocked = unlock(store, &key).await?;
    if let Some(by) = successor(store, &unlocked.keys).await? {
        let (key_id, place) = (unlocked.keys.key_id(), store.describe());
        return Err(RepositoryError::Rotated { key_id, by, place }.into());
    }
    let keys = &unlocked.keys;
    let id = KeyId(random_bytes()?);
    let bound = Bound { repository: keys.repository(), slot: id, key: keys.key_id() };
    let mut files = Vec::new();
    let slot = match new {
        NewKey::Passphrase { from, memory_mib } => {
            let argon = argon(*memory_mib)?;
            let words = passphrase(from).await?;
            let wrap = Wrap::seal(Opener::Passphrase(&words), argon, bound, &key)?;
            KeySlot::removable(slot::PASSPHRASE, keys, now, Some(wrap))
        }
        NewKey::KeyFile { to } => {
            let slot_key: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(random_bytes()?);
            let wrap = Wrap::seal(Opener::Key(&slot_key), Argon::default(), bound, &key)?;
            let line = Secret::slot_line(&slot_key);
            write(to, id, "opens everything for as long as its slot is there", &line, &mut files)?;
            KeySlot::removable(slot::WRAPPED, keys, now, Some(wrap))
        }
        NewKey::Retention { to } => {
            let branches = keys.all().map(|branches| (branches.key_id(), branches.manifest().clone())).collect();
            let lines = Retention { slot: id, repository: keys.repository(), branches }.to_lines();
            write(to, id, "lists, marks and deletes copies, and opens no content", &lines, &mut files)?;
            KeySlot::removable(slot::RETENTION, keys, now, None)
        }
    };
    put(store, keys, id, &slot).await?;
    Ok(KeySlotEvent { files, ..line(id, &slot, keys) })
}

fn argon(memory_mib: Option<u32>) -> Result<Argon, AdmitError> {
    let Some(mib) = memory_mib else { return Ok(Argon::default()) };
    let argon = Argon { memory_kib: mib.saturating_mul(1024), ..Argon::default() };
    if MEMORY_KIB.contains(&argon.memory_kib) { Ok(argon) } else { Err(AdmitError::Argon(mib)) }
}

async fn passphrase(from: &dualsync_model::secret::SecretRef) -> Result<Zeroizing<String>, AdmitError> {
    let secret = resolve_secret(from).await.map_err(KeyFileError::Secret)?;
    let words = std::str::from_utf8(secret.expose_secret()).map_err(|_| AdmitError::Short)?.trim();
    // It is typed again one day: no line break, no secret of another kind by mistake.
    let is_one_line = !words.chars().any(char::is_control);
    if words.chars().count() >= PASSPHRASE_CHARS_MIN && is_one_line {
        Ok(Zeroizing::new(words.to_owned()))
    } else {
        Err(AdmitError::Short)
    }
}

fn write(to: &Path, id: KeyId, what: &str, lines: &str, files: &mut Vec<String>) -> Result<(), AdmitError> {
    let text = Zeroizing::new(format!("# dualsync block key of slot {id}: it {what}.\n{}\n", lines.trim_end()));
    keyfile::write_text(to, &text)?;
    files.push(to.display().to_string());
    Ok(())
}

async fn put(store: &dyn Store, keys: &KeyTree, id: KeyId, slot: &KeySlot) -> Result<(), StoreError> {
    let place = names::key_slot(id);
    let bytes = Bytes::from(slot.encode(keys.newest(), &place));
    let sha256 = Sha256::of(&bytes);
    store.put(&place, bytes, sha256.0).await
}

/// Deletes the slot of that id.
pub async fn remove(store: &dyn Store, secret: &Secret, id: &str) -> Result<KeySlotEvent, AdmitError> {
    let unlocked = unlock(store, &repository_key(store, secret).await?).await?;
    let no_such = || AdmitError::NoSuch(id.to_owned());
    let slot_id = KeyId::from_text(id).ok_or_else(no_such)?;
    let place = names::key_slot(slot_id);
    let bytes = match store.get(&place).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_such()),
        other => other?,
    };
    let slot = KeySlot::prove(&bytes, &place, &unlocked.keys.mac_key()).map_err(RepositoryError::Damaged)?;
    if !slot.is_removable() || is_way_in(secret, &slot, slot_id, unlocked.keys.repository()) {
        return Err(AdmitError::Needed { id: id.to_owned(), kind: slot.kind });
    }
    store.delete(&place).await?;
    Ok(line(slot_id, &slot, &unlocked.keys))
}

/// Whether what the host has opens the repository through this very slot: without it the host were shut out.
fn is_way_in(secret: &Secret, slot: &KeySlot, id: KeyId, repository: RepositoryId) -> bool {
    let opener = match secret {
        Secret::Passphrase(words) => Opener::Passphrase(words),
        Secret::Slot(key) => Opener::Key(key),
        Secret::Raw(_) | Secret::Retention(_) => return false,
    };
    let (Some(wrap), Some(key)) = (&slot.wrap, KeyId::from_text(&slot.key_id)) else { return false };
    wrap.open(opener, Bound { repository, slot: id, key }).is_ok_and(|opened| opened.is_some())
}

/// One line for each slot that can be removed and that a key of the repository made.
pub async fn lines(store: &dyn Store, unlocked: &Unlocked) -> Result<Vec<KeySlotEvent>, StoreError> {
    let slots = removable(store).await?;
    let proved = slots.iter().filter(|found| found.is_proved_by(&unlocked.keys));
    Ok(proved.map(|found| line(found.id, &found.slot, &unlocked.keys)).collect())
}

fn line(id: KeyId, slot: &KeySlot, keys: &KeyTree) -> KeySlotEvent {
    let is_newest = slot.key_id == keys.key_id().to_string();
    let opens = match (slot.kind.as_str(), is_newest) {
        (slot::RETENTION, true) => "manifests only: it lists, marks and deletes, and reads no content",
        (slot::RETENTION, false) => "manifests of before a rotation only: make another one and remove it",
        (_, true) => "everything",
        (_, false) => "what was stored before a rotation: make another one and remove it",
    };
    KeySlotEvent {
        id: id.to_string(),
        kind: slot.kind.clone(),
        opens: opens.to_owned(),
        created_at: slot.created_at,
        current: false,
        files: Vec::new(),
    }
}
