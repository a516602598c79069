//! `facts`: what every entry of a stored point is, computed anew from the stored bytes.
//!
//! Promises that a digest it prints was computed in this job from bytes that were fetched in this job, and
//! that every entry is printed once, in the order of paths. In order: the catalog is read and each
//! entry is put down as a line with a gap for its digest; content is read in storage order and hashed;
//! findings are printed; then lines and digests are merged. Memory does not grow with the tree.

mod hashes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dualsync_model::event::{Event, Summary};
use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::job::FactsTask;
use dualsync_model::outcome::Exit;
use dualsync_model::slice::Slice;

use self::hashes::{Hashes, Outcome};
use crate::catalog::entry::{Entry, Line, State};
use crate::contents::plan::Plan;
use crate::contents::{self, ReadError};
use crate::damage::Damage;
use crate::events::Events;
use crate::failure::Fault;
use crate::listing::{Listing, ListingError};
use crate::minisign::SecretKey;
use crate::points::Copy;
use crate::program::summary;
use crate::repo::Unlocked;
use crate::runs::{Pulse, Purpose};
use crate::shadow;
use crate::sort::Sorted;
use crate::sort::spool::{Spool, Spooled};
use crate::tree::layout;
use crate::tree::meta::xattr_digest;
use crate::volume::reader::Volumes;

/// Why facts end early.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The catalog.
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// Content, or the files on disk that hold what is not printed yet.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<FactsError> for Fault {
    fn from(error: FactsError) -> Self {
        match error {
            FactsError::Listing(error) => error.into(),
            FactsError::Read(error) => error.into(),
        }
    }
}

/// Runs the task; temporary files go into the folder `state`.
///
/// With the signing key `witness`, a deleter is told that the point is read.
pub async fn facts(
    repository: &Unlocked,
    witness: Option<Arc<SecretKey>>,
    task: &FactsTask,
    state: &Path,
    events: &Events,
) -> Result<Summary, Fault> {
    std::fs::create_dir_all(state).map_err(|error| Fault::new(Exit::Failed, "internal", &error))?;
    let copy = Copy::find(repository, &task.point).await?;
    repository.require_opener(&copy.manifest)?;
    let pulse = Pulse::reading(repository, witness, &copy, Purpose::Facts, Duration::ZERO, events).await;
    let ended = read(repository, &copy, task, state, events).await;
    if let Some(pulse) = pulse {
        pulse.end().await;
    }
    ended
}

async fn read(
    repository: &Unlocked,
    copy: &Copy,
    task: &FactsTask,
    state: &Path,
    events: &Events,
) -> Result<Summary, Fault> {
    events.phase("reading the catalog");
    let refs = copy.refs(&repository.objects).await?;
    let volumes = Arc::new(Volumes::new(repository.objects.clone(), repository.identity.clone(), &refs));
    let damage = Arc::new(Damage::new(&repository.target, &task.point));
    let listing = Listing::open(repository, copy).await?;
    let mut draft = Draft::new(state, task.slice)?;
    listing.read(&damage, |line| draft.take(line)).await?;
    let Draft { plan, facts, entries, .. } = draft;
    events.progress().bytes_total.store(plan.bytes(), Ordering::Relaxed);
    events.progress().items_total.store(plan.files(), Ordering::Relaxed);
    events.phase("verifying");
    let bytes = plan.bytes();
    let hashes = Arc::new(Hashes::new(state, repository.objects.clone(), events.clone(), Arc::clone(&damage)));
    let sink: Arc<dyn contents::Sink> = Arc::<Hashes>::clone(&hashes);
    contents::read(&volumes, plan.finish()?, &sink, &damage).await?;
    let outcomes = hashes.finish()?;
    for object in repository.objects.take_shadowed() {
        damage.note(&object, shadow::KIND, shadow::READ, None);
    }
    let findings = damage.findings();
    for finding in &findings {
        events.finding(finding.clone());
    }
    let facts = facts.finish().map_err(ReadError::from)?;
    let incomplete = print(facts, outcomes, events)?;
    if findings.is_empty() {
        return Ok(Summary { items: entries, bytes, incomplete, ..summary(&repository.objects) });
    }
    let message = format!("{} stored objects of {} are damaged or shadowed", findings.len(), task.point);
    Err(Fault::new(Exit::Damaged, "damaged", &std::io::Error::other(message)))
}

/// The first pass: lines with gaps, and the plan that fills them.
struct Draft {
    slice: Option<Slice>,
    plan: Plan,
    /// Facts by ordinal.
    facts: Spool,
    entries: u64,
    in_plan: bool,
}

impl Draft {
    fn new(state: &Path, slice: Option<Slice>) -> Result<Self, ReadError> {
        Ok(Self { slice, plan: Plan::new(state)?, facts: Spool::new(state)?, entries: 0, in_plan: false })
    }

    fn take(&mut self, line: Line) -> Result<(), FactsError> {
        match line {
            Line::Entry(entry) => Ok(self.entry(&entry)?),
            Line::Parts(parts) if self.in_plan => Ok(self.plan.add_parts(&parts)?),
            Line::Parts(_) => Ok(()),
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ReadError> {
        let mut fact = fact_of(entry);
        self.in_plan = false;
        if entry.meta.kind == EntryKind::File {
            let is_wanted = self.slice.is_none_or(|slice| slice.contains(entry.path.as_bytes()));
            if !is_wanted {
                if fact.state == FactState::Good {
                    fact.state = FactState::Skipped;
                }
                return self.put(&fact);
            }
            if self.plan.add(self.entries, entry)? {
                self.in_plan = true;
            } else if entry.meta.data().is_empty() && !matches!(entry.state, State::Unreadable { .. }) {
                // Nothing is stored of a file without data: it is what its size says.
                let digest = layout::digest(&entry.meta, b"").ok().filter(|digest| entry.sha256 == Some(*digest));
                fact.sha256 = digest.map(|digest| digest.hex());
            }
            if !self.in_plan && fact.sha256.is_none() && fact.state == FactState::Good {
                let problem = "no content is stored for a file that was read".to_owned();
                fact.state = FactState::Damaged { object: "the catalog".to_owned(), problem };
            }
        }
        self.put(&fact)
    }

    fn put(&mut self, fact: &Fact) -> Result<(), ReadError> {
        self.facts.push(&self.entries.to_be_bytes(), &serde_json::to_vec(fact)?)?;
        self.entries += 1;
        Ok(())
    }
}

/// What the signed catalog says of an entry; its digest is not yet known.
fn fact_of(entry: &Entry) -> Fact {
    let meta = &entry.meta;
    let state = match &entry.state {
        _ if entry.mount_point => FactState::MountPoint,
        State::Good => FactState::Good,
        State::Changed { problem } => FactState::Changed { problem: problem.clone() },
        State::Unreadable { problem } => FactState::Unreadable { problem: problem.clone() },
    };
    Fact {
        path: entry.path.clone(),
        kind: meta.kind,
        size: meta.size,
        mtime: meta.mtime,
        mtime_whole_seconds: false,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        link_target: meta.link_target.clone(),
        device: meta.device,
        xattrs: meta.xattrs.as_deref().map(xattr_digest),
        hard_link: meta.hard_link(),
        sha256: None,
        state,
    }
}

/// Fills the gaps and prints every line; gives the number of entries that are not good.
fn print(facts: Spooled, outcomes: Sorted, events: &Events) -> Result<u64, ReadError> {
    let mut outcomes = outcomes.peekable();
    let mut incomplete = 0;
    for record in facts {
        let record = record?;
        let mut fact: Fact = serde_json::from_slice(&record.value)?;
        let is_its =
            |outcome: &Result<crate::sort::Record, _>| !matches!(outcome, Ok(outcome) if outcome.key != record.key);
        if let Some(outcome) = outcomes.next_if(is_its) {
            match serde_json::from_slice(&outcome?.value)? {
                Outcome::Hashed { sha256 } => fact.sha256 = Some(sha256.hex()),
                Outcome::Wrong { sha256, object, problem } => {
                    fact.sha256 = sha256.map(|digest| digest.hex());
                    fact.state = FactState::Damaged { object, problem };
                }
            }
        }
        if !matches!(fact.state, FactState::Good | FactState::Skipped | FactState::MountPoint) {
            incomplete += 1;
        }
        events.emit(&Event::Fact(Box::new(fact)));
    }
    Ok(incomplete)
}

#[cfg(test)]
mod tests;
