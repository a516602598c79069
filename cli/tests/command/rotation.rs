//! `verify --slice today/N`: a part of everything that is kept, each night another one.

use serde_json::Value;

use crate::site::{ARCHIVE, BLOCK, SUMMARY, Site};

fn two_points() -> Site {
    let site = Site::new();
    site.at("2026-11-19 01:00:00", "run").ends(0);
    site.at("2026-11-20 01:00:00", "run").ends(0);
    site
}

impl Site {
    /// The check jobs over all points that a writer was given: their slices.
    fn turns(&self, mechanism: &str) -> Vec<String> {
        let is_turn = |task: &Value| task["verb"] == "check" && task.get("point").is_none();
        let tasks = self.jobs(mechanism).into_iter().map(|job| job["task"].clone());
        tasks.filter(is_turn).map(|task| task["slice"].as_str().unwrap().to_owned()).collect()
    }

    fn turn(&self, time: &str) -> Value {
        self.at(time, "verify --slice today/3 --json").ends(0).last()["report"].clone()
    }
}

#[test]
fn each_date_reads_another_slice_of_every_kept_point_until_all_is_read() {
    let site = two_points();
    for hour in ["2026-11-20 02:00:00", "2026-11-20 12:00:00"] {
        let report = site.turn(hour);
        let read: Vec<_> =
            report["reading"]["copies"].as_array().unwrap().iter().map(|copy| copy["slices_read"].clone()).collect();
        assert_eq!(report["turn"]["targets"][0]["points"], 2, "{report}");
        assert_eq!(read.len(), 4, "two points, two sides");
    }
    let turns = site.turns(BLOCK);
    assert_eq!((turns.len(), turns == site.turns(ARCHIVE)), (2, true));
    assert_ne!(turns[0], turns[1], "02:00 belongs to the day before, 12:00 does not");
    let report = site.at("2026-11-21 12:00:00", "verify --slice today/3 --json").last()["report"].clone();
    for copy in report["reading"]["copies"].as_array().unwrap() {
        assert_eq!((&copy["slices_read"], copy["oldest_at"].is_string()), (&3.into(), true), "{report}");
    }
    let html = site.read("state/reports/3/report.html");
    assert!(html.contains("Every stored byte of all 4 kept copies was read back within the last 2 days."));
    let text = site.read("state/reports/1/report.txt");
    assert!(text.contains("none of the 4 kept copies is 3 days old yet; 33 % of their parts were read back"), "{text}");
}

#[test]
fn the_same_date_reads_the_same_slice() {
    let site = two_points();
    site.turn("2026-11-20 02:00:00");
    site.turn("2026-11-20 03:00:00");
    let turns = site.turns(BLOCK);
    assert_eq!(turns[0], turns[1]);
}

#[test]
fn a_turn_marks_the_points_of_a_bad_object_and_a_later_turn_does_not_make_them_good() {
    let site = two_points();
    let finding = r#"{"message_type":"finding","target":"frankfurt","object":"packs/aa/bb","kind":"digest","problem":"does not fit its digest","points":["web@20261119T010000Z"]}"#;
    // As both writers end when they have read all and something is wrong.
    let damaged = r#"{"message_type":"error","exit_code":21,"code":"damaged","message":"1 stored objects are wrong"}"#;
    let turn = format!("say '{finding}'; say '{damaged}'; exit 21");
    let body = format!("case \"$job\" in *'\"point\"'*) ;; *) {turn} ;; esac\nsay '{SUMMARY}'\nexit 0");
    site.good_but(BLOCK, "check", &body);
    let report = site.at("2026-11-20 02:00:00", "verify --slice today/3 --json").ends(21).last()["report"].clone();
    let turn = &report["turn"]["targets"][0];
    assert_eq!(turn["findings"][0], "packs/aa/bb: does not fit its digest");
    assert!(turn["failure"].is_null(), "{turn}");
    // The slice was read, of the good points too.
    let read = report["reading"]["copies"].as_array().unwrap().iter().map(|copy| &copy["slices_read"]);
    assert!(read.clone().all(|read| *read == 1) && read.count() == 4, "{report}");
    let state = || {
        let listed = site.run("list --json").ends(0).last();
        [0, 1].map(|at| listed[at]["copies"]["block"]["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(state(), ["damaged", "available"]);
    site.good(BLOCK);
    for hour in ["2026-11-20 03:00:00", "2026-11-20 12:00:00", "2026-11-21 12:00:00"] {
        site.at(hour, "verify --slice today/3");
    }
    assert_eq!(state(), ["damaged", "available"]);
    site.at("2026-11-21 13:00:00", "verify --all");
    assert_eq!(state(), ["available", "available"]);
}

#[test]
fn a_turn_that_could_not_be_read_to_the_end_counts_for_nothing() {
    let site = two_points();
    site.good_but(ARCHIVE, "check", "case \"$job\" in *'\"point\"'*) ;; *) exit 1 ;; esac");
    let ran = site.at("2026-11-20 02:00:00", "verify --slice today/3 --json").ends(1);
    for copy in ran.last()["report"]["reading"]["copies"].as_array().unwrap() {
        // The newest point's own objects of the slice were read all the same.
        let newest = copy["point"] == "web@20261120T010000Z";
        let read = u64::from(copy["mechanism"] == "block" || newest);
        assert_eq!(copy["slices_read"], read, "{copy}");
    }
}

#[test]
fn a_slice_by_number_is_read_of_the_picked_points_only() {
    let site = two_points();
    site.at("2026-11-20 02:00:00", "verify --slice 3/30").ends(0);
    assert!(site.turns(BLOCK).is_empty());
    site.run("verify --slice today/0").ends(2).tells("today/0");
}
