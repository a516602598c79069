//! Parts of objects, and what they tell of the whole.

use std::cell::Cell;

use bytes::Bytes;

use super::ServiceStore;
use crate::contract::{ErrorKind, Key, Operation, StoreError};
use crate::wire::LENGTH;

impl ServiceStore {
    pub(super) async fn read_part(&self, key: &Key, offset: u64, len: u64) -> Result<Bytes, StoreError> {
        let truncated = || self.failure(ErrorKind::Truncated, Operation::Get, key.as_str());
        if len == 0 {
            return Ok(Bytes::new());
        }
        let end = offset.checked_add(len).filter(|_| len <= Key::OBJECT_BYTES_MAX).ok_or_else(truncated)?;
        self.count(Operation::Get);
        let read = self.patient.read_with(key.as_str()).range(offset..end).await;
        let part = read.map_err(self.sorted(Operation::Get, key.as_str()))?.to_bytes();
        if part.len() as u64 == len { Ok(part) } else { Err(truncated()) }
    }

    /// What is read tells how long the object is; where it does not, that is asked.
    pub(super) async fn read_beginning(&self, key: &Key, len: u64) -> Result<(Bytes, u64), StoreError> {
        let call = async {
            let read = self.read_part(key, 0, len).await;
            (read, LENGTH.with(Cell::get))
        };
        let (read, told) = LENGTH.scope(Cell::new(None), call).await;
        let is_short = matches!(&read, Err(error) if error.kind() == ErrorKind::Truncated);
        if !is_short && (told.is_some() || read.is_err()) {
            return read.map(|bytes| (bytes, told.unwrap_or_default()));
        }
        let none = || self.failure(ErrorKind::NotFound, Operation::Get, key.as_str());
        let size = match told {
            Some(size) => size,
            None => self.look(key).await?.ok_or_else(none)?.size,
        };
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(_) => self.read_part(key, 0, len.min(size)).await?,
        };
        Ok((bytes, size))
    }
}
