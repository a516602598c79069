//! A copy as retention sees it.

use dualsync_model::event::CopyState;
use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};

/// Seconds by which a point's own time and the store's may differ beyond the point's duration.
pub const CLOCK_TOLERANCE_S: i64 = 3600;

/// What one store holds of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCopy {
    /// The point.
    pub point: PointId,
    /// The business date it says it counts for.
    pub date: Date,
    /// Contract or on demand.
    pub class: Class,
    /// The moment of its snapshot, as it says itself.
    pub created_at: Timestamp,
    /// How long it took to make, seconds.
    pub duration_s: u64,
    /// When the store received its manifest, by the store's clock; `None` for a store without one.
    pub stored_at: Option<Timestamp>,
    /// When a manual point may go.
    pub expires: Option<Timestamp>,
    /// Whether it can be relied on.
    pub health: Health,
}

/// Whether a copy can be relied on: the presence of all it refers to, and the last findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything is there and nothing speaks against it.
    Good,
    /// Nobody looked.
    Unknown,
    /// Something is missing or wrong.
    Damaged,
    /// It is known to have been there and is not.
    Missing,
    /// It is marked for deletion.
    Deleting,
}

impl Health {
    /// The health of a copy in this state; `None` while there is no copy yet.
    pub const fn of_state(state: CopyState) -> Option<Self> {
        match state {
            CopyState::Available | CopyState::Restoring => Some(Self::Good),
            CopyState::Damaged => Some(Self::Damaged),
            CopyState::Missing => Some(Self::Missing),
            CopyState::Deleting => Some(Self::Deleting),
            CopyState::Creating | CopyState::Error => None,
        }
    }
}

/// Why a copy counts for nothing although it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    Future,
    ClockDisagrees,
}

impl StoredCopy {
    /// Whether its dates can be believed at `now`, on the business date `today`.
    pub(super) fn distrust(&self, now: Timestamp, today: Date) -> Option<Distrust> {
        if self.created_at > now || self.date > today {
            return Some(Distrust::Future);
        }
        let duration_s = i64::try_from(self.duration_s).unwrap_or(i64::MAX);
        let tolerated_s = duration_s.saturating_add(CLOCK_TOLERANCE_S);
        let disagrees = |stored: Timestamp| stored.seconds_since(self.created_at).saturating_abs() > tolerated_s;
        self.stored_at.is_some_and(disagrees).then_some(Distrust::ClockDisagrees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(created_at: &str, stored_at: Option<&str>) -> StoredCopy {
        let created_at: Timestamp = created_at.parse().unwrap();
        StoredCopy {
            point: PointId::new("web".parse().unwrap(), created_at),
            date: created_at.utc_date(),
            class: Class::Auto,
            created_at,
            duration_s: 600,
            stored_at: stored_at.map(|time| time.parse().unwrap()),
            expires: None,
            health: Health::Good,
        }
    }

    #[test]
    fn the_clocks_may_differ_by_the_duration_and_an_hour() {
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        let check = |stored: &str, expected| {
            assert_eq!(copy("2026-11-20T01:00:00Z", Some(stored)).distrust(now, now.utc_date()), expected, "{stored}");
        };
        check("2026-11-20T01:10:00Z", None);
        check("2026-11-20T02:10:00Z", None);
        check("2026-11-20T02:10:01Z", Some(Distrust::ClockDisagrees));
        check("2026-11-19T23:50:00Z", None);
        check("2026-11-19T23:49:59Z", Some(Distrust::ClockDisagrees));
        assert_eq!(copy("2026-11-20T01:00:00Z", None).distrust(now, now.utc_date()), None);
    }

    #[test]
    fn the_future_begins_after_now_and_after_today() {
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        let today = "2026-11-20".parse().unwrap();
        assert_eq!(copy("2026-11-20T12:00:00Z", None).distrust(now, today), None);
        assert_eq!(copy("2026-11-20T12:00:01Z", None).distrust(now, today), Some(Distrust::Future));
        assert_eq!(copy("2026-11-20T11:00:00Z", None).distrust(now, today.plus_days(-1)), Some(Distrust::Future));
    }

    #[test]
    fn a_copy_that_is_not_there_yet_has_no_health() {
        let check = |state, expected| assert_eq!(Health::of_state(state), expected);
        check(CopyState::Available, Some(Health::Good));
        check(CopyState::Restoring, Some(Health::Good));
        check(CopyState::Damaged, Some(Health::Damaged));
        check(CopyState::Missing, Some(Health::Missing));
        check(CopyState::Deleting, Some(Health::Deleting));
        check(CopyState::Creating, None);
        check(CopyState::Error, None);
    }
}
