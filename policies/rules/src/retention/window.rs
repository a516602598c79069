//! Which dates a contract needs, seen from its last date.

use std::collections::BTreeMap;
use std::fmt;

use dualsync_model::time::Date;

use super::rule::RuleParts;

/// Why a date is needed; at least one of the three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// As one of the last dates: nothing stands in for it.
    pub daily: bool,
    /// As the end of a month.
    pub month_end: bool,
    /// As the end of a year.
    pub year_end: bool,
}

impl Needs {
    /// Needed for these reasons too.
    pub(super) fn add(&mut self, other: Self) {
        self.daily |= other.daily;
        self.month_end |= other.month_end;
        self.year_end |= other.year_end;
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.daily, "daily"), (self.month_end, "month end"), (self.year_end, "year end")];
        let words: Vec<_> = words.into_iter().filter(|(needed, _)| *needed).map(|(_, word)| word).collect();
        f.write_str(&words.join(", "))
    }
}

/// The dates that `rule` needs when `last` is the last one.
pub fn needed(rule: &RuleParts, last: Date) -> BTreeMap<Date, Needs> {
    let mut dates: BTreeMap<Date, Needs> = BTreeMap::new();
    for back in 0..i64::from(rule.daily) {
        dates.entry(last.plus_days(-back)).or_default().daily = true;
    }
    let mut month_end = last;
    for _ in 0..rule.month_ends {
        month_end = month_end.previous_month_end();
        dates.entry(month_end).or_default().month_end = true;
    }
    let mut year_end = last;
    for _ in 0..rule.year_ends {
        year_end = previous_year_end(year_end);
        dates.entry(year_end).or_default().year_end = true;
    }
    dates
}

/// 31 December of the year before.
fn previous_year_end(date: Date) -> Date {
    Date::new(date.year() - 1, 12, 31).expect("31 December exists in every year")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::rule::Rule;

    fn contract(last: &str) -> Vec<String> {
        let dates = needed(Rule::CONTRACT.parts(), last.parse().unwrap());
        dates.iter().rev().map(|(date, needs)| format!("{date} {needs}")).collect()
    }

    #[test]
    fn in_the_middle_of_a_month_the_contract_is_16_dates() {
        let dates = contract("2026-11-20");
        assert_eq!(dates.len(), 16);
        assert_eq!(dates[0], "2026-11-20 daily");
        assert_eq!(dates[11], "2026-11-09 daily");
        assert_eq!(
            dates[12..],
            ["2026-10-31 month end", "2026-09-30 month end", "2026-08-31 month end", "2025-12-31 year end"]
        );
    }

    #[test]
    fn a_date_may_be_needed_for_all_three_reasons() {
        let dates = contract("2027-01-03");
        assert_eq!(dates.len(), 14);
        assert!(dates.contains(&"2026-12-31 daily, month end, year end".to_owned()));
    }

    #[test]
    fn leap_days_and_year_ends_are_where_the_calendar_has_them() {
        assert!(contract("2028-03-01").contains(&"2028-02-29 daily, month end".to_owned()));
        assert!(contract("2026-03-31").contains(&"2026-02-28 month end".to_owned()));
        // On 31 December itself the year end is still that of the year before.
        assert!(contract("2026-12-31").contains(&"2025-12-31 year end".to_owned()));
        assert!(contract("2026-12-31").contains(&"2026-12-31 daily".to_owned()));
    }

    #[test]
    fn a_rule_without_a_contract_needs_no_date() {
        let rule = RuleParts { keep_last: 5, ..RuleParts::default() };
        assert!(needed(&rule, "2026-11-20".parse().unwrap()).is_empty());
    }
}
