//! The contract of 12 days, 3 month ends and last year's end, as a child would count it on a calendar.
//!
//! It knows nothing of how dualsync decides. It remembers every good copy there ever was, walks back one day at a
//! time, and says which dates must be there, how each date of the contract stands, and what may be kept beside.

use std::collections::{BTreeMap, BTreeSet};

use dualsync_model::time::Date;

/// Both sides, block first.
pub const SIDES: [&str; 2] = ["block", "archive"];

/// What was ever made.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    made: [BTreeSet<Date>; 2],
}

/// How one date of the contract must stand: the state and the reason, as `verify --json` has them.
pub type Row = (&'static str, String);

impl Calendar {
    /// A night made these copies of a date.
    pub fn night(&mut self, date: Date, made: [bool; 2]) {
        for (side, _) in made.into_iter().enumerate().filter(|(_, made)| *made) {
            self.made[side].insert(date);
        }
    }

    /// The contract of a side when `due` is the last date that is due.
    pub fn contract(&self, side: usize, due: Date) -> BTreeMap<Date, Row> {
        let first = self.made.iter().filter_map(|made| made.first()).min().copied();
        let state = |date: Date, daily: bool| -> Row {
            if self.made[side].contains(&date) {
                ("green", String::new())
            } else if first.is_none_or(|first| date < first) {
                ("before_start", "before the first point".to_owned())
            } else {
                match self.stands_in(side, date).filter(|_| !daily) {
                    Some(earlier) => ("amber", format!("{earlier} stands in")),
                    None => ("red", "no copy".to_owned()),
                }
            }
        };
        needed(due).into_iter().map(|(date, need)| (date, state(date, need.daily))).collect()
    }

    /// The dates that must be in the store of a side: what the contract needs from the last due date, and what it
    /// needed when that side was last well.
    pub fn must_hold(&self, side: usize, due: Date) -> BTreeSet<Date> {
        let Some(newest) = self.made[side].last().copied() else { return BTreeSet::new() };
        let mut dates = BTreeSet::from([newest]);
        for (date, need) in needed(due).into_iter().chain(needed(newest)) {
            if self.made[side].contains(&date) {
                dates.insert(date);
            } else if need.end {
                // Red while it is one of the last dates, and yet the day that will stand in for it must stay.
                dates.extend(self.stands_in(side, date));
            }
        }
        dates
    }

    /// Whether a copy may be kept for good: it must be held, or nothing newer is good on both sides, or the other
    /// side lacks its date.
    pub fn may_hold(&self, side: usize, date: Date, due: Date) -> bool {
        let other = 1 - side;
        let both = self.made[0].intersection(&self.made[1]).last();
        let newest = self.made[other].last().copied().unwrap_or(due);
        let other_needs = needed(due).contains_key(&date) || needed(newest).contains_key(&date);
        self.must_hold(side, due).contains(&date)
            || both.is_none_or(|both| date >= *both)
            || (other_needs && !self.made[other].contains(&date))
    }

    /// The nearest earlier day of the same month that has a copy.
    fn stands_in(&self, side: usize, date: Date) -> Option<Date> {
        (1..i64::from(date.day())).map(|back| date.plus_days(-back)).find(|day| self.made[side].contains(day))
    }
}

/// What a date is needed as.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// One of the last twelve: nothing stands in for it.
    daily: bool,
    /// The end of a month or of the year.
    end: bool,
}

/// The dates that are needed when `last` is the last one.
fn needed(last: Date) -> BTreeMap<Date, Need> {
    let (mut dates, mut month_ends) = (BTreeMap::new(), 0);
    for back in 0..=366 {
        let day = last.plus_days(-back);
        let is_month_end = day.plus_days(1).day() == 1 && (day.year(), day.month()) != (last.year(), last.month());
        let is_year_end = (day.month(), day.day()) == (12, 31) && day.year() == last.year() - 1;
        month_ends += u8::from(is_month_end);
        let need = Need { daily: back < 12, end: (is_month_end && month_ends <= 3) || is_year_end };
        if need.daily || need.end {
            dates.insert(day, need);
        }
    }
    dates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn the_middle_of_a_month_needs_sixteen_dates() {
        let dates = needed(date("2026-11-20"));
        assert_eq!(dates.len(), 16);
        let far: Vec<_> = dates.into_iter().filter(|(_, need)| !need.daily).map(|(date, _)| date.to_string()).collect();
        assert_eq!(far, ["2025-12-31", "2026-08-31", "2026-09-30", "2026-10-31"]);
    }

    #[test]
    fn a_gap_is_red_or_filled_from_its_own_month() {
        let mut calendar = Calendar::default();
        let mut day = date("2026-10-20");
        while day <= date("2026-11-20") {
            let missed = day >= date("2026-10-30") && day <= date("2026-11-01");
            calendar.night(day, [true, !missed]);
            day = day.plus_days(1);
        }
        let contract = calendar.contract(1, date("2026-11-12"));
        assert_eq!(contract[&date("2026-11-01")], ("red", "no copy".to_owned()));
        assert_eq!(contract[&date("2026-10-31")], ("amber", "2026-10-29 stands in".to_owned()));
        assert_eq!(contract[&date("2026-09-30")], ("before_start", "before the first point".to_owned()));
        assert_eq!(calendar.contract(0, date("2026-11-12"))[&date("2026-10-31")].0, "green");
        assert!(calendar.must_hold(1, date("2026-11-20")).contains(&date("2026-10-29")));
        assert!(!calendar.may_hold(1, date("2026-11-03"), date("2026-11-20")));
        // The 31st is still one of the last dates and already a month end.
        assert_eq!(calendar.contract(1, date("2026-11-11"))[&date("2026-10-31")].0, "red");
        assert!(calendar.must_hold(1, date("2026-11-11")).contains(&date("2026-10-29")));
    }
}
