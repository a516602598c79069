//! What a bucket says of itself, and what a scratch object in it shows.

use super::{S3Store, timestamp};
use crate::contract::{ErrorKind, Key, Operation, Seen, StoreError};

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

    /// Whether objects are locked by default; tries to delete the scratch object's version if they are.
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
        let request = self.client.head_object().bucket(&self.bucket).key(self.name(scratch)).send();
        let meta = self.request(Operation::Head, scratch.as_str(), 0, request).await?;
        let (Some(until), Some(version)) = (meta.object_lock_retain_until_date(), meta.version_id()) else {
            return Ok(Seen::Claimed("enabled, but without a default retention nothing is locked".to_owned()));
        };
        let until = timestamp(Some(until));
        // Only a refusal to delete that very version proves the lock.
        let request =
            self.client.delete_object().bucket(&self.bucket).key(self.name(scratch)).version_id(version).send();
        Ok(match self.request(Operation::Delete, scratch.as_str(), 0, request).await {
            Ok(_) => Seen::Claimed(format!("the scratch object was locked until {until} and could be deleted")),
            Err(error) if error.kind() == ErrorKind::Denied => {
                Seen::Works(format!("the scratch object is locked until {until} and could not be deleted"))
            }
            Err(error) => return Err(error),
        })
    }
}

/// Whether the server answered the question, with no.
const fn is_answer(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Unsupported | ErrorKind::Other)
}

fn cause(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
