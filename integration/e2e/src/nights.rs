//! Simulated nights: the real programs under a clock that this file holds, compared with [`Calendar`] each morning.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dualsync_model::time::{Date, Timestamp};
use serde_json::Value;

use crate::calendar::{Calendar, SIDES};
use crate::programs::Ran;
use crate::site::{Site, Source};
use crate::tree;

/// The hour of the nightly run (in Athens three or four), of the prune and of the look at everything, in UTC.
const RUN_S: i64 = 3600 + 600;
const PRUNE_S: i64 = 2 * 3600;
const LOOK_S: i64 = 6 * 3600;

/// A clock for programs: gives the command that runs one of them at a moment.
pub type Clock<'a> = Box<dyn Fn(&Command, Timestamp) -> Command + 'a>;

/// The programs under `faketime`, with a wall clock that stands still.
pub fn standing(command: &Command, at: Timestamp) -> Command {
    let mut faked = Command::new("faketime");
    let at = at.to_string().replace('T', " ").replace('Z', "");
    faked.arg("-f").arg(at).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        faked.env(name, value.unwrap_or_default());
    }
    faked.env("TZ", "UTC").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    faked
}

/// The nights of one site.
pub struct Nights<'a> {
    site: &'a Site,
    source: Source,
    clock: Clock<'a>,
    calendar: Calendar,
    /// The UTC day of the next night.
    day: Date,
    random: Random,
    /// For how many nights from now each side cannot be reached.
    away: [u32; 2],
    outages: bool,
    quiet: u32,
}

/// Numbers that are the same each time (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

impl<'a> Nights<'a> {
    /// Nights of a site whose two targets are the folders `de` and `fr`, or servers when `outages` is false.
    ///
    /// # Panics
    /// When the repositories cannot be made.
    pub fn new(site: &'a Site, source: Source, clock: Clock<'a>, first: Date, seed: u64, outages: bool) -> Self {
        let day = first;
        let random = Random(seed | 1);
        let nights =
            Self { site, source, clock, calendar: Calendar::default(), day, random, away: [0, 0], outages, quiet: 0 };
        let sheet = site.path("sheet.txt");
        let _ = nights.at(0, &["init", "--sheet", sheet.to_str().expect("UTF-8")]).exits(0);
        nights
    }

    /// Runs `dualsync ARGUMENTS` so many seconds after midnight of the day.
    fn at(&self, second: i64, arguments: &[&str]) -> Ran {
        let command = self.site.command(arguments);
        Ran::of(&mut (self.clock)(&command, self.day.midnight_utc().plus_seconds(second)))
    }

    /// One night and its morning: run, prune, verify, and a comparison with the calendar.
    ///
    /// # Panics
    /// When something is not as the calendar says.
    pub fn night(&mut self, number: u32) {
        let date = self.day.plus_days(-1);
        let there = self.weather(number);
        tree::change_tiny_source(&self.source, number);
        let run = self.at(RUN_S, &["run", "--json"]);
        let expected = match there {
            [true, true] => vec![0],
            [false, false] => vec![1, 10],
            _ => vec![4],
        };
        assert!(expected.contains(&run.code), "night {number}: {}\n{}\n{}", run.code, run.stdout, run.stderr);
        // Quiet nights ask nobody for anything.
        let warned = run.stderr.lines().find(|line| line.contains("nothing is marked"));
        assert!(warned.is_none() || self.outages, "night {number}: {warned:?}");
        self.calendar.night(date, there);
        let prune = self.at(PRUNE_S, &["prune", "--yes", "--json"]);
        if there == [true, true] {
            let summary = prune.exits(0).summary();
            for target in summary["targets"].as_array().unwrap() {
                assert_eq!(target["state"], "done", "night {number}: {summary}");
            }
        }
        self.quiet = if there == [true, true] { self.quiet + 1 } else { 0 };
        self.look(number, date, there);
        self.day = self.day.plus_days(1);
    }

    /// Which sides can be reached tonight. An outage is a folder that is not there.
    fn weather(&mut self, number: u32) -> [bool; 2] {
        for side in 0..2 {
            if self.away[side] == 0 && self.outages && number > 2 && self.random.below(14) == 0 {
                let long = self.random.below(5) == 0;
                let nights = if long { 8 + self.random.below(8) } else { 1 + self.random.below(3) };
                self.away[side] = u32::try_from(nights).unwrap();
            }
        }
        let there = self.away.map(|nights| nights == 0);
        for (side, name) in ["de", "fr"].into_iter().enumerate().filter(|_| self.outages) {
            self.away[side] = self.away[side].saturating_sub(1);
            let (here, gone): (PathBuf, PathBuf) = (self.site.path(name), self.site.path(&format!("{name}.away")));
            match (there[side], gone.exists()) {
                (true, true) => fs::rename(gone, here).unwrap(),
                (false, false) => fs::rename(here, gone).unwrap(),
                _ => {}
            }
        }
        there
    }

    /// The morning: what both stores hold, how the contract stands, whether everything is there and right.
    fn look(&self, number: u32, due: Date, there: [bool; 2]) {
        let listed = self.at(LOOK_S, &["list", "--json"]);
        let points: Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|_| panic!("{}", listed.stderr));
        for side in (0..2).filter(|side| there[*side]) {
            self.check_held(number, side, due, &points);
        }
        if there != [true, true] {
            return;
        }
        let scope: &[&str] = match number % 20 {
            0 => &["verify", "--latest", "--full", "--json"],
            10 => &["verify", "--all", "--objects", "--json"],
            n if n % 4 == 1 => &["verify", "--all", "--presence", "--json"],
            _ => &["verify", "--latest", "--presence", "--json"],
        };
        let verified = self.at(LOOK_S, scope);
        let summary = verified.summary();
        assert_eq!(summary["findings"], serde_json::json!([]), "night {number}: {summary}\n{}", verified.stderr);
        assert_eq!(summary["differences"], serde_json::json!([]), "night {number}: {summary}");
        assert!(!verified.stderr.contains("warning"), "night {number}: {}", verified.stderr);
        self.check_contract(number, due, &summary);
        if number % 10 == 5 {
            let _ = self.at(LOOK_S, &["verify", "--evidence"]).exits(0);
        }
        if scope.contains(&"--latest") {
            let verdict = summary["verdict"].as_str().unwrap();
            assert!(["agree", "explained"].contains(&verdict), "night {number}: {summary}");
        }
    }

    /// Every date that must be there is, whole; anything else is on its way out.
    fn check_held(&self, number: u32, side: usize, due: Date, points: &Value) {
        let name = SIDES[side];
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

    fn check_contract(&self, number: u32, due: Date, summary: &Value) {
        for (side, name) in SIDES.into_iter().enumerate() {
            let rows = summary["contract"].as_array().unwrap().iter().filter(|row| row["mechanism"] == name);
            let found: BTreeMap<Date, (String, String)> = rows
                .map(|row| {
                    let text = |field: &str| row[field].as_str().unwrap().to_owned();
                    (text("date").parse().unwrap(), (text("state"), text("reason")))
                })
                .collect();
            let expected = self.calendar.contract(side, due);
            let expected: BTreeMap<_, _> =
                expected.into_iter().map(|(date, (state, reason))| (date, (state.to_owned(), reason))).collect();
            assert_eq!(found, expected, "night {number}: the contract of the {name} side");
        }
    }

    /// Every stored byte of every point against its digest, and the whole chain of reports.
    ///
    /// # Panics
    /// When something is damaged or missing.
    pub fn everything_is_whole(&self) {
        let verified = self.at(LOOK_S, &["verify", "--all", "--objects", "--json"]);
        assert_eq!(verified.summary()["findings"], serde_json::json!([]), "{}{}", verified.stdout, verified.stderr);
        let _ = self.at(LOOK_S, &["verify", "--evidence"]).exits(0);
    }

    /// The names of all objects of a folder target.
    pub fn objects(&self, target: &str) -> Vec<String> {
        let listed = Ran::of(Command::new("find").arg(self.site.path(target)).args(["-type", "f", "-printf", "%P\n"]));
        listed.stdout.lines().map(str::to_owned).collect()
    }
}
