//! Makes locks longer: everything that a copy needs stays locked until its time, whoever put it and when.

use std::collections::HashMap;

use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock};
use dualsync_model::job::{Lock, LockMode};
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::locking::{Known, extend};
use crate::names;
use crate::points::Head;
use crate::prune::at_once::{PORTION, Work, at_once};
use crate::prune::error::PruneError;
use crate::prune::survey::Survey;
use crate::repository::Repository;

/// Makes the locks of what these copies need last until the time that each says; how many had to be made longer.
///
/// What the state folder remembers as locked for as long is not asked about. An object that is not there is for `check` to tell.
pub async fn lock_longer(
    repository: &Repository,
    survey: &Survey,
    locks: &[Lock],
    mode: LockMode,
) -> Result<u64, PruneError> {
    let mut known = Known::load(repository);
    let mut wanted = wanted(survey, locks);
    wanted.extend(ways_in(repository, &wanted));
    wanted.retain(|(key, until)| !known.covers(key, *until));
    let mut longer = 0;
    let mut ended = Ok(());
    for portion in wanted.chunks(PORTION) {
        let works = portion.iter().map(|one| Box::pin(lock_one(repository, one, mode)) as Work<'_, Locked>);
        let done = |(key, until, was_short): Locked| {
            known.add(key, until);
            longer += u64::from(was_short);
        };
        ended = at_once(works.collect(), done).await;
        if ended.is_err() {
            break;
        }
    }
    // What was made longer is known even where the rest failed.
    known.save(repository.store().now());
    ended.map(|()| longer)
}

/// What opens the repository, for as long as the last of its objects is locked: without the slots that hold the older keys, or
/// without `repo.json`, everything else would be locked and unreadable.
fn ways_in(repository: &Repository, wanted: &[(Key, Timestamp)]) -> Vec<(Key, Timestamp)> {
    let Some(until) = wanted.iter().map(|(_, until)| *until).max() else { return Vec::new() };
    let fixed = [names::REPO, names::README, names::RECOVER].into_iter().map(names::fixed);
    fixed.chain(repository.slot_places().iter().cloned()).map(|key| (key, until)).collect()
}

/// An object, until when it is locked, and whether that is new.
type Locked = (Key, Timestamp, bool);

async fn lock_one(repository: &Repository, one: &(Key, Timestamp), mode: LockMode) -> Result<Locked, PruneError> {
    let (key, until) = one;
    match extend(repository, key, ObjectLock { mode, until: *until }).await {
        Ok(was_short) => Ok((key.clone(), *until, was_short)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::warn!(%key, "an object that a copy needs is not there to be locked");
            Ok((key.clone(), Timestamp::default(), false))
        }
        Err(error) => Err(error.into()),
    }
}

/// Each object that a copy with a lock needs, with the latest of their times.
fn wanted(survey: &Survey, locks: &[Lock]) -> Vec<(Key, Timestamp)> {
    let of_copy = |head: &Head| {
        let lock = locks.iter().find(|lock| lock.manifest == head.key.as_str());
        lock.filter(|lock| lock.sha256 == head.name.sha256.to_string()).map(|lock| (head.name.sha256, lock.until))
    };
    let heads = &survey.copies.census.heads;
    let copies: HashMap<Sha256, Timestamp> = heads.iter().filter_map(of_copy).collect();
    let manifests = heads.iter().filter_map(|head| Some((head.key.clone(), *copies.get(&head.name.sha256)?)));
    let objects = survey.objects.iter().filter_map(|(sha256, object)| {
        let until = survey.uses.manifests_of(sha256).filter_map(|manifest| copies.get(manifest)).max()?;
        Some((object.key.clone(), *until))
    });
    manifests.chain(objects).collect()
}
