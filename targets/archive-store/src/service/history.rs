//! A bucket that keeps versions, and one that locks them.

use bytes::Bytes;
use dualsync_model::job::LockMode;

use super::{ServiceStore, jittered};
use crate::contract::{ErrorKind, Key, Lock, Operation, Purged, Store as _, StoreError, Version, too_large};
use crate::dal;
use crate::wire::BYTES_MAX;

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

    pub(super) async fn read_version(&self, key: &Key, version: &str, bytes_max: u64) -> Result<Bytes, StoreError> {
        let read = async { self.patient.read_with(key.as_str()).version(version).await };
        let read = BYTES_MAX.scope(bytes_max.min(Key::OBJECT_BYTES_MAX), read).await;
        let body = read.map_err(self.sorted(Operation::Get, key.as_str()))?.to_bytes();
        if body.len() as u64 > bytes_max { Err(too_large(self.describe(), key)) } else { Ok(body) }
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
    /// Sets a lock. Into the stricter mode it is changed with the header that AWS and Ceph want for any change of a mode, and
    /// the right that belongs to it; only where HEAD has told that nothing is weakened by it.
    pub(super) async fn set_lock(&self, key: &Key, version: Option<&str>, lock: Lock) -> Result<(), StoreError> {
        let Err(error) = self.ask_lock(key, version, Some(lock), false).await else { return Ok(()) };
        if lock.mode != LockMode::Compliance || !matches!(error.kind(), ErrorKind::Denied | ErrorKind::Locked) {
            return Err(error);
        }
        let found = self.ask_lock(key, version, None, false).await?;
        if !found.is_some_and(|found| found.mode == LockMode::Governance && lock.covers(found)) {
            return Err(error);
        }
        self.ask_lock(key, version, Some(lock), true).await.map(drop)
    }

    /// Sets a lock, or asks for the one that is there, as persistently as anything else.
    pub(super) async fn ask_lock(
        &self,
        key: &Key,
        version: Option<&str>,
        set: Option<Lock>,
        changes_mode: bool,
    ) -> Result<Option<Lock>, StoreError> {
        let operation = if set.is_some() { Operation::Put } else { Operation::Head };
        let unsupported = || self.failure(ErrorKind::Unsupported, operation, key.as_str());
        let locks = self.locks.as_ref().ok_or_else(unsupported)?;
        let mut again = 0;
        loop {
            let asked = match set {
                Some(lock) => locks.set(key, version, lock, changes_mode).await.map(|()| set),
                None => locks.of(key, version).await,
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
