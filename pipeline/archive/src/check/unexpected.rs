//! Objects that lie in the repository and that nothing explains.
//!
//! They hurt no copy, so they are told and are no failure: space that a deleter should have freed, or something
//! that a stranger put there. What explains an object: a manifest, a mark on it, a run that may still name it or
//! leave it to the next one, or that it is a record of a kind that nobody names.

use std::collections::BTreeSet;

use dualsync_archive_store::contract::ObjectInfo;

use crate::events::Events;
use crate::format::{
    CHECKPOINT_AGE_S, MANIFEST_NAME, MARKS, README_KEY, RECOVER_KEY, REPO_KEY, RUNS, SIGNATURE_NAME, parse_point_key,
    parse_report_key, point_key,
};
use crate::marks::{Marks, is_mark_key};
use crate::objects::{Clock, ObjectError};
use crate::points::Copy;
use crate::repo::Repository;
use crate::runs::{Living, Purpose, living, parse_run_key};

/// The keys among `listing` that nothing explains. `named` tells what manifests name.
pub async fn unexpected<'a>(
    repository: &Repository,
    listing: &'a [ObjectInfo],
    copies: &[Copy],
    named: impl Fn(&str) -> bool,
    events: &Events,
) -> Result<Vec<&'a str>, ObjectError> {
    let strange: Vec<_> =
        listing.iter().filter(|info| !named(info.key.as_str()) && !is_record(info.key.as_str())).collect();
    let own: BTreeSet<_> =
        copies.iter().flat_map(|copy| [copy.key.clone(), copy.key.replace(MANIFEST_NAME, SIGNATURE_NAME)]).collect();
    let strange: Vec<_> = strange.into_iter().filter(|info| !own.contains(info.key.as_str())).collect();
    if strange.is_empty() {
        return Ok(Vec::new());
    }
    let clock = repository.objects.clock();
    let records: Vec<_> = listing.iter().filter(|info| info.key.as_str().starts_with(RUNS)).cloned().collect();
    // A run that was cut off leaves its objects to the next one for as long as its checkpoints are good.
    let runs = living(repository, &records, CHECKPOINT_AGE_S, clock, events).await?;
    let marks = if listing.iter().any(|info| info.key.as_str().starts_with(MARKS)) {
        Marks::load(repository, strange.iter().map(|info| info.key.as_str()), events).await?
    } else {
        Marks::default()
    };
    let is_explained =
        |info: &ObjectInfo| marks.is_proved(info.key.as_str()) || runs.iter().any(|run| may_be_of(run, info, clock));
    Ok(strange.into_iter().filter(|info| !is_explained(info)).map(|info| info.key.as_str()).collect())
}

/// Whether a run that was alive not long ago may have put the object.
fn may_be_of(run: &Living, info: &ObjectInfo, clock: Clock) -> bool {
    let age = info.modified.seconds_since(run.beat.started_at);
    run.beat.purpose == Purpose::Backup && (!clock.is_stores || age >= -Clock::APART_MAX_S)
}

/// Whether this is something that no manifest names and that belongs here all the same. Manifests are looked
/// at elsewhere, each by itself.
fn is_record(key: &str) -> bool {
    let is_manifest = |key: &str| {
        parse_point_key(key).is_some_and(|(source, folder, name)| {
            name == MANIFEST_NAME && point_key(&source, &folder, MANIFEST_NAME) == key
        })
    };
    matches!(key, REPO_KEY | README_KEY | RECOVER_KEY)
        || parse_run_key(key).is_some()
        || is_mark_key(key)
        || parse_report_key(key).is_some()
        || is_manifest(key)
}
