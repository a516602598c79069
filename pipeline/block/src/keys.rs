//! The key tree: everything that seals or proves comes from one 32-byte repository key.
//!
//! ```text
//! repository key ──HKDF──▶ key id                      names the key, proves nothing
//!        │ salted with the repository id
//!        ├──▶ K_manifest ──▶ K_mac                     manifests, checkpoints, JSON documents
//!        ├──▶ K_map                                    map objects
//!        └──▶ K_pack                                   customer data
//! K_* ──HKDF, salted with the object's own salt──▶ key of one object
//! ```
//!
//! So a holder of `K_manifest` alone (a later `retention` slot) can read what is alive, and
//! no customer data. HKDF and HMAC are those of aws-lc; nothing here touches a file.

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::digest::{from_hex, to_hex};
use crate::format::{ID_BYTES, KEY_BYTES, ObjectKind, SALT_BYTES};

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
#[error("not a block key: expected comment lines and one line `dualsync-block-key-1:` with 64 hexadecimal digits")]
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

    /// The name of this key.
    pub fn id(&self) -> KeyId {
        let derived = derive(&[], &*self.0, b"dualsync-block/1 key id");
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&derived[..ID_BYTES]);
        KeyId(id)
    }
}

/// The derived keys of one repository.
#[derive(Clone)]
pub struct KeyTree {
    key_id: KeyId,
    repository: RepositoryId,
    manifest: Zeroizing<[u8; KEY_BYTES]>,
    map: Zeroizing<[u8; KEY_BYTES]>,
    pack: Zeroizing<[u8; KEY_BYTES]>,
}

impl KeyTree {
    /// The tree of `key` for one repository.
    pub fn new(key: &RepositoryKey, repository: RepositoryId) -> Self {
        let branch = |info: &[u8]| derive(&repository.0, &*key.0, info);
        Self {
            key_id: key.id(),
            repository,
            manifest: branch(b"dualsync-block/1 manifest"),
            map: branch(b"dualsync-block/1 map"),
            pack: branch(b"dualsync-block/1 pack"),
        }
    }

    /// The key the tree grew from, by name.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The repository it is for.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The key of one object, from its salt.
    pub fn object_key(&self, kind: ObjectKind, salt: &[u8; SALT_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
        let branch = match kind {
            ObjectKind::Manifest | ObjectKind::Checkpoint => &self.manifest,
            ObjectKind::Map => &self.map,
            ObjectKind::Pack => &self.pack,
        };
        let info = [b"dualsync-block/1 object ".as_slice(), &[kind as u8]].concat();
        derive(salt, &**branch, &info)
    }

    /// The key that proves JSON documents.
    pub fn mac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*derive(&[], &*self.manifest, b"dualsync-block/1 mac"))
    }
}

impl std::fmt::Debug for KeyTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyTree").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
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
                    assert!(seen.insert(*tree.object_key(kind, &salt)));
                }
            }
        }
        assert_eq!(tree.key_id(), other.key_id(), "the key's name does not depend on the repository");
    }
}
