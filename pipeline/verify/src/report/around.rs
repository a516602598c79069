//! What stands around the comparison in a report: host, places, keys, what was read back, drills, the chain.
//!
//! Plain data that the command fills in; nothing here is secret, and each sentence is told once, by whoever
//! knows it.

use dualsync_model::id::{PointId, SourceName};
use dualsync_model::outcome::Exit;
use dualsync_model::slice::Slice;
use dualsync_model::time::{Date, Timestamp};
use serde::Serialize;

use super::reading::Reading;
use crate::chain::Shelf;
use crate::side::Side;

/// Everything in a report but the points and the contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Around {
    /// Its place in the chain, from 1; 0 for a report that is in no chain.
    pub number: u64,
    /// SHA-256 of the `report.json` before it.
    pub previous: Option<String>,
    /// The host that was copied.
    pub host: String,
    /// The version of dualsync that made the report.
    pub version: String,
    /// What is copied where.
    pub sources: Vec<SourceFacts>,
    /// The places.
    pub targets: Vec<TargetFacts>,
    /// The turn of the rotation that this verify was, where it was one.
    pub turn: Option<Turn>,
    /// How much of each kept copy was read back, and when.
    pub reading: Reading,
    /// The last restore of each source.
    pub drills: Vec<Drill>,
    /// What the two paths share.
    pub shared: Vec<SharedFact>,
    /// What each place keeps of the chain, this report not among it.
    pub chain: Vec<Shelf>,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceFacts {
    /// Its name.
    pub source: SourceName,
    /// Name of its block target.
    pub block: String,
    /// Name of its archive target.
    pub archive: String,
    /// How it is held still.
    pub snapshot: String,
    /// The dates that are promised, in words.
    pub promise: String,
}

/// How a country was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Only the configuration says so.
    Declared,
    /// The provider table knows the endpoint, and no page of the provider confirms the country.
    ProviderTable,
    /// The provider table knows the endpoint, and a page of the provider confirms the country.
    Confirmed,
}

impl Basis {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Declared => "declared: only the configuration says so",
            Self::ProviderTable => {
                "provider table: the endpoint is known, no page of the provider confirms its country"
            }
            Self::Confirmed => "confirmed: the endpoint is known and the provider publishes its country",
        }
    }
}

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Green,
    /// To be known.
    Amber,
    /// To be mended.
    Red,
}

/// A sentence with its grade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// How good it is.
    pub grade: Grade,
    /// The sentence.
    pub words: String,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetFacts {
    /// Its name.
    pub target: String,
    /// What it holds.
    pub mechanism: Side,
    /// Its country, ISO 3166-1 alpha-2.
    pub country: String,
    /// How the country was established.
    pub basis: Basis,
    /// The provider, with its legal entity and seat where the table knows them.
    pub provider: Option<String>,
    /// The region that requests name.
    pub region: Option<String>,
    /// Endpoint and bucket, or folder.
    pub place: String,
    /// What the policy says about it.
    pub statements: Vec<Statement>,
    /// How its copies are sealed.
    pub encryption: String,
    /// The repository's id; absent when it is not known.
    pub repository: Option<String>,
    /// Key ids, recipients and public keys, label and value; nothing secret.
    pub keys: Vec<(String, String)>,
    /// The newest manifest, as the store told now, or told last.
    pub newest: Option<Newest>,
    /// Why the store did not answer; absent when it did.
    pub away: Option<String>,
}

/// The newest manifest of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Newest {
    /// Its sequence number.
    pub sequence: u64,
    /// Its digest.
    pub sha256: String,
}

/// One turn of the rotation: a slice of the stored objects of every kept point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// The business date that chose it.
    pub date: Date,
    /// The slice.
    pub slice: Slice,
    /// What each target said.
    pub targets: Vec<TurnOfTarget>,
}

/// A turn at one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TurnOfTarget {
    /// The target.
    pub target: String,
    /// Kept points whose objects were among those read.
    pub points: u64,
    /// Objects that were read and fitted their digests or not.
    pub objects: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Objects that are missing or wrong, each with what is wrong.
    pub findings: Vec<String>,
    /// Why it was not read to the end.
    pub failure: Option<String>,
}

/// The last restore of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drill {
    /// The source.
    pub source: SourceName,
    /// The restore; absent when there was none on this host.
    pub restore: Option<Restore>,
}

/// A restore that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restore {
    /// When it was over.
    pub at: Timestamp,
    /// The point.
    pub point: PointId,
    /// The copy it was read from.
    pub from: String,
    /// Bytes that were written.
    pub bytes: u64,
    /// How long it took, seconds.
    pub duration_s: u64,
    /// Whether only some files were asked for.
    pub partial: bool,
    /// Whether everything came back and fitted its digests.
    pub verified: bool,
}

/// A restore is rehearsed each quarter of a year.
const DRILL_DAYS: i64 = 92;

impl Restore {
    /// Whether the next rehearsal is due.
    pub(super) fn is_long_ago(&self, now: Timestamp) -> bool {
        now.seconds_since(self.at) > DRILL_DAYS * 86_400
    }
}

/// Something both paths depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedFact {
    /// What it is about.
    pub subject: String,
    /// How it is to be taken.
    #[serde(flatten)]
    pub statement: Statement,
}

impl Around {
    /// Exit codes that hold for what is told here: damage the rotation found, reads that failed, a broken chain.
    pub fn exits(&self) -> Vec<Exit> {
        let turns = || self.turn.iter().flat_map(|turn| &turn.targets);
        let held = [
            (turns().any(|turn| !turn.findings.is_empty()), Exit::Damaged),
            (turns().any(|turn| turn.failure.is_some()), Exit::Failed),
            (self.chain.iter().any(|shelf| !shelf.faults.is_empty()), Exit::Evidence),
        ];
        held.into_iter().filter(|(holds, _)| *holds).map(|(_, exit)| exit).collect()
    }

    /// The target of that name.
    pub fn target(&self, name: &str) -> Option<&TargetFacts> {
        self.targets.iter().find(|target| target.target == name)
    }
}
