//! What lies under an object that is gone or wrong: where a bucket keeps versions, an older one may be good.
//!
//! A put or a delete marker on top of a good version hides it, and deletes nothing. Only bytes with the digest that the name
//! tells are taken for the object; where they are found, somebody is told.

use std::cmp::Reverse;

use bytes::Bytes;
use dualsync_block_store::contract::{Key, OBJECT_BYTES_MAX, Store, StoreError};

use crate::digest::Sha256;

/// The fixed word of a finding about such an object.
pub const KIND: &str = "shadowed";

/// The bytes of an older version of the object that has this digest; `None` when there is none, or the store does not tell.
pub async fn good_version(store: &dyn Store, key: &Key, sha256: &Sha256) -> Option<Bytes> {
    match look(store, key, sha256).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%key, %error, "older versions are not known");
            None
        }
    }
}

async fn look(store: &dyn Store, key: &Key, sha256: &Sha256) -> Result<Option<Bytes>, StoreError> {
    if !store.keeps_versions().await? {
        return Ok(None);
    }
    let mut versions = store.versions(key.as_str()).await?;
    // The latest one was just read, unless it is a marker.
    versions.retain(|one| one.key == *key && !one.is_marker && !one.is_latest && one.size <= OBJECT_BYTES_MAX);
    versions.sort_by_key(|version| Reverse(version.modified));
    for version in versions {
        let Ok(bytes) = store.get_version(key, &version.id).await else { continue };
        if Sha256::of(&bytes) == *sha256 {
            tracing::warn!(%key, version = %version.id, "a newer version hides this object: an older one is read");
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
