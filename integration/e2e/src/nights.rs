//! Simulated nights: the real programs under a clock that the test holds, compared with [`Calendar`] each morning.

use std::collections::BTreeMap;

use dualsync_model::time::{Date, Timestamp};
use serde_json::{Value, json};

use crate::calendar::{Calendar, SIDES};
use crate::clockfile::ClockFile;
use crate::kept;
use crate::programs::Ran;
use crate::site::{Site, Source};
use crate::tree;
use crate::weather::Weather;

/// The hour of the nightly run (in Athens three or four), of the prune and of the look at everything, in UTC.
const RUN_S: i64 = 3600 + 600;
const PRUNE_S: i64 = 2 * 3600;
const LOOK_S: i64 = 6 * 3600;

/// The targets of the two sides, block first.
const TARGETS: [&str; 2] = ["de", "fr"];

/// How every command ends that asked a store which cannot be reached.
const AWAY: i32 = 1;

/// The nights of one site.
pub struct Nights<'a> {
    site: &'a Site,
    source: Source,
    clock: &'a ClockFile,
    weather: Weather<'a>,
    calendar: Calendar,
    /// The UTC day of the next night.
    day: Date,
    number: u32,
    /// How many nights in a row both sides could be reached.
    quiet: u32,
}

impl<'a> Nights<'a> {
    /// Nights of a site whose targets are as its configuration says, from the day `first` on.
    ///
    /// # Panics
    /// When the repositories cannot be made.
    pub fn new(site: &'a Site, source: Source, clock: &'a ClockFile, weather: Weather<'a>, first: Date) -> Self {
        let calendar = Calendar::default();
        let nights = Self { site, source, clock, weather, calendar, day: first, number: 0, quiet: 0 };
        let sheet = site.path("sheet.txt");
        let _ = nights.at(0, &["init", "--sheet", sheet.to_str().expect("UTF-8")]).exits(0);
        nights
    }

    /// Runs `dualsync ARGUMENTS` so many seconds after midnight of the day.
    fn at(&self, second: i64, arguments: &[&str]) -> Ran {
        let at = self.day.midnight_utc().plus_seconds(second);
        Ran::of(&mut self.clock.at(&self.site.command(arguments), at))
    }

    /// One night and its morning: run, prune, verify, and a comparison with the calendar.
    ///
    /// # Panics
    /// When something is not as the calendar says.
    pub fn night(&mut self) {
        // The first nights have fair weather, so that there is something to lose.
        let there = if self.number > 2 { self.weather.night() } else { [true, true] };
        self.night_of(there);
    }

    /// A night on which both sides can be reached.
    ///
    /// # Panics
    /// As [`Nights::night`].
    pub fn fair_night(&mut self) {
        self.weather.clear_up();
        self.night_of([true, true]);
    }

    fn night_of(&mut self, there: [bool; 2]) {
        let (number, date) = (self.number, self.day.plus_days(-1));
        tree::change_tiny_source(&self.source, number);
        let run = self.at(RUN_S, &["run", "--json"]);
        let expected = match there {
            [true, true] => 0,
            [false, false] => AWAY,
            _ => 4,
        };
        let run = run.exits(expected);
        // Quiet nights ask nobody for anything; after an outage so much leaves at once that it is asked for.
        let warned = run.stderr.lines().find(|line| line.contains("nothing is marked"));
        assert!(warned.is_none() || there != [true, true] || self.quiet < 8, "night {number}: {warned:?}");
        self.calendar.night(date, there);
        self.quiet = if there == [true, true] { self.quiet + 1 } else { 0 };
        self.prune(there);
        self.look(date, there);
        self.day = self.day.plus_days(1);
        self.number += 1;
    }

    /// Where a side cannot be reached nothing is asked of it, and the other one lets no copy go.
    fn prune(&self, there: [bool; 2]) -> Value {
        let number = self.number;
        let all = there == [true, true];
        let prune = self.at(PRUNE_S, &["prune", "--yes", "--json"]).exits(if all { 0 } else { AWAY });
        let summary = prune.summary();
        for (side, name) in TARGETS.into_iter().enumerate() {
            let target = summary["targets"].as_array().unwrap().iter().find(|target| target["target"] == name).unwrap();
            let state = if there[side] { "done" } else { "failed" };
            assert_eq!(target["state"], state, "night {number}: {summary}");
            let gone = target["copies"].as_array().unwrap().iter().filter(|copy| copy["action"] == "deleted").count();
            assert!(all || gone == 0, "night {number}: {summary}");
            assert!(there[side] || prune.stderr.contains(name), "night {number}: {}", prune.stderr);
        }
        summary
    }

    /// The morning: what both stores hold, how the contract stands, whether everything is there and right.
    fn look(&self, due: Date, there: [bool; 2]) {
        let number = self.number;
        let all = there == [true, true];
        let listed = self.at(LOOK_S, &["list", "--json"]).exits(if all { 0 } else { AWAY });
        let points = listed.json();
        for side in (0..2).filter(|side| there[*side]) {
            self.check_held(side, due, &points);
        }
        let scope: &[&str] = match number % 20 {
            0 => &["verify", "--latest", "--full", "--json"],
            10 => &["verify", "--all", "--objects", "--json"],
            n if n % 4 == 1 => &["verify", "--all", "--presence", "--json"],
            _ => &["verify", "--latest", "--presence", "--json"],
        };
        let is_latest = scope.contains(&"--latest");
        let verified = self.at(LOOK_S, scope);
        let summary = verified.summary();
        assert_eq!(summary["findings"], json!([]), "night {number}: {summary}\n{}", verified.stderr);
        assert_eq!(summary["differences"], json!([]), "night {number}: {summary}");
        let is_red = self.check_contract(due, there, &summary);
        let lacks_a_copy = points.as_array().unwrap().iter().any(|point| {
            SIDES
                .iter()
                .any(|side| !["available", "deleting"].contains(&point["copies"][side]["state"].as_str().unwrap()))
        });
        let code = match (all, is_latest) {
            (false, _) => AWAY,
            (true, false) if lacks_a_copy => 21,
            _ if is_red => 22,
            _ => 0,
        };
        let verified = verified.exits(code);
        for (_, name) in TARGETS.into_iter().enumerate().filter(|(side, _)| !there[*side]) {
            assert!(verified.stderr.contains("not every target answered"), "night {number}: {}", verified.stderr);
            assert!(verified.stderr.contains(&format!("{name}: its reports could not be read")), "night {number}");
        }
        assert!(!all || !verified.stderr.contains("warning"), "night {number}: {}", verified.stderr);
        if all && is_latest {
            let verdict = summary["verdict"].as_str().unwrap();
            assert!(["agree", "explained"].contains(&verdict), "night {number}: {summary}");
        }
        if number % 10 == 5 {
            let _ = self.at(LOOK_S, &["verify", "--evidence"]).exits(if all { 0 } else { AWAY });
        }
    }

    /// Every date that must be there is, whole; anything else is on its way out.
    fn check_held(&self, side: usize, due: Date, points: &Value) {
        let (number, name) = (self.number, SIDES[side]);
        let mut held: BTreeMap<Date, &Value> = BTreeMap::new();
        for point in points.as_array().unwrap() {
            let copy = &point["copies"][name];
            if ["available", "deleting"].contains(&copy["state"].as_str().unwrap()) {
                held.insert(point["business_date"].as_str().unwrap().parse().unwrap(), copy);
            } else {
                assert_ne!(copy["state"], "damaged", "night {number}: {point}");
            }
        }
        for date in self.calendar.must_hold(side, due) {
            assert!(held.contains_key(&date), "night {number}: the {name} side lost {date}: {points}");
        }
        // In an outage everything stays; the first night after it marks, the second deletes.
        let patience_s = if self.quiet > 2 { 24 * 3600 } else { i64::MAX };
        let now = self.day.midnight_utc().plus_seconds(PRUNE_S);
        for (date, copy) in held.iter().filter(|(date, _)| !self.calendar.may_hold(side, **date, due)) {
            let since = copy["mark"]["since"].as_str().map(|since| since.parse::<Timestamp>().unwrap());
            let leaving = since.is_some_and(|since| now.seconds_since(since) < patience_s);
            assert!(leaving || self.quiet == 0, "night {number}: {date} stays on the {name} side: {copy}");
        }
    }

    /// Each date of the contract stands as on the calendar, with its reason; of a side that cannot be reached nobody knows.
    /// Whether one is red.
    fn check_contract(&self, due: Date, there: [bool; 2], summary: &Value) -> bool {
        let number = self.number;
        let mut is_red = false;
        for (side, name) in SIDES.into_iter().enumerate() {
            let rows = summary["contract"].as_array().unwrap().iter().filter(|row| row["mechanism"] == name);
            let found: BTreeMap<Date, (String, String)> = rows
                .map(|row| {
                    let text = |field: &str| row[field].as_str().unwrap().to_owned();
                    (text("date").parse().unwrap(), (text("state"), text("reason")))
                })
                .collect();
            let unknown = format!("not known: {} did not answer", TARGETS[side]);
            let expected = |(date, (state, reason)): (Date, (&str, String))| match state {
                "before_start" => (date, (state.to_owned(), reason)),
                _ if !there[side] => (date, ("red".to_owned(), unknown.clone())),
                _ => (date, (state.to_owned(), reason)),
            };
            let expected: BTreeMap<_, _> = self.calendar.contract(side, due).into_iter().map(expected).collect();
            assert_eq!(found, expected, "night {number}: the contract of the {name} side");
            is_red |= found.values().any(|(state, _)| state == "red");
        }
        is_red
    }

    /// Every stored byte of every point against its digest, and the whole chain of reports.
    ///
    /// # Panics
    /// When something is damaged or missing.
    pub fn everything_is_whole(&self) {
        let verified = self.at(LOOK_S, &["verify", "--all", "--objects", "--json"]);
        assert_eq!(verified.summary()["findings"], json!([]), "{}{}", verified.stdout, verified.stderr);
        assert!(!verified.stderr.contains("warning"), "{}", verified.stderr);
        let said = self.at(LOOK_S, &["verify", "--evidence"]).exits(0).stdout;
        let reports = self.reports();
        for target in TARGETS {
            let whole = format!("{target}: {reports} reports, the newest is {reports}: each one proved");
            assert!(said.contains(&whole), "{whole}: {said}");
        }
    }

    /// After some days with nothing but a prune, both folders hold what the kept points need and nothing else.
    ///
    /// # Panics
    /// When something else is there.
    pub fn nothing_else_is_kept(&mut self) {
        // What left the contract last has its grace, what only it needed another one, what was sparse then a third.
        for _ in 0..4 {
            self.prune([true, true]);
            self.day = self.day.plus_days(1);
        }
        let summary = self.prune([true, true]);
        for target in summary["targets"].as_array().unwrap() {
            for count in ["deleted_objects", "marked_objects", "waiting_objects"] {
                assert_eq!(target[count], 0, "{summary}");
            }
        }
        let points = self.at(LOOK_S, &["list", "--json"]).exits(0).json();
        let of_block = points.as_array().unwrap().iter().map(|point| &point["copies"]["block"]);
        let of_block: Vec<_> = of_block.filter(|copy| copy["state"] == "available").collect();
        let [de, fr] = TARGETS.map(|target| self.site.path(target));
        kept::block_holds_no_more_than_its_points_need(&de, &of_block);
        kept::archive_holds_what_its_points_need(&fr);
        for (folder, files_of_report) in [(de, 4), (fr, 5)] {
            kept::the_rest_is_evidence_and_a_month_of_traces(&folder, files_of_report, self.reports());
        }
    }

    /// Of so many nights each side missed some, and not most.
    ///
    /// # Panics
    /// When not.
    pub fn each_side_was_away(&self) {
        self.weather.was_mixed(self.number);
    }

    /// How many reports this host made.
    fn reports(&self) -> u64 {
        std::fs::read_dir(self.site.path("state/reports")).unwrap().filter(is_number).count() as u64
    }

    /// What each folder target holds, by kind.
    pub fn holds(&self) -> String {
        let told = |target| format!("{target} {:?}", kept::kinds(&kept::objects(&self.site.path(target))));
        TARGETS.map(told).join(", ")
    }
}

fn is_number(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    let name = entry.as_ref().unwrap().file_name();
    name.to_str().is_some_and(|name| name.parse::<u64>().is_ok())
}
