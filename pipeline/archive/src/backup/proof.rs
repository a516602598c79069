//! Where the store proves nothing, what was sent is read back.
//!
//! An S3 store checks a digest of every body, a directory is this host's own and synced. Of any other
//! service all metadata and a random hundredth of the volumes are read and compared.

use dualsync_model::job::Place;

use crate::backup::BackupError;
use crate::backup::upload::SentObjects;
use crate::format::VOLUMES;
use crate::objects::Objects;

/// One volume of so many is read back.
const ONE_OF: u64 = 100;

/// Whether a target of this kind has to be read back.
pub fn is_needed(place: &Place) -> bool {
    match place {
        Place::Directory { .. } | Place::S3 { .. } => false,
        Place::Service { service, .. } => service != "s3",
    }
}

/// Reads back all metadata and some of the volumes.
pub async fn read_back(objects: &Objects, sent: &SentObjects) -> Result<(), BackupError> {
    for (key, object) in sent {
        if !key.starts_with(VOLUMES) || getrandom::u64().map_err(BackupError::Random)?.is_multiple_of(ONE_OF) {
            objects.get_exact(key, object.stored).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use dualsync_archive_store::memory::MemoryStore;
    use dualsync_model::time::Timestamp;

    use super::*;
    use crate::backup::upload::Sent;
    use crate::objects::ObjectError;

    #[tokio::test]
    async fn metadata_that_did_not_arrive_as_it_was_sent_is_noticed() {
        let store = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
        let objects = Objects::new(store.clone());
        let stored = objects.put("catalogs/x", Bytes::from_static(b"sent")).await.unwrap();
        let sent = SentObjects::from([("catalogs/x".to_owned(), Sent { stored, tar_bytes: None })]);
        read_back(&objects, &sent).await.unwrap();
        store.replace("catalogs/x".parse().unwrap(), Bytes::from_static(b"sunk"));
        let error = read_back(&objects, &sent).await.unwrap_err();
        assert!(matches!(error, BackupError::Object(ObjectError::Digest { .. })));
    }

    #[test]
    fn only_stores_without_a_check_of_their_own_are_read_back() {
        assert!(!is_needed(&Place::Directory { path: "/x".into() }));
        assert!(is_needed(&Place::Service { service: "sftp".into(), options: std::collections::BTreeMap::new() }));
    }
}
