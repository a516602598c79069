//! Signs of life: what a backup or a restore puts so that a deleter spares what it works with.
//!
//! `runs/<source>/<run>/<n>` is a heartbeat, put at the start and every hour. While one is younger than the
//! grace, pruning keeps the point that it names, and lets new objects alone that a backup may be about to
//! name. It is a courtesy that saves work: that no copy is hurt rests on the marks. So a backup insists
//! on its first one only, and everybody else on none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::id::{RunId, SourceName};
use dualsync_model::time::Timestamp;

use crate::events::Events;
use crate::format::{FORMAT, HEARTBEAT_S, MANIFEST_BYTES_MAX, RUNS, VERSION};
use crate::minisign::SecretKey;
use crate::objects::{Clock, ObjectError};
use crate::points::{Copy, with_causes};
use crate::record;
use crate::repo::Repository;

/// A heartbeat of version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Id of the repository.
    pub repository: String,
    /// What it is a sign of.
    #[serde(default)]
    pub purpose: Purpose,
    /// When the run began, by the store's clock where it has one.
    pub started_at: Timestamp,
    /// When this was written.
    pub at: Timestamp,
    /// The folder that a backup's point will have, or that of the point that is read.
    pub folder: String,
    /// Key of the manifest that a backup builds on, or of the one that is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether it is the last one: what it was a sign of has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// What a heartbeat is a sign of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A point is being made.
    #[default]
    Backup,
    /// A point is being brought back.
    Restore,
    /// A point is being read, to be compared.
    Facts,
}

/// A run that put a heartbeat not long ago, and has not ended as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    /// Its number.
    pub run: String,
    /// Its last word.
    pub beat: Heartbeat,
}

/// Source, run and name in the key of a run record; `None` for what is none.
pub fn parse_run_key(key: &str) -> Option<(SourceName, RunId, &str)> {
    let mut parts = key.strip_prefix(RUNS)?.split('/');
    let (source, run, name) = (parts.next()?, parts.next()?, parts.next()?);
    let number = name.strip_prefix("checkpoint-").unwrap_or(name);
    let is_ours = parts.next().is_none() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_ours.then_some((source.parse().ok()?, run.parse().ok()?, name))
}

/// Key of heartbeat `number`.
pub fn heartbeat_key(source: &SourceName, run: &RunId, number: u64) -> String {
    format!("{RUNS}{source}/{run}/{number}")
}

/// Puts heartbeats for as long as it lives.
pub struct Pulse {
    shared: Arc<Shared>,
    hourly: tokio::task::JoinHandle<()>,
}

struct Shared {
    repository: Repository,
    secret: Arc<SecretKey>,
    source: SourceName,
    run: RunId,
    beat: Heartbeat,
    /// The number of the next one.
    next: AtomicU64,
}

impl Shared {
    async fn put(&self, ended: bool) -> Result<(), ObjectError> {
        let key = heartbeat_key(&self.source, &self.run, self.next.fetch_add(1, Ordering::Relaxed));
        let beat = Heartbeat { at: self.repository.objects.now(), ended, ..self.beat.clone() };
        let bytes = record::write(&key, &beat, &self.secret);
        self.repository.objects.put(&key, Bytes::from(bytes)).await.map(drop)
    }

    /// One every hour, the first after `wait`. One that fails is not the end: the next may succeed, and a commit
    /// looks at the marks anyway.
    async fn beat(&self, mut wait: Duration, events: &Events) {
        loop {
            tokio::time::sleep(wait).await;
            wait = Duration::from_secs(HEARTBEAT_S);
            let Err(error) = self.put(false).await else { continue };
            let message = format!("the run cannot say that it is alive: {}", with_causes(&error));
            match self.beat.purpose {
                Purpose::Backup => events.warn("heartbeat", message, None),
                // Who only reads may have no right to write.
                Purpose::Restore | Purpose::Facts => tracing::debug!(message),
            }
        }
    }
}

impl Pulse {
    /// Puts the first heartbeat, which must succeed, and one more every hour.
    pub async fn begin(
        repository: &Repository,
        secret: Arc<SecretKey>,
        source: &SourceName,
        run: &RunId,
        beat: Heartbeat,
        events: &Events,
    ) -> Result<Self, ObjectError> {
        let pulse = Self::after(Duration::from_secs(HEARTBEAT_S), repository, secret, (source, run), beat, events);
        pulse.shared.put(false).await?;
        Ok(pulse)
    }

    fn after(
        wait: Duration,
        repository: &Repository,
        secret: Arc<SecretKey>,
        (source, run): (&SourceName, &RunId),
        beat: Heartbeat,
        events: &Events,
    ) -> Self {
        let (repository, source, run) = (repository.clone(), source.clone(), run.clone());
        let shared = Arc::new(Shared { repository, secret, source, run, beat, next: AtomicU64::new(0) });
        let (beating, events) = (shared.clone(), events.clone());
        let hourly = tokio::spawn(async move { beating.beat(wait, &events).await });
        Self { shared, hourly }
    }

    /// The same for who reads `copy`, from `wait` on. Without a signing key, or where the store takes no objects, the
    /// copy is read all the same: a deleter then spares it by its mark's grace alone.
    pub async fn reading(
        repository: &Repository,
        secret: Option<Arc<SecretKey>>,
        copy: &Copy,
        purpose: Purpose,
        wait: Duration,
        events: &Events,
    ) -> Option<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).ok()?;
        let beat = Heartbeat::new(repository, purpose, copy.manifest.folder.clone(), Some(copy.key.clone()));
        let (secret, source, run) = (secret?, copy.manifest.source(), RunId::from_random(random));
        if !wait.is_zero() {
            return Some(Self::after(wait, repository, secret, (source, &run), beat, events));
        }
        match Self::begin(repository, secret, source, &run, beat, events).await {
            Ok(pulse) => Some(pulse),
            Err(error) => {
                tracing::debug!(error = with_causes(&error), "nobody is told that this point is read");
                None
            }
        }
    }

    /// Says that it has ended, if anything was said at all and as far as it can be.
    pub async fn end(self) {
        self.hourly.abort();
        if self.shared.next.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Err(error) = self.shared.put(true).await {
            tracing::debug!(error = with_causes(&error), "nobody is told that this point is read no more");
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.hourly.abort();
    }
}

impl Heartbeat {
    /// The first one, of now.
    pub fn new(repository: &Repository, purpose: Purpose, folder: String, parent: Option<String>) -> Self {
        let now = repository.objects.now();
        let (format, version, repository) = (FORMAT.to_owned(), VERSION, repository.id().to_owned());
        Self { format, version, repository, purpose, started_at: now, at: now, folder, parent, ended: false }
    }
}

/// The runs of a listing of `runs/` whose last heartbeat is younger than `age_max`, seconds. On a store with a
/// clock only those are fetched that the store calls young.
pub async fn living(
    repository: &Repository,
    listing: &[ObjectInfo],
    age_max: i64,
    clock: Clock,
    events: &Events,
) -> Result<Vec<Living>, ObjectError> {
    let mut runs: BTreeMap<(String, String), Vec<&ObjectInfo>> = BTreeMap::new();
    for info in listing {
        let Some((source, run, _)) = parse_run_key(info.key.as_str()) else { continue };
        let is_young = !clock.is_stores || is_fresh(clock, info.modified, age_max);
        if is_young && info.size <= MANIFEST_BYTES_MAX {
            runs.entry((source.to_string(), run.to_string())).or_default().push(info);
        }
    }
    let mut living = Vec::new();
    for ((_, run), records) in runs {
        let Some(beat) = last_word(repository, &records, events).await? else { continue };
        // The listing has told the age where the store has a clock.
        if !beat.ended && (clock.is_stores || is_fresh(clock, beat.at, age_max)) {
            living.push(Living { run, beat });
        }
    }
    Ok(living)
}

/// What the newest heartbeat among the records of one run says.
pub async fn last_word(
    repository: &Repository,
    records: &[&ObjectInfo],
    events: &Events,
) -> Result<Option<Heartbeat>, ObjectError> {
    let number = |info: &&ObjectInfo| -> Option<u64> { info.key.as_str().rsplit('/').next()?.parse().ok() };
    let mut beats: Vec<_> = records.iter().filter_map(|info| Some((number(info)?, *info))).collect();
    beats.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
    for (_, info) in beats {
        // What nobody signed says nothing; the one before it may.
        if let Some(beat) = read(repository, info.key.as_str(), events).await? {
            return Ok(Some(beat));
        }
    }
    Ok(None)
}

/// A time far in the future is as little a sign of life as one long past: else a clock that was wrong once
/// would hold deleting up for ever.
fn is_fresh(clock: Clock, at: Timestamp, age_max: i64) -> bool {
    clock.age(at).saturating_abs() < age_max
}

async fn read(repository: &Repository, key: &str, events: &Events) -> Result<Option<Heartbeat>, ObjectError> {
    let bytes = match repository.objects.get(key, MANIFEST_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) if error.finding().is_some() => return Ok(None),
        Err(error) => return Err(error),
    };
    match repository.record(key, &bytes) {
        Ok(beat) => return Ok(Some(beat)),
        Err(error) => events.warn("forged", with_causes(&error), None),
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::Sink;
    use crate::manifest::tests::secret;
    use crate::sample::Sample;

    #[test]
    fn run_records_are_told_from_strangers() {
        for good in ["runs/web/0001020304050607/0", "runs/web/0001020304050607/checkpoint-12"] {
            assert!(parse_run_key(good).is_some(), "{good}");
        }
        for bad in
            ["runs/web/0", "runs/web/xyz/0", "runs/web/0001020304050607/checkpoint-", "runs/web/0001020304050607/a"]
        {
            assert!(parse_run_key(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_last_word_that_is_signed_tells_whether_a_run_lives() {
        let mut sample = Sample::new();
        sample.directory("");
        let made = sample.finish();
        let events = Events::new(Sink::default());
        let copy = Copy::find(&made.repository, &made.point).await.unwrap();
        let start = made.repository.objects.now();
        let look = async |hours: i64, is_stores: bool| {
            let clock = Clock { now: start.plus_seconds(hours * 3_600), is_stores };
            let listing = made.repository.objects.list(RUNS).await.unwrap();
            living(&made.repository, &listing, 86_400, clock, &events).await.unwrap()
        };
        let secret = Some(Arc::new(secret()));
        let pulse =
            Pulse::reading(&made.repository, secret, &copy, Purpose::Restore, Duration::ZERO, &events).await.unwrap();
        for is_stores in [true, false] {
            let found = look(1, is_stores).await;
            assert_eq!((found.len(), found[0].beat.parent.as_ref()), (1, Some(&copy.key)));
            assert!(look(25, is_stores).await.is_empty() && look(-25, is_stores).await.is_empty());
        }
        // A stranger's later word does not hide the true one, and says nothing by itself.
        let planted = made.key(RUNS, "/0").as_str().replace("/0", "/9");
        made.store.replace(planted.parse().unwrap(), "{}".into());
        assert_eq!(look(1, true).await.len(), 1);
        pulse.end().await;
        assert!(look(1, true).await.is_empty());
        assert!(Pulse::reading(&made.repository, None, &copy, Purpose::Facts, Duration::ZERO, &events).await.is_none());
    }
}
