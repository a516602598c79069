//! opendal's answers in the words of the contract.

use std::error::Error as _;
use std::io;

use dualsync_model::time::Timestamp;
use opendal::{Entry, Error, ErrorKind as DalKind, Metadata};

use crate::contract::{ErrorKind, Key, ObjectInfo, Version};
use crate::directory::io_kind;
use crate::refusal::{Refusal, network_kind};

/// The kind of an error of opendal.
pub(crate) fn kind(error: &Error) -> ErrorKind {
    if let Some(refusal) = error.source().and_then(|source| source.downcast_ref::<Refusal>()) {
        return refusal.kind();
    }
    match error.kind() {
        DalKind::NotFound | DalKind::IsADirectory | DalKind::NotADirectory => ErrorKind::NotFound,
        DalKind::PermissionDenied => ErrorKind::Denied,
        DalKind::RateLimited => ErrorKind::Throttled,
        DalKind::RangeNotSatisfied => ErrorKind::Truncated,
        DalKind::Unsupported => ErrorKind::Unsupported,
        DalKind::ConfigInvalid => ErrorKind::Misconfigured,
        DalKind::AlreadyExists | DalKind::ConditionNotMatch => ErrorKind::AlreadyExists,
        _ => match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(io) => io_kind(io),
            // The text is all that tells a short object from other surprises; a test holds it in place.
            None if error.to_string().contains("got too little data") && !error.is_temporary() => ErrorKind::Truncated,
            // Opendal's own temporary errors: bodies that end early, pages that are no XML.
            None if error.source().is_none() && error.is_temporary() => ErrorKind::Unavailable,
            None if error.source().is_none() => ErrorKind::Other,
            None => network_kind(error),
        },
    }
}

/// What opendal's metadata says of the object `key`.
pub(crate) fn info(key: Key, meta: &Metadata) -> ObjectInfo {
    let modified = meta.last_modified().map_or_else(Timestamp::default, |time| {
        let time = time.into_inner();
        let nanos = u32::try_from(time.subsec_nanosecond()).unwrap_or(0);
        Timestamp::new(time.as_second(), nanos).unwrap_or_else(|| Timestamp::from_seconds(time.as_second()))
    });
    ObjectInfo { key, size: meta.content_length(), modified }
}

/// The versions and markers among `entries`, ordered by key, the oldest of each first: services give the newest first.
/// `None` where the store keeps none: then S3 calls the only one `null`.
pub(crate) fn versions(entries: Vec<Entry>, prefix: &str) -> Option<Vec<Version>> {
    let mut found: Vec<(Version, bool)> = entries
        .into_iter()
        .filter(|entry| entry.metadata().is_file())
        .filter_map(|entry| {
            let (key, meta) = (Key::new(entry.path()).ok()?, entry.metadata());
            let id = meta.version()?.to_owned();
            let info = info(key, meta);
            let is_on_top = meta.is_current() == Some(true);
            let asked = info.key.as_str().starts_with(prefix);
            asked.then(|| (Version { info, id, is_marker: meta.is_deleted() }, is_on_top))
        })
        .collect();
    found.reverse();
    // opendal gives markers apart from versions, and some services tell whole seconds: what is on top is told besides.
    found.sort_by(|(one, is_top), (other, is_over)| {
        (&one.info.key, is_top, one.info.modified).cmp(&(&other.info.key, is_over, other.info.modified))
    });
    let keeps = found.iter().any(|(version, _)| version.id != "null");
    keeps.then(|| found.into_iter().map(|(version, _)| version).collect())
}

/// The objects among `entries` that were asked for, in order.
pub(crate) fn objects(entries: Vec<Entry>, prefix: &str, after: Option<&str>) -> Vec<ObjectInfo> {
    let mut found: Vec<ObjectInfo> = entries
        .into_iter()
        .filter(|entry| entry.metadata().is_file())
        .filter_map(|entry| {
            let key = Key::new(entry.path()).ok()?;
            let asked = key.as_str().starts_with(prefix) && after.is_none_or(|after| after < key.as_str());
            asked.then(|| info(key, entry.metadata()))
        })
        .collect();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    found
}
