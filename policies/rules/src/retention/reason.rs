//! Why a copy is kept or dropped, in words for people.

use std::fmt;

use dualsync_model::time::{Date, Timestamp};

/// One reason to keep a copy; a copy may have several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeepReason {
    /// The contract needs its date.
    Daily,
    /// The contract needs its date as the end of a month.
    MonthEnd,
    /// The contract needs its date as the end of a year.
    YearEnd,
    /// It stands in for the end of a month or year that has no good point.
    StandsIn(Date),
    /// The first point of a quarter of a day.
    Every6h,
    /// The newest point of a week.
    Weekly,
    /// The newest point of a month.
    Monthly,
    /// The newest point of a year.
    Yearly,
    /// Among the newest points.
    Last,
    /// Young enough against the newest point.
    Within,
    /// The newest good point of this side is always kept.
    Newest,
    /// Made on demand; kept until then, or until somebody deletes it.
    Manual(Option<Timestamp>),
    /// Another point counts for its date; this one goes at that time.
    SecondOfDate(Timestamp),
    /// Dated in the future.
    Future,
    /// Its time and the store's disagree.
    ClockDisagrees,
    /// Nobody looked whether it is good.
    NotLookedAt,
    /// It is not there: there is nothing to drop.
    Gone,
    /// It is damaged, but its date is needed and this side has nothing better.
    NothingBetter,
    /// No newer point is good on both sides.
    NoSuccessor,
    /// The other side needs this date and has no good copy of it.
    OtherSideLacks,
}

/// The one reason to drop a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Nothing in the rule needs it any more.
    LeftContract,
    /// Another point counts for its date, and its 24 hours are over.
    SecondOfDate,
    /// There are more points than the rule allows.
    TooMany,
    /// It is older than the rule allows.
    TooOld,
    /// A manual point whose time is over.
    Expired,
    /// It is marked for deletion already.
    Marked,
}

impl DropReason {
    /// Whether a point that counted for its date leaves, so that a person may have to say yes.
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::LeftContract | Self::TooMany | Self::TooOld)
    }
}

/// Times to the second: a fraction decides nothing that a person waits for.
impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::StandsIn(date) => return write!(f, "stands in for {date}"),
            Self::Manual(Some(time)) => return write!(f, "manual until {}", time.whole_second()),
            Self::SecondOfDate(time) => return write!(f, "not the first of its date, goes at {}", time.whole_second()),
            Self::Daily => "daily",
            Self::MonthEnd => "month end",
            Self::YearEnd => "year end",
            Self::Every6h => "every 6 h",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Last => "last",
            Self::Within => "within",
            Self::Newest => "newest",
            Self::Manual(None) => "manual",
            Self::Future => "dated in the future",
            Self::ClockDisagrees => "its time and the store's disagree",
            Self::NotLookedAt => "not looked at",
            Self::Gone => "missing",
            Self::NothingBetter => "damaged, but nothing better of its date",
            Self::NoSuccessor => "no newer point is good on both sides",
            Self::OtherSideLacks => "the other side lacks this date",
        };
        f.write_str(words)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeftContract => "left the contract",
            Self::SecondOfDate => "not the first of its date",
            Self::TooMany => "more than max_points",
            Self::TooOld => "older than max_age",
            Self::Expired => "expired",
            Self::Marked => "marked for deletion",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_the_second() {
        let time: Timestamp = "2026-11-20T02:00:00.123456789Z".parse().unwrap();
        let check = |reason: KeepReason, words: &str| assert_eq!(reason.to_string(), words);
        check(KeepReason::Manual(Some(time)), "manual until 2026-11-20T02:00:00Z");
        check(KeepReason::SecondOfDate(time), "not the first of its date, goes at 2026-11-20T02:00:00Z");
    }
}
