//! Locks are made longer: of every object of a copy that is needed longer than was known when it was stored.
//!
//! What was seen to be locked until when is remembered in the state folder, so that a night without changes asks for
//! nothing; losing that costs a HEAD for each object. Locks are never made shorter.

use std::collections::BTreeMap;
use std::path::Path;

use dualsync_archive_store::contract::{ErrorKind, Key, Lock};
use dualsync_model::job::{Lock as Wanted, LockMode};
use dualsync_model::time::Timestamp;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::format::{README_KEY, RECOVER_KEY, REPO_KEY};
use crate::objects::{ObjectError, Objects};
use crate::prune::apply::AT_ONCE;
use crate::prune::survey::Survey;

const MEMORY: &str = "locks.json";

type Until = BTreeMap<String, Timestamp>;

/// Makes the locks of these copies last; gives how many were made longer.
pub async fn extend(
    objects: &Objects,
    survey: &Survey,
    wanted: &[Wanted],
    mode: LockMode,
    state: &Path,
) -> Result<u64, ObjectError> {
    let wanted = by_object(survey, wanted);
    let path = state.join(MEMORY);
    let mut known: Until =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    // What another source of the repository needs is remembered too; what has ended says nothing.
    let now = objects.now();
    known.retain(|_, until| *until > now);
    let short: Vec<_> =
        wanted.iter().filter(|(key, until)| known.get(*key).is_none_or(|found| found < *until)).collect();
    let mut longer = 0;
    let mut done = futures::stream::iter(short)
        .map(|(key, until)| async move { Ok::<_, ObjectError>((key, until, one(objects, key, mode, *until).await?)) })
        .buffer_unordered(AT_ONCE);
    let mut outcome = Ok(());
    loop {
        match done.try_next().await {
            Ok(Some((key, until, Some(is_longer)))) => {
                longer += u64::from(is_longer);
                known.insert(key.clone(), *until);
            }
            Ok(Some((_, _, None))) => {}
            Ok(None) => break,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    if let Err(error) = write(&path, &known) {
        tracing::warn!(%error, path = %path.display(), "cannot remember which locks were made longer");
    }
    outcome.map(|()| longer)
}

/// Until when each object has to be locked: as long as the copy that needs it longest.
fn by_object(survey: &Survey, wanted: &[Wanted]) -> Until {
    let is_there =
        |one: &&Wanted| survey.manifests.copy(&one.manifest).is_some_and(|copy| copy.anchor.sha256 == one.sha256);
    let copies: BTreeMap<&str, Timestamp> =
        wanted.iter().filter(is_there).map(|one| (one.manifest.as_str(), one.until)).collect();
    let needed = |key: &str| survey.manifests.needing(key).filter_map(|need| copies.get(&*need.manifest)).max();
    let objects = survey.stored.keys().filter_map(|key| Some((key.clone(), *needed(key)?)));
    // Without `repo.json` everything else would be locked and unreadable.
    let last = copies.values().max().copied();
    let fixed = [REPO_KEY, README_KEY, RECOVER_KEY].map(str::to_owned);
    let ways_in = last.into_iter().flat_map(|until| fixed.clone().map(|key| (key, until)));
    objects.chain(copies.iter().map(|(key, until)| ((*key).to_owned(), *until))).chain(ways_in).collect()
}

/// Whether the lock had to be made longer; `None` when there is no such object.
async fn one(objects: &Objects, key: &str, mode: LockMode, until: Timestamp) -> Result<Option<bool>, ObjectError> {
    let at = key.parse::<Key>()?;
    match objects.store().lock_of(&at, None).await {
        Ok(Some(found)) if found.until >= until => return Ok(Some(false)),
        Ok(_) => {}
        // One that is missing is for `check` to tell; it must not keep the others from their locks.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::warn!(key, "an object that a copy needs is not there to be locked");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    objects.store().lock(&at, None, Lock { mode, until }).await?;
    Ok(Some(true))
}

fn write(path: &Path, known: &Until) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(known)?)?;
    std::fs::rename(new, path)
}
