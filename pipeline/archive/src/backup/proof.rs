//! Where the store proves nothing, what was sent is read back.
//!
//! What counts is what this store was seen to do with each object, not what kind of store it is: an answer that
//! holds the digest of what arrived is a proof ([`Receipt::Proved`]). Without one all metadata and a random hundredth
//! of the volumes are read and compared; and every object of a store that has proved others tonight, since there an
//! answer without the right digest is a reason to look.

use dualsync_archive_store::contract::Receipt;

use crate::backup::BackupError;
use crate::backup::upload::SentObjects;
use crate::events::Events;
use crate::format::VOLUMES;
use crate::objects::Objects;

/// One volume of so many is read back.
const ONE_OF: u64 = 100;

/// Reads back what was not proved: all metadata, and all or some of the volumes.
pub async fn read_back(objects: &Objects, sent: &SentObjects, events: &Events) -> Result<(), BackupError> {
    let proves = sent.values().any(|object| object.receipt == Receipt::Proved);
    let unproved: Vec<_> = sent.iter().filter(|(_, object)| object.receipt == Receipt::Taken).collect();
    if !unproved.is_empty() {
        events.phase("verifying");
    }
    for (key, object) in unproved {
        if proves || !key.starts_with(VOLUMES) || is_drawn()? {
            objects.get_exact(key, object.stored).await?;
        }
    }
    Ok(())
}

fn is_drawn() -> Result<bool, BackupError> {
    Ok(getrandom::u64().map_err(BackupError::Random)?.is_multiple_of(ONE_OF))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use dualsync_archive_store::contract::Store as _;
    use dualsync_archive_store::memory::MemoryStore;
    use dualsync_model::time::Timestamp;

    use super::*;
    use crate::backup::upload::Sent;
    use crate::events::tests::Sink;
    use crate::objects::ObjectError;

    /// What is read back of objects with these names and receipts, and whether a damaged one is found.
    async fn check(sent: &[(&str, Receipt)], damaged: &str, read: u64, is_found: bool) {
        let store = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
        let objects = Objects::new(store.clone());
        let events = Events::new(Sink::default());
        let mut all = SentObjects::new();
        for (key, receipt) in sent {
            let stored = objects.put(key, Bytes::from_static(b"sent")).await.unwrap();
            all.insert((*key).to_owned(), Sent { stored, tar_bytes: None, receipt: *receipt });
        }
        read_back(&objects, &all, &events).await.unwrap();
        assert_eq!(store.requests().get, read, "{sent:?}");
        store.replace(damaged.parse().unwrap(), Bytes::from_static(b"sunk"));
        let outcome = read_back(&objects, &all, &events).await;
        let found = matches!(outcome, Err(BackupError::Object(ObjectError::Digest { .. })));
        assert_eq!(found, is_found, "{damaged} of {sent:?}");
    }

    #[tokio::test]
    async fn what_no_answer_proved_is_read_back() {
        use Receipt::{Proved, Taken};
        check(&[("catalogs/x", Taken), ("runs/y", Taken)], "catalogs/x", 2, true).await;
        check(&[("catalogs/x", Proved), ("volumes/y", Proved)], "volumes/y", 0, false).await;
        // A store that proves, and does not prove this one: it is looked at, whatever it is.
        check(&[("catalogs/x", Proved), ("volumes/y", Taken)], "volumes/y", 1, true).await;
    }

    #[tokio::test]
    async fn of_volumes_that_nothing_proves_a_hundredth_is_read() {
        let store = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
        let objects = Objects::new(store.clone());
        let stored = objects.put("volumes/0", Bytes::from_static(b"sent")).await.unwrap();
        let mut all = SentObjects::new();
        for number in 0..20_000 {
            let key = format!("volumes/{number}");
            store.replace(key.parse().unwrap(), Bytes::from_static(b"sent"));
            all.insert(key, Sent { stored, tar_bytes: None, receipt: Receipt::Taken });
        }
        read_back(&objects, &all, &Events::new(Sink::default())).await.unwrap();
        // The mean is 200 with a deviation of 14.
        assert!((100..300).contains(&store.requests().get), "{:?}", store.requests());
    }
}
