//! The key tree: everything that seals or proves comes from one 32-byte repository key.
//!
//! ```text
//! repository key ──HKDF──▶ key id                      names the key, proves nothing
//!        │ salted with the repository id
//!        ├──▶ K_manifest ──▶ K_mac                     manifests, checkpoints, JSON documents
//!        ├──▶ K_map                                    map objects
//!        ├──▶ K_pack                                   customer data
//!        └──▶ K_slot                                   the key that was used before this one
//! K_* ──HKDF, salted with the object's own salt──▶ key of one object
//! ```
//!
//! So a holder of `K_manifest` alone (a retention key) can read what is alive, and
//! no customer data. After a rotation the newest key seals, and every key before it still opens:
//! readers choose by the key id in an object's header. HKDF and HMAC are those of aws-lc; nothing here touches a file.

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::digest::{from_hex, to_hex};
use crate::format::{ID_BYTES, KEY_BYTES, ObjectKind, SALT_BYTES};
use crate::secret::Retention;

/// What the one line of a key file begins with.
const KEY_FILE_TAG: &str = "dualsync-block-key-1:";

/// Names a key; derived from it, so that a wrong key is told from damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; ID_BYTES]);

/// Names a repository, drawn at random by `init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RepositoryId(pub [u8; ID_BYTES]);

macro_rules! hex_text {
    ($($id:ident),*) => {$(
        impl std::fmt::Display for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl $id {
            /// Reads 32 lower-case hexadecimal digits.
            pub fn from_text(text: &str) -> Option<Self> {
                from_hex(text).map(Self)
            }
        }
    )*};
}

hex_text!(KeyId, RepositoryId);

/// The secret that opens a repository; wiped from memory when dropped.
#[derive(Clone)]
pub struct RepositoryKey(Zeroizing<[u8; KEY_BYTES]>);

/// A text that is no key file. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a block key: expected comment lines and one line `dualsync-block-key-1:` with 64 hexadecimal digits, or what `dualsync keys add` wrote"
)]
pub struct NotAKey;

impl RepositoryKey {
    /// The key of these bytes, which should be random.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key file: `#` comments, empty lines and exactly one key line.
    pub fn from_text(text: &str) -> Result<Self, NotAKey> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match (lines.next(), lines.next()) {
            (Some(line), None) => line.strip_prefix(KEY_FILE_TAG).and_then(from_hex).map(Self::new).ok_or(NotAKey),
            _ => Err(NotAKey),
        }
    }

    /// The key line of a key file.
    pub fn to_line(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{KEY_FILE_TAG}{}", to_hex(&*self.0)))
    }

    /// Its bytes, for the slot that keeps it.
    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The name of this key.
    pub fn id(&self) -> KeyId {
        let derived = derive(&[], &*self.0, b"dualsync-block/1 key id");
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&derived[..ID_BYTES]);
        KeyId(id)
    }
}

/// The keys of one repository: those that grow from the key at hand, and from every key before it.
#[derive(Clone)]
pub struct KeyTree {
    repository: RepositoryId,
    newest: Branches,
    /// From the second newest to the first one, which `repo.json` is proved by.
    older: Vec<Branches>,
}

/// What grows from one repository key.
#[derive(Clone)]
pub struct Branches {
    key_id: KeyId,
    manifest: Zeroizing<[u8; KEY_BYTES]>,
    content: Option<Content>,
}

/// What opens customer data and other keys; a deleter does without.
#[derive(Clone)]
struct Content {
    map: Zeroizing<[u8; KEY_BYTES]>,
    pack: Zeroizing<[u8; KEY_BYTES]>,
    slot: Zeroizing<[u8; KEY_BYTES]>,
}

impl KeyTree {
    /// The tree of `key` alone for one repository.
    pub fn new(key: &RepositoryKey, repository: RepositoryId) -> Self {
        Self { repository, newest: Branches::new(key, repository), older: Vec::new() }
    }

    /// What a deleter holds of a repository; `None` when it holds no key.
    pub fn of_retention(retention: &Retention) -> Option<Self> {
        let branches = |(key_id, manifest): &(KeyId, Zeroizing<[u8; KEY_BYTES]>)| Branches {
            key_id: *key_id,
            manifest: manifest.clone(),
            content: None,
        };
        let mut all = retention.branches.iter().map(branches);
        Some(Self { repository: retention.repository, newest: all.next()?, older: all.collect() })
    }

    /// Whether these keys open customer data, and not manifests only.
    pub fn opens_content(&self) -> bool {
        self.newest.content.is_some()
    }

    /// Adds the key that was used before all of these.
    pub fn push_older(&mut self, key: &RepositoryKey) {
        self.older.push(Branches::new(key, self.repository));
    }

    /// The newest key, by name: what is sealed from now on carries it.
    pub fn key_id(&self) -> KeyId {
        self.newest.key_id
    }

    /// The repository it is for.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Every key, the newest first.
    pub fn all(&self) -> impl Iterator<Item = &Branches> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// The newest key.
    pub fn newest(&self) -> &Branches {
        &self.newest
    }

    /// The first key of the repository, as far as these go back.
    pub fn oldest(&self) -> &Branches {
        self.older.last().unwrap_or(&self.newest)
    }

    /// The branches of the key of that name.
    pub fn of(&self, id: KeyId) -> Option<&Branches> {
        self.all().find(|branches| branches.key_id == id)
    }

    /// Signs JSON documents with the newest key, and proves those of every key.
    pub fn mac_key(&self) -> MacKey {
        MacKey { newest: self.newest.mac_key(), older: self.older.iter().map(Branches::mac_key).collect() }
    }
}

impl Branches {
    fn new(key: &RepositoryKey, repository: RepositoryId) -> Self {
        let branch = |info: &[u8]| derive(&repository.0, &*key.0, info);
        Self {
            key_id: key.id(),
            manifest: branch(b"dualsync-block/1 manifest"),
            content: Some(Content {
                map: branch(b"dualsync-block/1 map"),
                pack: branch(b"dualsync-block/1 pack"),
                slot: branch(b"dualsync-block/1 slot"),
            }),
        }
    }

    /// The key they grew from, by name.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// What proves documents and opens manifests, for a deleter's key.
    pub(crate) fn manifest(&self) -> &Zeroizing<[u8; KEY_BYTES]> {
        &self.manifest
    }

    /// The key of one object, from its salt; `None` of content for who opens manifests only.
    pub fn object_key(&self, kind: ObjectKind, salt: &[u8; SALT_BYTES]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let branch = match (kind, &self.content) {
            (ObjectKind::Manifest | ObjectKind::Checkpoint, _) => &self.manifest,
            (ObjectKind::Map, Some(content)) => &content.map,
            (ObjectKind::Pack, Some(content)) => &content.pack,
            (ObjectKind::Map | ObjectKind::Pack, None) => return None,
        };
        let info = [b"dualsync-block/1 object ".as_slice(), &[kind as u8]].concat();
        Some(derive(salt, &**branch, &info))
    }

    /// The key that seals another key into a slot, from the slot's salt.
    pub fn slot_key(&self, salt: &[u8; SALT_BYTES]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        self.content.as_ref().map(|content| derive(salt, &*content.slot, b"dualsync-block/1 previous key"))
    }

    fn mac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*derive(&[], &*self.manifest, b"dualsync-block/1 mac"))
    }

    /// The key that proves JSON documents of this key alone.
    pub fn own_mac_key(&self) -> MacKey {
        MacKey { newest: self.mac_key(), older: Vec::new() }
    }
}

/// What proves JSON documents: they carry no key id, so each key is tried.
pub struct MacKey {
    newest: hmac::Key,
    older: Vec<hmac::Key>,
}

impl MacKey {
    /// The MAC of `text` under the newest key.
    pub fn sign(&self, text: &[u8]) -> [u8; 32] {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.newest, text).as_ref());
        mac
    }

    /// Whether one of the keys made this MAC; compared in constant time.
    pub fn fits(&self, text: &[u8], mac: &[u8; 32]) -> bool {
        std::iter::once(&self.newest).chain(&self.older).any(|key| hmac::verify(key, text, mac).is_ok())
    }
}

impl std::fmt::Debug for KeyTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyTree").field("key_id", &self.newest.key_id).finish_non_exhaustive()
    }
}

pub(crate) fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[info], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *out))
        .expect("one block of HKDF output is within its limit (RFC 5869: 255 blocks)");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hkdf_is_the_one_of_rfc_5869() {
        // Test case 1, first 32 bytes of the output.
        let salt: [u8; 13] = from_hex("000102030405060708090a0b0c").unwrap();
        let info: [u8; 10] = from_hex("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let okm = derive(&salt, &[0x0b; 22], &info);
        assert_eq!(to_hex(&*okm), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
    }

    #[test]
    fn a_key_file_reads_back() {
        let key = RepositoryKey::new([7; 32]);
        let text = format!("# keep this safe\n\n{}\n", *key.to_line());
        assert_eq!(RepositoryKey::from_text(&text).unwrap().id(), key.id());
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let line = RepositoryKey::new([7; 32]).to_line();
        for text in ["", "# only words", &line[..line.len() - 1], &format!("{}\n{}", *line, *line), "age-secret-key"] {
            assert_eq!(RepositoryKey::from_text(text).err(), Some(NotAKey), "{text}");
        }
    }

    #[test]
    fn every_branch_repository_and_salt_has_its_own_key() {
        let key = RepositoryKey::new([7; 32]);
        let tree = KeyTree::new(&key, RepositoryId([1; 16]));
        let other = KeyTree::new(&key, RepositoryId([2; 16]));
        let mut seen = std::collections::HashSet::new();
        for tree in [&tree, &other] {
            for kind in [ObjectKind::Manifest, ObjectKind::Map, ObjectKind::Pack, ObjectKind::Checkpoint] {
                for salt in [[0; 32], [1; 32]] {
                    assert!(seen.insert(*tree.newest().object_key(kind, &salt).unwrap()));
                }
            }
        }
        assert_eq!(tree.key_id(), other.key_id(), "the key's name does not depend on the repository");
    }

    #[test]
    fn after_a_rotation_the_newest_key_signs_and_every_key_proves() {
        let (first, second) = (RepositoryKey::new([7; 32]), RepositoryKey::new([8; 32]));
        let id = RepositoryId([1; 16]);
        let (old, alone) = (KeyTree::new(&first, id), KeyTree::new(&second, id));
        let mut ring = alone.clone();
        ring.push_older(&first);
        assert_eq!((ring.key_id(), ring.oldest().key_id()), (second.id(), first.id()));
        let (by_old, by_ring) = (old.mac_key().sign(b"x"), ring.mac_key().sign(b"x"));
        assert!(ring.mac_key().fits(b"x", &by_old) && ring.mac_key().fits(b"x", &by_ring));
        assert!(alone.mac_key().fits(b"x", &by_ring) && !old.mac_key().fits(b"x", &by_ring));
        assert!(ring.of(first.id()).is_some() && alone.of(first.id()).is_none());
    }
}
