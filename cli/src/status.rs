//! How each source stands right now, judged by what the stores hold and by nothing else.
//!
//! Rows and contract come in, levels and sentences go out. A job that ended well and left no copy is red here; a
//! store that did not answer is not known, which is neither good nor bad.

use dualsync_config::source::{SourceSettings, Thresholds};
use dualsync_model::event::CopyState;
use dualsync_model::id::{PointId, SourceName};
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use dualsync_verify::report::{ContractRow, ContractState};
use serde::Serialize;

use crate::human;
use crate::listing::Row;
use crate::mechanism::{Mechanism, Pair};
use crate::retention::side_of;

/// How bad it is, in the order of concern; the words of Nagios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Getting late.
    Warning,
    /// A store did not answer.
    Unknown,
    /// Too late, missing or damaged.
    Critical,
}

/// Which sides have a good copy that is not too old: the 2x2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Both.
    Both,
    /// The block side alone.
    BlockOnly,
    /// The archive side alone.
    ArchiveOnly,
    /// Neither.
    None,
    /// Not known: a store did not answer.
    Unknown,
}

impl Standing {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Both, Self::BlockOnly, Self::ArchiveOnly, Self::None, Self::Unknown];

    /// The word in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::BlockOnly => "block_only",
            Self::ArchiveOnly => "archive_only",
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

/// One source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceStatus {
    /// Its name.
    pub source: SourceName,
    /// The 2x2.
    pub state: Standing,
    /// The worst of both sides.
    pub level: Level,
    /// Both sides.
    pub copies: Pair<SideStatus>,
    /// When a point of it was last verified, in whatever depth.
    pub last_verify: Option<Timestamp>,
    /// Ages from which it is late and too late; absent for a source that nobody scheduled.
    #[serde(skip)]
    pub thresholds: Option<Thresholds>,
}

/// One side of a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideStatus {
    /// The target.
    pub target: String,
    /// Its country.
    pub country: String,
    /// How bad it is.
    pub level: Level,
    /// The newest good copy of the contract.
    pub newest: Option<Newest>,
    /// Dates of the contract.
    pub contract: Dates,
    /// Kept copies that are damaged.
    pub damaged: Vec<PointId>,
    /// Copies that are gone although their date is needed.
    pub missing: Vec<PointId>,
    /// Everything that is not as it should be, in sentences.
    pub problems: Vec<String>,
    /// Whether the store answered.
    pub answered: bool,
}

/// The newest good copy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Newest {
    /// Its point.
    pub point: PointId,
    /// The date it counts for.
    pub business_date: Date,
    /// The moment of its snapshot.
    pub created_at: Timestamp,
    /// Seconds since then.
    pub age_s: u64,
}

/// The dates of the contract, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Dates {
    /// There.
    pub green: usize,
    /// Replaced by an earlier day.
    pub amber: usize,
    /// Missing.
    pub red: usize,
    /// Which ones are missing, newest first.
    pub gaps: Vec<Date>,
}

/// What is known of a source besides its rows.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The source.
    pub source: &'a SourceSettings,
    /// The rows of all sources.
    pub rows: &'a [Row],
    /// Its contract.
    pub contract: &'a [ContractRow],
    /// The target of each side: name, country, why it did not answer.
    pub targets: &'a Pair<(String, String, Option<String>)>,
    /// When a point of it was last verified.
    pub last_verify: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// How the source stands.
pub fn judge(known: &Known<'_>) -> SourceStatus {
    let copies = Pair::new(|mechanism| side(known, mechanism));
    let state = match (standing(known, &copies.block), standing(known, &copies.archive)) {
        (None, _) | (_, None) => Standing::Unknown,
        (Some(true), Some(true)) => Standing::Both,
        (Some(true), Some(false)) => Standing::BlockOnly,
        (Some(false), Some(true)) => Standing::ArchiveOnly,
        (Some(false), Some(false)) => Standing::None,
    };
    SourceStatus {
        source: known.source.name.clone(),
        state,
        level: copies.block.level.max(copies.archive.level),
        copies,
        last_verify: known.last_verify,
        thresholds: known.source.status,
    }
}

/// Whether the side has a good copy that is not too old; `None` when nobody knows.
fn standing(known: &Known<'_>, side: &SideStatus) -> Option<bool> {
    let limit = known.source.status.map(|thresholds| thresholds.critical.as_secs());
    let fresh = |newest: &Newest| limit.is_none_or(|limit| newest.age_s < limit);
    side.answered.then(|| side.newest.as_ref().is_some_and(fresh))
}

fn side(known: &Known<'_>, mechanism: Mechanism) -> SideStatus {
    let (target, country, silent) = known.targets.get(mechanism);
    let mut status = SideStatus {
        target: target.clone(),
        country: country.clone(),
        level: Level::Ok,
        newest: None,
        contract: Dates::default(),
        damaged: Vec::new(),
        missing: Vec::new(),
        problems: Vec::new(),
        answered: silent.is_none(),
    };
    if let Some(reason) = silent {
        status.tell(Level::Unknown, format!("the store did not answer: {reason}"));
        return status;
    }
    let rows = || known.rows.iter().filter(|row| row.source == known.source.name);
    let points = |rows: Vec<&Row>| rows.into_iter().map(|row| row.point.clone()).collect::<Vec<_>>();
    status.contract = dates(known, mechanism);
    status.damaged = points(rows().filter(|row| row.copies.get(mechanism).is_damaged()).collect());
    // A copy that the rule let go is not missed: only one whose date this side lacks.
    let missed = |row: &&Row| row.class == Class::Auto && status.contract.gaps.contains(&row.business_date);
    status.missing =
        points(rows().filter(|row| row.copies.get(mechanism).state == CopyState::Missing).filter(missed).collect());
    let good = |row: &&Row| row.class == Class::Auto && row.copies.get(mechanism).is_good();
    status.newest = rows().filter(good).max_by_key(|row| row.created_at).map(|row| Newest {
        point: row.point.clone(),
        business_date: row.business_date,
        created_at: row.created_at,
        age_s: known.now.seconds_since(row.created_at).max(0).unsigned_abs(),
    });
    status.judge_age(known.source.status);
    status.judge_dates();
    status
}

fn dates(known: &Known<'_>, mechanism: Mechanism) -> Dates {
    let mut dates = Dates::default();
    for row in known.contract.iter().filter(|row| row.mechanism == side_of(mechanism)) {
        match row.state {
            ContractState::Green => dates.green += 1,
            ContractState::Amber => dates.amber += 1,
            ContractState::Red => {
                dates.red += 1;
                dates.gaps.push(row.date);
            }
            ContractState::BeforeStart => {}
        }
    }
    dates
}

impl SideStatus {
    fn tell(&mut self, level: Level, problem: String) {
        self.level = self.level.max(level);
        self.problems.push(problem);
    }

    fn judge_age(&mut self, thresholds: Option<Thresholds>) {
        let Some(newest) = &self.newest else {
            return self.tell(Level::Critical, "never succeeded: there is no good copy".to_owned());
        };
        let Some(thresholds) = thresholds else { return };
        let (level, limit) = if newest.age_s >= thresholds.critical.as_secs() {
            (Level::Critical, thresholds.critical)
        } else if newest.age_s >= thresholds.warn.as_secs() {
            (Level::Warning, thresholds.warn)
        } else {
            return;
        };
        let age = human::seconds(newest.age_s);
        self.tell(level, format!("the newest good copy is {age} old, more than {}", human::duration(limit)));
    }

    fn judge_dates(&mut self) {
        if !self.contract.gaps.is_empty() {
            let shown: Vec<_> = self.contract.gaps.iter().take(3).map(ToString::to_string).collect();
            let more = self.contract.gaps.len() - shown.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let count = human::count(self.contract.gaps.len() as u64, "date");
            self.tell(Level::Critical, format!("{count} of the contract missing: {}{more}", shown.join(", ")));
        }
        let lists = [("damaged", self.damaged.clone()), ("missing", self.missing.clone())];
        for (word, points) in lists {
            if let Some(first) = points.first() {
                let more = points.len() - 1;
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                self.tell(Level::Critical, format!("{word}: {first}{more}"));
            }
        }
    }
}

/// How many sources stand how, in the order of [`Standing::ALL`].
pub fn counts(sources: &[SourceStatus]) -> [(Standing, usize); 5] {
    Standing::ALL.map(|standing| (standing, sources.iter().filter(|source| source.state == standing).count()))
}

/// The 2x2 in one line; what is not known only where there is some.
pub fn summary(sources: &[SourceStatus]) -> String {
    let shown = counts(sources).into_iter().filter(|(standing, count)| *standing != Standing::Unknown || *count > 0);
    let words: Vec<_> =
        shown.map(|(standing, count)| format!("{} {count}", standing.as_str().replace('_', " "))).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests;
