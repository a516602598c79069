//! Keeps the report in both stores, in the chain of reports; reads the chain back.
//!
//! In this order: take the chain for this process, hear what every store keeps, put there what a store lacks (it
//! was away), number the new report, keep it here, then put it into each store, the archive's first. A store that is
//! away is a warning, told in the report that is made then, and mended by the next verify that finds it there.

use std::path::PathBuf;

use anyhow::Context;
use dualsync_config::target::TargetSettings;
use dualsync_model::event::Evidence;
use dualsync_model::job::{EvidenceTask, ReportId, Task};
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;
use dualsync_verify::chain::{self, Fault, Lack, Listed, Shelf};
use dualsync_verify::report::Report;
use serde::Serialize;

use crate::app::App;
use crate::exit::{Ending, judge_writer, with_causes};
use crate::mechanism::Mechanism;
use crate::reports::{Forms, Own, Reports, digest, is_report};
use crate::writer::WriterError;
use crate::{clock, human};

/// The targets in the order in which they keep reports: the archive's sign too, so theirs come first.
fn targets<'a>(app: &'a App<'_>) -> Vec<&'a TargetSettings> {
    let of = |mechanism| app.settings.targets.values().filter(move |target| target.mechanism == mechanism);
    of(Mechanism::Archive).chain(of(Mechanism::Block)).collect()
}

/// What one target said about the chain.
struct Place<'a> {
    target: &'a TargetSettings,
    listed: Listed,
    mended: Vec<u64>,
    away: Option<WriterError>,
    /// Reports that this target had confirmed and has no more.
    lost: Vec<u64>,
}

impl Place<'_> {
    fn name(&self) -> &str {
        &self.target.target.name
    }
}

/// Keeps `report`; completes what it says about the chain. The folder where this host keeps it.
pub async fn keep(app: &App<'_>, report: &mut Report) -> anyhow::Result<PathBuf> {
    let reports = Reports::new(app.state.reports());
    let _chain = reports.lock().await?;
    let own = reports.own();
    let mut places = hear(app, &own).await;
    mend(app, &reports, &mut places, &own).await?;
    let ids: Vec<_> = own.iter().map(|own| own.report.clone()).collect();
    let listed: Vec<_> = places.iter().map(|place| place.listed.clone()).collect();
    let (number, previous) = chain::next(&listed, &ids);
    // Taken while no other verify can number a report: their times are in the order of their numbers.
    report.created_at = clock::now();
    report.around.number = number;
    report.around.previous.clone_from(&previous);
    report.around.chain = shelves(&places, ids.last(), report.created_at);
    for fault in report.around.chain.iter().flat_map(|shelf| &shelf.faults) {
        app.output.warn(&sentence(fault));
    }
    let forms = forms(report)?;
    let id = ReportId { number, at: report.created_at, sha256: digest(&forms.json), previous };
    let folder = reports.keep(&id, &forms)?;
    let mut kept = Vec::new();
    for place in places.iter().filter(|place| place.away.is_none()) {
        match put(app, place.target, &id, folder.clone()).await {
            Ok(()) => {
                reports.confirm(number, place.name())?;
                kept.push(place.name().to_owned());
            }
            Err(error) => app.output.warn(&format!(
                "report {number} could not be kept in {}, the next verify tries again: {}",
                place.name(),
                with_causes(&error)
            )),
        }
    }
    let stores = if kept.is_empty() { "no store".to_owned() } else { kept.join(", ") };
    app.output.note(&format!("report {number} is kept in {stores}; to read it: {}/report.html", folder.display()));
    Ok(folder)
}

/// The forms that go to the stores, in clear, name no file; what stays on this host does.
fn forms(report: &Report) -> anyhow::Result<Forms> {
    let json = |report: &Report| {
        let mut json = serde_json::to_vec_pretty(&report.summary()).context("the report is no JSON")?;
        json.push(b'\n');
        anyhow::Ok(json)
    };
    let kept = report.without_names();
    let details = if kept == *report { None } else { Some(json(report)?) };
    Ok(Forms { json: json(&kept)?, text: kept.full_text().into_bytes(), html: kept.html().into_bytes(), details })
}

/// Asks every target, one after the other: the lists are short, and a warning names its target.
async fn hear<'a>(app: &'a App<'_>, own: &[Own]) -> Vec<Place<'a>> {
    let mut places = Vec::new();
    for target in targets(app) {
        let name = target.target.name.clone();
        let (reports, away) = match list(app, target, None).await {
            Ok(reports) => (reports, None),
            Err(error) => {
                app.output.warn(&format!("{name}: its reports could not be read: {}", with_causes(&error)));
                (Vec::new(), Some(error))
            }
        };
        let gone = |own: &&Own| {
            away.is_none()
                && own.kept.contains(&name)
                && reports.iter().all(|kept| kept.report.number != own.report.number)
        };
        let lost = own.iter().filter(gone).map(|own| own.report.number).collect();
        places.push(Place { target, listed: Listed { target: name, reports }, mended: Vec::new(), away, lost });
    }
    places
}

async fn list(app: &App<'_>, target: &TargetSettings, folder: Option<PathBuf>) -> Result<Vec<Evidence>, WriterError> {
    let heard = app.ask(target, Task::Evidence(EvidenceTask::List { folder })).await;
    heard.error.map_or(Ok(heard.evidence), Err)
}

async fn put(app: &App<'_>, target: &TargetSettings, report: &ReportId, folder: PathBuf) -> Result<(), WriterError> {
    let task = EvidenceTask::Put { report: report.clone(), folder };
    app.ask(target, Task::Evidence(task)).await.error.map_or(Ok(()), Err)
}

/// Puts into each store what it lacks and another, or this host, has.
async fn mend(app: &App<'_>, reports: &Reports, places: &mut [Place<'_>], own: &[Own]) -> anyhow::Result<()> {
    let ids: Vec<_> = own.iter().map(|own| own.report.clone()).collect();
    let there: Vec<_> = places.iter().filter(|place| place.away.is_none()).map(|place| place.listed.clone()).collect();
    let lacking = chain::lacking(&there, &ids);
    if lacking.is_empty() {
        return Ok(());
    }
    let mut fetched = Fetched { scratch: None };
    for lack in lacking {
        let folder = match reports.folder(lack.report.number) {
            folder if is_report(&folder, &lack.report) => Some(folder),
            _ => fetched.folder(app, reports, places, &lack).await,
        };
        let Some(place) = places.iter_mut().find(|place| place.name() == lack.target) else { continue };
        let (name, number) = (lack.target.as_str(), lack.report.number);
        let Some(folder) = folder else {
            app.output.warn(&format!("{name} lacks report {number}, and nobody has it whole"));
            continue;
        };
        match put(app, place.target, &lack.report, folder).await {
            Ok(()) => {
                app.output.note(&format!("{name} lacked report {number}: it is there now"));
                place.mended.push(number);
                place.listed.reports.push(Evidence { report: lack.report, object: String::new(), problem: None });
                reports.confirm(number, name)?;
            }
            Err(error) => {
                app.output.warn(&format!("{name} lacks report {number}: {}", with_causes(&error)));
                place.away = Some(error);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Files of reports that only a store has, fetched once for all.
struct Fetched {
    scratch: Option<PathBuf>,
}

impl Fetched {
    /// The folder with the files of a report that some store has.
    async fn folder(&mut self, app: &App<'_>, reports: &Reports, places: &[Place<'_>], lack: &Lack) -> Option<PathBuf> {
        if self.scratch.is_none() {
            let scratch = reports.scratch("fetched").ok()?;
            for place in places.iter().filter(|place| place.away.is_none()) {
                let folder = scratch.join(place.name());
                std::fs::create_dir(&folder).ok()?;
                // A store that cannot hand its files out now has told so; the others may.
                let _ = list(app, place.target, Some(folder)).await;
            }
            self.scratch = Some(scratch);
        }
        let scratch = self.scratch.as_ref()?;
        let folders = places.iter().map(|place| scratch.join(place.name()).join(lack.report.number.to_string()));
        folders.into_iter().find(|folder| is_report(folder, &lack.report))
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if let Some(scratch) = &self.scratch {
            // What stays is emptied before it is used again.
            let _ = std::fs::remove_dir_all(scratch);
        }
    }
}

fn shelves(places: &[Place<'_>], remembered: Option<&ReportId>, now: Timestamp) -> Vec<Shelf> {
    let there: Vec<_> = places.iter().filter(|place| place.away.is_none()).map(|place| place.listed.clone()).collect();
    let mut faults = chain::judge(&there, remembered, now);
    // What was put back is whole again, and that it was gone is still to be known.
    for place in places {
        for number in place.lost.iter().filter(|number| place.mended.contains(number)) {
            let problem = "was kept there and was gone; it was put there again".to_owned();
            faults.push(Fault { number: *number, target: place.name().to_owned(), problem });
        }
    }
    places.iter().map(|place| shelf(place, &faults)).collect()
}

fn shelf(place: &Place<'_>, faults: &[Fault]) -> Shelf {
    Shelf {
        target: place.name().to_owned(),
        reports: place.listed.reports.len() as u64,
        newest: place.listed.reports.iter().map(|kept| kept.report.number).max(),
        mended: place.mended.clone(),
        away: place.away.as_ref().map(|error| with_causes(error)),
        faults: faults.iter().filter(|fault| fault.target == place.name()).cloned().collect(),
    }
}

fn sentence(fault: &Fault) -> String {
    format!("{}: report {} {}", fault.target, fault.number, fault.problem)
}

/// The last line of `verify --evidence --json`.
#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    exit_code: u8,
    remembered: Option<u64>,
    stores: &'a [Shelf],
}

/// Reads the chain back from every store and judges it; puts and mends nothing.
pub async fn check(app: &App<'_>) -> anyhow::Result<Ending> {
    let reports = Reports::new(app.state.reports());
    let own = reports.own();
    let places = hear(app, &own).await;
    let remembered = own.last().map(|own| &own.report);
    let shelves = shelves(&places, remembered, app.now);
    let ending = Ending::all(places.iter().filter_map(away).chain(broken(&shelves)).collect());
    app.output.json(&SummaryLine {
        message_type: "summary",
        exit_code: ending.code(),
        remembered: remembered.map(|report| report.number),
        stores: &shelves,
    });
    for shelf in shelves.iter().filter(|shelf| shelf.away.is_none()) {
        let state = if shelf.faults.is_empty() { "each one proved, no gap, each link fits" } else { "BROKEN" };
        let newest = shelf.newest.map_or_else(|| "none".to_owned(), |number| number.to_string());
        let count = human::count(shelf.reports, "report");
        app.output.say(&format!("{}: {count}, the newest is {newest}: {state}", shelf.target));
        for fault in &shelf.faults {
            app.output.say(&format!("  report {} {}", fault.number, fault.problem));
        }
    }
    if ending.exits.is_empty() && own.is_empty() && shelves.iter().all(|shelf| shelf.reports == 0) {
        app.output.say("no report is kept yet; `dualsync verify` makes the first");
    }
    Ok(ending)
}

/// A store that did not answer: nothing is known of its chain.
fn away(place: &Place<'_>) -> Option<Ending> {
    let error = place.away.as_ref()?;
    let (exit, hint) = judge_writer(error);
    let message = format!("{}: its reports could not be read: {}", place.name(), with_causes(error));
    Some(Ending { exits: vec![exit], message: Some(message), details: error.tail().to_vec(), hint })
}

fn broken(shelves: &[Shelf]) -> Option<Ending> {
    let faults: Vec<_> = shelves.iter().flat_map(|shelf| &shelf.faults).collect();
    let first = faults.first()?;
    let more = faults.len() - 1;
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    Some(Ending::with(
        vec![Exit::Evidence],
        format!("the chain of reports is broken: {}{more}", sentence(first)),
        "a report that one store lost is put back by the next `dualsync verify`; one that was changed stays as evidence: \
         compare it with the other store and with `state/reports`, and find out who can write there",
    ))
}
