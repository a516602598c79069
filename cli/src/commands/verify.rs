//! `dualsync verify`: both copies read back and compared, the contract judged, the report kept.

mod examine;

mod record;

mod rotate;

mod around;

mod chain;

use dualsync_config::source::SourceSettings;
use dualsync_model::event::Point;
use dualsync_model::id::PointId;
use dualsync_model::outcome::Exit;
use dualsync_model::slice::Slice;
use dualsync_verify::pair::{Copies, pair_up};
use dualsync_verify::report::{ContractRow, ContractState, PointReport, Report, Scope, TargetName};
use dualsync_verify::side::Both;

use crate::app::App;
use crate::args::VerifyArgs;
use crate::commands::list;
use crate::exit::Ending;
use crate::history::{self, History, Record};
use crate::listing::{Answer, Row};
use crate::mechanism::Mechanism;
use crate::point::{resolve, source_of};
use crate::rotation::Choice;
use crate::writer::WriterError;
use crate::{clock, retention};

/// What is read.
pub fn scope(args: &VerifyArgs, slice: Option<Slice>) -> Scope {
    match slice {
        _ if args.presence => Scope::Presence,
        slice if args.objects => Scope::Objects(slice),
        Some(slice) => Scope::Slice(slice),
        None => Scope::Full,
    }
}

/// Whether stored objects are read against their digests, and not only looked for.
pub const fn is_deep(args: &VerifyArgs) -> bool {
    args.full || args.objects || args.slice.is_some()
}

/// Lists, picks, examines each point, judges the contract, reports, keeps the report.
pub async fn run(app: &App<'_>, args: &VerifyArgs) -> anyhow::Result<Ending> {
    app.settings.check_policy()?;
    app.create_state()?;
    if args.evidence {
        return chain::check(app).await;
    }
    let today = app.settings.business_date(app.now);
    let slice = args.slice.map(|choice| choice.on(today));
    let answers = app.list(args.point.as_deref().and_then(source_of).as_ref()).await;
    let rows = app.rows(&answers)?;
    let pairs = pair_up(points(&answers, Mechanism::Block), points(&answers, Mechanism::Archive));
    let picked = pick(args, &rows, pairs)?;
    let mut points = Vec::new();
    for copies in picked {
        let targets = Both {
            block: holder(&answers, &copies, Mechanism::Block),
            archive: holder(&answers, &copies, Mechanism::Archive),
        };
        let found = examine::examine(app, args, slice, &copies, &targets).await?;
        let names = Both { block: name(app, targets.block.as_ref()), archive: name(app, targets.archive.as_ref()) };
        if let Some(report) = PointReport::new(&copies, names, scope(args, slice), found) {
            let record = record::of(&report, is_deep(args), clock::now());
            history::append(&app.state.history(), &Record::Verified(record))?;
            points.push(report);
        }
    }
    let turn = match (args.slice, slice) {
        (Some(Choice::Today(_)), Some(slice)) if args.point.is_none() => {
            Some(rotate::turn(app, &answers, &rows, today, slice).await?)
        }
        _ => None,
    };
    // What was just found counts for the contract.
    let rows = app.rows(&answers)?;
    let history = app.history()?;
    let around = around::gather(app, &answers, &rows, &history, turn).await;
    let mut report =
        Report { created_at: clock::now(), points, contract: contract(app, args, &answers, &rows, &history), around };
    chain::keep(app, &mut report).await?;
    app.output.say(report.text().trim_end());
    app.output.json(&report.summary());
    Ok(Ending::all(vec![list::ending(&answers), ending(&report)]))
}

fn points(answers: &[Answer], mechanism: Mechanism) -> Vec<Point> {
    answers.iter().filter(|answer| answer.mechanism == mechanism).flat_map(|answer| answer.points.clone()).collect()
}

/// The copies that were asked for: one point, all of them, or the newest of each source.
fn pick(args: &VerifyArgs, rows: &[Row], pairs: Vec<Copies>) -> anyhow::Result<Vec<Copies>> {
    let known: Vec<_> = rows.iter().map(|row| row.point.clone()).collect();
    if args.all {
        return Ok(pairs);
    }
    let wanted = if let Some(text) = &args.point {
        vec![resolve(text, &known)?]
    } else {
        let is_newest =
            |row: &&Row| rows.iter().all(|other| other.source != row.source || other.point.time() <= row.point.time());
        rows.iter().filter(is_newest).map(|row| row.point.clone()).collect()
    };
    Ok(pairs.into_iter().filter(|copies| point_of(copies).is_some_and(|point| wanted.contains(point))).collect())
}

fn point_of(copies: &Copies) -> Option<&PointId> {
    copies.block.as_ref().or(copies.archive.as_ref()).map(|point| &point.point)
}

/// The target that has this copy, or would have it: the one its source is configured with.
fn holder(answers: &[Answer], copies: &Copies, mechanism: Mechanism) -> Option<String> {
    let manifest = copies.get(retention::side_of(mechanism)).as_ref().map(|point| point.manifest.as_str());
    let has = |answer: &&Answer| {
        answer.mechanism == mechanism && answer.points.iter().any(|point| Some(point.manifest.as_str()) == manifest)
    };
    let candidates = || answers.iter().filter(|answer| answer.mechanism == mechanism);
    candidates().find(has).or_else(|| candidates().next()).map(|answer| answer.target.clone())
}

fn name(app: &App<'_>, target: Option<&String>) -> TargetName {
    let target = target.cloned().unwrap_or_default();
    let country = app.settings.targets.get(&target).map(|target| target.claim.country.to_string()).unwrap_or_default();
    TargetName { target, country }
}

fn contract(app: &App<'_>, args: &VerifyArgs, answers: &[Answer], rows: &[Row], history: &History) -> Vec<ContractRow> {
    let only = args.point.as_deref().and_then(source_of);
    let sources = app.settings.sources.iter().filter(|source| only.as_ref().is_none_or(|name| source.name == *name));
    let of_source = |source: &SourceSettings| {
        let mut dates = retention::contract(rows, source, &app.settings, history, app.now);
        for mechanism in Mechanism::BOTH {
            admit(&mut dates, &app.settings.target(source, mechanism).target.name, mechanism, answers);
        }
        dates
    };
    sources.flat_map(of_source).collect()
}

/// Of a store that did not answer nobody knows what it holds: its dates are red for that reason and not for want of a copy.
fn admit(dates: &mut [ContractRow], target: &str, mechanism: Mechanism, answers: &[Answer]) {
    // A damaged manifest among the others is told for itself.
    let is_silent =
        |error: &WriterError| !matches!(error, WriterError::Failed { failure, .. } if failure.code == "damaged");
    if !answers.iter().any(|answer| answer.target == target && answer.error.as_ref().is_some_and(is_silent)) {
        return;
    }
    let is_gap =
        |row: &&mut ContractRow| row.mechanism == retention::side_of(mechanism) && row.state == ContractState::Red;
    for row in dates.iter_mut().filter(is_gap) {
        row.reason = format!("not known: {target} did not answer");
    }
}

fn ending(report: &Report) -> Ending {
    let exits = report.exits();
    if exits.is_empty() {
        return Ending::done();
    }
    if report.points.is_empty() {
        return Ending::with(exits, "there is no point to verify", "`dualsync run` makes the first");
    }
    let worst = Exit::worst(exits.iter().copied());
    let hint = match worst {
        Exit::Damaged => "restore still works from what is intact; the report names objects and files",
        Exit::Differ => "the report names each difference and the side that is wrong where that is known",
        Exit::Evidence => "`dualsync verify --evidence` reads the whole chain of reports back",
        Exit::Contract => "`dualsync run` makes the last due date while it has no good point",
        _ => "the report says more",
    };
    Ending::with(exits, format!("verdict {}: {worst}", report.verdict().as_str()), hint)
}
