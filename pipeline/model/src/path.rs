//! A path inside a source as the bytes the file system gave, and the one order of everything.
//!
//! Linux paths are bytes without NUL, not text. In JSON a path that is UTF-8 is a field `path`,
//! any other is `path_b64` (RFC 4648, padded): [`PathField`] is that pair, to be flattened into
//! the line that carries it. The empty path is the root of the source's tree.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A path relative to the source's tree, `/` between components, no leading or trailing `/`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RawPath(Vec<u8>);

impl RawPath {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether this is the root of the tree.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// `self/name`; joined to the root it is `name` alone.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes)
    }
}

impl Ord for RawPath {
    /// A sorted pre-order walk: components as raw bytes, `/` sorting before every other byte.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for RawPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RawPath {
    /// For people: control characters and what is not UTF-8 as `\xNN`, the root as `.`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RawPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// `path` or `path_b64`, exactly one of them, flattened into a JSON line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PathField {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
}

/// A line that carries no path, two paths, or one that is not base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Neither or both fields are there.
    #[error("a line must carry either 'path' or 'path_b64'")]
    NotOne,
    /// `path_b64` is not what RFC 4648 allows.
    #[error("'{0}' is not base64")]
    NotBase64(String),
}

impl From<&RawPath> for PathField {
    fn from(path: &RawPath) -> Self {
        match std::str::from_utf8(&path.0) {
            Ok(text) => Self { path: Some(text.to_owned()), path_b64: None },
            Err(_) => Self { path: None, path_b64: Some(to_base64(&path.0)) },
        }
    }
}

impl TryFrom<PathField> for RawPath {
    type Error = PathError;

    fn try_from(field: PathField) -> Result<Self, PathError> {
        match (field.path, field.path_b64) {
            (Some(text), None) => Ok(Self(text.into_bytes())),
            (None, Some(text)) => from_base64(&text).map(Self).ok_or(PathError::NotBase64(text)),
            _ => Err(PathError::NotOne),
        }
    }
}

/// A path standing alone in JSON: text where it is UTF-8, else `{"path_b64": "..."}`.
impl Serialize for RawPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => PathField::from(self).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Field(PathField),
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => Ok(Self(text.into_bytes())),
            Either::Field(field) => Self::try_from(field).map_err(serde::de::Error::custom),
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 of RFC 4648 section 4, padded.
pub fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for position in 0..4 {
            if position <= chunk.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * position) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Reads [`to_base64`]; `None` for anything but its canonical form.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    for chunk in digits.chunks(4) {
        let padding = chunk.iter().rev().take_while(|b| **b == b'=').count();
        let mut word = 0_u32;
        for digit in &chunk[..4 - padding.min(2)] {
            let value = ALPHABET.iter().position(|known| known == digit)?;
            word = word << 6 | u32::try_from(value).ok()?;
        }
        word <<= 6 * padding.min(2);
        bytes.extend_from_slice(&word.to_be_bytes()[1..4 - padding.min(2)]);
    }
    (to_base64(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_is_a_sorted_pre_order_walk() {
        let mut paths: Vec<_> = ["a-b", "a/z", "a", "", "a/b/c", "a.txt", "a/b", "b"].map(RawPath::new).into();
        paths.sort();
        let text: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(text, [".", "a", "a/b", "a/b/c", "a/z", "a-b", "a.txt", "b"]);
    }

    #[test]
    fn a_name_that_is_not_utf_8_travels_as_base64() {
        let path = RawPath::new(b"caf\xe9".to_vec());
        let json = serde_json::to_string(&PathField::from(&path)).unwrap();
        assert_eq!(json, r#"{"path_b64":"Y2Fm6Q=="}"#);
        let field: PathField = serde_json::from_str(&json).unwrap();
        assert_eq!(RawPath::try_from(field).unwrap(), path);
        assert_eq!(path.to_string(), "caf\\xe9");
    }

    #[test]
    fn a_line_with_no_or_two_paths_is_refused() {
        for json in ["{}", r#"{"path":"a","path_b64":"YQ=="}"#, r#"{"path_b64":"Y"}"#, r#"{"path_b64":"YR=="}"#] {
            let field: PathField = serde_json::from_str(json).unwrap();
            assert!(RawPath::try_from(field).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn base64_survives_the_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(from_base64(&to_base64(&bytes)), Some(bytes));
        }

        #[test]
        fn a_parent_sorts_right_before_its_children(parent in "[a-z.-]{1,4}", child in "[a-z.-]{1,4}", other in "[a-z.-]{1,6}") {
            let (parent_path, inner) = (RawPath::new(parent.as_bytes()), RawPath::new(format!("{parent}/{child}")));
            prop_assert!(parent_path < inner);
            let sibling = RawPath::new(other);
            if sibling > parent_path { prop_assert!(sibling >= inner); }
        }
    }
}
