//! How long the contract needs a date at least: what an object lock may promise when a point is made.

use dualsync_model::time::Date;

use super::rule::RuleParts;

/// The latest last date (see [`super::window::needed`]) that still needs `date`; `None` when the contract never does.
///
/// Counts and periods (`weekly`, `keep_last`, ...) depend on which points there will be, so they promise nothing; neither
/// does a date that may one day stand in for a missing one.
pub fn needed_until(rule: &RuleParts, date: Date) -> Option<Date> {
    let daily = (rule.daily > 0).then(|| date.plus_days(i64::from(rule.daily) - 1));
    let ends_month = rule.month_ends > 0 && date == date.month_end();
    let month_end = ends_month.then(|| (0..rule.month_ends).fold(date, |end, _| end.plus_days(1).month_end()));
    let ends_year = rule.year_ends > 0 && (date.month(), date.day()) == (12, 31);
    let year_end = if ends_year { same_day(date, rule.year_ends) } else { None };
    [daily, month_end, year_end].into_iter().flatten().max()
}

fn same_day(date: Date, years: u32) -> Option<Date> {
    Date::new(date.year().checked_add(i32::try_from(years).ok()?)?, date.month(), date.day())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::retention::rule::Rule;
    use crate::retention::window::needed;

    fn until(date: &str) -> String {
        let until = needed_until(Rule::CONTRACT.parts(), date.parse().unwrap());
        until.map_or_else(|| "never".into(), |until| until.to_string())
    }

    #[test]
    fn a_day_a_month_end_and_a_year_end_are_needed_for_different_times() {
        assert_eq!(until("2026-11-20"), "2026-12-01");
        assert_eq!(until("2026-11-30"), "2027-02-28");
        assert_eq!(until("2026-12-31"), "2027-12-31");
        let last = RuleParts { keep_last: 5, ..RuleParts::default() };
        assert_eq!(needed_until(&last, "2026-11-20".parse().unwrap()), None);
    }

    proptest! {
        /// Beside the window, day by day over three years.
        #[test]
        fn the_horizon_is_the_last_window_that_holds_the_date(
            day in 20_000_i64..22_000, daily in 0_u32..40, month_ends in 0_u32..15, year_ends in 0_u32..3,
        ) {
            let rule = RuleParts { daily, month_ends, year_ends, ..RuleParts::default() };
            let date = Date::from_days(day);
            let lasts = (day..day + 1_200).map(Date::from_days);
            let latest = lasts.filter(|last| needed(&rule, *last).contains_key(&date)).max();
            prop_assert_eq!(needed_until(&rule, date), latest);
        }
    }
}
