//! `dualsync verify`: both copies read back and compared, the contract judged, the report kept.

mod examine;

mod evidence;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use dualsync_model::event::Point;
use dualsync_model::id::PointId;
use dualsync_model::outcome::Exit;
use dualsync_verify::pair::{Copies, pair_up};
use dualsync_verify::report::{ContractRow, PointReport, Report, Scope, TargetName};
use dualsync_verify::side::Both;

use crate::app::App;
use crate::args::VerifyArgs;
use crate::commands::list;
use crate::exit::Ending;
use crate::history::{self, Record};
use crate::listing::{Answer, Row};
use crate::mechanism::Mechanism;
use crate::point::{resolve, source_of};
use crate::{clock, retention};

/// What is read, and how deep the stored objects are looked at.
pub fn scope(args: &VerifyArgs) -> Scope {
    match args.slice {
        _ if args.presence => Scope::Presence,
        slice if args.objects => Scope::Objects(slice),
        Some(slice) => Scope::Slice(slice),
        None => Scope::Full,
    }
}

/// Lists, picks, examines each point, judges the contract, reports.
pub async fn run(app: &App<'_>, args: &VerifyArgs) -> anyhow::Result<Ending> {
    app.settings.check_policy()?;
    app.create_state()?;
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
        let found = examine::examine(app, args, &copies, &targets).await?;
        let names = Both { block: name(app, targets.block.as_ref()), archive: name(app, targets.archive.as_ref()) };
        if let Some(report) = PointReport::new(&copies, names, scope(args), found) {
            history::append(&app.state.history(), &Record::Verified(evidence::of(&report, clock::now())))?;
            points.push(report);
        }
    }
    // What was just found counts for the contract.
    let rows = app.rows(&answers)?;
    let report = Report { created_at: clock::now(), points, contract: contract(app, args, &rows)? };
    let saved = save(app, &report)?;
    app.output.say(report.text().trim_end());
    app.output.note(&format!("the report is in {}", saved.display()));
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

fn contract(app: &App<'_>, args: &VerifyArgs, rows: &[Row]) -> anyhow::Result<Vec<ContractRow>> {
    let history = app.history()?;
    let only = args.point.as_deref().and_then(source_of);
    let sources = app.settings.sources.iter().filter(|source| only.as_ref().is_none_or(|name| source.name == *name));
    Ok(sources.flat_map(|source| retention::contract(rows, source, &app.settings, &history, app.now)).collect())
}

/// Keeps text and JSON under `state/reports`; the path of the text.
fn save(app: &App<'_>, report: &Report) -> anyhow::Result<PathBuf> {
    let stem = format!("{}-{}", report.created_at.compact(), std::process::id());
    let write = |extension: &str, bytes: &[u8]| {
        let path = app.state.reports().join(format!("{stem}.{extension}"));
        let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        open()
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .with_context(|| format!("the report {} could not be kept", path.display()))?;
        anyhow::Ok(path)
    };
    write("json", &serde_json::to_vec(&report.summary()).context("the report is no JSON")?)?;
    write("txt", report.text().as_bytes())
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
        Exit::Contract => "`dualsync run` makes the last due date while it has no good point",
        _ => "the report says more",
    };
    Ending::with(exits, format!("verdict {}: {worst}", report.verdict().as_str()), hint)
}
