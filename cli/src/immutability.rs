//! Until when what a bucket holds has to be locked: as long as the contract needs it, see docs/decisions/0007.

use std::collections::BTreeMap;

use dualsync_config::Settings;
use dualsync_config::source::SourceSettings;
use dualsync_model::event::Point;
use dualsync_model::job::{Class, Lock};
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::retention::horizon::needed_until;
use dualsync_rules::retention::reason::KeepReason;

use crate::leaving::{Action, CopyPlan, Order, SourcePlan, held};
use crate::listing::Answer;

/// What stays for a reason without a date (it is the newest, a count wants it, the other side lacks it) is locked for so
/// long, from night to night, in seconds: a weekend without a run leaves it locked.
const FROM_NIGHT_TO_NIGHT: i64 = 4 * 86_400;

/// Until when the objects of a new point are locked.
pub fn of_new(
    settings: &Settings,
    source: &SourceSettings,
    class: Class,
    date: Date,
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Timestamp {
    until(settings, Some(source), (class, expires), &[date], now)
}

/// Tells each target whose bucket locks which of its copies stay, and until when.
pub fn add(
    orders: &mut BTreeMap<String, Order>,
    plans: &[SourcePlan],
    answers: &[Answer],
    settings: &Settings,
    now: Timestamp,
) {
    for plan in plans {
        let source = settings.source(plan.source.as_str());
        for point in &plan.points {
            for copy in point.copies.iter().filter_map(|(_, copy)| copy.as_ref()) {
                let locks =
                    settings.targets.get(&copy.target).is_some_and(|target| target.target.immutability.is_some());
                if !locks || copy.action == Action::Drop {
                    continue;
                }
                let order = orders.entry(copy.target.clone()).or_default();
                for manifest in held(answers, &copy.target).filter(|manifest| manifest.point == point.point) {
                    order.locks.push(lock(settings, source, manifest, copy, now));
                }
            }
        }
    }
}

fn lock(
    settings: &Settings,
    source: Option<&SourceSettings>,
    manifest: &Point,
    copy: &CopyPlan,
    now: Timestamp,
) -> Lock {
    // A lock cannot be taken back: a date that nobody believes sets none beyond a few nights.
    let is_doubtful = |reason: &KeepReason| matches!(reason, KeepReason::Future | KeepReason::ClockDisagrees);
    let source = source.filter(|_| !copy.keeps.iter().any(is_doubtful));
    let stands_for = copy.keeps.iter().filter_map(|reason| match reason {
        KeepReason::StandsIn(date) => Some(*date),
        _ => None,
    });
    let dates: Vec<_> = stands_for.chain([manifest.business_date]).collect();
    let until = until(settings, source, (manifest.class, manifest.expires), &dates, now);
    Lock { manifest: manifest.manifest.clone(), sha256: manifest.anchor.sha256.clone(), until }
}

fn until(
    settings: &Settings,
    source: Option<&SourceSettings>,
    (class, expires): (Class, Option<Timestamp>),
    dates: &[Date],
    now: Timestamp,
) -> Timestamp {
    let grace = i64::try_from(settings.limits.grace.as_secs()).unwrap_or(i64::MAX);
    let rule = source.map(|source| source.retention.parts());
    let today = settings.business_date(now);
    let past = dates.iter().filter(|date| **date <= today);
    let end = match class {
        Class::Auto => past.filter_map(|date| Some(settings.end_of(needed_until(rule?, *date)?))).max(),
        // A manifest may say anything: no longer than a point on demand may be asked to stay.
        Class::Manual => source.and_then(|source| {
            let longest = i64::try_from(source.manual.max_age.as_secs()).unwrap_or(i64::MAX);
            Some(expires?.min(now.plus_seconds(longest)))
        }),
    };
    let end = end.map(|end| end.plus_seconds(grace));
    // Whole seconds: the store knows no finer ones.
    end.into_iter().chain([now.plus_seconds(FROM_NIGHT_TO_NIGHT)]).max().unwrap_or(now).whole_second()
}
