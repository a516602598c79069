//! What one side holds, sorted by what it counts for.

use std::collections::{BTreeMap, BTreeSet};

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::Date;

use super::copy::{Health, StoredCopy};
use super::facts::Facts;
use super::reason::{DropReason, KeepReason};
use super::rule::{Rule, RuleParts};
use super::window::{Needs, needed};
use crate::schedule::last_due;

const QUARTER_DAY_S: i64 = 6 * 3600;

/// One side, before the other one is looked at.
pub(super) struct Side<'a> {
    /// Everything, as it came in.
    pub(super) copies: &'a [StoredCopy],
    /// Contract copies that are good and can be believed, in the order they were made.
    counted: Vec<&'a StoredCopy>,
    /// The first good copy of each date.
    pub(super) first: BTreeMap<Date, &'a StoredCopy>,
    /// The last date that is due or has a good point: where the contract is judged from.
    pub(super) last: Option<Date>,
    /// Every date that is needed from `last` or from the newest good date.
    pub(super) needed: BTreeMap<Date, Needs>,
    /// What the rule says for each point, without the caps.
    reasons: BTreeMap<PointId, BTreeSet<KeepReason>>,
    /// Points that a cap takes the rule's reasons from.
    capped: BTreeMap<PointId, DropReason>,
}

impl<'a> Side<'a> {
    pub(super) fn new(facts: &Facts<'_>, copies: &'a [StoredCopy]) -> Self {
        let good = |copy: &&StoredCopy| {
            copy.class == Class::Auto && copy.health == Health::Good && copy.distrust(facts.now, facts.today).is_none()
        };
        let mut counted: Vec<_> = copies.iter().filter(good).collect();
        counted.sort_by_key(|copy| (copy.created_at, &copy.point));
        let mut first = BTreeMap::new();
        for copy in &counted {
            first.entry(copy.date).or_insert(*copy);
        }
        let newest = first.last_key_value().map(|(date, _)| *date);
        let last = last_due(facts.slots, facts.now).max(newest);
        let parts = facts.rule.parts();
        // In an outage the window stands still at the newest good date; the contract moves on and shows
        // the gap. What either of them needs is kept.
        let mut dates: BTreeMap<Date, Needs> = BTreeMap::new();
        for (date, needs) in newest.into_iter().chain(last).flat_map(|date| needed(parts, date)) {
            dates.entry(date).or_default().add(needs);
        }
        let mut side =
            Self { copies, counted, first, last, needed: dates, reasons: BTreeMap::new(), capped: BTreeMap::new() };
        side.apply_contract();
        side.apply_counts(facts.rule);
        side.apply_caps(parts);
        side
    }

    /// What the rule says to keep this point for; empty when it says nothing or a cap takes it away.
    pub(super) fn reasons(&self, point: &PointId) -> Vec<KeepReason> {
        if self.capped.contains_key(point) {
            return Vec::new();
        }
        self.reasons.get(point).map(|reasons| reasons.iter().cloned().collect()).unwrap_or_default()
    }

    /// The cap that a point fell to.
    pub(super) fn cap(&self, point: &PointId) -> Option<DropReason> {
        self.capped.get(point).copied()
    }

    /// The date whose good point stands in for `date`: the nearest earlier one of the same month.
    pub(super) fn substitute(&self, date: Date) -> Option<Date> {
        let month_begin = date.previous_month_end().plus_days(1);
        self.first.range(month_begin..date).next_back().map(|(date, _)| *date)
    }

    fn keep(&mut self, copy: &StoredCopy, reason: KeepReason) {
        self.reasons.entry(copy.point.clone()).or_default().insert(reason);
    }

    fn apply_contract(&mut self) {
        for (date, needs) in self.needed.clone() {
            if let Some(copy) = self.first.get(&date).copied() {
                let kinds = [
                    (needs.daily, KeepReason::Daily),
                    (needs.month_end, KeepReason::MonthEnd),
                    (needs.year_end, KeepReason::YearEnd),
                ];
                for (_, reason) in kinds.into_iter().filter(|(needed, _)| *needed) {
                    self.keep(copy, reason);
                }
            } else if needs.month_end || needs.year_end {
                let substitute = self.substitute(date).and_then(|date| self.first.get(&date).copied());
                if let Some(copy) = substitute {
                    self.keep(copy, KeepReason::StandsIn(date));
                }
            }
        }
    }

    fn apply_counts(&mut self, rule: &Rule) {
        let parts = rule.parts();
        let dates: Vec<_> = self.first.values().rev().copied().collect();
        let newest_of = |count: u32, period: fn(Date) -> i64| newest_of_periods(&dates, count, period);
        let (weekly, monthly) = (newest_of(parts.weekly, week), newest_of(parts.monthly, month));
        let yearly = newest_of(parts.yearly, |date| i64::from(date.year()));
        let quarters = first_of_quarters(&self.counted, parts.every_6h);
        let last: Vec<_> = self.counted.iter().rev().take(to_usize(parts.keep_last)).copied().collect();
        let newest = self.counted.last().copied();
        let within: Vec<_> = match (parts.keep_within, newest) {
            (Some(within), Some(newest)) => {
                let young = |copy: &&&StoredCopy| age_s(newest, copy) <= within.as_secs();
                self.counted.iter().filter(young).copied().collect()
            }
            _ => Vec::new(),
        };
        let chosen = [
            (weekly, KeepReason::Weekly),
            (monthly, KeepReason::Monthly),
            (yearly, KeepReason::Yearly),
            (quarters, KeepReason::Every6h),
            (last, KeepReason::Last),
            (within, KeepReason::Within),
            (newest.into_iter().collect(), KeepReason::Newest),
        ];
        for (copies, reason) in chosen {
            for copy in copies {
                self.keep(copy, reason.clone());
            }
        }
    }

    /// Caps take only what counts and periods keep: [`Rule::new`] refuses caps that the contract does not fit in.
    fn apply_caps(&mut self, parts: &RuleParts) {
        let Some(newest) = self.counted.last().copied() else { return };
        let kept: Vec<_> = self.counted.iter().filter(|copy| self.reasons.contains_key(&copy.point)).copied().collect();
        let mut too_many = kept.len().saturating_sub(parts.max_points.map_or(usize::MAX, to_usize));
        for copy in kept {
            if self.is_contractual(&copy.point) {
                continue;
            }
            if parts.max_age.is_some_and(|age| age_s(newest, copy) > age.as_secs()) {
                self.capped.insert(copy.point.clone(), DropReason::TooOld);
            } else if too_many > 0 {
                self.capped.insert(copy.point.clone(), DropReason::TooMany);
            } else {
                continue;
            }
            too_many = too_many.saturating_sub(1);
        }
    }

    fn is_contractual(&self, point: &PointId) -> bool {
        let contractual = |reason: &KeepReason| {
            matches!(
                reason,
                KeepReason::Daily
                    | KeepReason::MonthEnd
                    | KeepReason::YearEnd
                    | KeepReason::StandsIn(_)
                    | KeepReason::Newest
            )
        };
        self.reasons.get(point).is_some_and(|reasons| reasons.iter().any(contractual))
    }
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Seconds by which `copy` is older than `newest`.
fn age_s(newest: &StoredCopy, copy: &StoredCopy) -> u64 {
    newest.created_at.seconds_since(copy.created_at).max(0).unsigned_abs()
}

/// Weeks begin on Monday; 1970-01-01 was a Thursday.
fn week(date: Date) -> i64 {
    (date.days() + 3).div_euclid(7)
}

fn month(date: Date) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month())
}

/// The newest of each of the `count` newest periods that have one; `newest_first` is sorted so.
fn newest_of_periods<'a>(newest_first: &[&'a StoredCopy], count: u32, period: fn(Date) -> i64) -> Vec<&'a StoredCopy> {
    let mut found = newest_first.to_vec();
    found.dedup_by_key(|copy| period(copy.date));
    found.truncate(to_usize(count));
    found
}

/// The first of each of the `count` newest quarters of a UTC day that have one; `oldest_first` is sorted so.
fn first_of_quarters<'a>(oldest_first: &[&'a StoredCopy], count: u32) -> Vec<&'a StoredCopy> {
    let mut found = oldest_first.to_vec();
    found.dedup_by_key(|copy| copy.created_at.seconds().div_euclid(QUARTER_DAY_S));
    found.split_off(found.len().saturating_sub(to_usize(count)))
}
