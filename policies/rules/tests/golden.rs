//! Decisions in files a person reads: each `golden/*.txt` tells a story, then what is decided.
//!
//! Above the line `---` stand the facts, below it the plan. With `UPDATE_GOLDEN=1` the part below is
//! written anew, to be read in the diff.
//!
//! ```text
//! rule daily=12 month_ends=3 year_ends=1
//! now 2026-11-20T09:00:00Z        today 2026-11-19
//! nights 2026-01-01..2026-11-19   a run each night at 01:00Z of the next day, due four hours later
//! both 2026-11-01..2026-11-19     good copies of those nights; or `block`, `archive`
//! block 2026-11-12 damaged        also unknown, missing, deleting, manual, expires=, at=, stored=
//! ```

#![expect(clippy::unwrap_used, reason = "a story that cannot be read is a broken test")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use dualsync_model::id::PointId;
use dualsync_model::job::Class;
use dualsync_model::time::{Date, Timestamp};
use dualsync_rules::mechanism::Mechanism;
use dualsync_rules::retention::copy::{Health, StoredCopy};
use dualsync_rules::retention::facts::Facts;
use dualsync_rules::retention::plan::{DroppedBefore, Plan, Verdict, plan};
use dualsync_rules::retention::rule::{Rule, RuleParts};
use dualsync_rules::schedule::{DUE_TOLERANCE_S, Slot};

#[derive(Default)]
struct Story {
    rule: RuleParts,
    now: Timestamp,
    today: Option<Date>,
    slots: Vec<Slot>,
    started: Option<Date>,
    block: Vec<StoredCopy>,
    archive: Vec<StoredCopy>,
}

/// The run of a night begins at 01:00Z of the next day.
fn run_of(date: Date) -> Timestamp {
    date.plus_days(1).midnight_utc().plus_seconds(3600)
}

fn dates(range: &str) -> Vec<Date> {
    let (from, to) = range.split_once("..").unwrap_or((range, range));
    let (from, to): (Date, Date) = (from.parse().unwrap(), to.parse().unwrap());
    (from.days()..=to.days()).map(Date::from_days).collect()
}

fn copy(date: Date, words: &[&str]) -> StoredCopy {
    let at = run_of(date);
    let mut copy = StoredCopy {
        point: PointId::new("web".parse().unwrap(), at),
        date,
        class: Class::Auto,
        created_at: at,
        duration_s: 600,
        stored_at: Some(at.plus_seconds(600)),
        expires: None,
        health: Health::Good,
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("unknown", "") => copy.health = Health::Unknown,
            ("damaged", "") => copy.health = Health::Damaged,
            ("missing", "") => copy.health = Health::Missing,
            ("deleting", "") => copy.health = Health::Deleting,
            ("manual", "") => copy.class = Class::Manual,
            ("expires", time) => copy.expires = Some(time.parse().unwrap()),
            ("stored", time) => copy.stored_at = Some(time.parse().unwrap()),
            ("at", time) => {
                copy.created_at = time.parse().unwrap();
                copy.stored_at = Some(copy.created_at.plus_seconds(600));
                copy.point = PointId::new("web".parse().unwrap(), copy.created_at);
            }
            _ => panic!("unknown word {word}"),
        }
    }
    copy
}

fn rule_parts(words: &[&str]) -> RuleParts {
    let mut parts = RuleParts::default();
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let days = || Some(Duration::from_hours(24 * value.strip_suffix('d').unwrap().parse::<u64>().unwrap()));
        let count = || value.parse().unwrap();
        match key {
            "daily" => parts.daily = count(),
            "month_ends" => parts.month_ends = count(),
            "year_ends" => parts.year_ends = count(),
            "every_6h" => parts.every_6h = count(),
            "weekly" => parts.weekly = count(),
            "monthly" => parts.monthly = count(),
            "yearly" => parts.yearly = count(),
            "keep_last" => parts.keep_last = count(),
            "max_points" => parts.max_points = Some(count()),
            "keep_within" => parts.keep_within = days(),
            "max_age" => parts.max_age = days(),
            _ => panic!("unknown key {key}"),
        }
    }
    parts
}

fn read(text: &str) -> Story {
    let mut story = Story::default();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let copies =
            |words: &[&str]| dates(words[0]).into_iter().map(|date| copy(date, &words[1..])).collect::<Vec<_>>();
        match words[0] {
            "rule" => story.rule = rule_parts(&words[1..]),
            "now" => story.now = words[1].parse().unwrap(),
            "today" => story.today = Some(words[1].parse().unwrap()),
            "started" => story.started = Some(words[1].parse().unwrap()),
            "nights" => story.slots.extend(dates(words[1]).into_iter().map(|date| {
                let at = run_of(date);
                Slot { at, date, due_at: at.plus_seconds(DUE_TOLERANCE_S) }
            })),
            "block" => story.block.extend(copies(&words[1..])),
            "archive" => story.archive.extend(copies(&words[1..])),
            "both" => {
                story.block.extend(copies(&words[1..]));
                story.archive.extend(copies(&words[1..]));
            }
            word => panic!("unknown line {word}"),
        }
    }
    story
}

fn written(plan: &Plan) -> String {
    let mut text = String::new();
    for mechanism in Mechanism::BOTH {
        let side = plan.side(mechanism);
        let last = side.last.map_or_else(|| "none".to_owned(), |date| date.to_string());
        let ask = if side.large_drop(&DroppedBefore::default()).is_some() { ", asks for confirmation" } else { "" };
        writeln!(text, "\n{mechanism}, last date {last}{ask}").unwrap();
        for decision in &side.decisions {
            let (word, reason) = match &decision.verdict {
                Verdict::Keep(reasons) => {
                    ("keep", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
                }
                Verdict::Drop(reason) => ("drop", reason.to_string()),
            };
            writeln!(text, "  {word} {} {}  {reason}", decision.date, decision.point).unwrap();
        }
        for row in &side.contract {
            let line = format!("  {:<12} {}  {}  {}", row.state.word(), row.date, row.needs, row.state);
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
    }
    text
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = fs::read_to_string(&path).unwrap();
    let (facts, expected) = text.split_once("\n---\n").unwrap_or((text.trim_end(), ""));
    let story = read(facts);
    let rule = Rule::new(story.rule).unwrap();
    let found = written(&plan(&Facts {
        rule: &rule,
        now: story.now,
        today: story.today.unwrap_or(story.now.utc_date()),
        slots: &story.slots,
        started: story.started,
        block: &story.block,
        archive: &story.archive,
    }));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{facts}\n---\n{found}")).unwrap();
    } else {
        assert_eq!(found, expected, "{name}: run with UPDATE_GOLDEN=1 and read the diff");
    }
}

/// Every file of the folder has its test, so that none is forgotten.
macro_rules! stories {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(concat!(stringify!($name), ".txt")); })*

        #[test]
        fn every_file_of_the_folder_is_checked() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
            let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            files.sort();
            let mut names = vec![$(concat!(stringify!($name), ".txt")),*];
            names.sort_unstable();
            assert_eq!(files, names);
        }
    };
}

stories! {
    a_full_year
    a_year_turns
    a_leap_day_is_a_month_end
    an_outage_of_both_sides
    an_outage_of_one_side
    a_missing_month_end_is_substituted
    the_true_point_replaces_its_substitute
    a_damaged_copy_keeps_the_other_side
    several_points_of_one_date
    forged_newer_points
    manual_points
    never_succeeded
    before_the_start
    weekdays_only
    without_a_schedule
    hosting_plan
    caps
    a_rule_that_shrank
    what_cannot_be_relied_on
    compared_a_quiet_year
    compared_an_outage_over_a_month_end
    compared_a_night_that_came_late
    compared_forged_points
}
