//! What a bucket says of itself, and what a scratch object in it shows.

use bytes::Bytes;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;

use super::{S3Store, timestamp};
use crate::contract::{ErrorKind, Key, ObjectLock, Operation, Seen, Store as _, StoreError};
use crate::digest::sha256;

/// How long a scratch object is locked to see whether it is, seconds: longer than the tries of one deletion.
const SCRATCH_LOCK_S: i64 = 60;

impl S3Store {
    /// Whether old versions are kept.
    pub(super) async fn versioning(&self, scratch: &Key) -> Result<Seen, StoreError> {
        let request = self.client.get_bucket_versioning().bucket(&self.bucket).send();
        let status = match self.request(Operation::Setting, "", 0, request).await {
            Ok(answer) => answer.status().map(|status| status.as_str().to_owned()),
            Err(error) if is_answer(error.kind()) => return Ok(Seen::Absent(cause(&error))),
            Err(error) => return Err(error),
        };
        let Some(status) = status else { return Ok(Seen::Absent("the bucket has no versioning".to_owned())) };
        let request = self.client.head_object().bucket(&self.bucket).key(self.name(scratch)).send();
        let meta = self.request(Operation::Head, scratch.as_str(), 0, request).await?;
        Ok(match meta.version_id().filter(|version| *version != "null") {
            Some(version) => Seen::Works(format!("{status}; the scratch object is version {version}")),
            None if status == "Enabled" => Seen::Claimed(format!("{status}, but the scratch object has no version")),
            None => Seen::Absent(status),
        })
    }

    /// Whether objects are locked, by default or when they ask for it; tries to delete the scratch object's version.
    pub(super) async fn object_lock(&self, scratch: &Key) -> Result<Seen, StoreError> {
        let request = self.client.get_object_lock_configuration().bucket(&self.bucket).send();
        let answer = match self.request(Operation::Setting, "", 0, request).await {
            Ok(answer) => answer,
            Err(error) if is_answer(error.kind()) => return Ok(Seen::Absent(cause(&error))),
            Err(error) => return Err(error),
        };
        let lock = answer.object_lock_configuration();
        if lock.and_then(|lock| lock.object_lock_enabled()).is_none() {
            return Ok(Seen::Absent("the bucket has no object lock".to_owned()));
        }
        let by_default = if self.read_lock(scratch, None).await?.is_some() {
            "every object is locked by default"
        } else {
            let lock = ObjectLock { mode: LockMode::Governance, until: self.now().plus_seconds(SCRATCH_LOCK_S) };
            let body = Bytes::from_static(b"locked");
            match self.put_locked(scratch, body.clone(), sha256(&body), lock).await {
                Ok(()) => "without a default retention only what asks for a lock has one",
                Err(error) if is_answer(error.kind()) => {
                    return Ok(Seen::Absent(format!("the bucket can lock, and refused to: {}", cause(&error))));
                }
                Err(error) => return Err(error),
            }
        };
        Ok(match self.try_lock(scratch).await? {
            Ok(until) => {
                Seen::Works(format!("a scratch object locked until {until} could not be deleted; {by_default}"))
            }
            Err(problem) => Seen::Claimed(format!("{problem}; {by_default}")),
        })
    }

    /// Tries to delete the latest version, which should be locked: until when it is, or what is wrong with its lock.
    ///
    /// Only a refusal to delete that very version proves the lock; what HEAD says tells it from missing rights.
    async fn try_lock(&self, key: &Key) -> Result<Result<Timestamp, String>, StoreError> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.name(key)).send();
        let meta = self.request(Operation::Head, key.as_str(), 0, request).await?;
        let (Some(until), Some(version)) = (meta.object_lock_retain_until_date(), meta.version_id()) else {
            return Ok(Err("an object that was put under a lock has none".to_owned()));
        };
        let until = timestamp(Some(until));
        match self.remove_version(key, version).await {
            Ok(()) => Ok(Err(format!("an object that was locked until {until} could be deleted"))),
            Err(error) if error.kind() == ErrorKind::Denied => Ok(Ok(until)),
            Err(error) => Err(error),
        }
    }
}

/// Whether the server answered the question, with no.
pub(super) const fn is_answer(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Other)
}

fn cause(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
