//! Rows for the tests of this crate.

use dualsync_model::event::CopyState;
use dualsync_model::job::Class;

use super::{CopyRow, Row};
use crate::mechanism::Pair;

/// A point with two good copies, for the day before its own.
pub fn row(point: &str) -> Row {
    let point: dualsync_model::id::PointId = point.parse().unwrap();
    let copy = |target: &str| CopyRow { target: Some(target.to_owned()), ..CopyRow::bare(CopyState::Available) };
    Row {
        source: point.source().clone(),
        business_date: point.time().utc_date().plus_days(-1),
        class: Class::Auto,
        created_at: point.time(),
        size_bytes: 100,
        reasons: Vec::new(),
        copies: Pair { block: copy("frankfurt"), archive: copy("paris") },
        note: None,
        expires: None,
        point,
    }
}
