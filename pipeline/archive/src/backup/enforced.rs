//! Whether a lock holds, tried before anything is stored under one.
//!
//! There are stores that answer 200 to a lock and lock nothing. So the heartbeat, which the run has just put, is locked
//! for two minutes, the lock is read back, and the run tries to delete that version. A store that obeys ends the job.

use dualsync_archive_store::contract::{ErrorKind, Key, Lock};

use crate::backup::BackupError;
use crate::objects::{ObjectError, Objects};

/// For so long the heartbeat is locked, seconds.
const TRIED_S: i64 = 120;

/// Tries a lock of this mode on the object `key`.
pub async fn prove(objects: &Objects, lock: Lock, key: &str) -> Result<(), BackupError> {
    let refuse = |reason: &'static str| Err(BackupError::NotLocked { reason });
    let (at, store) = (key.parse::<Key>().map_err(ObjectError::from)?, objects.store());
    let tried = Lock { until: objects.now().plus_seconds(TRIED_S), ..lock };
    match objects.set_lock(&at, tried).await {
        Err(ObjectError::Store(error)) if error.kind() == ErrorKind::Unsupported => return refuse("it knows no locks"),
        outcome => outcome?,
    }
    let told = store.lock_of(&at, None).await.map_err(ObjectError::from)?;
    let at_least = Lock { until: tried.until.plus_seconds(-1), ..tried };
    if told.is_none_or(|told| !told.covers(at_least)) {
        return refuse("it took a lock, and tells of another or of none");
    }
    if store.versions(key).await.map_err(ObjectError::from)?.is_none() {
        return refuse("it keeps no versions, or does not let them be listed");
    }
    match store.purge(&at).await {
        Ok(purged) if purged.locked > 0 => Ok(()),
        Ok(_) => refuse("it deleted a locked version as it was told to"),
        // Who may not delete at all learns nothing by it: what was read back has to do.
        Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
        Err(error) => Err(ObjectError::from(error).into()),
    }
}
