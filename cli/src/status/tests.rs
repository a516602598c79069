//! Each way in which a source may stand, from rows alone.

use std::time::Duration;

use super::*;
use crate::listing::samples::row;

const HOUR_S: i64 = 3600;

fn settings(thresholds: bool) -> SourceSettings {
    let text = "host = 'a'\n[targets.de]\nmechanism = 'block'\nkind = 'directory'\npath = '/a'\ncountry = 'DE'\nkey = 'file:/k'\n\
                [targets.fr]\nmechanism = 'archive'\nkind = 'directory'\npath = '/b'\ncountry = 'FR'\nidentity = 'file:/i'\n\
                signing_key = 'file:/s'\n[[source]]\nname = 'web'\ndevice = '/d'\ntree = '/t'\nsnapshot = 'none'\n\
                block = 'de'\narchive = 'fr'\n";
    let text = if thresholds { format!("{text}schedule = '0 3 * * *'\n") } else { text.to_owned() };
    let settings = dualsync_config::Settings::parse(&text, std::path::Path::new("a.toml"), std::iter::empty()).unwrap();
    settings.sources[0].clone()
}

/// Two nights.
fn rows() -> Vec<Row> {
    vec![row("web@20261119T020000Z"), row("web@20261120T020000Z")]
}

fn red(date: &str, mechanism: Mechanism) -> ContractRow {
    ContractRow {
        source: "web".parse().unwrap(),
        date: date.parse().unwrap(),
        mechanism: side_of(mechanism),
        country: "DE".into(),
        state: ContractState::Red,
        reason: "no copy".into(),
        needs: "daily".into(),
        point: None,
    }
}

struct Case {
    rows: Vec<Row>,
    contract: Vec<ContractRow>,
    silent: Option<&'static str>,
    thresholds: bool,
    hours: i64,
}

impl Case {
    /// Seen two hours after the last night.
    fn new() -> Self {
        Self { rows: rows(), contract: vec![], silent: None, thresholds: true, hours: 2 }
    }

    fn judge(&self) -> SourceStatus {
        let name = |name: &str, country: &str| (name.to_owned(), country.to_owned(), None);
        let mut targets = Pair { block: name("de", "DE"), archive: name("fr", "FR") };
        targets.archive.2 = self.silent.map(str::to_owned);
        let newest = rows()[1].created_at;
        judge(&Known {
            source: &settings(self.thresholds),
            rows: &self.rows,
            contract: &self.contract,
            targets: &targets,
            last_verify: None,
            now: newest.plus_seconds(self.hours * HOUR_S),
        })
    }

    /// The archive side's state in `row` of the two.
    fn archive(mut self, row: usize, state: CopyState) -> Self {
        self.rows[row].copies.archive.state = state;
        self
    }

    fn damaged(mut self, row: usize) -> Self {
        self.rows[row].copies.archive.damaged = true;
        self
    }

    #[track_caller]
    fn check(&self, state: Standing, level: Level, problem: &str) {
        let status = self.judge();
        assert_eq!((status.state, status.level), (state, level), "{status:#?}");
        let problems = &status.copies.archive.problems;
        let found = if problem.is_empty() { problems.is_empty() } else { problems.iter().any(|told| told == problem) };
        assert!(found, "'{problem}' is not in {problems:?}");
    }
}

#[test]
fn two_fresh_copies_are_well() {
    Case::new().check(Standing::Both, Level::Ok, "");
    let newest = Case::new().judge().copies.archive.newest.unwrap();
    assert_eq!((newest.point.to_string(), newest.age_s), ("web@20261120T020000Z".into(), 7200));
}

#[test]
fn a_copy_gets_late_and_then_too_late() {
    let hours = |hours| Case { hours, ..Case::new() };
    hours(27).check(Standing::Both, Level::Ok, "");
    hours(28).check(Standing::Both, Level::Warning, "the newest good copy is 1d 4h old, more than 1d 4h");
    hours(32).check(Standing::None, Level::Critical, "the newest good copy is 1d 8h old, more than 1d 8h");
    Case { thresholds: false, ..hours(999) }.check(Standing::Both, Level::Ok, "");
}

#[test]
fn a_side_that_never_succeeded_is_red_whatever_the_other_has() {
    let case = Case::new().archive(0, CopyState::Error).archive(1, CopyState::Missing);
    case.check(Standing::BlockOnly, Level::Critical, "never succeeded: there is no good copy");
    Case { rows: vec![], ..Case::new() }.check(
        Standing::None,
        Level::Critical,
        "never succeeded: there is no good copy",
    );
    Case { rows: vec![], thresholds: false, ..Case::new() }.check(
        Standing::None,
        Level::Critical,
        "never succeeded: there is no good copy",
    );
}

#[test]
fn a_manual_point_is_no_night() {
    let mut case = Case { hours: 40, ..Case::new() };
    let mut manual = row("web@20261121T170000Z");
    manual.class = Class::Manual;
    case.rows.push(manual);
    case.check(Standing::None, Level::Critical, "the newest good copy is 1d 16h old, more than 1d 8h");
}

#[test]
fn a_store_that_does_not_answer_is_not_known_and_no_gap() {
    let contract = vec![red("2026-11-19", Mechanism::Archive)];
    let mut case = Case { silent: Some("no route"), contract, ..Case::new() };
    case = case.archive(0, CopyState::Error).archive(1, CopyState::Error);
    case.check(Standing::Unknown, Level::Unknown, "the store did not answer: no route");
    assert_eq!(case.judge().copies.archive.contract.red, 0);
}

#[test]
fn gaps_and_damage_are_critical() {
    let contract = vec![red("2026-11-18", Mechanism::Archive), red("2026-11-17", Mechanism::Archive)];
    let case = Case { contract, ..Case::new() };
    case.check(Standing::Both, Level::Critical, "2 dates of the contract missing: 2026-11-18, 2026-11-17");
    let case = Case::new().archive(0, CopyState::Damaged);
    case.check(Standing::Both, Level::Critical, "damaged: web@20261119T020000Z");
}

#[test]
fn a_copy_that_somebody_restores_is_as_good_as_it_was() {
    Case::new().archive(1, CopyState::Restoring).check(Standing::Both, Level::Ok, "");
    let case = Case::new().archive(1, CopyState::Restoring).damaged(1);
    let damaged = case.judge().copies.archive;
    assert_eq!((damaged.damaged.len(), damaged.newest.unwrap().point), (1, case.rows[0].point.clone()));
}

#[test]
fn a_copy_is_missed_only_where_its_date_is_needed() {
    Case::new().archive(0, CopyState::Missing).check(Standing::Both, Level::Ok, "");
    let contract = vec![red("2026-11-18", Mechanism::Archive)];
    let case = Case { contract, ..Case::new() }.archive(0, CopyState::Missing);
    case.check(Standing::Both, Level::Critical, "missing: web@20261119T020000Z");
}

#[test]
fn thresholds_are_those_of_a_daily_run() {
    let thresholds = settings(true).status.unwrap();
    assert_eq!((thresholds.warn, thresholds.critical), (Duration::from_hours(28), Duration::from_hours(32)));
    assert!(settings(false).status.is_none());
}

#[test]
fn the_summary_counts_every_source_once() {
    let well = Case::new().judge();
    let alone = Case::new().archive(0, CopyState::Missing).archive(1, CopyState::Missing).judge();
    assert_eq!(summary(&[well.clone(), alone.clone()]), "both 1, block only 1, archive only 0, none 0");
    let silent = Case { silent: Some("x"), ..Case::new() }.judge();
    assert_eq!(summary(&[well, alone, silent]), "both 1, block only 1, archive only 0, none 0, unknown 1");
}
