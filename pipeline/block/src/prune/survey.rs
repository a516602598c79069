//! Steps 1 and 2 of a prune: what is there, in the order that the proof of 0006 needs.
//!
//! Marks before everything else: the age of a mark counts from before its listing. Signs of life and
//! objects before manifests: what was listed as an object and is named by then, is seen to be named.

use std::collections::{BTreeMap, HashMap, HashSet};

use dualsync_block_store::contract::ObjectInfo;
use dualsync_model::event::Finding;
use dualsync_model::id::PointId;
use dualsync_model::time::Timestamp;

use crate::backup::run::CHECKPOINT_AGE_MAX_S;
use crate::checkpoint::Checkpoint;
use crate::digest::Sha256;
use crate::heartbeat::{Heartbeat, Work, has_committed, living};
use crate::history::{chain_findings, lost};
use crate::marks::{Marks, Proved};
use crate::moment::Moment;
use crate::names;
use crate::points::Census;
use crate::prune::error::PruneError;
use crate::prune::uses::Uses;
use crate::repository::Repository;
use crate::shadow;

/// More than this between the store's clock and the job's, and nothing is marked or deleted.
const CLOCKS_MAX_S: u64 = 600;

/// The time of this job: by the store where it has a clock, and by the host.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    job_now: Timestamp,
    began: Moment,
}

impl Clocks {
    /// The job says that it is `job_now`.
    pub fn new(repository: &Repository, job_now: Timestamp) -> Self {
        Self { job_now, began: Moment::now(repository.store()) }
    }

    /// The time that goes into documents: the host's, so that a store that lies about time is caught.
    pub fn by_job(&self, repository: &Repository) -> Timestamp {
        // Without a clock of its own the store has the job's.
        if repository.store().has_clock() { self.began.moved_on(self.job_now) } else { repository.store().now() }
    }

    /// Refuses to go on when the two clocks are too far apart.
    pub fn compare(&self, repository: &Repository) -> Result<(), PruneError> {
        let apart = repository.store().now().seconds_since(self.by_job(repository)).unsigned_abs();
        if apart > CLOCKS_MAX_S { Err(PruneError::Clocks(apart)) } else { Ok(()) }
    }
}

/// A proved mark and how old it is.
#[derive(Clone, Debug)]
pub struct KnownMark {
    /// The mark.
    pub proved: Proved,
    /// Whether it announces something still.
    pub stands: bool,
    /// Whether it is that of a copy, and was taken back late: the copy stays, and is no reason to take marks back.
    pub lingers: bool,
    /// Its age by the clock that says less: for deleting.
    pub least_s: u64,
    /// Its age by the clock that says more: for taking it back.
    pub most_s: u64,
}

/// A manifest that cannot be read: what it needs is not known.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its key.
    pub manifest: String,
    /// Its digest.
    pub sha256: Sha256,
    /// The point.
    pub point: PointId,
}

/// The manifests at one moment.
#[derive(Debug)]
pub struct Copies {
    /// The good ones.
    pub census: Census,
    /// Those that are damaged, of another version, or lost: in a ledger, and gone without a proved mark.
    pub unreadable: Vec<Unreadable>,
    /// What is wrong, in words.
    pub findings: Vec<Finding>,
}

/// Everything a plan is made from.
#[derive(Debug)]
pub struct Survey {
    /// Whether the store has a clock of its own.
    pub has_clock: bool,
    /// Every mark by name.
    pub marks: Marks,
    /// The proved marks on manifests, packs and map objects that are there.
    pub known: HashMap<Sha256, Vec<KnownMark>>,
    /// Runs and restores that live.
    pub living: Vec<Heartbeat>,
    /// Heartbeats and checkpoints.
    pub runs: Vec<ObjectInfo>,
    /// Packs and map objects.
    pub objects: BTreeMap<Sha256, ObjectInfo>,
    /// Manifests.
    pub copies: Copies,
    /// Who names what.
    pub uses: Uses,
    /// Objects that an interrupted run may go on from.
    pub resumable: HashSet<Sha256>,
}

impl Survey {
    /// Looks at everything; changes nothing.
    pub async fn take(repository: &Repository, clocks: &Clocks, grace_s: u64) -> Result<Self, PruneError> {
        let (store_at, job_at) = (repository.store().now(), clocks.by_job(repository));
        let marks = Marks::list(repository).await?;
        let runs = repository.store().list(names::RUNS, None).await?;
        let mut living = living(repository, &runs, grace_s).await?;
        let objects = list_objects(repository).await?;
        let mut uses = Uses::default();
        let copies = Copies::take(repository, &marks, &mut uses).await?;
        living.retain(|heartbeat| !has_committed(&copies.census, heartbeat));
        let resumable = resumable(repository, &runs, &copies.census).await?;
        let known = known_marks(repository, &marks, &objects, &copies, (store_at, job_at), grace_s).await?;
        Ok(Self {
            has_clock: repository.store().has_clock(),
            marks,
            known,
            living,
            runs,
            objects,
            copies,
            uses,
            resumable,
        })
    }

    /// Names under `marks/` that are no marks, or do not prove themselves although their object is there.
    pub fn unproved_marks(&self) -> Vec<String> {
        let strange = self.marks.strange().map(ToString::to_string);
        let is_there = |object: &Sha256| {
            let mut heads = self.copies.census.heads.iter();
            self.objects.contains_key(object) || heads.any(|head| head.name.sha256 == *object)
        };
        let of_present = self.marks.all().filter(|(object, _)| is_there(object));
        let false_ones = of_present.flat_map(|(object, marks)| {
            let known = self.known.get(object).map(Vec::as_slice).unwrap_or_default();
            let is_good = |key| known.iter().any(|good| good.proved.mark.key == key && !good.proved.spoiled);
            marks.iter().filter(move |mark| mark.put.is_some() && !is_good(mark.key.clone()))
        });
        strange.chain(false_ones.map(|mark| mark.key.to_string())).collect()
    }

    /// Manifests that a living run stands on, or that somebody reads.
    pub fn held(&self) -> HashSet<Sha256> {
        self.living.iter().filter_map(|heartbeat| heartbeat.parent).collect()
    }

    /// When the first of the living backups began.
    pub fn first_run(&self) -> Option<Timestamp> {
        let backups = self.living.iter().filter(|heartbeat| heartbeat.work == Work::Backup);
        backups.map(|heartbeat| heartbeat.started_at).min()
    }
}

impl Copies {
    /// Lists and reads every manifest, and adds to `uses` what they name.
    pub async fn take(repository: &Repository, marks: &Marks, uses: &mut Uses) -> Result<Self, PruneError> {
        let census = Census::take_and_show(repository, &mut |name, manifest| uses.add(name.sha256, manifest)).await?;
        let lost = lost(repository, &census, marks).await?;
        let damaged = census.findings.iter().filter(|finding| finding.kind != shadow::KIND).filter_map(|finding| {
            let name = names::parse_manifest(&finding.object)?;
            let point = PointId::new(name.source, name.time);
            Some(Unreadable { manifest: finding.object.clone(), sha256: name.sha256, point })
        });
        let gone = lost.iter().map(|line| Unreadable {
            manifest: line.manifest.clone(),
            sha256: line.sha256,
            point: line.point.clone(),
        });
        let unreadable = damaged.chain(gone).collect();
        let chain = chain_findings(repository.target(), &census, &lost);
        let chain = chain.into_iter().filter(|finding| lost.iter().any(|line| line.manifest == finding.object));
        let findings = census.findings.iter().cloned().chain(chain).collect();
        Ok(Self { census, unreadable, findings })
    }

    /// How many of them nobody can read. A name under `points/` that is no manifest's counts too: it may be one of a
    /// later format.
    pub fn unknown(&self, is_given_up: impl Fn(&Unreadable) -> bool) -> usize {
        let strange = self.findings.iter().filter(|finding| finding.kind == "unexpected").count();
        strange + self.unreadable.iter().filter(|copy| !is_given_up(copy)).count()
    }
}

/// The proved marks on everything that is there; `at` is the moment before they were listed, by the store and by the job.
async fn known_marks(
    repository: &Repository,
    marks: &Marks,
    objects: &BTreeMap<Sha256, ObjectInfo>,
    copies: &Copies,
    at: (Timestamp, Timestamp),
    grace_s: u64,
) -> Result<HashMap<Sha256, Vec<KnownMark>>, PruneError> {
    let mut known = HashMap::new();
    let manifests = copies.census.heads.iter().map(|head| head.name.sha256);
    let manifests: HashSet<Sha256> = manifests.chain(copies.unreadable.iter().map(|copy| copy.sha256)).collect();
    for object in objects.keys().chain(&manifests) {
        let mut of_object = Vec::new();
        for proved in marks.proved(repository, object).await? {
            let lingers = manifests.contains(object) && proved.lingers(repository, grace_s).await;
            of_object.push(KnownMark { lingers, ..known_mark(repository, proved, at.0, at.1) });
        }
        if !of_object.is_empty() {
            known.insert(*object, of_object);
        }
    }
    Ok(known)
}

fn known_mark(repository: &Repository, proved: Proved, store_at: Timestamp, job_at: Timestamp) -> KnownMark {
    let by_job = job_at.seconds_since(proved.note.marked_at);
    let by_store = match proved.mark.put.filter(|_| repository.store().has_clock()) {
        Some(put) => store_at.seconds_since(put),
        None => by_job,
    };
    let positive = |age: i64| u64::try_from(age).unwrap_or(0);
    KnownMark {
        stands: proved.stands(repository),
        lingers: false,
        proved,
        least_s: positive(by_job.min(by_store)),
        most_s: positive(by_job.max(by_store)),
    }
}

async fn list_objects(repository: &Repository) -> Result<BTreeMap<Sha256, ObjectInfo>, PruneError> {
    let mut objects = BTreeMap::new();
    for folder in [names::PACKS, names::MAPS] {
        for object in repository.store().list(folder, None).await? {
            if let Some(sha256) = names::parse_digest(folder, object.key.as_str()) {
                objects.insert(sha256, object);
            }
        }
    }
    Ok(objects)
}

/// What the last checkpoint of each run names, as far as a next run may go on from it: younger than seven
/// days and than the newest point of its source. One that does not open is of no use to a run either.
async fn resumable(
    repository: &Repository,
    runs: &[ObjectInfo],
    census: &Census,
) -> Result<HashSet<Sha256>, PruneError> {
    let now = repository.store().now();
    let is_fresh = |at: Timestamp| now.seconds_since(at) < CHECKPOINT_AGE_MAX_S;
    let mut by_run: BTreeMap<&str, Vec<(u64, &ObjectInfo)>> = BTreeMap::new();
    for object in runs.iter().filter(|object| !repository.store().has_clock() || is_fresh(object.modified)) {
        if let Some((_, number)) = names::parse_checkpoint(object.key.as_str())
            && let Some((run, _)) = object.key.as_str().rsplit_once('/')
        {
            by_run.entry(run).or_default().push((number, object));
        }
    }
    let mut resumable = HashSet::new();
    for mut checkpoints in by_run.into_values() {
        checkpoints.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        for (_, object) in checkpoints {
            let Some(checkpoint) = open_checkpoint(repository, object).await? else { continue };
            let newest = census.newest_of(checkpoint.note.point.source());
            // What a run left on its way to its point, the point has.
            let is_newer = newest.is_none_or(|head| {
                let made = &head.description;
                checkpoint.note.at >= made.made_at.whole_second() && checkpoint.note.run != made.run
            });
            if is_fresh(checkpoint.note.at) && is_newer {
                let named = checkpoint.clear.maps.iter().chain(&checkpoint.clear.packs);
                resumable.extend(named.map(|reference| reference.sha256));
            }
            break;
        }
    }
    Ok(resumable)
}

async fn open_checkpoint(repository: &Repository, object: &ObjectInfo) -> Result<Option<Checkpoint>, PruneError> {
    match repository.get(&object.key).await {
        Ok(bytes) => Ok(Checkpoint::open(repository.keys(), object.key.as_str(), &bytes).ok()),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(PruneError::Read(error)),
    }
}
