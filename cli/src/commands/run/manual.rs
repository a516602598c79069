//! Points on demand: how long one stays, and that there are not too many of them.

use std::time::Duration;

use dualsync_config::manual::ManualLimits;
use dualsync_config::source::SourceSettings;
use dualsync_model::event::CopyState;
use dualsync_model::job::Class;
use dualsync_model::time::Timestamp;

use crate::app::App;
use crate::args::RunArgs;
use crate::exit::UsageError;
use crate::human;
use crate::listing::Row;
use crate::mechanism::Mechanism;

/// When a manual point of `source` that begins now may go; refused where it would stay for too long.
pub fn expiry(source: &SourceSettings, args: &RunArgs, began: Timestamp) -> Result<Timestamp, UsageError> {
    let age = age(&source.manual, args.expires).map_err(|limit| {
        UsageError::new(
            format!("a manual point of '{}' may stay for {} at most", source.name, human::duration(limit)),
            "give a shorter --expires, or raise manual.max_age of the source in the configuration",
        )
    })?;
    Ok(began.whole_second().plus_seconds(i64::try_from(age.as_secs()).unwrap_or(i64::MAX)))
}

/// How long a point stays; the limit where it was asked to stay for longer.
fn age(limits: &ManualLimits, asked: Option<Duration>) -> Result<Duration, Duration> {
    let age = asked.unwrap_or(limits.expires);
    if age > limits.max_age { Err(limits.max_age) } else { Ok(age) }
}

/// Refused when both stores together hold as many manual points of `source` as it may have. A store that
/// does not answer is the run's trouble, not this one's: what is known counts.
pub async fn check_room(app: &App<'_>, source: &SourceSettings, now: Timestamp) -> anyhow::Result<()> {
    let rows = app.rows(&app.list(Some(&source.name)).await)?;
    let there = rows.iter().filter(|row| row.source == source.name && is_alive(row, now)).count();
    let most = source.manual.max_points;
    if there < usize::try_from(most).unwrap_or(usize::MAX) {
        return Ok(());
    }
    let message = if most == 0 {
        format!("'{}' may have no manual points (manual.max_points = 0)", source.name)
    } else {
        let there = human::count(u64::try_from(there).unwrap_or(u64::MAX), "manual point");
        format!("'{}' has {there}, and manual.max_points allows {most}", source.name)
    };
    let hint = "`dualsync list` shows them; `dualsync delete POINT` makes room, or raise manual.max_points";
    Err(UsageError::new(message, hint).into())
}

/// Whether it is a manual point that takes room: one that expired or is being deleted is on its way out.
fn is_alive(row: &Row, now: Timestamp) -> bool {
    let there = |mechanism: Mechanism| {
        let state = row.copies.get(mechanism).state;
        matches!(state, CopyState::Available | CopyState::Damaged | CopyState::Restoring | CopyState::Creating)
    };
    row.class == Class::Manual
        && row.expires.is_none_or(|expires| expires > now)
        && Mechanism::BOTH.into_iter().any(there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::CopyRow;
    use crate::mechanism::Pair;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_point_stays_as_asked_as_usual_or_not_at_all() {
        let limits = ManualLimits { max_points: 1, max_age: 10 * HOUR, expires: 3 * HOUR };
        assert_eq!(age(&limits, None), Ok(3 * HOUR));
        assert_eq!(age(&limits, Some(10 * HOUR)), Ok(10 * HOUR));
        assert_eq!(age(&limits, Some(11 * HOUR)), Err(10 * HOUR));
    }

    #[test]
    fn only_what_stays_takes_room() {
        use CopyState::{Available, Deleting, Error, Missing};

        let now = Timestamp::from_seconds(1000);
        let check = |class, expires: Option<i64>, block, archive, expected| {
            let row = Row {
                point: "web@20261120T020000Z".parse().unwrap(),
                source: "web".parse().unwrap(),
                business_date: "2026-11-20".parse().unwrap(),
                class,
                created_at: now,
                size_bytes: 0,
                reasons: vec![],
                copies: Pair { block: CopyRow::bare(block), archive: CopyRow::bare(archive) },
                note: None,
                expires: expires.map(Timestamp::from_seconds),
            };
            assert_eq!(is_alive(&row, now), expected, "{row:?}");
        };
        check(Class::Manual, Some(1001), Available, Available, true);
        check(Class::Manual, None, Missing, Available, true);
        check(Class::Manual, Some(1000), Available, Available, false);
        check(Class::Manual, Some(1001), Deleting, Deleting, false);
        check(Class::Manual, Some(1001), Error, Missing, false);
        check(Class::Auto, None, Available, Available, false);
    }
}
