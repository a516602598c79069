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

/// Seconds of a week.
const WEEK: i64 = 7 * 86_400;

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

/// Which copies each target whose bucket locks is to keep, and until when.
///
/// `answers` may be of targets that did not tell everything: one object that is not what it should be must not let the locks of
/// all others end.
pub fn locks(
    plans: &[SourcePlan],
    answers: &[Answer],
    settings: &Settings,
    now: Timestamp,
) -> BTreeMap<String, Vec<Lock>> {
    let mut of_targets: BTreeMap<String, Vec<Lock>> = BTreeMap::new();
    for plan in plans {
        let source = settings.source(plan.source.as_str());
        for point in &plan.points {
            for copy in point.copies.iter().filter_map(|(_, copy)| copy.as_ref()) {
                let locks =
                    settings.targets.get(&copy.target).is_some_and(|target| target.target.immutability.is_some());
                if !locks || copy.action == Action::Drop {
                    continue;
                }
                let of_target = of_targets.entry(copy.target.clone()).or_default();
                let manifests = held(answers, &copy.target).filter(|manifest| manifest.point == point.point);
                of_target.extend(manifests.map(|manifest| lock(settings, source, manifest, copy, now)));
            }
        }
    }
    of_targets
}

/// Adds to what the targets are told what they are to keep: those that told everything by the plan, the others by what was
/// `heard` of them.
pub fn add(
    orders: &mut BTreeMap<String, Order>,
    (plans, answers): (&[SourcePlan], &[Answer]),
    heard: BTreeMap<String, Vec<Lock>>,
    settings: &Settings,
    now: Timestamp,
) {
    let is_cut_off = |target: &str| answers.iter().any(|answer| answer.target == target && answer.error.is_some());
    let mut of_targets = locks(plans, answers, settings, now);
    of_targets.extend(heard.into_iter().filter(|(target, _)| is_cut_off(target)));
    for (target, locks) in of_targets.into_iter().filter(|(_, locks)| !locks.is_empty()) {
        orders.entry(target).or_default().locks = locks;
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
    end_of_week(end.into_iter().chain([now.plus_seconds(FROM_NIGHT_TO_NIGHT)]).max().unwrap_or(now))
}

/// The next whole week since 1970: a pack that every night names is needed a day longer each night, and costs two requests
/// once a week.
fn end_of_week(time: Timestamp) -> Timestamp {
    let (whole, seconds) = (time.whole_second(), time.seconds());
    let seconds = if whole == time { seconds } else { seconds.saturating_add(1) };
    Timestamp::from_seconds(seconds.saturating_add(WEEK - 1).div_euclid(WEEK).saturating_mul(WEEK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_a_week_so_that_it_moves_once_in_seven_nights() {
        // 2026-11-26 is a Thursday, as 1970-01-01 was.
        let thursday = Timestamp::from_seconds(1_795_651_200);
        assert_eq!(thursday.to_string(), "2026-11-26T00:00:00Z");
        assert_eq!(end_of_week(thursday), thursday, "a whole week is the end of one");
        let ends: Vec<_> = (0..14).map(|night| end_of_week(thursday.plus_seconds(night * 86_400 + 7_200))).collect();
        let later = |weeks: i64| thursday.plus_seconds(weeks * WEEK);
        assert!(
            ends[..7].iter().all(|end| *end == later(1)) && ends[7..].iter().all(|end| *end == later(2)),
            "{ends:?}"
        );
        let last = thursday.plus_seconds(WEEK - 1);
        assert_eq!(end_of_week(last), later(1), "never earlier, and at most a week later");
        let moment = Timestamp::new(thursday.seconds(), 1).unwrap();
        assert_eq!(end_of_week(moment), later(1), "a part of a second is time, too");
    }
}
