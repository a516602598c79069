//! From a target of the job to a [`Store`].

use std::sync::Arc;

use dualsync_model::job::{Place, Target};
use dualsync_model::time::Timestamp;

use crate::bandwidth::LimitedStore;
use crate::contract::{ErrorKind, Operation, Store, StoreError};
use crate::credentials;
use crate::directory::DirectoryStore;
use crate::pause::Pause;
use crate::retry::{Patience, RetryingStore};
use crate::s3::{Bucket, Limits, S3Store};

/// The store of `target`, with `patience` and with its `bandwidth` limit, bytes a second.
///
/// `now` is the job's time. Nothing is asked of the network yet: after `Ok` the settings and
/// credentials are complete, not right.
pub async fn open(
    target: &Target,
    now: Timestamp,
    bandwidth: Option<u64>,
    patience: Patience,
) -> Result<Arc<dyn Store>, StoreError> {
    let store = connect(target, now, Limits::of_patience(patience)).await?;
    // Patience outermost: each new try pays for its bytes, and no wait counts against a time limit.
    let store = match bandwidth {
        Some(rate) => Arc::new(LimitedStore::new(store, rate)),
        None => store,
    };
    Ok(Arc::new(RetryingStore::new(store, patience, Pause::real())))
}

async fn connect(target: &Target, now: Timestamp, limits: Limits) -> Result<Arc<dyn Store>, StoreError> {
    let refuse = |kind| StoreError::new(kind, Operation::Open, format!("target {}", target.name), "");
    match &target.place {
        Place::Directory { path } => Ok(Arc::new(DirectoryStore::open(path, &target.prefix, now)?)),
        Place::S3 { endpoint, region, bucket } => {
            let reference = target.credentials.as_ref();
            let reference =
                reference.ok_or_else(|| refuse(ErrorKind::Misconfigured).because("it has no credentials"))?;
            let credentials = credentials::load(reference).await;
            let credentials = credentials.map_err(|error| refuse(ErrorKind::Misconfigured).because(error))?;
            let place = Bucket { endpoint, region, bucket, prefix: &target.prefix };
            Ok(Arc::new(S3Store::open(place, credentials, now)?.with_limits(limits)))
        }
        Place::Service { service, .. } => {
            let cause = format!("the block path knows s3 and directory, not '{service}'");
            Err(refuse(ErrorKind::Unsupported).because(cause))
        }
    }
}
