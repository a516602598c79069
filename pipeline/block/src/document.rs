//! The small JSON objects of a repository (`repo.json`, key slots, heartbeats), proved by a MAC.
//!
//! The text is a JSON object whose last member is `"mac"`: HMAC-SHA-256 under K_mac of the newest key over the
//! object's key, a zero byte, and the text before that member. So a document is read by any JSON
//! tool, cannot be changed or moved to another key unnoticed, and needs no second file.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::{from_hex, to_hex};
use crate::format::DOCUMENT_BYTES_MAX;
use crate::keys::MacKey;

const MEMBER: &str = ",\"mac\":\"";
const END: &str = "\"}\n";
const MAC_HEX_BYTES: usize = 64;

/// Bytes that are not the document they should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON with a MAC at its end, or too long.
    #[error("is no document of a block repository")]
    NotOne,
    /// JSON without the fields it should have.
    #[error("does not have the fields it should have")]
    Fields(#[source] serde_json::Error),
    /// The MAC does not fit.
    #[error("is not what was written: its MAC does not fit")]
    Forged,
}

/// A document whose MAC was not looked at yet.
#[derive(Debug)]
pub struct Unproven<'a> {
    text: &'a str,
    mac: [u8; 32],
}

impl<'a> Unproven<'a> {
    /// Splits the MAC from what it covers.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DocumentError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DocumentError::NotOne)?;
        let text = text.strip_suffix(END).filter(|text| text.len() as u64 <= DOCUMENT_BYTES_MAX);
        let text = text.ok_or(DocumentError::NotOne)?;
        let split = text.len().checked_sub(MAC_HEX_BYTES).and_then(|at| text.split_at_checked(at));
        let (text, mac) = split.ok_or(DocumentError::NotOne)?;
        let text = text.strip_suffix(MEMBER).ok_or(DocumentError::NotOne)?;
        Ok(Self { text, mac: from_hex(mac).ok_or(DocumentError::NotOne)? })
    }

    /// What it says, which nobody has proved: only good for finding the key that proves it.
    pub fn claim<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        serde_json::from_str(&format!("{}}}", self.text)).map_err(DocumentError::Fields)
    }

    /// What it says, proved to be written at `key` by a holder of the repository key.
    pub fn prove<T: DeserializeOwned>(&self, mac_key: &MacKey, key: &str) -> Result<T, DocumentError> {
        if !mac_key.fits(&covered(key, self.text), &self.mac) {
            return Err(DocumentError::Forged);
        }
        self.claim()
    }
}

fn covered(key: &str, text: &str) -> Vec<u8> {
    [key.as_bytes(), &[0], text.as_bytes()].concat()
}

/// The bytes of `value`, as the document at `key`.
///
/// # Panics
/// When `value` is not a struct with at least one field.
pub fn encode<T: Serialize>(value: &T, mac_key: &MacKey, key: &str) -> Vec<u8> {
    let json = serde_json::to_string(value).expect("documents are plain structs of text and numbers");
    let text = json.strip_suffix('}').expect("a struct becomes a JSON object");
    let mac = mac_key.sign(&covered(key, text));
    format!("{text}{MEMBER}{}{END}", to_hex(&mac)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyTree, RepositoryId, RepositoryKey};
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Paper {
        name: String,
        number: u64,
    }

    fn key(byte: u8) -> MacKey {
        KeyTree::new(&RepositoryKey::new([byte; 32]), RepositoryId([0; 16])).mac_key()
    }

    fn paper() -> Paper {
        Paper { name: "web \"1\"".into(), number: 7 }
    }

    #[test]
    fn a_document_is_json_and_reads_back() {
        let bytes = encode(&paper(), &key(1), "repo.json");
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["number"], 7);
        assert_eq!(Unproven::parse(&bytes).unwrap().prove::<Paper>(&key(1), "repo.json").unwrap(), paper());
    }

    #[test]
    fn a_change_a_move_and_another_key_are_noticed() {
        let bytes = encode(&paper(), &key(1), "repo.json");
        let good = Unproven::parse(&bytes).unwrap();
        assert!(matches!(good.prove::<Paper>(&key(2), "repo.json"), Err(DocumentError::Forged)));
        assert!(matches!(good.prove::<Paper>(&key(1), "keys/x.json"), Err(DocumentError::Forged)));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let read = Unproven::parse(&bad).and_then(|bad| bad.prove::<Paper>(&key(1), "repo.json"));
            assert!(read.is_err(), "byte {at}");
        }
    }

    #[test]
    fn foreign_bytes_are_an_answer() {
        for bytes in [&b""[..], b"{}", b"\"}\n", b"{\"mac\":\"ab\"}\n", b"\xff\xff", "é\"}\n".as_bytes()] {
            assert!(Unproven::parse(bytes).is_err());
        }
    }
}
