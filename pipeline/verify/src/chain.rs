//! The chain of reports: each names the digest of the one before it, and every store keeps all of them.
//!
//! Decisions only: what each place says it keeps comes in; out come what is wrong, what one place lacks and
//! another has, and the place of the next report. Nobody who can write one bucket can change a report, take one out
//! of the middle or cut the end off without one of these sentences.

use std::collections::BTreeMap;

use dualsync_model::event::Evidence;
use dualsync_model::job::ReportId;
use dualsync_model::time::Timestamp;
use serde::Serialize;

/// How far the clocks of two hosts may be apart, in seconds: what the signature of an S3 request allows as well.
const CLOCK_TOLERANCE: i64 = 15 * 60;

/// What one place keeps, as it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shelf {
    /// The target's name.
    pub target: String,
    /// How many reports it keeps.
    pub reports: u64,
    /// The number of the newest.
    pub newest: Option<u64>,
    /// Reports that it lacked and that were put there now.
    pub mended: Vec<u64>,
    /// Why it did not answer, or could not be written; absent when it did.
    pub away: Option<String>,
    /// What is wrong with what it keeps.
    pub faults: Vec<Fault>,
}

/// Something wrong with the chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The report.
    pub number: u64,
    /// The target it was seen at.
    pub target: String,
    /// A sentence.
    pub problem: String,
}

/// What one target listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The target's name.
    pub target: String,
    /// Its reports.
    pub reports: Vec<Evidence>,
}

/// A report that one place lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The target that lacks it.
    pub target: String,
    /// The report.
    pub report: ReportId,
}

/// The place of the next report: 1 more than the highest number that anyone knows.
///
/// Where two places know different reports by the highest number (that is a fault), `own`, what this host
/// remembers, is followed.
pub fn next(places: &[Listed], own: &[ReportId]) -> (u64, Option<String>) {
    let told = places.iter().flat_map(|place| place.reports.iter().map(|kept| &kept.report));
    // Of equals the last wins, so this host's own word stands last.
    let newest = told.chain(own).max_by_key(|report| report.number);
    newest.map_or((1, None), |report| (report.number.saturating_add(1), Some(report.sha256.clone())))
}

/// What each place lacks that another place, or this host, has whole; oldest first.
pub fn lacking(places: &[Listed], own: &[ReportId]) -> Vec<Lack> {
    let mut known: BTreeMap<u64, &ReportId> = BTreeMap::new();
    let whole = |kept: &&Evidence| kept.problem.is_none();
    let told = places.iter().flat_map(|place| place.reports.iter().filter(whole).map(|kept| &kept.report));
    for report in own.iter().chain(told) {
        known.entry(report.number).or_insert(report);
    }
    let lacks = |place: &Listed, number: u64| place.reports.iter().all(|kept| kept.report.number != number);
    let mut lacking = Vec::new();
    for (number, report) in known {
        for place in places.iter().filter(|place| lacks(place, number)) {
            lacking.push(Lack { target: place.target.clone(), report: report.clone() });
        }
    }
    lacking
}

/// Everything that is wrong with what the places keep at `now`; `remembered` is the newest report this host knows of.
///
/// The order of reports is what their digests say, not their times: whoever can sign a report can write any time into
/// it. A report from the future is told nevertheless, since it shows that a clock was wrong, until its time has come.
pub fn judge(places: &[Listed], remembered: Option<&ReportId>, now: Timestamp) -> Vec<Fault> {
    let mut faults: Vec<_> = places.iter().flat_map(|place| judge_one(place, remembered, now)).collect();
    faults.extend(differences(places));
    faults.sort();
    faults.dedup();
    faults
}

fn fault(place: &Listed, number: u64, problem: impl Into<String>) -> Fault {
    Fault { number, target: place.target.clone(), problem: problem.into() }
}

/// One place by itself: no gap, every link fits, every proof is good, the end is not cut off.
fn judge_one(place: &Listed, remembered: Option<&ReportId>, now: Timestamp) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut by_number: BTreeMap<u64, Vec<&Evidence>> = BTreeMap::new();
    for kept in &place.reports {
        by_number.entry(kept.report.number).or_default().push(kept);
    }
    let newest = by_number.last_key_value().map_or(0, |(number, _)| *number);
    let mut before: Option<&ReportId> = None;
    let mut expected = 1;
    for (number, kept) in &by_number {
        if let Some(gap) = gap(expected, *number) {
            faults.push(fault(place, expected, gap));
        }
        if kept.len() > 1 {
            faults.push(fault(place, *number, "is there more than once"));
        }
        let report = &kept[0].report;
        let linked = before.filter(|before| before.number + 1 == *number);
        if let Some(problem) = kept.iter().find_map(|kept| kept.problem.as_deref()) {
            faults.push(fault(place, *number, problem));
        } else if let Some(problem) = link(report, linked) {
            faults.push(fault(place, *number, problem));
        } else if report.at.seconds() > now.seconds().saturating_add(CLOCK_TOLERANCE) {
            let problem =
                format!("is of {}, which is still to come: this clock or the one that made it is wrong", report.at);
            faults.push(fault(place, *number, problem));
        }
        before = Some(report);
        expected = number.saturating_add(1);
    }
    if let Some(known) = remembered {
        let kept = by_number.get(&known.number).map(|kept| &kept[0].report);
        match kept {
            None if newest < known.number => {
                let newest = if newest == 0 { "none is there".to_owned() } else { format!("the newest is {newest}") };
                faults.push(fault(place, known.number, format!("is what this host remembers, and {newest}")));
            }
            Some(kept) if kept.sha256 != known.sha256 => {
                faults.push(fault(place, known.number, "is another report than the one this host made"));
            }
            _ => {}
        }
    }
    faults
}

fn gap(expected: u64, found: u64) -> Option<String> {
    match found.checked_sub(expected) {
        None | Some(0) => None,
        Some(1) => Some("is missing".to_owned()),
        Some(_) => Some(format!("to {} are missing", found - 1)),
    }
}

/// What does not fit between a report and the one before it. Where that one is not there, the gap was told.
fn link(report: &ReportId, before: Option<&ReportId>) -> Option<&'static str> {
    match (report.number, &report.previous, before) {
        (1, Some(_), _) => Some("is the first and names one before it"),
        (1, None, _) => None,
        (_, None, _) => Some("names no report before it"),
        (_, Some(previous), Some(before)) if *previous != before.sha256 => {
            Some("names another report before it than the one that is there")
        }
        _ => None,
    }
}

/// Numbers under which two places keep different reports, or that one place lacks.
fn differences(places: &[Listed]) -> Vec<Fault> {
    let mut known: BTreeMap<u64, (&Listed, &ReportId)> = BTreeMap::new();
    let mut faults = Vec::new();
    for place in places {
        for kept in &place.reports {
            let (first, report) = known.entry(kept.report.number).or_insert((place, &kept.report));
            if report.sha256 != kept.report.sha256 {
                let problem = format!("is another report than in {}", first.target);
                faults.push(fault(place, kept.report.number, problem));
            }
        }
    }
    for (number, (holder, _)) in known {
        for place in places {
            let newest = place.reports.iter().map(|kept| kept.report.number).max().unwrap_or(0);
            // A gap before its newest was told already.
            if number > newest {
                faults.push(fault(place, number, format!("is missing, and {} has it", holder.target)));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests;
