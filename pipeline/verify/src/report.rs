//! The report: what was compared, what came of it, the dates the contract needs, and what stands around.
//!
//! Every figure about copies comes from the lines that the two programs printed in this job; manifests
//! give names and digests only. It is plain data in three forms: [`Report::summary`] is its JSON,
//! [`Report::text`] and [`Report::full_text`] are for people, [`Report::html`] is for an auditor.

mod summary;
pub use summary::Summary;

mod text;
pub use text::bytes;

pub mod around;
pub use around::Around;

pub mod reading;

pub mod grade;

mod full;

mod html;

use std::fmt;

use dualsync_model::event::Point;
use dualsync_model::id::{PointId, SourceName};
use dualsync_model::outcome::Exit;
use dualsync_model::slice::Slice;
use dualsync_model::time::{Date, Timestamp};
use serde::{Serialize, Serializer};

use crate::difference::Differences;
use crate::examine::Examined;
use crate::explain::Explained;
use crate::pair::Copies;
use crate::side::{Both, Side};
use crate::stream::SideRead;
use crate::verdict::Verdict;
use crate::witness::Witness;

/// How much was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every entry and all content.
    Full,
    /// Every entry, and the content of one slice of the paths.
    Slice(Slice),
    /// The stored bytes of every object against their digests, or of one slice of the objects; no content.
    Objects(Option<Slice>),
    /// Whether every object is there, with its size.
    Presence,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Slice(slice) => write!(f, "slice {slice}"),
            Self::Objects(None) => f.write_str("objects"),
            Self::Objects(Some(slice)) => write!(f, "objects, slice {slice}"),
            Self::Presence => f.write_str("presence"),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A target as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetName {
    /// Its name.
    pub target: String,
    /// Its country, ISO 3166-1 alpha-2.
    pub country: String,
}

/// One copy in the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyReport {
    /// Where.
    #[serde(flatten)]
    pub target: TargetName,
    /// Key of the manifest; absent where there is no copy.
    pub manifest: Option<String>,
    /// Its place in the chain.
    pub sequence: Option<u64>,
    /// Its digest.
    pub sha256: Option<String>,
    /// What was read back.
    #[serde(flatten)]
    pub read: SideRead,
}

/// One point in the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointReport {
    /// The point.
    pub point: PointId,
    /// The date it counts for.
    pub business_date: Date,
    /// The snapshot both copies name.
    pub snapshot_id: String,
    /// How it was taken.
    pub snapshot_method: String,
    /// Whether the source stood still.
    pub frozen: bool,
    /// How much was read.
    pub scope: Scope,
    /// What came of it.
    pub verdict: Verdict,
    /// Both copies.
    pub copies: Both<CopyReport>,
    /// Whether contents were compared, and not only stored objects checked.
    pub compared: bool,
    /// What both witnessed, and what one did.
    pub witness: Witness,
    /// What differs.
    pub differences: Differences,
    /// What differs for an accepted reason, in entries.
    pub explained: Explained,
    /// Every exit code that holds.
    #[serde(skip)]
    pub exits: Vec<Exit>,
}

impl PointReport {
    /// The report on `copies`; `None` where there is no copy at all.
    pub fn new(copies: &Copies, targets: Both<TargetName>, scope: Scope, found: Examined) -> Option<Self> {
        let known: Vec<&Point> = [&copies.block, &copies.archive].into_iter().flatten().collect();
        let first = known.first()?;
        let (verdict, exits) = (Verdict::of(&found), Verdict::exits(&found));
        let Examined { reads, compared, witness, differences, explained } = found;
        Some(Self {
            point: first.point.clone(),
            business_date: first.business_date,
            snapshot_id: first.snapshot_id.clone(),
            snapshot_method: first.snapshot_method.clone(),
            frozen: known.iter().all(|point| point.frozen),
            scope,
            verdict,
            copies: Both {
                block: copy(targets.block, copies.block.as_ref(), reads.block),
                archive: copy(targets.archive, copies.archive.as_ref(), reads.archive),
            },
            compared,
            witness,
            differences,
            explained,
            exits,
        })
    }
}

fn copy(target: TargetName, point: Option<&Point>, read: SideRead) -> CopyReport {
    CopyReport {
        target,
        manifest: point.map(|point| point.manifest.clone()),
        sequence: point.map(|point| point.anchor.sequence),
        sha256: point.map(|point| point.anchor.sha256.clone()),
        read,
    }
}

/// The state of one date of the contract in one country.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContractState {
    /// There and good.
    Green,
    /// There with a reservation.
    Amber,
    /// Not there.
    Red,
    /// Before the source's first point: no gap.
    BeforeStart,
}

/// One row of the contract, as the rules judged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContractRow {
    /// The source.
    pub source: SourceName,
    /// The date.
    pub date: Date,
    /// On which side.
    pub mechanism: Side,
    /// In which country.
    pub country: String,
    /// How it stands.
    pub state: ContractState,
    /// Why.
    pub reason: String,
    /// What the date is needed as: daily, month end, year end.
    pub needs: String,
    /// The point that counts for it, or stands in for it.
    pub point: Option<PointId>,
}

/// The whole report of one `verify`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// When it was made.
    pub created_at: Timestamp,
    /// Each point that was looked at.
    pub points: Vec<PointReport>,
    /// Each date the contract needs.
    #[serde(skip)]
    pub contract: Vec<ContractRow>,
    /// What stands around it.
    #[serde(flatten)]
    pub around: Around,
}

impl Report {
    /// The report as it may lie in a store, in clear: without the names of files, which nobody may read there.
    /// How many differ and in what stays.
    #[must_use]
    pub fn without_names(&self) -> Self {
        let mut report = self.clone();
        for point in &mut report.points {
            point.differences.first.clear();
            for side in Side::BOTH {
                point.copies.get_mut(side).read.findings.iter_mut().for_each(|finding| finding.paths.clear());
            }
        }
        report
    }

    /// The worst verdict of all points. With no point at all a side is missing: both are.
    pub fn verdict(&self) -> Verdict {
        self.points.iter().map(|point| point.verdict).max().unwrap_or(Verdict::OneSideMissing)
    }

    /// Every exit code that holds, the worst first; empty when all is well.
    pub fn exits(&self) -> Vec<Exit> {
        let mut exits: Vec<_> = self.points.iter().flat_map(|point| point.exits.clone()).collect();
        if self.points.is_empty() {
            exits.push(self.verdict().exit());
        }
        if self.contract.iter().any(|row| row.state == ContractState::Red) {
            exits.push(Exit::Contract);
        }
        exits.extend(self.around.exits());
        exits.sort_unstable();
        exits.dedup();
        exits
    }

    /// The exit code of the program.
    pub fn exit(&self) -> Exit {
        Exit::worst(self.exits())
    }
}

#[cfg(test)]
mod tests;
