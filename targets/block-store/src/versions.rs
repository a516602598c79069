//! Versions of objects: what a bucket keeps of what was overwritten or deleted, and how all of it is removed.

use dualsync_model::time::Timestamp;

use crate::contract::{ErrorKind, Key, Store, StoreError};

/// One version of an object, or a delete marker in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object's name.
    pub key: Key,
    /// The store's own name for this version.
    pub id: String,
    /// Its length, bytes; 0 of a marker.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
    /// Whether it says that the object is deleted.
    pub is_marker: bool,
    /// Whether it is the one that a plain read finds.
    pub is_latest: bool,
}

/// What is left of an object because its lock has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Versions.
    pub versions: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes an object and, where `keeps_versions`, every version and marker of it. What is locked stays and is told.
///
/// A plain deletion comes first: from then on no listing shows the object, whatever becomes of its versions. Markers go last, and
/// stay on top of what is locked: without them it would be back.
///
/// # Errors
/// When the store does not answer, or these credentials may not delete versions.
pub async fn erase(store: &dyn Store, key: &Key, keeps_versions: bool) -> Result<Remains, StoreError> {
    if !keeps_versions {
        store.delete(key).await?;
        return Ok(Remains::default());
    }
    let listed = store.versions(key.as_str()).await?;
    let is_visible = listed.iter().any(|version| version.key == *key && version.is_latest && !version.is_marker);
    let listed = if is_visible {
        store.delete(key).await?;
        store.versions(key.as_str()).await?
    } else {
        listed
    };
    let mut remains = Remains::default();
    for version in listed.iter().filter(|version| version.key == *key && !version.is_marker) {
        if !erase_version(store, version).await? {
            remains.versions += 1;
            remains.bytes += version.size;
        }
    }
    if remains.versions == 0 {
        for marker in listed.iter().filter(|version| version.key == *key && version.is_marker) {
            erase_version(store, marker).await?;
        }
    }
    Ok(remains)
}

/// Whether it is gone; false when it is locked.
async fn erase_version(store: &dyn Store, version: &Version) -> Result<bool, StoreError> {
    match store.delete_version(&version.key, &version.id).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::Denied => {
            // The same answer as to credentials that may not: what the lock says tells them apart.
            match store.lock_of(&version.key, Some(&version.id)).await? {
                Some(lock) if lock.until > store.now() => Ok(false),
                _ => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}
