//! Object locks: what a point needs is put under one, the store is seen to enforce it, and it is made longer in time.
//!
//! Some stores answer 200 and lock nothing. So each backup puts its first heartbeat under a short lock and tries to delete that
//! version. docs/decisions/0007-object-locks.md has how long locks are and who makes them longer.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, ObjectLock, StoreError};
use dualsync_model::job::LockMode;
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;

use crate::digest::Sha256;
use crate::repository::Repository;
use crate::trouble::Trouble;

/// How long the heartbeat that proves the lock is locked, seconds: longer than all tries of one deletion.
const PROOF_S: i64 = 900;

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

/// Makes the lock of an object last until then; whether it had to.
pub async fn extend(repository: &Repository, key: &Key, lock: ObjectLock) -> Result<bool, StoreError> {
    let store = repository.store();
    let is_long = |found: ObjectLock| found.until.plus_seconds(ROUNDING_S) >= lock.until;
    if store.lock_of(key, None).await?.is_some_and(is_long) {
        return Ok(false);
    }
    store.extend_lock(key, lock).await?;
    Ok(true)
}

/// Until when objects are known to be locked, kept in the state folder: a night without changes asks for nothing.
#[derive(Debug)]
pub struct Known {
    path: PathBuf,
    until: BTreeMap<Key, Timestamp>,
}

impl Known {
    /// What was kept; nothing when it is lost or not what was written. Losing it costs requests.
    pub fn load(repository: &Repository) -> Self {
        let path = repository.cache().beside("locks.txt");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = |line: &str| {
            let (seconds, key) = line.split_once(' ')?;
            Some((Key::new(key).ok()?, Timestamp::from_seconds(seconds.parse().ok()?)))
        };
        Self { path, until: text.lines().filter_map(line).collect() }
    }

    /// Whether the object is known to be locked until then.
    pub fn covers(&self, key: &Key, until: Timestamp) -> bool {
        self.until.get(key).is_some_and(|known| *known >= until)
    }

    /// It is locked until then, as the store said.
    pub fn add(&mut self, key: Key, until: Timestamp) {
        let known = self.until.entry(key).or_insert(until);
        *known = until.max(*known);
    }

    /// Keeps what has not ended. A folder that cannot be written is no error.
    pub fn save(&mut self, now: Timestamp) {
        self.until.retain(|_, until| *until > now);
        let lines = self.until.iter().map(|(key, until)| format!("{} {key}\n", until.seconds()));
        let temporary = self.path.with_extension("tmp");
        let written =
            fs::write(&temporary, lines.collect::<String>()).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            tracing::debug!(path = %self.path.display(), %error, "locks are not remembered");
        }
    }
}
