//! How many points on demand a source may have, and for how long: space that no rule takes back before.

use std::time::Duration;

use crate::error::Mistake;
use crate::file::ManualEntry;
use crate::source::optional;
use crate::target::Fields;

/// A source may not be asked for more; a number beyond is most likely a slip.
const POINTS_MAX: u32 = 1000;

const DAY: Duration = Duration::from_hours(24);

/// The limits of `run --manual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualLimits {
    /// So many may be there at once; 0 allows none.
    pub max_points: u32,
    /// None may be asked to stay for longer.
    pub max_age: Duration,
    /// A point for which nothing was said stays for so long.
    pub expires: Duration,
}

impl Default for ManualLimits {
    fn default() -> Self {
        Self { max_points: 10, max_age: 30 * DAY, expires: 7 * DAY }
    }
}

/// What `manual = { ... }` means.
pub(crate) fn read(fields: &Fields, entry: Option<&ManualEntry>) -> Result<ManualLimits, Mistake> {
    let usual = ManualLimits::default();
    let Some(typed) = entry else { return Ok(usual) };
    let inner = Fields { key: format!("{}.manual", fields.key) };
    let max_points = typed.max_points.unwrap_or(usual.max_points);
    if max_points > POINTS_MAX {
        return Err(inner.wrong("max_points", format!("expected at most {POINTS_MAX}, found {max_points}")));
    }
    let duration = |key: &str, value| optional(&inner, key, value, crate::units::duration);
    let max_age = duration("max_age", typed.max_age.as_ref())?.unwrap_or(usual.max_age);
    let expires = duration("expires", typed.expires.as_ref())?;
    if let (Some(expires), Some(text)) = (expires, &typed.expires)
        && expires > max_age
    {
        let limit_s = max_age.as_secs();
        return Err(inner.wrong("expires", format!("expected at most max_age ({limit_s} seconds), found \"{text}\"")));
    }
    Ok(ManualLimits { max_points, max_age, expires: expires.unwrap_or(usual.expires.min(max_age)) })
}
