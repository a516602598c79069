//! What a source promises to keep, checked when it is made.

use std::time::Duration;

const DAY_S: u64 = 86_400;

/// What was asked for; [`Rule::new`] makes a rule of it. A count of 0 asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleParts {
    /// Contract: this many dates, the last one included.
    pub daily: u32,
    /// Contract: the last day of each of this many months before the last date's.
    pub month_ends: u32,
    /// Contract: 31 December of each of this many years before the last date's.
    pub year_ends: u32,
    /// The first point of each of this many quarters of a UTC day that have one.
    pub every_6h: u32,
    /// The newest point of each of this many ISO weeks that have one.
    pub weekly: u32,
    /// The newest point of each of this many months that have one.
    pub monthly: u32,
    /// The newest point of each of this many years that have one.
    pub yearly: u32,
    /// The newest points.
    pub keep_last: u32,
    /// Every point that is at most this much older than the newest one.
    pub keep_within: Option<Duration>,
    /// Cap: never more points than these, the oldest go.
    pub max_points: Option<u32>,
    /// Cap: nothing that is older than this against the newest point.
    pub max_age: Option<Duration>,
}

/// A rule that asks for something and does not contradict itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule(RuleParts);

/// A rule that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Everything would be dropped.
    #[error(
        "keeps nothing: give at least one of daily, month_ends, year_ends, every_6h, weekly, monthly, yearly, keep_last, keep_within"
    )]
    Empty,
    /// A number beyond what any plan asks for, most likely a slip.
    #[error("{key} = {count} is too many: at most {}", Rule::COUNT_MAX)]
    TooMany {
        /// The key.
        key: &'static str,
        /// Its value.
        count: u32,
    },
    /// The cap would cut dates that the contract needs.
    #[error("max_points = {max_points} is less than the {needed} dates that daily, month_ends and year_ends need")]
    CapsContract {
        /// The cap.
        max_points: u32,
        /// Dates of the contract.
        needed: u32,
    },
    /// The cap would cut dates that the contract needs.
    #[error(
        "max_age of {max_age_days} days is less than the {needed_days} days that daily, month_ends and year_ends need"
    )]
    AgesContract {
        /// The cap, whole days.
        max_age_days: u64,
        /// How far back the contract may look.
        needed_days: u64,
    },
}

impl Rule {
    /// The largest count a rule may have.
    pub const COUNT_MAX: u32 = 10_000;

    /// The product's contract: twelve dates, three month ends, last year's end.
    pub const CONTRACT: Self = Self(RuleParts {
        daily: 12,
        month_ends: 3,
        year_ends: 1,
        every_6h: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        keep_last: 0,
        keep_within: None,
        max_points: None,
        max_age: None,
    });

    /// The rule of `parts`, unless it keeps nothing or its caps would break its own contract.
    pub fn new(parts: RuleParts) -> Result<Self, RuleError> {
        let counts = parts.counts();
        if let Some((key, count)) = counts.into_iter().find(|(_, count)| *count > Self::COUNT_MAX) {
            return Err(RuleError::TooMany { key, count });
        }
        let within = parts.keep_within.is_some_and(|within| !within.is_zero());
        if counts.iter().all(|(_, count)| *count == 0) && !within {
            return Err(RuleError::Empty);
        }
        parts.check_caps()?;
        Ok(Self(parts))
    }

    /// What it asks for.
    pub const fn parts(&self) -> &RuleParts {
        &self.0
    }
}

impl RuleParts {
    fn counts(&self) -> [(&'static str, u32); 8] {
        [
            ("daily", self.daily),
            ("month_ends", self.month_ends),
            ("year_ends", self.year_ends),
            ("every_6h", self.every_6h),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
            ("yearly", self.yearly),
            ("keep_last", self.keep_last),
        ]
    }

    fn check_caps(&self) -> Result<(), RuleError> {
        // The newest point is always kept, so one point is needed even without a contract.
        let needed = (self.daily + self.month_ends + self.year_ends).max(1);
        if let Some(max_points) = self.max_points.filter(|cap| *cap < needed) {
            return Err(RuleError::CapsContract { max_points, needed });
        }
        let needed_days = self.days_looked_back();
        match self.max_age.map(|age| age.as_secs() / DAY_S).filter(|days| *days < needed_days) {
            Some(max_age_days) => Err(RuleError::AgesContract { max_age_days, needed_days }),
            None => Ok(()),
        }
    }

    /// Days from the last date to the oldest that the contract may need, or its substitute: the first of that month.
    fn days_looked_back(&self) -> u64 {
        let months = if self.month_ends == 0 { 0 } else { (u64::from(self.month_ends) + 1) * 31 };
        let years = if self.year_ends == 0 { 0 } else { u64::from(self.year_ends) * 366 + 31 };
        u64::from(self.daily).max(months).max(years).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(count: u64) -> Duration {
        Duration::from_secs(count * DAY_S)
    }

    #[test]
    fn a_rule_that_keeps_nothing_is_an_error() {
        assert_eq!(Rule::new(RuleParts::default()), Err(RuleError::Empty));
        let only_caps = RuleParts { max_points: Some(5), max_age: Some(days(9)), ..RuleParts::default() };
        assert_eq!(Rule::new(only_caps), Err(RuleError::Empty));
        let zero = RuleParts { keep_within: Some(Duration::ZERO), ..RuleParts::default() };
        assert_eq!(Rule::new(zero), Err(RuleError::Empty));
    }

    #[test]
    fn any_one_part_is_enough() {
        let none = RuleParts::default();
        for parts in [
            RuleParts { daily: 1, ..none },
            RuleParts { month_ends: 1, ..none },
            RuleParts { year_ends: 1, ..none },
            RuleParts { every_6h: 1, ..none },
            RuleParts { weekly: 1, ..none },
            RuleParts { monthly: 1, ..none },
            RuleParts { yearly: 1, ..none },
            RuleParts { keep_last: 1, ..none },
            RuleParts { keep_within: Some(days(1)), ..none },
        ] {
            assert_eq!(Rule::new(parts).unwrap().parts(), &parts);
        }
    }

    #[test]
    fn a_cap_may_not_cut_what_the_contract_needs() {
        let contract = *Rule::CONTRACT.parts();
        let check = |parts, expected| assert_eq!(Rule::new(parts).err(), expected);
        check(RuleParts { max_points: Some(16), ..contract }, None);
        check(
            RuleParts { max_points: Some(15), ..contract },
            Some(RuleError::CapsContract { max_points: 15, needed: 16 }),
        );
        check(RuleParts { max_age: Some(days(397)), ..contract }, None);
        check(
            RuleParts { max_age: Some(days(396)), ..contract },
            Some(RuleError::AgesContract { max_age_days: 396, needed_days: 397 }),
        );
        let last = RuleParts { keep_last: 5, ..RuleParts::default() };
        check(RuleParts { max_points: Some(0), ..last }, Some(RuleError::CapsContract { max_points: 0, needed: 1 }));
    }

    #[test]
    fn a_slip_of_the_finger_is_refused() {
        let parts = RuleParts { daily: 10_001, ..RuleParts::default() };
        assert_eq!(Rule::new(parts), Err(RuleError::TooMany { key: "daily", count: 10_001 }));
    }
}
