//! A bucket behind an S3 endpoint, through Amazon's SDK.
//!
//! Bodies are sealed buffers sent in one request with their SHA-256, which a good server checks
//! against what arrived; multipart and streaming bodies are not used. The SDK's own retries are off, and its
//! time limits but the one for a connection: each method here is one try with a limit that follows from the
//! size, so that a request counted is a request made. [`crate::retry`] does the rest.

mod list;
mod read;
mod settings;
mod versions;

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;
use dualsync_model::event::Requests;
use dualsync_model::time::Timestamp;

use crate::classify;
use crate::contract::{
    Answer, ErrorKind, Key, OBJECT_BYTES_MAX, ObjectInfo, ObjectLock, Operation, Seen, Setting, Store, StoreError,
    Version,
};
use crate::listening::{Listener, Told};
use crate::requests::Counter;
use crate::retry::Patience;

/// How long a connection may take to come about. A host that is there answers in a second or not at all.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long a request may take before it counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For any request, whatever its size.
    pub base: Duration,
    /// A line slower than this many bytes a second is taken for dead.
    pub bytes_per_second_min: u64,
    /// So is an answer without a byte for this long.
    pub silence_max: Duration,
}

impl Default for Limits {
    /// Those of the usual patience: a minute, 32 KiB a second, a minute.
    fn default() -> Self {
        Self::of_patience(Patience::default())
    }
}

impl Limits {
    /// What one try may take when a call is tried with `patience`.
    pub const fn of_patience(patience: Patience) -> Self {
        let silence_max = Duration::from_millis(patience.silence_ms);
        Self { base: silence_max, bytes_per_second_min: 32 * 1024, silence_max }
    }

    /// For a request whose body has `size` bytes.
    fn of(self, size: u64) -> Duration {
        self.base.saturating_add(Duration::from_secs(size / self.bytes_per_second_min.max(1)))
    }
}

/// One bucket and a prefix in it.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    endpoint: String,
    bucket: String,
    /// Empty, or with a slash at the end.
    prefix: String,
    limits: Limits,
    told: Told,
    requests: Counter,
}

/// Where a bucket is, as the job names it.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    /// `https://host`.
    pub endpoint: &'a str,
    /// The region that signatures name.
    pub region: &'a str,
    /// Its name.
    pub bucket: &'a str,
    /// Folder in it, without a slash at the end; empty for none.
    pub prefix: &'a str,
}

impl S3Store {
    /// The store; nothing is asked of the server yet.
    pub fn open(place: Bucket<'_>, credentials: Credentials, now: Timestamp) -> Result<Self, StoreError> {
        let name = format!("bucket {} at {}", place.bucket, place.endpoint);
        if !place.prefix.is_empty() {
            Key::new(place.prefix)
                .map_err(|error| StoreError::new(ErrorKind::Misconfigured, Operation::Open, name, "").because(error))?;
        }
        let told = Told::new(now);
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(place.region.to_owned()))
            .endpoint_url(place.endpoint)
            .force_path_style(true)
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_MAX).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Checksums of our own go with each body; what is read is checked by the caller's digests.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(Listener::new(told.clone()))
            .build();
        let prefix = if place.prefix.is_empty() { String::new() } else { format!("{}/", place.prefix) };
        Ok(Self {
            client: Client::from_conf(config),
            endpoint: place.endpoint.to_owned(),
            bucket: place.bucket.to_owned(),
            prefix,
            limits: Limits::default(),
            told,
            requests: Counter::default(),
        })
    }

    /// The same store with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    fn error(&self, kind: ErrorKind, operation: Operation, object: &str) -> StoreError {
        StoreError::new(kind, operation, self.describe(), object)
    }

    /// One request: counted, limited in time, its failure sorted.
    async fn request<T, E>(
        &self,
        operation: Operation,
        object: &str,
        size: u64,
        send: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.requests.add(operation);
        match tokio::time::timeout(self.limits.of(size), send).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let (kind, cause) = classify::sort(error);
                Err(self.error(kind, operation, object).because(cause))
            }
            Err(late) => Err(self.error(ErrorKind::Timeout, operation, object).because(late)),
        }
    }

    fn put_request(&self, key: &Key, body: Bytes, sha256: [u8; 32]) -> PutObjectFluentBuilder {
        let checksum = aws_smithy_types::base64::encode(sha256);
        let request = self.client.put_object().bucket(&self.bucket).key(self.name(key));
        request.checksum_sha256(checksum).body(ByteStream::from(body))
    }

    async fn send_put(&self, key: &Key, size: u64, request: PutObjectFluentBuilder) -> Result<(), StoreError> {
        if size > OBJECT_BYTES_MAX {
            return Err(self.error(ErrorKind::TooLarge, Operation::Put, key.as_str()));
        }
        // The body is covered by its checksum; signing it as well would hash it twice.
        let send = request.customize().disable_payload_signing().send();
        self.request(Operation::Put, key.as_str(), size, send).await.map(drop)
    }

    async fn look(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.name(key)).send();
        match self.request(Operation::Head, key.as_str(), 0, request).await {
            Ok(meta) => {
                let size = meta.content_length().and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
                Ok(Some(ObjectInfo { key: key.clone(), size, modified: timestamp(meta.last_modified()) }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn timestamp(time: Option<&DateTime>) -> Timestamp {
    time.and_then(|time| Timestamp::new(time.secs(), time.subsec_nanos())).unwrap_or_default()
}

impl Store for S3Store {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        let size = body.len() as u64;
        Box::pin(self.send_put(key, size, self.put_request(key, body, sha256)))
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        Box::pin(self.read(key, None, None))
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        if len == 0 {
            return Box::pin(async { Ok(Bytes::new()) });
        }
        Box::pin(self.read(key, None, Some((offset, len))))
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        Box::pin(self.look(key))
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        Box::pin(self.list_all(prefix, after))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        Box::pin(async move {
            let request = self.client.delete_object().bucket(&self.bucket).key(self.name(key)).send();
            match self.request(Operation::Delete, key.as_str(), 0, request).await {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
    }

    /// Every object is put in one request: a bucket keeps nothing of one that was cut off.
    fn clear_leftovers(&self) -> Answer<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        Box::pin(async move {
            let size = body.len() as u64;
            let request = self.put_request(key, body, sha256).if_none_match("*");
            match self.send_put(key, size, request).await {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn setting<'a>(&'a self, setting: Setting, scratch: &'a Key) -> Answer<'a, Seen> {
        Box::pin(async move {
            match setting {
                Setting::Versioning => self.versioning(scratch).await,
                Setting::ObjectLock => self.object_lock(scratch).await,
            }
        })
    }

    fn keeps_versions(&self) -> Answer<'_, bool> {
        Box::pin(self.has_versions())
    }

    fn versions<'a>(&'a self, prefix: &'a str) -> Answer<'a, Vec<Version>> {
        Box::pin(self.list_versions(prefix))
    }

    fn get_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, Bytes> {
        Box::pin(self.read(key, Some(id), None))
    }

    fn delete_version<'a>(&'a self, key: &'a Key, id: &'a str) -> Answer<'a, ()> {
        Box::pin(self.remove_version(key, id))
    }

    fn put_locked<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32], lock: ObjectLock) -> Answer<'a, ()> {
        let size = body.len() as u64;
        let request = self.put_request(key, body, sha256).object_lock_mode(versions::mode(lock));
        Box::pin(self.send_put(key, size, request.object_lock_retain_until_date(versions::date(lock))))
    }

    fn lock_of<'a>(&'a self, key: &'a Key, id: Option<&'a str>) -> Answer<'a, Option<ObjectLock>> {
        Box::pin(self.read_lock(key, id))
    }

    fn extend_lock<'a>(&'a self, key: &'a Key, id: Option<&'a str>, lock: ObjectLock) -> Answer<'a, ()> {
        Box::pin(self.retain(key, id, lock))
    }

    fn now(&self) -> Timestamp {
        self.told.clock().now()
    }

    fn has_clock(&self) -> bool {
        self.told.clock().by_store()
    }

    fn requests(&self) -> Requests {
        self.requests.total()
    }

    fn describe(&self) -> String {
        let prefix = self.prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("bucket {}{slash}{prefix} at {}", self.bucket, self.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_has_time_for_a_large_object() {
        let limits = Limits::default();
        assert_eq!(limits.of(0), Duration::from_mins(1));
        assert_eq!(limits.of(64 << 20), Duration::from_secs(60 + 2048));
    }
}
