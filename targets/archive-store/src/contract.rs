//! The few things the archive path needs from a place in another country, and nothing more.
//!
//! Names ([`Key`]), what is known of an object ([`ObjectInfo`]), why something failed
//! ([`StoreError`]), and the trait [`Store`] itself. An object is written once and whole. There is
//! deliberately no append, no streaming writer and no overwrite: a sealed buffer goes out in one
//! call, so that nothing can end up half written under a good name.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;

use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;

pub use crate::error::{ErrorKind, Operation, StoreError};

/// What the names of unfinished files of a directory store begin with.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// Where an object lies, relative to the target's prefix.
///
/// At most 1,024 bytes; parts of 1 to 255 bytes between single slashes; no part is `.` or `..` or
/// begins with `.unfinished-`; no control characters, no backslash. So a key is a safe relative
/// path on every service, and cannot climb out of the prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a text cannot be a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, or more than 1,024 bytes.
    #[error("a key has 1 to 1024 bytes, this one has {0}")]
    Length(usize),
    /// A part between slashes that is no safe file name.
    #[error("'{part}' cannot be a part of the key '{key}'")]
    Part {
        /// The whole text.
        key: String,
        /// The part.
        part: String,
    },
}

impl Key {
    /// Longest key in bytes, as S3 has it.
    pub const BYTES_MAX: usize = 1024;

    /// Largest object that is written or read, bytes: well above the largest volume, and a bound on
    /// what a store that does not stop sending can put into memory.
    pub const OBJECT_BYTES_MAX: u64 = 128 << 20;

    /// Longest part in bytes, as file systems have it.
    pub const PART_BYTES_MAX: usize = 255;

    /// Takes a text as a key.
    pub fn new(key: impl Into<String>) -> Result<Self, KeyError> {
        let key = key.into();
        if key.is_empty() || key.len() > Self::BYTES_MAX {
            return Err(KeyError::Length(key.len()));
        }
        match key.split('/').find(|part| !is_safe(part)) {
            None => Ok(Self(key)),
            Some(part) => Err(KeyError::Part { part: part.to_owned(), key: key.clone() }),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder part, `""` at the top, and the last part.
    pub(crate) fn parent_and_name(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

fn is_safe(part: &str) -> bool {
    (1..=Key::PART_BYTES_MAX).contains(&part.len())
        && !matches!(part, "." | "..")
        && !part.starts_with(UNFINISHED)
        && !part.contains(|c: char| c.is_ascii_control() || c == '\\')
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(key: &str) -> Result<Self, KeyError> {
        Self::new(key)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a store tells of an object without showing its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Where it lies.
    pub key: Key,
    /// Length in bytes.
    pub size: u64,
    /// Last modification by the store's clock; the epoch where the service does not tell.
    pub modified: Timestamp,
}

/// One version of an object in a bucket that keeps them, or a marker that hides those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Where it lies; its size is 0 for a marker.
    pub info: ObjectInfo,
    /// The store's name of it.
    pub id: String,
    /// Whether it only hides.
    pub is_marker: bool,
}

/// Until when nobody deletes an object, and who may all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Whether anybody may.
    pub mode: LockMode,
    /// By the store's clock, in whole seconds.
    pub until: Timestamp,
}

impl Lock {
    /// Whether it holds at least as long as `wanted`, and against everybody whom that one would hold off.
    pub fn covers(self, wanted: Self) -> bool {
        self.until >= wanted.until && (self.mode == wanted.mode || self.mode == LockMode::Compliance)
    }

    /// The later end and the stricter mode of both: what is set in place of one of them weakens neither.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        let mode = if self.mode == LockMode::Compliance { self.mode } else { other.mode };
        Self { mode, until: self.until.max(other.until) }
    }
}

/// The outcome of [`Store::purge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Versions that stay since their lock has not ended.
    pub locked: u64,
    /// Their bytes.
    pub locked_bytes: u64,
}

/// The outcome of [`Store::put_if_absent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditional {
    /// The store took the object.
    Written,
    /// The store refused it since the key is taken.
    Refused,
}

/// What is known of the bytes that a [`Store::put`] was answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The answer holds a digest of what arrived, and it is that of what was sent; or it was read back.
    Proved,
    /// The store says that it has them.
    Taken,
}

/// What the methods of [`Store`] return: boxed, for the sake of `dyn Store`.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// An object that has more bytes than it may.
pub(crate) fn too_large(place: String, key: &Key) -> StoreError {
    StoreError::new(ErrorKind::TooLarge, Operation::Get, place, key.as_str())
}

/// A place for objects.
///
/// All methods may be called from several tasks at once. A future that is dropped leaves the same
/// doubt as [`ErrorKind::Timeout`]: done, or not.
pub trait Store: fmt::Debug + Send + Sync {
    /// Writes an object whose bytes have the digest `sha256`.
    ///
    /// `Ok`: it lies there whole and durable. `Err`: it is whole or absent, and after an error that
    /// may be retried nobody knows which. Called again with the same bytes: `Ok` again. With other
    /// bytes, which no caller should do: [`ErrorKind::AlreadyExists`] from a directory, silent
    /// replacement in a bucket. Bytes that do not fit `sha256` are refused with
    /// [`ErrorKind::Checksum`] before anything leaves this host. The [`Receipt`] is what was seen in this very
    /// answer, whatever kind of store it is.
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Receipt>;

    /// Reads an object from beginning to end.
    ///
    /// `Ok`: as long as the store said it is; the caller's digest decides whether it is right.
    /// `Err` of kind [`ErrorKind::NotFound`]: there is none. Repeatable.
    fn get<'a>(&'a self, key: &'a Key) -> Reply<'a, Bytes>;

    /// The same for an object that may have at most `bytes_max` bytes.
    ///
    /// [`ErrorKind::TooLarge`]: it has more. The store's clients look at the length before or while they read, so that
    /// who can write to the bucket does not decide how much memory is used.
    fn get_at_most<'a>(&'a self, key: &'a Key, bytes_max: u64) -> Reply<'a, Bytes> {
        Box::pin(async move {
            let body = self.get(key).await?;
            let fits = body.len() as u64 <= bytes_max;
            if fits { Ok(body) } else { Err(too_large(self.describe(), key)) }
        })
    }

    /// Reads the `len` bytes that begin at `offset`.
    ///
    /// `Ok`: exactly `len` bytes. [`ErrorKind::Truncated`]: the object ends before them. Nothing is
    /// requested for a `len` of 0. Repeatable.
    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Reply<'a, Bytes>;

    /// Reads the first `len` bytes, or all where the object has fewer, and tells how long it is.
    ///
    /// One request where the store tells the length with what it reads, as S3 does, and the object has `len` bytes. Errors
    /// as of [`Store::get`]. Repeatable.
    fn beginning<'a>(&'a self, key: &'a Key, len: u64) -> Reply<'a, (Bytes, u64)> {
        Box::pin(async move {
            let none = || StoreError::new(ErrorKind::NotFound, Operation::Get, self.describe(), key.as_str());
            let size = self.head(key).await?.ok_or_else(none)?.size;
            Ok((self.get_range(key, 0, len.min(size)).await?, size))
        })
    }

    /// Asks about an object; `None`: there is none. Repeatable.
    fn head<'a>(&'a self, key: &'a Key) -> Reply<'a, Option<ObjectInfo>>;

    /// Everything whose key begins with the text `prefix` and comes after the text `after`, ordered
    /// by the bytes of the keys.
    ///
    /// `Ok`: complete, over all pages. `Err`: nothing, never the first pages alone. Names that are
    /// no [`Key`] belong to someone else and are left out. Repeatable.
    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Reply<'a, Vec<ObjectInfo>>;

    /// Takes an object away, or at least out of sight where the bucket keeps versions.
    ///
    /// `Ok`: no look-up finds it, also when there was none before. `Err`: it may still be there.
    fn delete<'a>(&'a self, key: &'a Key) -> Reply<'a, ()>;

    /// Every version and every marker of the keys that begin with the text `prefix`, ordered by key, and of one key the
    /// oldest first: the last one is on top. `None` where the store keeps none, cannot list them or may not. Repeatable.
    fn versions<'a>(&'a self, prefix: &'a str) -> Reply<'a, Option<Vec<Version>>> {
        let _ = prefix;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Reads a version of an object that may have at most `bytes_max` bytes, by the id that [`Store::versions`] gave.
    ///
    /// Errors as of [`Store::get_at_most`]. Repeatable.
    fn get_version<'a>(&'a self, key: &'a Key, version: &'a str, bytes_max: u64) -> Reply<'a, Bytes> {
        let _ = (version, bytes_max);
        let failure = StoreError::new(ErrorKind::Unsupported, Operation::Get, self.describe(), key.as_str());
        Box::pin(std::future::ready(Err(failure)))
    }

    /// Takes away every version of an object and every marker on it, by id, the oldest first; where the store keeps no
    /// versions the object itself.
    ///
    /// `Ok`: what is still there is locked, and counted. `Err`: some of it may still be there. Repeatable.
    fn purge<'a>(&'a self, key: &'a Key) -> Reply<'a, Purged> {
        Box::pin(async move { self.delete(key).await.map(|()| Purged::default()) })
    }

    /// Locks a version of an object; `None` is what is on top.
    ///
    /// `Ok`: the store says that it is locked; [`Store::lock_of`] tells what it has. [`ErrorKind::Unsupported`]: it knows no
    /// locks. A lock that is shorter than the one that is there is refused. Repeatable.
    fn lock<'a>(&'a self, key: &'a Key, version: Option<&'a str>, lock: Lock) -> Reply<'a, ()> {
        let _ = (version, lock);
        let failure = StoreError::new(ErrorKind::Unsupported, Operation::Put, self.describe(), key.as_str());
        Box::pin(std::future::ready(Err(failure)))
    }

    /// The lock of a version, as the store tells it; `None`: it tells of none. Repeatable.
    fn lock_of<'a>(&'a self, key: &'a Key, version: Option<&'a str>) -> Reply<'a, Option<Lock>> {
        let _ = (key, version);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Takes away what writes left behind that were cut off before `before`, or only counts it when `only_count`.
    /// A bucket has nothing of the kind: a request that was cut off stored nothing.
    fn clear_unfinished(&self, before: Timestamp, only_count: bool) -> Reply<'_, u64> {
        let _ = (before, only_count);
        Box::pin(std::future::ready(Ok(0)))
    }

    /// Like [`Store::put`], with the request that the store refuse a key that is taken.
    ///
    /// Only for `probe`, which wants to know whether such requests are honoured.
    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Reply<'a, Conditional>;

    /// The store's time: what it last said, moved by the boot-time clock; the job's `now`, moved
    /// likewise, as long as [`Store::has_clock`] is false.
    fn now(&self) -> Timestamp;

    /// True once the store has said what time it is. A directory never does.
    fn has_clock(&self) -> bool;

    /// Counts of what was really requested: every try and every page; file operations of a directory.
    fn requests(&self) -> Requests;

    /// A name for messages, without secrets.
    fn describe(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_safe_relative_path() {
        let part = "p".repeat(255);
        for good in ["README.txt", "volumes/web/20261120T020000Z/00001.tar.zst.age", "a/...", "é", &part] {
            assert_eq!(Key::new(good).unwrap().to_string(), good);
        }
        let long_part = "p".repeat(256);
        for bad in
            ["/abs", "tail/", "a//b", "..", "a/../b", "./a", "a\\b", "tab\t", "nul\0", ".unfinished-7", &long_part]
        {
            assert!(matches!(Key::new(bad), Err(KeyError::Part { .. })), "{bad:?}");
        }
        for bad in [String::new(), "ab/".repeat(400)] {
            assert_eq!(Key::new(bad.clone()), Err(KeyError::Length(bad.len())));
        }
    }

    #[test]
    fn a_lock_is_never_weakened_by_another() {
        let lock = |mode, seconds| Lock { mode, until: Timestamp::from_seconds(seconds) };
        let (governance, compliance) = (LockMode::Governance, LockMode::Compliance);
        let check = |found: Lock, wanted: Lock, covers: bool, joined: Lock| {
            assert_eq!((found.covers(wanted), found.joined(wanted)), (covers, joined), "{found:?} {wanted:?}");
        };
        check(lock(governance, 9), lock(governance, 8), true, lock(governance, 9));
        check(lock(governance, 8), lock(governance, 9), false, lock(governance, 9));
        check(lock(governance, 9), lock(compliance, 8), false, lock(compliance, 9));
        check(lock(compliance, 9), lock(governance, 9), true, lock(compliance, 9));
        check(lock(compliance, 8), lock(governance, 9), false, lock(compliance, 9));
    }

    #[test]
    fn a_key_knows_its_folder() {
        let check = |key: &str, expected| assert_eq!(Key::new(key).unwrap().parent_and_name(), expected);
        check("repo.json", ("", "repo.json"));
        check("a/b/c", ("a/b", "c"));
    }
}
