//! A bucket that keeps versions, and one that locks them.

use super::{ServiceStore, jittered};
use crate::contract::{ErrorKind, Key, Lock, Operation, Purged, Store as _, StoreError, Version};
use crate::dal;

impl ServiceStore {
    pub(super) async fn list_versions(&self, prefix: &str) -> Result<Option<Vec<Version>>, StoreError> {
        if !self.patient.info().capability().list_with_versions {
            return Ok(None);
        }
        let list = self.patient.list_with(prefix).recursive(true).versions(true).deleted(true);
        match list.await {
            Ok(entries) => Ok(dal::versions(entries, prefix)),
            Err(error) if matches!(dal::kind(&error), ErrorKind::Unsupported | ErrorKind::Denied) => {
                tracing::debug!(%error, "versions cannot be listed");
                Ok(None)
            }
            Err(error) => Err(self.sorted(Operation::List, prefix)(error)),
        }
    }

    pub(super) async fn delete_versions(&self, key: &Key) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        let Some(versions) = self.list_versions(key.as_str()).await? else {
            self.delete(key).await?;
            return Ok(purged);
        };
        for version in versions.into_iter().filter(|version| version.info.key == *key) {
            let deleted = self.patient.delete_with(key.as_str()).version(&version.id).await;
            match deleted.map_err(self.sorted(Operation::Delete, key.as_str())) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Locked => {
                    purged.locked += 1;
                    purged.locked_bytes += version.info.size;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(purged)
    }
}

impl ServiceStore {
    /// Sets a lock, or asks for the one that is there, as persistently as anything else.
    pub(super) async fn ask_lock(&self, key: &Key, set: Option<Lock>) -> Result<Option<Lock>, StoreError> {
        let operation = if set.is_some() { Operation::Put } else { Operation::Head };
        let unsupported = || self.failure(ErrorKind::Unsupported, operation, key.as_str());
        let locks = self.locks.as_ref().ok_or_else(unsupported)?;
        let mut again = 0;
        loop {
            let asked = match set {
                Some(lock) => locks.set(key, lock).await.map(|()| set),
                None => locks.of(key).await,
            };
            match asked.map_err(self.sorted(operation, key.as_str())) {
                Err(error) if error.may_retry() && again < self.patience.again_max => {
                    tokio::time::sleep(jittered(self.patience.wait_min, self.patience.wait_max, again)).await;
                    again += 1;
                }
                outcome => return outcome,
            }
        }
    }
}
