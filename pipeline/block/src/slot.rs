//! Key slots, `keys/<key id>.json`: which keys open the repository, and how one key leads to the one before.
//!
//! A `raw` slot says that the key of that name is the repository's first. A `rotated` slot carries the key that
//! was used before, sealed under a branch of the new one that nobody else derives: whoever holds the newest key
//! walks back to the first, and whoever holds an old one learns nothing of a newer. Nothing here asks a store.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use dualsync_block_store::contract::Key;
use dualsync_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::{Sha256, from_hex, to_hex};
use crate::document::{self, Unproven};
use crate::fetch::ObjectError;
use crate::format::{EPOCH_REPOSITORY, KEY_BYTES, NONCE_BYTES, SALT_BYTES, TAG_BYTES, VERSION};
use crate::keys::{Branches, KeyId, KeyTree, MacKey, RepositoryId, RepositoryKey};
use crate::names;
use crate::seal::{NoRandomness, OpenError, random_bytes};
use crate::wrap::Wrap;

/// A slot whose key is the first one of the repository.
pub const RAW: &str = "raw";
/// A slot whose key came in the place of another.
pub const ROTATED: &str = "rotated";

/// A slot in which a key is wrapped under a passphrase.
pub const PASSPHRASE: &str = "passphrase";
/// A slot in which a key is wrapped under a key of a file.
pub const WRAPPED: &str = "wrapped";
/// A slot that registers a retention key.
pub const RETENTION: &str = "retention";

/// Salt, sealed key and tag, one after the other.
const SEALED_BYTES: usize = SALT_BYTES + KEY_BYTES + TAG_BYTES;

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// [`VERSION`].
    pub version: u16,
    /// [`RAW`], [`ROTATED`], [`PASSPHRASE`], [`WRAPPED`] or [`RETENTION`].
    pub kind: String,
    /// The key: the slot's own, or of the last three kinds the one that was the newest when it was made.
    pub key_id: String,
    /// The repository.
    pub repository: String,
    /// Key epoch; 0 while content keys come from the repository key.
    pub epoch: u32,
    /// When it was made; absent in a raw slot, which is as old as the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The key that was used before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// The key inside, of kinds passphrase and wrapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrap: Option<Wrap>,
    /// SHA-256 of the `recover.py` that follows rotations, where the repository's own does not; it lies at
    /// `recover-<sha256>.py`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover_sha256: Option<Sha256>,
}

/// The key before this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its name.
    pub key_id: String,
    /// Salt, the key under AES-256-GCM, tag: hexadecimal.
    pub sealed: String,
    /// HMAC of the rotation under the K_mac of the key before: so that who holds only that one can tell a
    /// rotation from something that anybody with the bucket's credentials wrote there.
    pub announced: String,
}

impl KeySlot {
    /// The slot of the first key.
    pub fn raw(keys: &Branches, repository: RepositoryId) -> Self {
        Self::of(RAW, keys, repository)
    }

    /// The slot of a new key, newest of `keys`, that came in the place of `old`.
    pub fn rotated(
        keys: &KeyTree,
        old: &RepositoryKey,
        now: Timestamp,
        recover_sha256: Option<Sha256>,
    ) -> Result<Self, NoRandomness> {
        let before = KeyTree::new(old, keys.repository());
        let previous = Previous {
            key_id: old.id().to_string(),
            sealed: seal(keys.newest(), keys.repository(), old)?,
            announced: to_hex(&before.mac_key().sign(&announcement(keys.repository(), old.id(), keys.key_id()))),
        };
        let slot = Self::of(ROTATED, keys.newest(), keys.repository());
        Ok(Self { created_at: Some(now.whole_second()), previous: Some(previous), recover_sha256, ..slot })
    }

    /// A slot of one of the kinds that can be removed.
    pub fn removable(kind: &str, keys: &KeyTree, now: Timestamp, wrap: Option<Wrap>) -> Self {
        Self { created_at: Some(now.whole_second()), wrap, ..Self::of(kind, keys.newest(), keys.repository()) }
    }

    /// Whether it can be taken away: of the other kinds the repository itself hangs on the slot.
    pub fn is_removable(&self) -> bool {
        [PASSPHRASE, WRAPPED, RETENTION].contains(&self.kind.as_str())
    }

    fn of(kind: &str, keys: &Branches, repository: RepositoryId) -> Self {
        Self {
            version: VERSION,
            kind: kind.to_owned(),
            key_id: keys.key_id().to_string(),
            repository: repository.to_string(),
            epoch: EPOCH_REPOSITORY,
            created_at: None,
            previous: None,
            wrap: None,
            recover_sha256: None,
        }
    }

    /// The slot in `bytes`, proved to be written at `key` by a holder of one of these keys.
    pub fn prove(bytes: &[u8], key: &Key, mac: &MacKey) -> Result<Self, ObjectError> {
        let slot = Unproven::parse(bytes).and_then(|slot| slot.prove(mac, key.as_str()));
        slot.map_err(|error| ObjectError::new(key.clone(), error))
    }

    /// Its bytes as the object at `key`, proved by its own key.
    pub fn encode(&self, keys: &Branches, key: &Key) -> Vec<u8> {
        document::encode(self, &keys.own_mac_key(), key.as_str())
    }

    /// Where it lies. What other keys hang on lies there twice: one lost object must not cost every old point.
    pub fn places(&self, id: KeyId) -> Vec<Key> {
        match self.previous {
            None => vec![names::key_slot(id)],
            Some(_) => vec![names::key_slot(id), names::key_slot_copy(id)],
        }
    }

    /// The key that was used before, opened with the slot's own key; `None` in a slot of the first key.
    pub fn open_previous(&self, keys: &Branches, repository: RepositoryId) -> Result<Option<RepositoryKey>, OpenError> {
        let Some(previous) = &self.previous else { return Ok(None) };
        let wrong = OpenError::Malformed("a slot whose previous key does not open");
        let id = KeyId::from_text(&previous.key_id).ok_or(wrong)?;
        let key = open(keys, repository, id, &previous.sealed).ok_or(wrong)?;
        if key.id() == id { Ok(Some(key)) } else { Err(wrong) }
    }

    /// The key of this slot, when it came in the place of `old` and a holder of that one said so.
    pub fn replaces(&self, old: &Branches, repository: RepositoryId) -> Option<KeyId> {
        let previous = self.previous.as_ref().filter(|previous| previous.key_id == old.key_id().to_string())?;
        let id = KeyId::from_text(&self.key_id)?;
        let announced = from_hex(&previous.announced)?;
        let text = announcement(repository, old.key_id(), id);
        old.own_mac_key().fits(&text, &announced).then_some(id)
    }
}

/// What both the sealed key and the announcement are bound to.
fn announcement(repository: RepositoryId, old: KeyId, new: KeyId) -> Vec<u8> {
    [b"dualsync-block/1 rotated\0".as_slice(), &repository.0, &new.0, &old.0].concat()
}

fn cipher(keys: &Branches, salt: &[u8; SALT_BYTES]) -> Option<Aes256Gcm> {
    Some(Aes256Gcm::new((&*keys.slot_key(salt)?).into()))
}

/// The salt makes the key, which so seals one text only: the nonce may be zero.
fn seal(keys: &Branches, repository: RepositoryId, old: &RepositoryKey) -> Result<String, NoRandomness> {
    let salt: [u8; SALT_BYTES] = random_bytes()?;
    let mut body = Zeroizing::new(*old.bytes());
    let bound = announcement(repository, old.id(), keys.key_id());
    let tag = cipher(keys, &salt)
        .expect("the key was drawn a moment ago")
        .encrypt_inout_detached(&[0; NONCE_BYTES].into(), &bound, (&mut body[..]).into())
        .expect("AES-GCM seals up to 64 GiB");
    Ok(to_hex(&[&salt[..], &body[..], &tag[..]].concat()))
}

fn open(keys: &Branches, repository: RepositoryId, old: KeyId, sealed: &str) -> Option<RepositoryKey> {
    let sealed: [u8; SEALED_BYTES] = from_hex(sealed)?;
    let (salt, rest) = sealed.split_first_chunk::<SALT_BYTES>()?;
    let (body, tag) = rest.split_first_chunk::<KEY_BYTES>()?;
    let tag: [u8; TAG_BYTES] = tag.try_into().ok()?;
    let mut key = Zeroizing::new(*body);
    let bound = announcement(repository, old, keys.key_id());
    cipher(keys, salt)?
        .decrypt_inout_detached(&[0; NONCE_BYTES].into(), &bound, (&mut key[..]).into(), &tag.into())
        .ok()?;
    Some(RepositoryKey::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RepositoryId = RepositoryId([4; 16]);

    fn key(byte: u8) -> RepositoryKey {
        RepositoryKey::new([byte; 32])
    }

    fn rotated() -> (KeyTree, KeySlot) {
        let mut keys = KeyTree::new(&key(2), ID);
        keys.push_older(&key(1));
        let slot = KeySlot::rotated(&keys, &key(1), Timestamp::from_seconds(5), None).unwrap();
        (keys, slot)
    }

    #[test]
    fn the_new_key_opens_the_old_one_and_nobody_else_does() {
        let (keys, slot) = rotated();
        assert_eq!(slot.open_previous(keys.newest(), ID).unwrap().unwrap().id(), key(1).id());
        for other in [key(1), key(3)] {
            let other = KeyTree::new(&other, ID);
            assert!(slot.open_previous(other.newest(), ID).is_err());
        }
        let elsewhere = KeyTree::new(&key(2), RepositoryId([5; 16]));
        assert!(slot.open_previous(elsewhere.newest(), ID).is_err(), "of another repository");
        let mut named = slot.clone();
        named.previous.as_mut().unwrap().key_id = key(3).id().to_string();
        assert!(named.open_previous(keys.newest(), ID).is_err(), "of another key");
        assert_eq!(KeySlot::raw(keys.newest(), ID).open_previous(keys.newest(), ID).unwrap().map(|key| key.id()), None);
    }

    #[test]
    fn a_holder_of_the_old_key_believes_a_rotation_that_a_holder_announced_and_no_other() {
        let (keys, slot) = rotated();
        let old = KeyTree::new(&key(1), ID);
        assert_eq!(slot.replaces(old.newest(), ID), Some(key(2).id()));
        assert_eq!(slot.replaces(keys.newest(), ID), None, "the newest is replaced by nobody");
        let mut forged = slot.clone();
        forged.key_id = key(3).id().to_string();
        assert_eq!(forged.replaces(old.newest(), ID), None);
        let stranger = KeySlot::rotated(&KeyTree::new(&key(8), ID), &key(9), Timestamp::from_seconds(5), None).unwrap();
        let mut claimed = slot;
        claimed.previous = stranger.previous.map(|previous| Previous { key_id: key(1).id().to_string(), ..previous });
        assert_eq!(claimed.replaces(old.newest(), ID), None);
    }

    #[test]
    fn a_slot_is_proved_by_its_own_key_and_bound_to_its_place() {
        let (keys, slot) = rotated();
        let place = names::key_slot(keys.key_id());
        let bytes = slot.encode(keys.newest(), &place);
        assert_eq!(KeySlot::prove(&bytes, &place, &keys.mac_key()).unwrap(), slot);
        let alone = KeyTree::new(&key(2), ID);
        assert_eq!(KeySlot::prove(&bytes, &place, &alone.mac_key()).unwrap(), slot);
        assert!(KeySlot::prove(&bytes, &place, &KeyTree::new(&key(1), ID).mac_key()).is_err());
        assert!(KeySlot::prove(&bytes, &names::key_slot_copy(keys.key_id()), &keys.mac_key()).is_err());
    }

    #[test]
    fn a_raw_slot_has_the_members_it_always_had() {
        let json = serde_json::to_string(&KeySlot::raw(KeyTree::new(&key(1), ID).newest(), ID)).unwrap();
        let names = ["version", "kind", "key_id", "repository", "epoch"];
        assert_eq!(json.matches("\":").count(), names.len(), "{json}");
        assert!(names.iter().all(|name| json.contains(name)));
    }
}
