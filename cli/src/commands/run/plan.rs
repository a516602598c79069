//! What a run is going to be: its date, its point, and the words of `--dry-run`.

use dualsync_config::source::{SnapshotDriver, SourceSettings};
use dualsync_model::id::PointId;
use dualsync_model::job::{Class, Place, Snapshot};
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::schedule::{date_of_scheduled_run, date_of_unscheduled_run};
use serde::Serialize;

use super::manual;
use crate::app::App;
use crate::args::RunArgs;
use crate::exit::Ending;
use crate::history::History;
use crate::mechanism::{Mechanism, Pair};

/// Slots are looked for this far back: the longest time between two of them is a year.
const SLOTS_BACK_S: i64 = 370 * 86_400;

/// The date the point counts for: that of the slot that has begun and is not due yet; else the last due one
/// while it has no good point; else today's. A manual point counts for none and carries today's.
pub fn business_date(app: &App<'_>, source: &SourceSettings, history: &History, now: Timestamp, manual: bool) -> Date {
    let today = app.settings.business_date(now);
    if manual {
        return today;
    }
    let slots = app.settings.slots(source, now.plus_seconds(-SLOTS_BACK_S), now);
    let good = |date| is_good(source, history, date);
    // Between a slot and its due time it is the slot's run, or a retry of it, whoever started it: a night
    // that was missed before it must not take this night's point.
    let in_slot = slots.iter().any(|slot| slot.at <= now && now < slot.due_at);
    let scheduled = date_of_scheduled_run(&slots, now).filter(|date| in_slot && !good(*date));
    scheduled.unwrap_or_else(|| date_of_unscheduled_run(&slots, now, today, good))
}

/// Whether both copies of a date were made. Without a history nothing is known and today is meant:
/// a first run must not pretend to be last week's.
fn is_good(source: &SourceSettings, history: &History, date: Date) -> bool {
    let mut runs = history
        .runs()
        .filter(|(started, _)| *started.point.source() == source.name && started.class == Class::Auto)
        .peekable();
    if runs.peek().is_none_or(|(first, _)| first.business_date > date) {
        return true;
    }
    let made = Pair::new(|mechanism| {
        history.runs().any(|(started, end)| {
            let made = end.and_then(|end| end.copies.get(mechanism).as_ref()).is_some_and(|copy| copy.made);
            made && *started.point.source() == source.name
                && started.class == Class::Auto
                && started.business_date == date
        })
    });
    made.block && made.archive
}

/// The point of this moment. Ids are whole seconds: a second run within one takes the next that is free.
pub fn free_point(source: &SourceSettings, moment: &Snapshot, history: &History) -> PointId {
    let mut time = moment.taken_at.whole_second();
    loop {
        let point = PointId::new(source.name.clone(), time);
        if history.runs().all(|(started, _)| started.point != point) {
            return point;
        }
        time = time.plus_seconds(1);
    }
}

/// One source of `--dry-run`.
#[derive(Serialize)]
struct Plan<'a> {
    message_type: &'static str,
    source: &'a str,
    device: String,
    tree: String,
    snapshot: &'static str,
    business_date: Date,
    class: Class,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    copies: Pair<Option<String>>,
}

/// Says what would be done; touches no key, store or source.
pub fn show(app: &App<'_>, args: &RunArgs, sources: &[&SourceSettings]) -> anyhow::Result<Ending> {
    let history = app.history()?;
    for source in sources {
        let expires = if args.manual { Some(manual::expiry(source, args, app.now)?) } else { None };
        let target = |mechanism: Mechanism| {
            let wanted = args.only.is_none_or(|only| only == mechanism);
            wanted.then(|| place(&app.settings.target(source, mechanism).target.place))
        };
        let plan = Plan {
            message_type: "plan",
            source: source.name.as_str(),
            device: source.device.display().to_string(),
            tree: source.tree.display().to_string(),
            snapshot: match source.snapshot {
                SnapshotDriver::None { .. } => "none",
                SnapshotDriver::Freeze => "freeze",
                SnapshotDriver::Command { .. } => "command",
            },
            business_date: business_date(app, source, &history, app.now, args.manual),
            class: if args.manual { Class::Manual } else { Class::Auto },
            expires,
            copies: Pair::new(target),
        };
        app.output.json(&plan);
        app.output.say(&format!(
            "{}: would hold {} still ({}), for the date {}",
            plan.source, plan.device, plan.snapshot, plan.business_date
        ));
        if let Some(expires) = plan.expires {
            app.output.say(&format!("  manual   until {expires}"));
        }
        for (mechanism, copy) in plan.copies.iter() {
            if let Some(place) = copy {
                app.output.say(&format!("  {mechanism:<8} to {place}", mechanism = mechanism.as_str()));
            }
        }
    }
    Ok(Ending::done())
}

/// A place in one line.
fn place(place: &Place) -> String {
    match place {
        Place::S3 { endpoint, bucket, .. } => format!("{endpoint}/{bucket}"),
        Place::Directory { path } => path.display().to_string(),
        Place::Service { service, .. } => service.clone(),
    }
}
