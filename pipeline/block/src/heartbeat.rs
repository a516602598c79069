//! Signs of life, `runs/<source>/<run>/<n>`: which point somebody stands on, and since when.
//!
//! A backup puts one at its start and each hour, so does whoever reads a point. A deleter keeps the
//! points they name. This saves work and nights; no copy rests on it (0006), so whatever does not prove
//! itself here is passed over.

use std::collections::BTreeMap;

use dualsync_block_store::contract::{Key, ObjectInfo};
use dualsync_model::id::{PointId, RunId};
use dualsync_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::document::Unproven;
use crate::fetch::ObjectError;
use crate::names;
use crate::points::Census;
use crate::repository::Repository;

/// Who gives a sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A run that makes a point; also what a heartbeat without this member is.
    #[default]
    Backup,
    /// A restore, or whoever else reads a point.
    Restore,
}

/// A sign of life, with a MAC like every document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What it is a sign of.
    #[serde(default)]
    pub work: Work,
    /// The point that is made or read.
    pub point: PointId,
    /// The run.
    pub run: RunId,
    /// Its place among the run's heartbeats.
    pub number: u64,
    /// The manifest the run stands on, or that is read: it must stay meanwhile.
    pub parent: Option<Sha256>,
    /// When the run began.
    pub started_at: Timestamp,
    /// When this was written.
    pub at: Timestamp,
    /// Whether it is the last one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// The youngest proved heartbeat of each run that gave one in the last `young_s` seconds and has not said that it ended.
///
/// `listed` is a listing of `runs/`. Where the store has a clock its times spare the reading of old ones.
pub async fn living(
    repository: &Repository,
    listed: &[ObjectInfo],
    young_s: u64,
) -> Result<Vec<Heartbeat>, ObjectError> {
    let store = repository.store();
    let is_young = |at: Timestamp| store.now().seconds_since(at) < i64::try_from(young_s).unwrap_or(i64::MAX);
    let mut runs: BTreeMap<&str, Vec<(u64, &Key)>> = BTreeMap::new();
    for object in listed.iter().filter(|object| !store.has_clock() || is_young(object.modified)) {
        if let Some((_, number)) = names::parse_heartbeat(object.key.as_str())
            && let Some((run, _)) = object.key.as_str().rsplit_once('/')
        {
            runs.entry(run).or_default().push((number, &object.key));
        }
    }
    let mut living = Vec::new();
    for mut heartbeats in runs.into_values() {
        heartbeats.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        for (_, key) in heartbeats {
            if let Some(heartbeat) = proved(repository, key).await? {
                living.extend(Some(heartbeat).filter(|heartbeat| is_young(heartbeat.at) && !heartbeat.ended));
                break;
            }
        }
    }
    Ok(living)
}

async fn proved(repository: &Repository, key: &Key) -> Result<Option<Heartbeat>, ObjectError> {
    let bytes = match repository.get(key).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_damage() => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = Unproven::parse(&bytes);
    Ok(text.and_then(|text| text.prove(&repository.keys().mac_key(), key.as_str())).ok())
}

/// Whether the run of this heartbeat has made its point: then it needs nothing any more.
pub fn has_committed(census: &Census, heartbeat: &Heartbeat) -> bool {
    let made = |run: &RunId, point: &PointId| *run == heartbeat.run && *point == heartbeat.point;
    let mut heads = census.heads.iter().map(|head| &head.description);
    heartbeat.work == Work::Backup && heads.any(|description| made(&description.run, &description.point))
}
