//! What a decision depends on, and nothing else.

use dualsync_model::time::{Date, Timestamp};

use super::copy::StoredCopy;
use super::rule::Rule;
use crate::schedule::Slot;

/// Everything a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is promised.
    pub rule: &'a Rule,
    /// The time now: the store's where it has a clock.
    pub now: Timestamp,
    /// The business date now.
    pub today: Date,
    /// The scheduled runs, at least as far back as the contract looks; none without a schedule.
    pub slots: &'a [Slot],
    /// The date of the source's first point ever, where it is remembered; else that of the oldest copy.
    pub started: Option<Date>,
    /// What the block side holds of the source; empty also when its store could not be listed.
    pub block: &'a [StoredCopy],
    /// What the archive side holds of it.
    pub archive: &'a [StoredCopy],
}
