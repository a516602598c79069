//! Signatures that the stock `minisign` makes and checks: Ed25519 over BLAKE2b-512 (its "prehashed" form).
//!
//! Promises that a manifest was made by who holds the secret key and that its trusted comment was
//! signed with it. Secret keys are read and written in the unencrypted form of `minisign -G -W`:
//! they lie beside the host's other keys, under the same file mode.
//! Formats: <https://jedisct1.github.io/minisign/>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

const ALGORITHM: [u8; 2] = *b"Ed";
const ALGORITHM_PREHASHED: [u8; 2] = *b"ED";
const CHECKSUM: [u8; 2] = *b"B2";
/// Salt, operations limit and memory limit of the key derivation that is not used.
const DERIVATION_BYTES: usize = 32 + 8 + 8;
const SECRET_BYTES: usize = 2 + 2 + 2 + DERIVATION_BYTES + 8 + 64 + 32;

/// Why a key or signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MinisignError {
    /// No minisign public key.
    #[error("no minisign public key (RW...)")]
    PublicKey,
    /// No minisign secret key.
    #[error("no minisign secret key")]
    SecretKey,
    /// A secret key with a password.
    #[error("the minisign secret key has a password; make one with minisign -G -W")]
    Encrypted,
    /// No minisign signature.
    #[error("no minisign signature")]
    Malformed,
    /// Made with another key.
    #[error("signed by another key ({found}), and {pinned} is pinned")]
    OtherKey {
        /// Key id in the signature.
        found: String,
        /// Key id that was expected.
        pinned: String,
    },
    /// The bytes are not the signed ones.
    #[error("the signature does not match")]
    Forged,
}

/// What checks signatures; pinned in config and recovery sheet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    id: [u8; 8],
    key: VerifyingKey,
}

/// What makes them.
pub struct SecretKey {
    id: [u8; 8],
    key: SigningKey,
}

impl PublicKey {
    /// Reads `RW...`, alone or as the last line of a public key file.
    pub fn parse(text: &str) -> Result<Self, MinisignError> {
        let line = text.trim().lines().last().unwrap_or_default();
        let bytes = STANDARD.decode(line.trim()).map_err(|_| MinisignError::PublicKey)?;
        let bytes: [u8; 42] = bytes.try_into().map_err(|_| MinisignError::PublicKey)?;
        let (algorithm, rest) = bytes.split_first_chunk::<2>().expect("42 bytes");
        let (id, key) = rest.split_first_chunk::<8>().expect("40 bytes");
        if *algorithm != ALGORITHM {
            return Err(MinisignError::PublicKey);
        }
        let key = key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
        Ok(Self { id: *id, key: key.ok_or(MinisignError::PublicKey)? })
    }

    /// `RW...`.
    pub fn to_text(&self) -> String {
        STANDARD.encode([&ALGORITHM[..], &self.id, self.key.as_bytes()].concat())
    }

    /// Its id as minisign prints it.
    pub fn id(&self) -> String {
        id_text(self.id)
    }

    /// Checks `signature`, the text of a `.minisig` file, over `message`; gives the trusted comment.
    pub fn verify(&self, message: &[u8], signature: &str) -> Result<String, MinisignError> {
        let mut lines = signature.lines();
        let mut line = || lines.next().ok_or(MinisignError::Malformed);
        let (_untrusted, packed, comment, global) = (line()?, line()?, line()?, line()?);
        let comment = comment.strip_prefix("trusted comment: ").ok_or(MinisignError::Malformed)?;
        let packed: [u8; 74] = decode(packed)?;
        let (algorithm, rest) = packed.split_first_chunk::<2>().expect("74 bytes");
        let (id, raw) = rest.split_first_chunk::<8>().expect("72 bytes");
        if *algorithm != ALGORITHM_PREHASHED {
            return Err(MinisignError::Malformed);
        }
        if *id != self.id {
            return Err(MinisignError::OtherKey { found: id_text(*id), pinned: self.id() });
        }
        let raw: &[u8; 64] = raw.try_into().map_err(|_| MinisignError::Malformed)?;
        let check = |message: &[u8], signature: &[u8; 64]| {
            // The strict form refuses keys and points of small order, which could sign anything.
            self.key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| MinisignError::Forged)
        };
        check(&Blake2b512::digest(message), raw)?;
        check(&[raw, comment.as_bytes()].concat(), &decode(global)?)?;
        Ok(comment.to_owned())
    }
}

impl SecretKey {
    /// A key of 40 random bytes.
    pub fn from_random(random: &Zeroizing<[u8; 40]>) -> Self {
        let (id, seed) = random.split_first_chunk::<8>().expect("40 bytes");
        let seed: &[u8; 32] = seed.try_into().expect("32 of 40 bytes");
        Self { id: *id, key: SigningKey::from_bytes(seed) }
    }

    /// Reads a secret key file.
    pub fn parse(file: &str) -> Result<Self, MinisignError> {
        let line = file.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        let bytes = Zeroizing::new(STANDARD.decode(line).map_err(|_| MinisignError::SecretKey)?);
        if bytes.len() != SECRET_BYTES || bytes[..2] != ALGORITHM || bytes[4..6] != CHECKSUM {
            return Err(MinisignError::SecretKey);
        }
        if bytes[2..4] != [0, 0] {
            return Err(MinisignError::Encrypted);
        }
        let tail = &bytes[6 + DERIVATION_BYTES..];
        let (id, rest) = tail.split_first_chunk::<8>().ok_or(MinisignError::SecretKey)?;
        let (pair, checksum) = rest.split_first_chunk::<64>().ok_or(MinisignError::SecretKey)?;
        // `minisign -W` leaves the checksum empty, and reads keys whether it is or not.
        if checksum != [0; 32] && checksum != checksum_of(*id, pair).as_slice() {
            return Err(MinisignError::SecretKey);
        }
        // The pair is seed and public key; a public half that does not fit would leak the seed when signing.
        let key = SigningKey::from_keypair_bytes(pair).map_err(|_| MinisignError::SecretKey)?;
        Ok(Self { id: *id, key })
    }

    /// The secret key file, as `minisign -G -W` writes it, with a checksum.
    pub fn to_file(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(self.key.to_keypair_bytes());
        let checksum = checksum_of(self.id, &pair);
        let bytes = Zeroizing::new(
            [&ALGORITHM[..], &[0, 0], &CHECKSUM, &[0; DERIVATION_BYTES], &self.id, &pair[..], &checksum].concat(),
        );
        Zeroizing::new(format!(
            "untrusted comment: minisign secret key {}\n{}\n",
            id_text(self.id),
            STANDARD.encode(&*bytes)
        ))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey { id: self.id, key: self.key.verifying_key() }
    }

    /// The text of a `.minisig` file over `message`.
    pub fn sign(&self, message: &[u8], trusted_comment: &str) -> String {
        let [signature, global] = self.sign_twice(message, trusted_comment);
        format!(
            "untrusted comment: signature of dualsync-archive\n{signature}\ntrusted comment: {trusted_comment}\n{global}\n"
        )
    }

    /// The two lines of it that are signatures: over `message`, and over that with the comment.
    pub fn sign_twice(&self, message: &[u8], trusted_comment: &str) -> [String; 2] {
        let signature = self.key.sign(&Blake2b512::digest(message)).to_bytes();
        let global = self.key.sign(&[&signature[..], trusted_comment.as_bytes()].concat()).to_bytes();
        let packed = [&ALGORITHM_PREHASHED[..], &self.id, &signature].concat();
        [STANDARD.encode(packed), STANDARD.encode(global)]
    }
}

fn checksum_of(id: [u8; 8], pair: &[u8; 64]) -> [u8; 32] {
    Blake2b::<U32>::new().chain_update(ALGORITHM).chain_update(id).chain_update(pair).finalize().into()
}

fn id_text(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

fn decode<const N: usize>(line: &str) -> Result<[u8; N], MinisignError> {
    STANDARD.decode(line.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(MinisignError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_random(&Zeroizing::new([byte; 40]))
    }

    #[test]
    fn what_is_signed_is_accepted_and_nothing_else() {
        let signature = key(1).sign(b"message", "web 7");
        let public = key(1).public();
        assert_eq!(public.verify(b"message", &signature).unwrap(), "web 7");
        assert_eq!(public.verify(b"massage", &signature), Err(MinisignError::Forged));
        assert_eq!(public.verify(b"message", &signature.replace("web 7", "web 8")), Err(MinisignError::Forged));
        assert!(matches!(key(2).public().verify(b"message", &signature), Err(MinisignError::OtherKey { .. })));
        assert_eq!(public.verify(b"message", "nonsense"), Err(MinisignError::Malformed));
        assert_eq!(public.verify(b"message", ""), Err(MinisignError::Malformed));
    }

    #[test]
    fn every_byte_of_a_signature_counts() {
        let signature = key(1).sign(b"message", "web 7");
        let comment_at = signature.find('\n').unwrap();
        for at in comment_at + 1..signature.len() {
            let mut changed = signature.clone().into_bytes();
            changed[at] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            assert!(key(1).public().verify(b"message", &changed).is_err() || at == signature.len() - 1, "byte {at}");
        }
    }

    #[test]
    fn keys_read_back() {
        let file = key(3).to_file();
        assert_eq!(SecretKey::parse(&file).unwrap().public(), key(3).public());
        let text = key(3).public().to_text();
        assert!(text.starts_with("RW"), "{text}");
        assert_eq!(PublicKey::parse(&text).unwrap(), key(3).public());
        assert_eq!(PublicKey::parse(&format!("untrusted comment: x\n{text}\n")).unwrap(), key(3).public());
        assert!(PublicKey::parse("RWnonsense").is_err() && SecretKey::parse("").is_err());
    }

    #[test]
    fn a_damaged_secret_key_is_refused() {
        let file = key(3).to_file();
        let line = file.lines().last().unwrap();
        let mut bytes = STANDARD.decode(line).unwrap();
        bytes[SECRET_BYTES - 40] ^= 1;
        assert_eq!(SecretKey::parse(&STANDARD.encode(&bytes)).err(), Some(MinisignError::SecretKey));
        bytes[2] = b'S';
        assert_eq!(SecretKey::parse(&STANDARD.encode(&bytes)).err(), Some(MinisignError::Encrypted));
    }
}
