//! Versions, delete markers and locks of a bucket.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};
use dualsync_model::job::LockMode;

use super::settings::is_answer;
use super::{S3Store, timestamp};
use crate::contract::{ErrorKind, Key, ObjectLock, Operation, StoreError};
use crate::versions::Version;

impl S3Store {
    /// Whether old versions are kept, by what the bucket says.
    pub(super) async fn has_versions(&self) -> Result<bool, StoreError> {
        let request = self.client.get_bucket_versioning().bucket(&self.bucket).send();
        match self.request(Operation::Setting, "", 0, request).await {
            // A bucket whose versioning was suspended has those from before.
            Ok(answer) => Ok(answer.status().is_some()),
            Err(error) if is_answer(error.kind()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every version and marker below `prefix`: all pages or an error.
    pub(super) async fn list_versions(&self, prefix: &str) -> Result<Vec<Version>, StoreError> {
        let mut found = Vec::new();
        let (mut key_marker, mut id_marker): (Option<String>, Option<String>) = (None, None);
        loop {
            let request = self.client.list_object_versions().bucket(&self.bucket);
            let request = request.prefix(format!("{}{prefix}", self.prefix));
            let request = request.set_key_marker(key_marker.clone()).set_version_id_marker(id_marker.clone());
            let page = self.request(Operation::List, prefix, 0, request.send()).await?;
            let key = |name: Option<&str>| Key::new(name?.strip_prefix(&self.prefix)?).ok();
            found.extend(page.versions().iter().filter_map(|version| {
                Some(Version {
                    key: key(version.key())?,
                    id: version.version_id().unwrap_or("null").to_owned(),
                    size: version.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    modified: timestamp(version.last_modified()),
                    is_marker: false,
                    is_latest: version.is_latest() == Some(true),
                })
            }));
            found.extend(page.delete_markers().iter().filter_map(|marker| {
                Some(Version {
                    key: key(marker.key())?,
                    id: marker.version_id().unwrap_or("null").to_owned(),
                    size: 0,
                    modified: timestamp(marker.last_modified()),
                    is_marker: true,
                    is_latest: marker.is_latest() == Some(true),
                })
            }));
            if page.is_truncated() != Some(true) {
                return Ok(found);
            }
            let next = (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
            if next.0.is_none() || next == (key_marker, id_marker) {
                let error = self.error(ErrorKind::Other, Operation::List, prefix);
                return Err(error.because("the server announced another page and did not say which"));
            }
            (key_marker, id_marker) = next;
        }
    }

    /// Removes one version for good.
    pub(super) async fn remove_version(&self, key: &Key, id: &str) -> Result<(), StoreError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.name(key)).version_id(id).send();
        self.request(Operation::Delete, key.as_str(), 0, request).await.map(drop)
    }

    /// What HEAD says of the lock of a version, or of the latest one.
    pub(super) async fn read_lock(&self, key: &Key, id: Option<&str>) -> Result<Option<ObjectLock>, StoreError> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.name(key));
        let request = request.set_version_id(id.map(str::to_owned)).send();
        let meta = self.request(Operation::Head, key.as_str(), 0, request).await?;
        let mode = match meta.object_lock_mode() {
            Some(ObjectLockMode::Compliance) => LockMode::Compliance,
            Some(_) => LockMode::Governance,
            None => return Ok(None),
        };
        let until = meta.object_lock_retain_until_date().map(|until| timestamp(Some(until)));
        Ok(until.map(|until| ObjectLock { mode, until }))
    }

    /// Makes the lock of a version, or of the latest one, last until then (PutObjectRetention).
    pub(super) async fn retain(&self, key: &Key, id: Option<&str>, lock: ObjectLock) -> Result<(), StoreError> {
        let mode = match lock.mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(date(lock)).build();
        let request = self.client.put_object_retention().bucket(&self.bucket).key(self.name(key));
        let request = request.set_version_id(id.map(str::to_owned)).retention(retention);
        let sent = self.request(Operation::Put, key.as_str(), 0, request.clone().send()).await;
        match sent {
            // A stricter mode is a change of mode, too, and may need the right to pass by a governance lock. It ends none:
            // what has a compliance lock keeps it.
            Err(error) if error.kind() == ErrorKind::Denied && lock.mode == LockMode::Compliance => {
                let request = request.bypass_governance_retention(true).send();
                self.request(Operation::Put, key.as_str(), 0, request).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}

/// The end of a lock; stores keep whole seconds, and a lock must not be shorter than it was meant.
pub(super) fn date(lock: ObjectLock) -> DateTime {
    DateTime::from_secs(lock.until.plus_seconds(1).whole_second().seconds())
}

/// The mode, as a put names it.
pub(super) const fn mode(lock: ObjectLock) -> ObjectLockMode {
    match lock.mode {
        LockMode::Governance => ObjectLockMode::Governance,
        LockMode::Compliance => ObjectLockMode::Compliance,
    }
}
