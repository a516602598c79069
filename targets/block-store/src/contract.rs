//! What the block path asks of a place that keeps objects: ids, data, errors, and the [`Store`] trait.
//!
//! It promises little on purpose: whole objects, written once, found again by key. No rename, no
//! append, no overwrite, no lock, no conditional write: correctness never rests on any of them,
//! because some stores answer 200 and ignore them. Ids and data come first, then [`crate::error`],
//! then the trait.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;

pub use crate::error::{ErrorKind, Operation, StoreError};
pub use crate::versions::Version;

/// Longest key, bytes: the limit of S3.
pub const KEY_BYTES_MAX: usize = 1024;

/// Largest object that is written or read, bytes: several times the largest that a path makes, so
/// that a store that sends without end cannot fill the memory.
pub const OBJECT_BYTES_MAX: u64 = 128 << 20;

/// Longest component of a key, bytes: the limit of common file systems, so that a bucket can be
/// copied to a directory.
const COMPONENT_BYTES_MAX: usize = 255;

/// First characters of the names that a directory store keeps for unfinished objects.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// The name of an object, relative to the target's prefix: components between single slashes.
///
/// A key never leaves its prefix: it has no leading slash and no component that is empty, `.` or
/// `..`. It has no control character and no backslash, and no component begins with `.tmp-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A text that is no key, with the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an object key: {rule}")]
pub struct KeyError {
    text: String,
    rule: &'static str,
}

impl Key {
    /// A key of this text.
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        match broken_rule(&text) {
            None => Ok(Self(text)),
            Some(rule) => Err(KeyError { text, rule }),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > KEY_BYTES_MAX {
        return Some("it has 1 to 1024 bytes");
    }
    if text.bytes().any(|b| b.is_ascii_control() || b == b'\\') {
        return Some("it has no control character and no backslash");
    }
    text.split('/').find_map(|component| match component {
        "" => Some("no slash at either end, no two in a row"),
        "." | ".." => Some("no component is '.' or '..'"),
        long if long.len() > COMPONENT_BYTES_MAX => Some("no component is longer than 255 bytes"),
        temporary if temporary.starts_with(TEMPORARY) => Some("no component begins with '.tmp-'"),
        _ => None,
    })
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One stored object, as a listing or a look-up shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: Key,
    /// Its length, bytes.
    pub size: u64,
    /// When the store says it was written, by the store's own clock.
    pub modified: Timestamp,
}

/// What keeps one version of an object from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLock {
    /// Who may not.
    pub mode: LockMode,
    /// Until when, by the store's clock.
    pub until: Timestamp,
}

/// A property of the place as a whole that [`Store::setting`] can look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setting {
    /// Old versions of an overwritten or deleted object stay.
    Versioning,
    /// Objects cannot be deleted before a date.
    ObjectLock,
}

/// What [`Store::setting`] found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The store says so and the scratch object shows it.
    Works(String),
    /// The store says so and the scratch object shows nothing of it.
    Claimed(String),
    /// The store says that it is off, or does not know the question.
    Absent(String),
}

/// A future a [`Store`] answers with; boxed, so that the trait stays usable as `dyn Store`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A place that keeps objects under keys.
///
/// Dropping a future gives the call up: what it would have done may happen, or not, as after
/// [`ErrorKind::Timeout`].
pub trait Store: Send + Sync + fmt::Debug {
    /// Stores `body` under `key`; `sha256` is the digest of `body`.
    ///
    /// - After `Ok` the object is there, whole, and outlives a crash of the store.
    /// - After `Err` it is there whole or not at all, never in part; a retryable error may hide a success.
    /// - Twice with the same bytes is success. With other bytes it is a mistake of the caller, since
    ///   keys name their content or carry random bytes: directories answer
    ///   [`ErrorKind::AlreadyExists`] and keep the first, an S3 bucket keeps the second.
    /// - A body that does not fit `sha256` is refused with [`ErrorKind::Checksum`] where the store checks.
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()>;

    /// The whole object.
    ///
    /// After `Ok` as many bytes as the store announced arrived; whether they are the right ones is
    /// for the caller's digests to say. [`ErrorKind::NotFound`] when there is no such object.
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes>;

    /// `len` bytes from `offset` on.
    ///
    /// After `Ok` exactly `len` bytes; an object that ends earlier is [`ErrorKind::Truncated`].
    /// `len` 0 asks the store nothing.
    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes>;

    /// Size and time of an object, `None` when there is no such object.
    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>>;

    /// Every object whose key begins with `prefix` (any text; empty for all) and lies behind
    /// `after`, in the order of the keys' bytes.
    ///
    /// All pages or an error, never a part. Objects that come or go meanwhile may be in it or not.
    /// Foreign objects whose name is no [`Key`] are passed over.
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>>;

    /// Removes an object.
    ///
    /// After `Ok` it is not visible any more (a versioned bucket keeps the old version). Of an
    /// object that is not there, it is success: the second call is as good as the first.
    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()>;

    /// Removes what writes that were cut off left behind and no listing shows; how many.
    ///
    /// Safe at any time: what a writer may still be at is left alone, and if it were not, the worst is
    /// a put that fails.
    fn clear_leftovers(&self) -> Answer<'_, u64>;

    /// As [`Store::put`], but asks the store to refuse when `key` exists: `true` when it wrote,
    /// `false` when it refused.
    ///
    /// Only `probe` calls it, to see whether the store keeps its word.
    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool>;

    /// Looks for a property of the place, with the present object `scratch` as the witness.
    fn setting<'a>(&'a self, setting: Setting, scratch: &'a Key) -> Answer<'a, Seen>;

    /// Whether the place keeps what is overwritten or deleted, as versions of their own.
    ///
    /// Without versions there are no locks: the calls that follow answer [`ErrorKind::Unsupported`], and only a place with
    /// versions needs to have them.
    fn keeps_versions(&self) -> Answer<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    /// Every version and delete marker of the objects whose key begins with `prefix`. All pages or an error.
    ///
    /// The versions of one key come the newest first, also where two have the same time; markers are not in that order.
    fn versions<'a>(&'a self, prefix: &'a str) -> Answer<'a, Vec<Version>> {
        Box::pin(async move { Err(self.without_versions(Operation::List, prefix)) })
    }

    /// The whole of one version.
    fn get_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, Bytes> {
        let _ = id;
        Box::pin(async move { Err(self.without_versions(Operation::Get, key.as_str())) })
    }

    /// Removes one version or marker for good; one that is locked is [`ErrorKind::Denied`] and stays.
    fn delete_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, ()> {
        let _ = id;
        Box::pin(async move { Err(self.without_versions(Operation::Delete, key.as_str())) })
    }

    /// As [`Store::put`], under a lock.
    fn put_locked<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32], lock: ObjectLock) -> Answer<'a, ()> {
        let _ = (body, sha256, lock);
        Box::pin(async move { Err(self.without_versions(Operation::Put, key.as_str())) })
    }

    /// The lock of a version, or of what a plain read finds.
    fn lock_of<'a>(&'a self, key: &'a Key, id: Option<&'a str>) -> Answer<'a, Option<ObjectLock>> {
        let _ = id;
        Box::pin(async move { Err(self.without_versions(Operation::Head, key.as_str())) })
    }

    /// Makes the lock of a version, or of what a plain read finds, last until then; making it shorter, or less strict, is
    /// refused by good stores.
    fn extend_lock<'a>(&'a self, key: &'a Key, id: Option<&'a str>, lock: ObjectLock) -> Answer<'a, ()> {
        let _ = (id, lock);
        Box::pin(async move { Err(self.without_versions(Operation::Put, key.as_str())) })
    }

    /// The answer to a question about versions where there are none.
    fn without_versions(&self, operation: Operation, object: &str) -> StoreError {
        StoreError::new(ErrorKind::Unsupported, operation, self.describe(), object).because("it keeps no versions")
    }

    /// The time by the store's clock: that of its last answer, moved on by the boot-time clock.
    ///
    /// Where [`Store::has_clock`] is false it is the job's `now`, moved on likewise.
    fn now(&self) -> Timestamp;

    /// Whether the store has told its own time yet; always false for a directory.
    fn has_clock(&self) -> bool;

    /// Requests so far: what went over the wire, retries and pages included; operations for a directory.
    fn requests(&self) -> Requests;

    /// The place in words, for messages: `bucket b/prefix at https://host`.
    fn describe(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_stay_inside_are_accepted() {
        for text in
            ["repo.json", "packs/ab/abcd", "points/web/20261120T020000Z-00ff", "a/.b", "ä", &"k/".repeat(511)[..1021]]
        {
            assert_eq!(Key::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn keys_that_escape_or_collide_with_temporary_names_are_refused() {
        let long = format!("a/{}", "b".repeat(256));
        let longer = "k/".repeat(512) + "k";
        for text in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\\b", "a\nb", "a\0", ".tmp-1", "a/.tmp-",
            &long, &longer,
        ] {
            assert!(Key::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn keys_sort_by_their_bytes() {
        let mut keys: Vec<Key> = ["b", "a/b", "a-b", "a"].map(|text| text.parse().unwrap()).into();
        keys.sort();
        assert_eq!(keys.iter().map(Key::as_str).collect::<Vec<_>>(), ["a", "a-b", "a/b", "b"]);
    }
}
