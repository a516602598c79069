//! `dualsync status`: one line a source; for people, Nagios, Prometheus and programs.

mod nagios;

mod prometheus;

use std::path::Path;

use anyhow::Context;
use dualsync_config::source::SourceSettings;
use dualsync_model::id::SourceName;
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;
use serde::Serialize;

use crate::app::App;
use crate::args::StatusArgs;
use crate::commands::list;
use crate::exit::{Ending, with_causes};
use crate::history::History;
use crate::human;
use crate::listing::{Answer, Row};
use crate::mechanism::{Mechanism, Pair};
use crate::output::{Light, Output};
use crate::reports::Reports;
use crate::retention;
use crate::status::{self, Known, Level, SideStatus, SourceStatus, Standing, judge};

/// Everything that is told, in any form.
#[derive(Debug, Serialize)]
pub struct Status {
    message_type: &'static str,
    /// When the stores were asked.
    at: Timestamp,
    /// The worst of all sources.
    level: Level,
    /// The exit code without `--nagios`.
    exit_code: u8,
    /// The 2x2.
    counts: Counts,
    sources: Vec<SourceStatus>,
    /// Each target with whether it answered.
    targets: Vec<TargetLine>,
    evidence: Option<EvidenceLine>,
}

/// How many sources stand how.
#[derive(Debug, Serialize)]
struct Counts {
    both: usize,
    block_only: usize,
    archive_only: usize,
    none: usize,
    unknown: usize,
}

#[derive(Debug, Serialize)]
struct TargetLine {
    target: String,
    mechanism: &'static str,
    answered: bool,
}

/// The newest report of `verify`, as this host remembers it.
#[derive(Debug, Serialize)]
struct EvidenceLine {
    number: u64,
    at: Timestamp,
    kept: Vec<String>,
}

/// Asks the stores and tells.
pub async fn run(app: &App<'_>, args: &StatusArgs) -> anyhow::Result<Ending> {
    let sources: Vec<_> = match args.sources.as_slice() {
        [] => app.settings.sources.iter().collect(),
        names => names.iter().map(|name| app.source(name)).collect::<Result<_, _>>()?,
    };
    app.create_state()?;
    // One source alone needs only its own targets.
    let only: Option<&SourceName> = if let [source] = sources[..] { Some(&source.name) } else { None };
    let answers = app.list(only).await;
    let rows = app.rows(&answers)?;
    let history = app.history()?;
    let judged: Vec<_> = sources.into_iter().map(|source| one(app, source, &answers, &rows, &history)).collect();
    let silent = list::ending(&answers);
    let ending = Ending::all(std::iter::once(silent).chain(judged.iter().filter_map(ending)).collect());
    let status = status(app, judged, &answers, ending.code());
    if let Some(path) = &args.prometheus {
        prometheus::write(path, &status).with_context(|| format!("{} could not be written", path.display()))?;
        app.output.note(&format!("wrote {}", path.display()));
    }
    if args.nagios {
        app.output.raw(nagios::line(&status).as_bytes());
        return Ok(nagios::ending(status.level));
    }
    app.output.json(&status);
    if args.prometheus.is_none() {
        show(app, &status);
    }
    Ok(ending)
}

/// A check that could not be made is UNKNOWN to Nagios, whatever the reason.
pub fn unknown(output: &Output, error: &anyhow::Error) -> Ending {
    output.raw(nagios::unknown(error).as_bytes());
    nagios::ending(Level::Unknown)
}

fn one(app: &App<'_>, source: &SourceSettings, answers: &[Answer], rows: &[Row], history: &History) -> SourceStatus {
    let contract = retention::contract(rows, source, &app.settings, history, app.now);
    let target = |mechanism: Mechanism| {
        let target = app.settings.target(source, mechanism);
        let answer = answers.iter().find(|answer| answer.target == target.target.name);
        let silent = answer.and_then(|answer| answer.error.as_ref()).map(|error| with_causes(error));
        (target.target.name.clone(), target.claim.country.to_string(), silent)
    };
    judge(&Known {
        source,
        rows,
        contract: &contract,
        targets: &Pair::new(target),
        last_verify: history.last_verify(&source.name),
        now: app.now,
    })
}

fn status(app: &App<'_>, sources: Vec<SourceStatus>, answers: &[Answer], exit_code: u8) -> Status {
    let [both, block_only, archive_only, none, unknown] = status::counts(&sources).map(|(_, count)| count);
    let target = |answer: &Answer| TargetLine {
        target: answer.target.clone(),
        mechanism: answer.mechanism.as_str(),
        answered: answer.error.is_none(),
    };
    let newest = Reports::new(app.state.reports()).own().pop();
    Status {
        message_type: "summary",
        at: app.now,
        level: sources.iter().map(|source| source.level).max().unwrap_or(Level::Ok),
        exit_code,
        counts: Counts { both, block_only, archive_only, none, unknown },
        sources,
        targets: answers.iter().map(target).collect(),
        evidence: newest.map(|own| EvidenceLine { number: own.report.number, at: own.report.at, kept: own.kept }),
    }
}

/// 22 for a date that is missing or a copy that is too old or never was, 21 for one that is damaged or gone.
fn ending(source: &SourceStatus) -> Option<Ending> {
    let sides = || source.copies.iter().map(|(_, side)| side);
    let late = |side: &SideStatus| side.level == Level::Critical && side.damaged.is_empty() && side.missing.is_empty();
    let held = [
        (sides().any(|side| !side.damaged.is_empty() || !side.missing.is_empty()), Exit::Damaged),
        (sides().any(|side| late(side) || !side.contract.gaps.is_empty()), Exit::Contract),
    ];
    let exits: Vec<_> = held.into_iter().filter(|(holds, _)| *holds).map(|(_, exit)| exit).collect();
    if exits.is_empty() {
        return None;
    }
    let critical = |(mechanism, side): (Mechanism, &SideStatus)| {
        let first = side.problems.first().filter(|_| side.level == Level::Critical)?;
        Some(format!("the {mechanism} copy in {}: {first}", side.country))
    };
    let told: Vec<_> = source.copies.iter().filter_map(critical).collect();
    Some(Ending::with(
        exits,
        format!("{}: {}", source.source, told.join("; ")),
        "`dualsync list` shows every copy; `dualsync run` makes the last due date while it has no good point",
    ))
}

fn show(app: &App<'_>, status: &Status) {
    let width = status.sources.iter().map(|source| source.source.as_str().len()).max().unwrap_or(0);
    for source in &status.sources {
        let side = |mechanism| shown(mechanism, source.copies.get(mechanism));
        let verified = source
            .last_verify
            .map_or_else(|| "never verified".to_owned(), |at| format!("verified {}", human::ago(at, app.now)));
        let (name, standing) = (source.source.as_str(), source.state.as_str().replace('_', " "));
        let (block, archive) = (side(Mechanism::Block), side(Mechanism::Archive));
        let line = format!("{name:<width$}  {standing:<12}  {block}  {archive}  {verified}");
        app.output.lit(light(source.level), &line);
        for (mechanism, side) in source.copies.iter() {
            for problem in &side.problems {
                app.output.say(&format!("      {name} {mechanism} in {}: {problem}", side.country));
            }
            if side.contract.amber > 0 {
                let count = human::count(side.contract.amber as u64, "date");
                app.output
                    .say(&format!("      {name} {mechanism} in {}: {count} replaced by an earlier day", side.country));
            }
        }
    }
    app.output.say(&status::summary(&status.sources));
    app.output.say(&match &status.evidence {
        None => "no report yet; `dualsync verify` makes the first".to_owned(),
        Some(report) => {
            let kept = if report.kept.is_empty() { "no store".to_owned() } else { report.kept.join(", ") };
            format!("report {} is {} old, kept in {kept}", report.number, age(report.at, app.now))
        }
    });
}

fn age(then: Timestamp, now: Timestamp) -> String {
    human::seconds(now.seconds_since(then).max(0).unsigned_abs())
}

fn shown(mechanism: Mechanism, side: &SideStatus) -> String {
    let newest = match &side.newest {
        Some(newest) => format!("{} ago for {}", human::seconds(newest.age_s), newest.business_date),
        None if side.answered => "never".to_owned(),
        None => "not known".to_owned(),
    };
    format!("{mechanism} {} {newest}", side.country)
}

const fn light(level: Level) -> Light {
    match level {
        Level::Ok => Light::Ok,
        Level::Warning | Level::Unknown => Light::Warn,
        Level::Critical => Light::Fail,
    }
}

/// The word of a standing for metrics, with its value for a source: 1 for the one that holds.
fn standings(source: &SourceStatus) -> impl Iterator<Item = (&'static str, u8)> + '_ {
    Standing::ALL.into_iter().map(|standing| (standing.as_str(), u8::from(source.state == standing)))
}

/// Writes beside and renames, readable by everyone: a collector never sees half a file.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    let written = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
