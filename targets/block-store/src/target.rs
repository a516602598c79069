//! From a target of the job to a [`Store`].

use std::sync::Arc;

use dualsync_model::job::{Place, Target};
use dualsync_model::time::Timestamp;

use crate::contract::{ErrorKind, Operation, Store, StoreError};
use crate::directory::DirectoryStore;

/// The store of `target`; `now` is the job's time, `bandwidth` its limit in bytes a second.
///
/// Nothing is asked of the network yet: after `Ok` the settings and credentials are complete, not right.
pub async fn open(target: &Target, now: Timestamp, _bandwidth: Option<u64>) -> Result<Arc<dyn Store>, StoreError> {
    let name = format!("target {}", target.name);
    match &target.place {
        Place::Directory { path } => Ok(Arc::new(DirectoryStore::open(path, &target.prefix, now)?)),
        Place::S3 { .. } | Place::Service { .. } => {
            Err(StoreError::new(ErrorKind::Unsupported, Operation::Open, name, ""))
        }
    }
}
