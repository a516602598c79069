//! The repository key inside a slot of its own, under a passphrase or under a key that opens this slot only.
//!
//! ```text
//! passphrase ──Argon2id(salt)──▶ key ─┐
//! key of a file ──────────────────────┴─HKDF(salt)──▶ AES-256-GCM key of this slot
//! ```
//!
//! Whoever writes the bucket chooses a slot's parameters: they are bounded, so that a slot can neither be weaker than
//! allowed nor take all memory.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::{from_hex, to_hex};
use crate::format::{KEY_BYTES, NONCE_BYTES, SALT_BYTES, TAG_BYTES};
use crate::keys::{KeyId, RepositoryId, RepositoryKey, derive};
use crate::seal::{NoRandomness, random_bytes};

/// Least and most memory of Argon2id, KiB.
pub const MEMORY_KIB: std::ops::RangeInclusive<u32> = (64 << 10)..=(1 << 20);
/// Least and most passes.
pub const PASSES: std::ops::RangeInclusive<u32> = 1..=16;

/// What a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argon {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for Argon {
    fn default() -> Self {
        Self { memory_kib: 256 << 10, passes: 3 }
    }
}

/// A wrapped key, as a slot holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrap {
    /// Only of a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argon2id: Option<Argon>,
    /// Hexadecimal.
    pub salt: String,
    /// The key under AES-256-GCM and the tag: hexadecimal.
    pub sealed: String,
}

/// What opens a wrap.
#[derive(Clone, Copy)]
pub enum Opener<'a> {
    /// Words, hashed with the slot's parameters.
    Passphrase(&'a str),
    /// A key.
    Key(&'a [u8; KEY_BYTES]),
}

/// What a wrap is bound to.
#[derive(Clone, Copy)]
pub struct Bound {
    /// The repository.
    pub repository: RepositoryId,
    /// The slot.
    pub slot: KeyId,
    /// The wrapped key.
    pub key: KeyId,
}

/// Parameters that nobody should be asked to compute.
#[derive(Debug, thiserror::Error)]
#[error("its Argon2id parameters are outside of what this program takes: {} KiB, {} passes", .0.memory_kib, .0.passes)]
pub struct Unbounded(Argon);

impl Wrap {
    /// Wraps `key`.
    ///
    /// # Panics
    /// With parameters out of bounds, which the caller refuses.
    pub fn seal(opener: Opener<'_>, argon: Argon, bound: Bound, key: &RepositoryKey) -> Result<Self, NoRandomness> {
        let salt: [u8; SALT_BYTES] = random_bytes()?;
        let argon2id = matches!(opener, Opener::Passphrase(_)).then_some(argon);
        let cipher = cipher(opener, argon2id, &salt).expect("the caller's parameters are within the bounds");
        let mut body = Zeroizing::new(*key.bytes());
        let tag = cipher
            .encrypt_inout_detached(&[0; NONCE_BYTES].into(), &text(bound), (&mut body[..]).into())
            .expect("AES-GCM seals up to 64 GiB");
        Ok(Self { argon2id, salt: to_hex(&salt), sealed: to_hex(&[&body[..], &tag[..]].concat()) })
    }

    /// The wrapped key; `None` when it is not the one that opens it, or not a wrap of this slot.
    pub fn open(&self, opener: Opener<'_>, bound: Bound) -> Result<Option<RepositoryKey>, Unbounded> {
        let is_passphrase = matches!(opener, Opener::Passphrase(_));
        let parts = (from_hex::<SALT_BYTES>(&self.salt), from_hex::<{ KEY_BYTES + TAG_BYTES }>(&self.sealed));
        let ((Some(salt), Some(sealed)), true) = (parts, is_passphrase == self.argon2id.is_some()) else {
            return Ok(None);
        };
        let cipher = cipher(opener, self.argon2id, &salt)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        key.copy_from_slice(&sealed[..KEY_BYTES]);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&sealed[KEY_BYTES..]);
        let done =
            cipher.decrypt_inout_detached(&[0; NONCE_BYTES].into(), &text(bound), (&mut key[..]).into(), &tag.into());
        Ok(done.ok().map(|()| RepositoryKey::new(*key)).filter(|key| key.id() == bound.key))
    }
}

fn text(bound: Bound) -> Vec<u8> {
    [b"dualsync-block/1 wrapped\0".as_slice(), &bound.repository.0, &bound.slot.0, &bound.key.0].concat()
}

/// The salt makes the key, which so seals one text only: the nonce may be zero.
fn cipher(opener: Opener<'_>, argon: Option<Argon>, salt: &[u8; SALT_BYTES]) -> Result<Aes256Gcm, Unbounded> {
    let stretched;
    let secret: &[u8; KEY_BYTES] = match (opener, argon) {
        (Opener::Key(key), _) => key,
        (Opener::Passphrase(words), argon) => {
            stretched = stretch(words, argon.unwrap_or_default(), salt)?;
            &stretched
        }
    };
    Ok(Aes256Gcm::new((&*derive(salt, secret, b"dualsync-block/1 wrapped key")).into()))
}

fn stretch(words: &str, argon: Argon, salt: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, Unbounded> {
    let is_bounded = MEMORY_KIB.contains(&argon.memory_kib) && PASSES.contains(&argon.passes);
    let params = Params::new(argon.memory_kib, argon.passes, 1, Some(KEY_BYTES)).ok().filter(|_| is_bounded);
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    let hashed = params.map(|params| {
        let mut memory = vec![Block::default(); params.block_count()];
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_into_with_memory(words.as_bytes(), salt, &mut *out, &mut memory)
    });
    match hashed {
        Some(Ok(())) => Ok(out),
        _ => Err(Unbounded(argon)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Argon = Argon { memory_kib: 64 << 10, passes: 1 };

    fn bound() -> Bound {
        Bound { repository: RepositoryId([4; 16]), slot: KeyId([5; 16]), key: RepositoryKey::new([1; 32]).id() }
    }

    #[test]
    fn only_the_right_words_and_the_right_key_open_a_wrap_of_this_slot() {
        let key = RepositoryKey::new([1; 32]);
        let openers = [Opener::Passphrase("correct horse battery"), Opener::Key(&[9; 32])];
        let others = [Opener::Passphrase("correct horse batterz"), Opener::Key(&[8; 32])];
        for (opener, other) in openers.into_iter().zip(others) {
            let wrap = Wrap::seal(opener, SMALL, bound(), &key).unwrap();
            assert_eq!(wrap.open(opener, bound()).unwrap().unwrap().id(), key.id());
            for wrong in [other, openers[0], openers[1]].into_iter().filter(|wrong| !same(*wrong, opener)) {
                assert!(wrap.open(wrong, bound()).unwrap().is_none());
            }
            let moved = Bound { slot: KeyId([6; 16]), ..bound() };
            assert!(wrap.open(opener, moved).unwrap().is_none(), "of another slot");
        }
    }

    fn same(a: Opener<'_>, b: Opener<'_>) -> bool {
        match (a, b) {
            (Opener::Passphrase(a), Opener::Passphrase(b)) => a == b,
            (Opener::Key(a), Opener::Key(b)) => a == b,
            _ => false,
        }
    }

    #[test]
    fn parameters_of_a_stranger_are_refused_before_they_cost_anything() {
        let key = RepositoryKey::new([1; 32]);
        let good = Wrap::seal(Opener::Passphrase("correct horse battery"), SMALL, bound(), &key).unwrap();
        for argon in [
            Argon { memory_kib: (64 << 10) - 1, passes: 1 },
            Argon { memory_kib: (1 << 20) + 1, passes: 1 },
            Argon { memory_kib: 64 << 10, passes: 0 },
            Argon { memory_kib: 64 << 10, passes: 17 },
        ] {
            let wrap = Wrap { argon2id: Some(argon), ..good.clone() };
            assert!(wrap.open(Opener::Passphrase("correct horse battery"), bound()).is_err(), "{argon:?}");
        }
    }
}
