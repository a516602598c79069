//! What lies below an object that is gone or wrong: where a bucket keeps versions, an older one may be good.
//!
//! A put or a delete marker on top of a good version hides it, and deletes nothing. Promises that only bytes are given that the
//! caller can prove, by a digest or a signature, and that whoever asked is told: each such object is noted, and the job
//! ends with a finding or a warning about it. Costs nothing while all is well.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use dualsync_archive_store::contract::{ErrorKind, ObjectInfo, Version};

use crate::manifest::Stored;
use crate::objects::{ObjectError, Objects, check};

/// The word of a finding about such an object.
pub const KIND: &str = "shadowed";

/// What is told of one that was read.
pub const READ: &str = "a newer version or a delete marker hides it: its good older version was read";

/// A listing, and what delete markers hide of it.
#[derive(Debug, Default)]
pub struct Listed {
    /// What a plain listing shows.
    pub shown: Vec<ObjectInfo>,
    /// Of each key with a marker on top, the oldest version below.
    pub hidden: Vec<ObjectInfo>,
}

impl Listed {
    fn of(versions: &[Version]) -> Self {
        let mut listed = Self::default();
        for all in by_key(versions) {
            let [.., last] = all else { continue };
            if !last.is_marker {
                listed.shown.push(last.info.clone());
            } else if let Some(oldest) = all.iter().find(|version| !version.is_marker) {
                listed.hidden.push(oldest.info.clone());
            }
        }
        listed
    }
}

/// The versions of each key: they come by key, the oldest first.
pub fn by_key(versions: &[Version]) -> impl Iterator<Item = &[Version]> {
    versions.chunk_by(|one, next| one.info.key == next.info.key)
}

/// The versions of one key that lie below what is on top, the oldest first.
fn below(all: &[Version]) -> impl Iterator<Item = &Version> {
    let covered = all.split_last().map_or(&[][..], |(_, covered)| covered);
    covered.iter().filter(|version| !version.is_marker)
}

impl Objects {
    /// A whole object that must be what `stored` says; where what is on top is not, an older version that is.
    pub async fn get_good(&self, key: &str, stored: Stored) -> Result<Bytes, ObjectError> {
        match self.get_exact(key, stored).await {
            Err(error) if error.finding().is_some() => self.older(key, stored).await?.ok_or(error),
            outcome => outcome,
        }
    }

    /// An older version that is what `stored` says.
    pub async fn older(&self, key: &str, stored: Stored) -> Result<Option<Bytes>, ObjectError> {
        let is_as_long = |bytes: u64| bytes == stored.bytes;
        self.older_that(key, is_as_long, |bytes| check(key, bytes, stored).is_ok()).await
    }

    /// The oldest version below the one on top that has a length that fits and bytes that are good. The oldest first: what is
    /// put once was there before what hides it.
    pub async fn older_that(
        &self,
        key: &str,
        fits: impl Fn(u64) -> bool,
        is_good: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Bytes>, ObjectError> {
        let versions = self.history(key).await?;
        let own = by_key(&versions).find(|all| all[0].info.key.as_str() == key).unwrap_or_default();
        for version in below(own).filter(|version| fits(version.info.size)) {
            let Some(bytes) = self.get_version(version).await? else { continue };
            if is_good(&bytes) {
                self.note_shadowed(key);
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// All versions and markers whose keys begin with `prefix`; none where the store does not tell.
    pub async fn history(&self, prefix: &str) -> Result<Vec<Version>, ObjectError> {
        Ok(self.store().versions(prefix).await?.unwrap_or_default())
    }

    /// The bytes of a version; `None` when it is gone, or not for these credentials.
    pub async fn get_version(&self, version: &Version) -> Result<Option<Bytes>, ObjectError> {
        let Version { info, id, .. } = version;
        match self.store().get_version(&info.key, id, info.size).await {
            Ok(bytes) => {
                self.count_fetched(bytes.len() as u64);
                Ok(Some(bytes))
            }
            Err(error) if is_answer(error.kind()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A listing; where the job looks below delete markers, with what they hide, by the same request.
    pub async fn list_deep(&self, prefix: &str) -> Result<Listed, ObjectError> {
        if self.looks_below() {
            if let Some(versions) = self.store().versions(prefix).await? {
                return Ok(Listed::of(&versions));
            }
            // Nothing is there yet, or who may not list versions asks no more.
            self.look_below(false);
        }
        Ok(Listed { shown: self.list(prefix).await?, hidden: Vec::new() })
    }

    /// What delete markers hide below `prefix`, asked for by a request of its own.
    pub async fn list_hidden(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        Ok(Listed::of(&self.history(prefix).await?).hidden)
    }

    /// Lengths of all versions that lie below another, by key: one listing.
    pub async fn lengths_below(&self) -> Result<BTreeMap<String, Vec<u64>>, ObjectError> {
        let versions = self.history("").await?;
        let lengths = |all: &[Version]| below(all).map(|version| version.info.size).collect::<Vec<_>>();
        let of_key = |all: &[Version]| (all[0].info.key.to_string(), lengths(all));
        Ok(by_key(&versions).map(of_key).filter(|(_, lengths)| !lengths.is_empty()).collect())
    }

    /// The same objects; from now on listings of points look below delete markers, or do not.
    pub fn look_below(&self, does: bool) {
        self.notes.looks_below.store(does, Ordering::Relaxed);
    }

    /// Whether they do.
    pub fn looks_below(&self) -> bool {
        self.notes.looks_below.load(Ordering::Relaxed)
    }

    /// An older version of this object was read.
    pub fn note_shadowed(&self, key: &str) {
        tracing::warn!(key, READ);
        self.notes.shadowed.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
    }

    /// The objects with these first letters are told by nobody: they are not needed.
    pub fn forget_shadowed(&self, prefix: &str) {
        let mut shadowed = self.notes.shadowed.lock().unwrap_or_else(PoisonError::into_inner);
        shadowed.retain(|key| !key.starts_with(prefix));
    }

    /// Keys of the objects of which an older version was read since the last call.
    pub fn take_shadowed(&self) -> Vec<String> {
        let mut shadowed = self.notes.shadowed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *shadowed).into_iter().collect()
    }
}

/// Whether this says something of the version, and not of the store.
fn is_answer(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::TooLarge)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dualsync_archive_store::contract::{Key, Store as _};
    use dualsync_archive_store::memory::MemoryStore;
    use dualsync_model::time::Timestamp;

    use super::*;

    const KEY: &str = "volumes/a";

    async fn objects(keeps_versions: bool) -> (Arc<MemoryStore>, Objects, Stored) {
        let store = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
        if keeps_versions {
            store.keep_versions();
        }
        let objects = Objects::new(store.clone());
        let stored = objects.put(KEY, Bytes::from_static(b"good")).await.unwrap();
        (store, objects, stored)
    }

    fn key() -> Key {
        KEY.parse().unwrap()
    }

    #[tokio::test]
    async fn only_the_right_bytes_are_taken_for_the_object() {
        for is_junk in [true, false] {
            let (store, objects, stored) = objects(true).await;
            objects.get_good(KEY, stored).await.unwrap();
            assert_eq!((objects.take_shadowed().len(), store.requests().list), (0, 0), "nothing is asked for nothing");
            for junk in ["evil", "longer than it was"] {
                store.replace(key(), junk.into());
            }
            if !is_junk {
                store.delete(&key()).await.unwrap();
            }
            assert_eq!(objects.get_good(KEY, stored).await.unwrap(), b"good"[..]);
            assert_eq!(objects.take_shadowed(), [KEY]);
            assert!(objects.get_exact(KEY, stored).await.is_err());
            let other = Stored::of(b"gone");
            assert!(objects.get_good(KEY, other).await.unwrap_err().finding().is_some());
            assert!(objects.take_shadowed().is_empty());
        }
    }

    #[tokio::test]
    async fn without_versions_it_is_damage_as_ever() {
        let (store, objects, stored) = objects(false).await;
        store.replace(key(), "evil".into());
        assert_eq!(objects.get_good(KEY, stored).await.unwrap_err().finding(), Some("digest"));
        store.remove(&key());
        assert_eq!(objects.get_good(KEY, stored).await.unwrap_err().finding(), Some("missing"));
    }

    #[tokio::test]
    async fn a_deep_listing_costs_what_a_plain_one_does() {
        let (store, objects, _) = objects(true).await;
        objects.put("volumes/b", Bytes::from_static(b"other")).await.unwrap();
        store.replace(key(), "evil and long".into());
        store.delete(&key()).await.unwrap();
        for looks in [true, false] {
            objects.look_below(looks);
            let before = store.requests().list;
            let listed = objects.list_deep("volumes/").await.unwrap();
            assert_eq!(store.requests().list - before, 1);
            let hidden: Vec<_> = listed.hidden.iter().map(|info| (info.key.as_str(), info.size)).collect();
            assert_eq!((listed.shown.len(), hidden), (1, if looks { vec![(KEY, 4)] } else { vec![] }));
        }
        assert_eq!(objects.lengths_below().await.unwrap(), BTreeMap::from([(KEY.to_owned(), vec![4, 13])]));
    }
}
