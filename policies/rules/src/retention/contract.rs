//! The contract of one side, date by date: what an auditor reads.

use std::fmt;

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::Date;

use super::copy::{Health, StoredCopy};
use super::facts::Facts;
use super::side::Side;
use super::window::{Needs, needed};

/// One date that the contract needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The date.
    pub date: Date,
    /// What it is needed as.
    pub needs: Needs,
    /// Whether it is there.
    pub state: RowState,
}

/// Whether a date is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowState {
    /// This good point counts for it.
    Green(PointId),
    /// This good point of an earlier date stands in for it.
    Amber(PointId, Date),
    /// It is a gap.
    Red(RedReason),
    /// It lies before the source's first point: no gap.
    BeforeStart,
}

/// Why a date is a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedReason {
    /// There is no copy.
    NoCopy,
    /// The copy is known to have been there and is not.
    Missing,
    /// There is a copy and it is damaged.
    Damaged,
    /// There is a copy and nobody looked at it.
    NotLookedAt,
    /// There is a copy, marked for deletion.
    Deleting,
    /// There is a copy whose time cannot be believed.
    Distrusted,
}

impl RowState {
    /// The word in JSON: `green`, `amber`, `red` or `before_start`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Green(_) => "green",
            Self::Amber(..) => "amber",
            Self::Red(_) => "red",
            Self::BeforeStart => "before_start",
        }
    }
}

/// The reason, for people; empty for green.
impl fmt::Display for RowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Green(_) => Ok(()),
            Self::Amber(_, date) => write!(f, "{date} stands in"),
            Self::Red(reason) => reason.fmt(f),
            Self::BeforeStart => f.write_str("before the first point"),
        }
    }
}

impl fmt::Display for RedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCopy => "no copy",
            Self::Missing => "the copy is missing",
            Self::Damaged => "the copy is damaged",
            Self::NotLookedAt => "the copy was not looked at",
            Self::Deleting => "the copy is marked for deletion",
            Self::Distrusted => "the copy's time cannot be believed",
        })
    }
}

/// The rows of a side, newest date first. `started` is the source's first date.
pub(super) fn rows(facts: &Facts<'_>, side: &Side<'_>, started: Option<Date>) -> Vec<Row> {
    let Some(last) = side.last else { return Vec::new() };
    // A source that never had a point is judged from its last due date alone: red, not a year of red.
    let started = started.unwrap_or(last);
    let dates = needed(facts.rule.parts(), last);
    dates.into_iter().rev().filter_map(|(date, needs)| row(facts, side, started, date, needs)).collect()
}

fn row(facts: &Facts<'_>, side: &Side<'_>, started: Date, date: Date, needs: Needs) -> Option<Row> {
    let stand_in = || {
        let earlier = side.substitute(date)?;
        side.first.get(&earlier).map(|copy| RowState::Amber(copy.point.clone(), earlier))
    };
    let state = if let Some(copy) = side.first.get(&date) {
        RowState::Green(copy.point.clone())
    } else if date < started {
        RowState::BeforeStart
    } else if needs.daily && is_scheduled(facts, date) {
        RowState::Red(why_not(facts, side, date))
    } else if needs.month_end || needs.year_end {
        // Without a schedule nobody promised the date: a substitute is shown, its absence is not a gap.
        match stand_in() {
            Some(amber) => amber,
            None if facts.slots.is_empty() => return None,
            None => RowState::Red(why_not(facts, side, date)),
        }
    } else {
        return None;
    };
    Some(Row { date, needs, state })
}

/// Whether a run was scheduled for `date`; dates before the slots that were given count as scheduled.
fn is_scheduled(facts: &Facts<'_>, date: Date) -> bool {
    let dates = || facts.slots.iter().map(|slot| slot.date);
    dates().min().is_some_and(|first| date < first) || dates().any(|known| known == date)
}

fn why_not(facts: &Facts<'_>, side: &Side<'_>, date: Date) -> RedReason {
    let here = |copy: &&StoredCopy| copy.date == date && copy.class == Class::Auto;
    let mut reasons = side.copies.iter().filter(here).map(|copy| match copy.health {
        Health::Good | Health::Unknown if copy.distrust(facts.now, facts.today).is_some() => RedReason::Distrusted,
        Health::Good | Health::Unknown => RedReason::NotLookedAt,
        Health::Damaged => RedReason::Damaged,
        Health::Missing => RedReason::Missing,
        Health::Deleting => RedReason::Deleting,
    });
    reasons.next_back().unwrap_or(RedReason::NoCopy)
}
