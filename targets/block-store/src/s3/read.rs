//! Reading from a bucket: one request, its body gathered under a limit of bytes and of silence.

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use bytes::{Bytes, BytesMut};

use super::S3Store;
use crate::classify;
use crate::contract::{ErrorKind, Key, OBJECT_BYTES_MAX, Operation, StoreError};

impl S3Store {
    /// The object or a version of it, or `len` bytes of it from `offset` on; `len` is not 0.
    pub(super) async fn read(
        &self,
        key: &Key,
        version: Option<&str>,
        range: Option<(u64, u64)>,
    ) -> Result<Bytes, StoreError> {
        let expected = range.map(|(_, len)| len);
        let header = match range {
            Some((offset, len)) => Some(format!("bytes={offset}-{}", self.last_of(key, offset, len)?)),
            None => None,
        };
        let request = self.client.get_object().bucket(&self.bucket).key(self.name(key)).set_range(header);
        let request = request.set_version_id(version.map(str::to_owned));
        let answer = self.request(Operation::Get, key.as_str(), 0, request.send()).await?;
        if range.is_some() && answer.content_range().is_none() {
            let error = self.error(ErrorKind::Unsupported, Operation::Get, key.as_str());
            return Err(error.because("the server answered a request for a part with the whole"));
        }
        let announced = answer.content_length().and_then(|len| u64::try_from(len).ok());
        if expected.is_some_and(|expected| announced.is_some_and(|announced| announced < expected)) {
            return Err(self.error(ErrorKind::Truncated, Operation::Get, key.as_str()));
        }
        let body = self.collect(key, expected.or(announced).unwrap_or(OBJECT_BYTES_MAX), answer).await?;
        match expected.or(announced) {
            Some(len) if (body.len() as u64) < len => {
                // The connection ended early, not the object: worth another try.
                Err(self.error(ErrorKind::Unavailable, Operation::Get, key.as_str()).because("the answer ended early"))
            }
            _ => Ok(body),
        }
    }

    /// Position of the last byte of a range.
    fn last_of(&self, key: &Key, offset: u64, len: u64) -> Result<u64, StoreError> {
        let truncated = || self.error(ErrorKind::Truncated, Operation::Get, key.as_str());
        if len > OBJECT_BYTES_MAX {
            return Err(truncated());
        }
        offset.checked_add(len - 1).ok_or_else(truncated)
    }

    /// The bytes of an answer, at most `most`: a server that sends without end is not believed.
    async fn collect(&self, key: &Key, most: u64, mut answer: GetObjectOutput) -> Result<Bytes, StoreError> {
        let error = |kind| self.error(kind, Operation::Get, key.as_str());
        if most > OBJECT_BYTES_MAX {
            return Err(error(ErrorKind::TooLarge));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(most.min(OBJECT_BYTES_MAX)).unwrap_or(0));
        loop {
            let next = tokio::time::timeout(self.limits.silence_max, answer.body.next()).await;
            match next.map_err(|late| error(ErrorKind::Timeout).because(late))? {
                None => return Ok(body.freeze()),
                Some(Ok(bytes)) if (body.len() + bytes.len()) as u64 > most => return Err(error(ErrorKind::TooLarge)),
                Some(Ok(bytes)) => body.extend_from_slice(&bytes),
                Some(Err(broken)) => {
                    return Err(error(classify::kind_of_network_error(&broken)).because(broken));
                }
            }
        }
    }
}
