//! Which two copies are copies of one moment.
//!
//! Only two manifests that name the same snapshot are ever compared: two good copies of
//! different moments differ for a good reason, and a comparison would prove nothing.

use std::collections::BTreeMap;

use dualsync_model::event::Point;
use dualsync_model::id::PointId;

use crate::side::{Both, Side};

/// Two manifests that must not be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPair {
    /// They name different points.
    #[error("{block} and {archive} are different points")]
    Point {
        /// The block side's.
        block: PointId,
        /// The archive side's.
        archive: PointId,
    },
    /// They name different snapshots, so they show different moments.
    #[error("the two copies of {point} are of different snapshots: {block} and {archive}")]
    Snapshot {
        /// The point.
        point: PointId,
        /// The block side's snapshot.
        block: String,
        /// The archive side's snapshot.
        archive: String,
    },
    /// A manifest without a snapshot's name pairs with nothing.
    #[error("a copy of {0} names no snapshot")]
    Nameless(PointId),
}

/// Ok when both manifests are of one point and one snapshot.
pub fn check(block: &Point, archive: &Point) -> Result<(), NotAPair> {
    if block.point != archive.point {
        return Err(NotAPair::Point { block: block.point.clone(), archive: archive.point.clone() });
    }
    if block.snapshot_id.is_empty() || archive.snapshot_id.is_empty() {
        return Err(NotAPair::Nameless(block.point.clone()));
    }
    if block.snapshot_id != archive.snapshot_id {
        return Err(NotAPair::Snapshot {
            point: block.point.clone(),
            block: block.snapshot_id.clone(),
            archive: archive.snapshot_id.clone(),
        });
    }
    Ok(())
}

/// The copies of one moment that exist: one or both are there.
pub type Copies = Both<Option<Point>>;

/// Puts the manifests of both stores together, oldest point first.
///
/// Where one store has several manifests of one point and snapshot (a commit whose answer was
/// lost, tried again), the one with the highest sequence number counts and the others are left out.
pub fn pair_up(block: impl IntoIterator<Item = Point>, archive: impl IntoIterator<Item = Point>) -> Vec<Copies> {
    let mut moments = BTreeMap::<_, Copies>::new();
    let sided = |side, points: Vec<Point>| points.into_iter().map(move |point| (side, point));
    let block = sided(Side::Block, block.into_iter().collect());
    let archive = sided(Side::Archive, archive.into_iter().collect());
    for (number, (side, point)) in block.chain(archive).enumerate() {
        // A manifest without a snapshot's name stays alone: its number makes the key its own.
        let alone = if point.snapshot_id.is_empty() { Some(number) } else { None };
        let key = (point.point.time(), point.point.clone(), point.snapshot_id.clone(), alone);
        let place = moments.entry(key).or_default().get_mut(side);
        if place.as_ref().is_none_or(|known| known.anchor.sequence < point.anchor.sequence) {
            *place = Some(point);
        }
    }
    moments.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::point;

    fn with(time: &str, snapshot: &str, sequence: u64) -> Point {
        let mut point = point();
        point.point = format!("web@{time}").parse().unwrap();
        point.snapshot_id = snapshot.to_owned();
        point.anchor.sequence = sequence;
        point
    }

    const EARLY: &str = "20261119T020000Z";
    const LATE: &str = "20261120T020000Z";

    #[test]
    fn one_point_and_one_snapshot_make_a_pair() {
        let left = with(LATE, "a", 1);
        check(&left, &with(LATE, "a", 9)).unwrap();
        assert!(matches!(check(&left, &with(LATE, "b", 1)), Err(NotAPair::Snapshot { .. })));
        assert!(matches!(check(&left, &with(EARLY, "a", 1)), Err(NotAPair::Point { .. })));
        assert!(matches!(check(&with(LATE, "", 1), &with(LATE, "", 1)), Err(NotAPair::Nameless(_))));
    }

    #[test]
    fn copies_of_different_snapshots_stay_alone() {
        let paired = pair_up([with(LATE, "a", 1), with(EARLY, "c", 2)], [with(LATE, "b", 1), with(EARLY, "c", 7)]);
        let shapes: Vec<_> = paired.iter().map(|both| (both.block.is_some(), both.archive.is_some())).collect();
        assert_eq!(shapes, [(true, true), (true, false), (false, true)]);
        assert_eq!(paired[0].block.as_ref().unwrap().point.to_string(), format!("web@{EARLY}"));
    }

    #[test]
    fn of_two_manifests_of_one_moment_the_newer_counts() {
        for order in [[3, 5], [5, 3]] {
            let paired = pair_up(order.map(|sequence| with(LATE, "a", sequence)), []);
            assert_eq!(paired.len(), 1);
            assert_eq!(paired[0].block.as_ref().unwrap().anchor.sequence, 5);
        }
    }

    #[test]
    fn manifests_that_name_no_snapshot_are_never_put_together() {
        assert_eq!(pair_up([with(LATE, "", 1)], [with(LATE, "", 1)]).len(), 2);
    }
}
