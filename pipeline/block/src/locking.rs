//! Object locks: what a point needs is put under one, the store is seen to enforce it, and it is made longer in time.
//!
//! Some stores answer 200 and lock nothing. So each backup puts its first heartbeat under a short lock and tries to delete that
//! version. docs/decisions/0007-object-locks.md has how long locks are and who makes them longer; [`crate::locked`] remembers it.

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock, Store, StoreError};
use dualsync_model::job::LockMode;
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::repository::Repository;
use crate::trouble::Trouble;

/// How long the heartbeat that proves the lock is locked, seconds: longer than all tries of one deletion.
const PROOF_S: i64 = 900;

/// How long the slots of a rotation are locked at first, seconds: nights may fail until one makes them longer.
const HOLD_S: i64 = 14 * 86_400;

/// Where two clocks round.
const ROUNDING_S: i64 = 1;

/// Why nothing is believed to be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The store has no locks.
    #[error("the store cannot lock objects, or not in this bucket")]
    None(#[source] StoreError),
    /// It answered and did nothing.
    #[error("the store took a lock and reads back {0}")]
    NotRead(&'static str),
    /// It deleted what was locked.
    #[error("the store took a lock until {0} and deleted the object all the same")]
    Obeyed(Timestamp),
    /// It does not answer.
    #[error("cannot try the store's locks")]
    Store(#[from] StoreError),
}

impl From<LockError> for Trouble {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Store(error) => error.into(),
            _ => Self::new(Exit::Failed, "refused", &error)
                .with_hint("make a bucket with versioning and object lock, or take `immutability` out of the target"),
        }
    }
}

/// Puts an object, under a lock where one is asked for.
pub async fn put(
    repository: &Repository,
    key: &Key,
    body: Bytes,
    sha256: Sha256,
    lock: Option<ObjectLock>,
) -> Result<(), StoreError> {
    match lock {
        None => repository.put(key, body, sha256).await,
        Some(lock) => repository.put_locked(key, body, sha256, lock).await,
    }
}

/// Puts `body` under a short lock and tries to delete it: only a store that refuses, and says that it is locked, enforces.
///
/// Where the credentials may not delete versions anyway, the refusal proves nothing, and what HEAD reads back is all that is known.
pub async fn prove(repository: &Repository, key: &Key, body: Bytes, mode: LockMode) -> Result<(), LockError> {
    let store = repository.store();
    let lock = ObjectLock { mode, until: store.now().plus_seconds(PROOF_S).whole_second() };
    let sha256 = Sha256::of(&body);
    match repository.put_locked(key, body, sha256, lock).await {
        Err(error) if is_answer(error.kind()) => return Err(LockError::None(error)),
        other => other?,
    }
    match store.lock_of(key, None).await? {
        None => return Err(LockError::NotRead("none")),
        Some(read) if read.until.plus_seconds(ROUNDING_S) < lock.until => {
            return Err(LockError::NotRead("one that is shorter"));
        }
        Some(read) if read.mode != mode => return Err(LockError::NotRead("one of another mode")),
        Some(_) => {}
    }
    let versions = match store.versions(key.as_str()).await {
        // Who may not even list versions may hardly delete one.
        Err(error) if error.kind() == ErrorKind::Denied => return Ok(()),
        other => other?,
    };
    let latest = versions.iter().find(|version| version.key == *key && version.is_latest && !version.is_marker);
    let latest = latest.ok_or(LockError::NotRead("no version of the object"))?;
    match store.delete_version(key, &latest.id).await {
        Ok(()) => Err(LockError::Obeyed(lock.until)),
        Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the store answered, with no.
const fn is_answer(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unsupported | ErrorKind::Denied | ErrorKind::Other | ErrorKind::AlreadyExists)
}

/// How a lock stands that was to be made longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// It was long and strict enough.
    Not,
    /// It was made longer, or stricter.
    Longer,
    /// It is long enough, and of a laxer mode than asked for: these credentials may not change that.
    Laxer,
}

/// Makes the lock of one version (of what a plain read finds, without `id`) last until then and at least as strict.
///
/// A governance lock becomes a compliance lock where that is asked for. Never the other way round: the store would refuse it.
pub async fn extend(store: &dyn Store, key: &Key, id: Option<&str>, lock: ObjectLock) -> Result<Extended, StoreError> {
    let Some(found) = store.lock_of(key, id).await? else {
        return store.extend_lock(key, id, lock).await.map(|()| Extended::Longer);
    };
    if suffices(found, lock) {
        return Ok(Extended::Not);
    }
    let wanted = both(found, lock);
    match store.extend_lock(key, id, wanted).await {
        Err(error) if error.kind() == ErrorKind::Denied && wanted.mode != found.mode => {
            let longer = ObjectLock { mode: found.mode, ..wanted };
            if !suffices(found, longer) {
                store.extend_lock(key, id, longer).await?;
            }
            Ok(Extended::Laxer)
        }
        other => other.map(|()| Extended::Longer),
    }
}

/// Locks objects that were just put until the next runs know how long they are needed; one that is not there is passed over.
pub async fn hold(store: &dyn Store, keys: &[Key], mode: LockMode) -> Result<(), StoreError> {
    let lock = ObjectLock { mode, until: store.now().plus_seconds(HOLD_S).whole_second() };
    for key in keys {
        match extend(store, key, None, lock).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether `found` is as long and as strict as `wanted`.
fn suffices(found: ObjectLock, wanted: ObjectLock) -> bool {
    found.until.plus_seconds(ROUNDING_S) >= wanted.until && is_as_strict(found.mode, wanted.mode)
}

const fn is_as_strict(found: LockMode, wanted: LockMode) -> bool {
    matches!(found, LockMode::Compliance) || matches!(wanted, LockMode::Governance)
}

/// The shortest lock that is no less than either.
fn both(one: ObjectLock, other: ObjectLock) -> ObjectLock {
    let mode = if is_as_strict(one.mode, other.mode) { one.mode } else { other.mode };
    ObjectLock { mode, until: one.until.max(other.until) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_gets_longer_and_stricter_and_never_less() {
        let lock = |mode, days: i64| ObjectLock { mode, until: Timestamp::from_seconds(days * 86_400) };
        let (governance, compliance) = (LockMode::Governance, LockMode::Compliance);
        assert!(
            suffices(lock(compliance, 9), lock(governance, 9)) && suffices(lock(governance, 9), lock(governance, 8))
        );
        assert!(!suffices(lock(governance, 9), lock(compliance, 8)), "a laxer lock is none");
        assert!(!suffices(lock(compliance, 8), lock(compliance, 9)));
        assert_eq!(both(lock(governance, 9), lock(compliance, 8)), lock(compliance, 9));
        assert_eq!(both(lock(compliance, 8), lock(governance, 9)), lock(compliance, 9));
        assert_eq!(both(lock(governance, 8), lock(governance, 9)), lock(governance, 9));
    }
}
