//! Opens the target that a job names.

use std::collections::HashMap;
use std::sync::Arc;

use dualsync_model::job::{Place, Target};
use dualsync_model::time::Timestamp;

use crate::budget::BudgetedStore;
use crate::contract::{ErrorKind, Key, Operation, Store, StoreError};
use crate::credentials::{self, ACCESS_KEY, Fields, SECRET_KEY, SESSION_TOKEN};
use crate::directory::DirectoryStore;
use crate::service::{Patience, Service, ServiceStore};

/// Opens `target` at the job's time `now`, limited to `bandwidth` bytes a second both ways together, and asked with
/// this `patience` where it is a service.
///
/// `Ok` says that the settings and the credentials are there; nothing was asked of the network yet.
pub async fn open(
    target: &Target,
    now: Timestamp,
    bandwidth: Option<u64>,
    patience: Patience,
) -> Result<Arc<dyn Store>, StoreError> {
    let store: Arc<dyn Store> = match &target.place {
        Place::Directory { path } => Arc::new(DirectoryStore::open(path, &target.prefix, now)?),
        _ => Arc::new(ServiceStore::open(service(target).await?, patience, now)?),
    };
    Ok(match bandwidth {
        None => store,
        Some(rate) => Arc::new(BudgetedStore::new(store, rate)),
    })
}

/// What opendal has to be told about a target that is no directory.
async fn service(target: &Target) -> Result<Service, StoreError> {
    let wrong = || StoreError::new(ErrorKind::Misconfigured, Operation::Open, format!("target {}", target.name), "");
    if !target.prefix.is_empty() {
        Key::new(target.prefix.as_str()).map_err(|error| wrong().caused_by(error))?;
    }
    let fields = match &target.credentials {
        None => Fields::new(),
        Some(reference) => credentials::fields(reference).await.map_err(|error| wrong().caused_by(error))?,
    };
    match &target.place {
        Place::S3 { endpoint, region, bucket } => {
            let reference = target.credentials.as_ref().ok_or_else(|| wrong().caused_by("it has no credentials"))?;
            credentials::require_keys(&fields, reference).map_err(|error| wrong().caused_by(error))?;
            Ok(s3(&S3 { endpoint, region, bucket, prefix: &target.prefix }, &fields))
        }
        Place::Service { service, options } => {
            let mut options: HashMap<String, String> = options.clone().into_iter().collect();
            let root = options.get("root").map_or("", |root| root.trim_end_matches('/'));
            options.insert("root".to_owned(), format!("{root}/{}", target.prefix));
            options.extend(fields.iter().map(|(name, value)| (name.clone(), value.to_string())));
            let name = format!("{service} target {}", target.name);
            Ok(Service { scheme: service.clone(), options, name })
        }
        Place::Directory { .. } => Err(wrong().caused_by("a directory is no service")),
    }
}

struct S3<'a> {
    endpoint: &'a str,
    region: &'a str,
    bucket: &'a str,
    prefix: &'a str,
}

/// S3 with the keys of the job and nothing else: no environment, no profile, no metadata server.
fn s3(place: &S3<'_>, fields: &Fields) -> Service {
    let mut options: HashMap<String, String> = [
        ("endpoint", place.endpoint),
        ("region", place.region),
        ("bucket", place.bucket),
        ("root", place.prefix),
        ("checksum_algorithm", "md5"),
        ("disable_config_load", "true"),
        ("disable_ec2_metadata", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let secrets = [("access_key_id", ACCESS_KEY), ("secret_access_key", SECRET_KEY), ("session_token", SESSION_TOKEN)];
    for (option, field) in secrets {
        if let Some(value) = fields.get(field) {
            options.insert(option.to_owned(), value.to_string());
        }
    }
    let slash = if place.prefix.is_empty() { "" } else { "/" };
    let name = format!("bucket {}{slash}{} at {}", place.bucket, place.prefix, place.endpoint);
    Service { scheme: "s3".to_owned(), options, name }
}
