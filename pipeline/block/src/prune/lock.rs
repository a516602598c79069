//! Makes locks longer: everything that a copy needs stays locked until its time, whoever put it and when.
//!
//! Locks go by version. The oldest one is locked, whatever somebody who may put has piled upon it: what the name tells is below.
//! The newest one is locked as well, where it is another: it may be a second put of the same bytes, and nobody reads them here.

use std::collections::HashMap;

use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock, StoreError};
use dualsync_model::job::{Lock, LockMode};
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::events::Events;
use crate::locked::{Ids, Known};
use crate::locking::{Extended, extend};
use crate::names;
use crate::points::Head;
use crate::prune::at_once::{PORTION, Work, at_once};
use crate::prune::error::PruneError;
use crate::prune::survey::Survey;
use crate::repository::Repository;
use crate::stack::{Stack, Stacks};

/// What became of the locks.
#[derive(Debug, Default)]
pub struct Locks {
    /// Objects whose lock had to be made longer.
    pub longer: u64,
    /// Objects whose lock is as long as asked for, and not as strict.
    pub laxer: u64,
    /// Objects whose lock the store refused to make longer.
    pub refused: usize,
    /// The first of these, and what the store said.
    pub first: Option<(Key, StoreError)>,
}

/// Makes the locks of what these copies need last until the time that each says.
///
/// What the state folder remembers as locked for as long is not asked about. An object that is not there is for `check` to tell.
/// One that the store refuses to lock keeps no other from being locked.
///
/// # Errors
/// When the store does not answer.
pub async fn lock_longer(
    repository: &Repository,
    survey: &Survey,
    locks: &[Lock],
    mode: LockMode,
    events: &Events,
) -> Result<Locks, PruneError> {
    let locks = lock_wanted(repository, survey, locks, mode, events).await?;
    if locks.laxer > 0 {
        let message = format!(
            "{} objects keep a governance lock, as long as asked for: to make a compliance lock of it, these credentials need \
             s3:BypassGovernanceRetention",
            locks.laxer
        );
        events.warn("locks", message);
    }
    Ok(locks)
}

async fn lock_wanted(
    repository: &Repository,
    survey: &Survey,
    locks: &[Lock],
    mode: LockMode,
    events: &Events,
) -> Result<Locks, PruneError> {
    let mut known = Known::load(repository, mode);
    let mut wanted = wanted(survey, locks);
    wanted.extend(ways_in(repository, &wanted));
    let (covered, asked): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(key, until)| known.covers(key, *until, None));
    let mut done = Locks::default();
    let Some(stacks) = stacks(repository, survey, &asked, events).await? else {
        let pieces = asked.into_iter().map(|(key, until)| Piece { key, until, ids: Ids::latest() });
        lock_all(repository, pieces.collect(), mode, &mut known, &mut done).await?;
        return Ok(done);
    };
    // Of what was listed in passing, too, something else may be the oldest by now.
    let moved = covered
        .into_iter()
        .filter(|(key, until)| stacks.get(key).is_some_and(|stack| !known.covers(key, *until, Some(stack))));
    let asked: Vec<_> = asked.into_iter().chain(moved).collect();
    tell_hidden(&asked, &stacks, events);
    let piece = |(key, until): (Key, Timestamp)| {
        let ids = stacks.get(&key).and_then(Ids::of);
        if ids.is_none() {
            tracing::warn!(%key, "an object that a copy needs is not there to be locked");
        }
        Some(Piece { key, until, ids: ids? })
    };
    lock_all(repository, asked.into_iter().filter_map(piece).collect(), mode, &mut known, &mut done).await?;
    Ok(done)
}

/// What lies under each key; `None` where these credentials do not see versions.
async fn stacks(
    repository: &Repository,
    survey: &Survey,
    asked: &[(Key, Timestamp)],
    events: &Events,
) -> Result<Option<Stacks>, PruneError> {
    let count = |folder: &str| match folder {
        names::PACKS | names::MAPS => survey.objects.len(),
        names::POINTS => survey.copies.census.listed.len(),
        _ => 0,
    };
    match Stacks::list(repository.store(), asked.iter().map(|(key, _)| key), count).await {
        Ok(stacks) => Ok(Some(stacks)),
        Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported) => {
            let message = "these credentials do not list versions (s3:ListBucketVersions): locks are made longer on what lies on \
                           top, which may be junk that somebody put there";
            events.warn("versions", message.to_owned());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn tell_hidden(asked: &[(Key, Timestamp)], stacks: &Stacks, events: &Events) {
    let mut hidden = asked.iter().filter(|(key, _)| stacks.get(key).is_some_and(Stack::is_covered));
    let Some((first, _)) = hidden.next() else { return };
    let message = format!(
        "{} objects that copies need lie under a delete marker or another version, '{first}' for instance: the first version of each \
         is locked; `dualsync verify` and `dualsync check` tell whether it is whole",
        hidden.count() + 1
    );
    events.warn("shadowed", message);
}

/// What opens the repository, for as long as the last of its objects is locked: without the slots that hold the older keys, or
/// without `repo.json`, everything else would be locked and unreadable.
fn ways_in(repository: &Repository, wanted: &[(Key, Timestamp)]) -> Vec<(Key, Timestamp)> {
    let Some(until) = wanted.iter().map(|(_, until)| *until).max() else { return Vec::new() };
    let fixed = [names::REPO, names::README, names::RECOVER].into_iter().map(names::fixed);
    fixed.chain(repository.slot_places().iter().cloned()).map(|key| (key, until)).collect()
}

/// An object whose versions are to be locked.
struct Piece {
    key: Key,
    until: Timestamp,
    ids: Ids,
}

/// Locks each; what was locked is remembered, even where the rest failed.
async fn lock_all(
    repository: &Repository,
    mut pieces: Vec<Piece>,
    mode: LockMode,
    known: &mut Known,
    locks: &mut Locks,
) -> Result<(), PruneError> {
    let mut ended = Ok(());
    while !pieces.is_empty() && ended.is_ok() {
        let portion: Vec<Piece> = pieces.drain(..pieces.len().min(PORTION)).collect();
        let (begun, refused) = (portion.len(), locks.refused);
        let works =
            portion.into_iter().map(|piece| Box::pin(lock_one(repository, piece, mode)) as Work<'_, (Piece, Ended)>);
        let done = |(piece, ended): (Piece, Ended)| match ended {
            Ended::Locked { longer } => {
                known.add(piece.key, piece.until, piece.ids);
                locks.longer += u64::from(longer);
            }
            Ended::Laxer => locks.laxer += 1,
            Ended::Gone => {}
            Ended::Refused(error) => {
                locks.refused += 1;
                locks.first.get_or_insert((piece.key, error));
            }
        };
        ended = at_once(works.collect(), done).await;
        if locks.refused == refused + begun {
            // Not one of a thousand: these credentials may not.
            locks.refused += pieces.len();
            break;
        }
    }
    known.save(repository.store().now());
    ended
}

/// What became of one object.
enum Ended {
    Locked { longer: bool },
    Laxer,
    Gone,
    Refused(StoreError),
}

async fn lock_one(repository: &Repository, piece: Piece, mode: LockMode) -> Result<(Piece, Ended), PruneError> {
    let ended = lock_versions(repository, &piece, mode).await?;
    Ok((piece, ended))
}

async fn lock_versions(repository: &Repository, piece: &Piece, mode: LockMode) -> Result<Ended, PruneError> {
    let lock = ObjectLock { mode, until: piece.until };
    let (mut longer, mut laxer) = (false, false);
    for id in piece.ids.each() {
        match extend(repository.store(), &piece.key, id, lock).await {
            Ok(extended) => {
                longer |= extended == Extended::Longer;
                laxer |= extended == Extended::Laxer;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ended::Gone),
            Err(error) if is_answer(error.kind()) => return Ok(Ended::Refused(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(if laxer { Ended::Laxer } else { Ended::Locked { longer } })
}

/// Whether the store answered, with no, and may answer otherwise about another object.
const fn is_answer(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unsupported | ErrorKind::Denied | ErrorKind::Other)
}

/// Each object that a copy with a lock needs, with the latest of their times; also what no listing shows.
fn wanted(survey: &Survey, locks: &[Lock]) -> Vec<(Key, Timestamp)> {
    let of_copy = |head: &Head| {
        let lock = locks.iter().find(|lock| lock.manifest == head.key.as_str());
        lock.filter(|lock| lock.sha256 == head.name.sha256.to_string()).map(|lock| (head.name.sha256, lock.until))
    };
    let heads = &survey.copies.census.heads;
    let copies: HashMap<Sha256, Timestamp> = heads.iter().filter_map(of_copy).collect();
    let manifests = heads.iter().filter_map(|head| Some((head.key.clone(), *copies.get(&head.name.sha256)?)));
    let objects = survey.uses.objects().filter_map(|sha256| {
        let until = survey.uses.manifests_of(sha256).filter_map(|manifest| copies.get(manifest)).max()?;
        Some((survey.uses.key_of(sha256), *until))
    });
    manifests.chain(objects).collect()
}
