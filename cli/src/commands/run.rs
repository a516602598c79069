//! `dualsync run`: freeze once, make both copies side by side, record what became of each.

mod manual;

mod marks;

mod plan;

mod report;

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::Context;
use dualsync_config::source::SourceSettings;
use dualsync_model::id::{PointId, RunId};
use dualsync_model::job::{Anchor, BackupTask, Class, Snapshot, Task};
use dualsync_model::outcome::Exit;
use dualsync_model::time::{Date, Timestamp};
use dualsync_snapshot::take;

use self::report::RunReport;
use crate::app::App;
use crate::args::RunArgs;
use crate::clock;
use crate::copies::{self, CopyEnd};
use crate::exit::{Ending, with_causes};
use crate::history::{self, CopyRecord, Finished, Record, Started};
use crate::lock::RunLock;
use crate::mechanism::{Mechanism, Pair};
use crate::writer::{Writer, WriterError};
use crate::{anchors, immutability, moment};

/// Runs the sources one after the other: two at once would only share the wire and the disks.
pub async fn run(app: &App<'_>, args: &RunArgs) -> anyhow::Result<Ending> {
    let sources = match args.sources.as_slice() {
        [] => app.settings.sources.iter().collect(),
        names => {
            // A name that was typed twice is one source.
            let names: BTreeSet<_> = names.iter().collect();
            names.into_iter().map(|name| app.source(name)).collect::<Result<Vec<_>, _>>()?
        }
    };
    app.settings.check_policy()?;
    if args.dry_run {
        return plan::show(app, args, &sources);
    }
    app.create_state()?;
    let mut endings = Vec::new();
    for source in sources {
        endings.push(
            Box::pin(one(app, args, source))
                .await
                .unwrap_or_else(|error| Ending::from(error).about(source.name.as_str())),
        );
    }
    Ok(Ending::all(endings))
}

/// One run of one source, from its lock to its record.
async fn one(app: &App<'_>, args: &RunArgs, source: &SourceSettings) -> anyhow::Result<Ending> {
    let lock = RunLock::take(&app.state.locks(), &source.name)?;
    let standing = release_leftovers(app, source, &lock);
    let began = clock::now();
    let expires = if args.manual { Some(manual::expiry(source, args, began)?) } else { None };
    if args.manual {
        manual::check_room(app, source, began).await?;
    }
    let history = app.history()?;
    let date = plan::business_date(app, source, &history, began, args.manual);
    let taken = take(&moment::spec(source, &app.settings, &app.state), clock::now())
        .with_context(|| format!("source '{}' was not held still, so nothing was read", source.name))?;
    let run = Run {
        id: new_run()?,
        point: plan::free_point(source, taken.moment(), &history),
        date,
        class: if args.manual { Class::Manual } else { Class::Auto },
        snapshot: taken.moment().clone(),
        expires,
    };
    let asked = Pair::new(|mechanism| args.only.is_none_or(|only| only == mechanism));
    let started = Started {
        at: began,
        run: run.id.clone(),
        point: run.point.clone(),
        business_date: date,
        class: run.class,
        asked: asked.clone(),
    };
    history::append(&app.state.history(), &Record::Started(started))?;
    let progress = RefCell::new(app.output.progress(source.name.as_str(), &asked));
    let start = |mechanism| start(app, args, source, &run, mechanism);
    let (ends, release) = Box::pin(copies::make(taken, &asked, &progress, start)).await;
    drop(progress);
    let duration_s = clock::now().seconds_since(began).unsigned_abs();
    record(app, source, &run, &ends)?;
    let made = ends.iter().any(|(_, end)| end.as_ref().is_some_and(|end| end.committed.is_some()));
    let marks = if made { marks::set(app, source).await } else { Pair::default() };
    let report = RunReport::new(source, &run, &ends, duration_s, marks);
    report.show(app);
    let mut endings = vec![report.ending(&ends)];
    if let Some(error) = release {
        // The copies are as good as they are; what stands about is for a person.
        app.output.warn(&with_causes(&error));
        endings.push(Ending::with(vec![Exit::Failed], with_causes(&error), "look at the source"));
    }
    endings.extend(standing);
    Ok(Ending::all(endings))
}

/// Releases what a killed run left; what cannot be released stops no backup and is told at the end too.
fn release_leftovers(app: &App<'_>, source: &SourceSettings, lock: &RunLock) -> Vec<Ending> {
    let mut endings = Vec::new();
    for leftover in moment::release_leftovers(&app.state, &source.name, lock) {
        match leftover {
            Ok(said) => app.output.say(&said),
            Err(error) => {
                app.output.warn(&with_causes(&error));
                endings.push(Ending::with(vec![Exit::Failed], with_causes(&error), "look at the source"));
            }
        }
    }
    endings
}

/// What both copies of a run have in common.
#[derive(Debug)]
struct Run {
    id: RunId,
    point: PointId,
    date: Date,
    class: Class,
    snapshot: Snapshot,
    expires: Option<Timestamp>,
}

async fn start(
    app: &App<'_>,
    args: &RunArgs,
    source: &SourceSettings,
    run: &Run,
    mechanism: Mechanism,
) -> Result<Writer, WriterError> {
    let compression = match mechanism {
        Mechanism::Block => &source.compression_block,
        Mechanism::Archive => &source.compression_archive,
    };
    let target = app.settings.target(source, mechanism);
    let lock = || immutability::of_new(&app.settings, source, run.class, run.date, run.expires, clock::now());
    let lock_until = target.target.immutability.map(|_| lock());
    let task = BackupTask {
        point: run.point.clone(),
        run: run.id.clone(),
        business_date: run.date,
        class: run.class,
        note: args.note.clone(),
        expires: run.expires,
        snapshot: run.snapshot.clone(),
        exclude: source.exclude.clone(),
        compression: compression.clone(),
        other: remembered(app, source, mechanism.other()),
        remembered: remembered(app, source, mechanism),
        grace_s: app.settings.limits.grace.as_secs(),
        resend: source.resend,
        lock_until,
    };
    app.start(target, source.bandwidth, Task::Backup(Box::new(task))).await
}

/// An anchor that cannot be read is one that was lost: it costs a check, not a night.
fn remembered(app: &App<'_>, source: &SourceSettings, mechanism: Mechanism) -> Option<Anchor> {
    let target = app.settings.target(source, mechanism);
    anchors::read(&app.state.anchors(), &target.target.name).ok().flatten()
}

fn new_run() -> anyhow::Result<RunId> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(RunId::from_random(bytes))
}

/// Remembers the new manifests and the end of the run.
fn record(app: &App<'_>, source: &SourceSettings, run: &Run, ends: &Pair<Option<CopyEnd>>) -> anyhow::Result<()> {
    for (mechanism, end) in ends.iter() {
        if let Some(committed) = end.as_ref().and_then(|end| end.committed.as_ref()) {
            let target = app.settings.target(source, mechanism);
            anchors::advance(&app.state.anchors(), &target.target.name, &committed.anchor)?;
        }
    }
    let copy = |end: &CopyEnd| CopyRecord {
        made: end.committed.is_some(),
        problem: end.error.as_ref().map(|error| with_causes(error)),
    };
    let finished = Finished {
        at: clock::now(),
        run: run.id.clone(),
        point: run.point.clone(),
        copies: Pair::new(|mechanism| ends.get(mechanism).as_ref().map(copy)),
    };
    Ok(history::append(&app.state.history(), &Record::Finished(finished))?)
}
