//! `prune`, and the marks that `run` sets: two fake stores, nights under a clock that the test holds.

use serde_json::Value;

use crate::site::{ARCHIVE, BLOCK, Ran, SUMMARY, Site};

/// A host that keeps `daily` dates, after `nights` nights: that of the 20th of November and those after it.
fn nights(daily: u32, nights: u32) -> Site {
    let site = Site::new();
    keep(&site, daily);
    for night in 0..nights {
        site.night(20 + night);
    }
    site
}

fn keep(site: &Site, daily: u32) {
    site.configure(&format!("{}retention = {{ daily = {daily} }}\n", site.config()));
}

impl Site {
    /// The run of that night; at three in Athens, so that it counts for the day before.
    fn night(&self, day: u32) -> Ran {
        self.at(&format!("2026-11-{day} 01:00:00"), "run --json").ends(0)
    }

    fn prune(&self, day: u32, options: &str) -> Ran {
        self.at(&format!("2026-11-{day} 06:00:00"), &format!("prune {options}"))
    }

    /// The dates that a store holds, marked ones in brackets.
    fn dates(&self, mechanism: &str) -> Vec<String> {
        let read = |name: &str| std::fs::read_to_string(self.path(&format!("{mechanism}.{name}"))).unwrap_or_default();
        let (points, marks) = (read("points"), read("marks"));
        let date = |line: &str| {
            let copy: Value = serde_json::from_str(line).unwrap();
            let day = copy["business_date"].as_str().unwrap()[8..].to_owned();
            if marks.contains(copy["manifest"].as_str().unwrap()) { format!("({day})") } else { day }
        };
        points.lines().map(date).collect()
    }
}

/// One copy of the plan: what becomes of it and the first reason.
fn planned(ran: &Ran, point: &str, mechanism: &str) -> (String, String) {
    let plan = ran.lines().into_iter().find(|line| line["message_type"] == "plan").expect("a plan");
    let points = plan["points"].as_array().unwrap();
    let is_it = |known: &&Value| known["point"].as_str().unwrap().starts_with(point);
    let point = points.iter().find(is_it).unwrap_or_else(|| panic!("{point}: {plan}"));
    let copy = &point["copies"][mechanism];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&copy["action"]), text(&copy["reasons"][0]))
}

#[test]
fn what_left_the_contract_is_marked_by_the_run_and_deleted_after_its_grace() {
    let site = nights(2, 2);
    assert_eq!(site.dates(BLOCK), ["19", "20"]);
    let third = site.night(22).last();
    assert!(third["marks"]["block"]["marked"][0].as_str().unwrap().starts_with("web@20261120T0100"), "{third}");
    for mechanism in [BLOCK, ARCHIVE] {
        assert_eq!(site.dates(mechanism), ["(19)", "20", "21"]);
        assert_eq!(site.tasks(mechanism, "prune")[0]["sweep"], false);
    }
    let ran = site.prune(22, "").ends(0);
    ran.says(&["web@20261120T0100", "waits: left the contract, goes after 2026-11-23T01:0"]);
    assert_eq!(site.dates(BLOCK), ["(19)", "20", "21"]);
    site.night(23);
    let ran = site.prune(23, "").ends(0);
    ran.says(&["web@20261120T0100", "deleted: left the contract"]);
    assert!(
        ran.out.contains("frankfurt: deleted 2 objects (2.0 KiB); 6.0 KiB stored, 4.0 KiB of it in use"),
        "{}",
        ran.out
    );
    for mechanism in [BLOCK, ARCHIVE] {
        assert_eq!(site.dates(mechanism), ["(20)", "21", "22"]);
    }
    let job = site.tasks(BLOCK, "prune").pop().unwrap();
    assert_eq!((&job["sweep"], &job["grace_s"]), (&true.into(), &86_400.into()));
    assert_eq!(job["remembered"]["sequence"], 4);
}

#[test]
fn the_plan_names_each_point_with_the_reason_on_each_side() {
    let site = nights(2, 3);
    let ran = site.prune(22, "--dry-run").ends(0);
    ran.says(&["POINT ", "DATE ", "AGE ", "CLASS ", "BLOCK ", "ARCHIVE"]);
    ran.says(&["web@20261122T0100", "2026-11-21", "h ", "auto", "keep: daily, newest"]);
    ran.says(&["web@20261120T0100", "2026-11-19", "2d ", "drop: left the contract (marked "]);
    let ran = site.prune(22, "--dry-run --json").ends(0);
    assert_eq!(planned(&ran, "web@20261121", ARCHIVE), ("keep".into(), "daily".into()));
    assert_eq!(planned(&ran, "web@20261120", BLOCK), ("drop".into(), "left the contract".into()));
}

#[test]
fn a_dry_run_asks_the_writers_and_changes_nothing() {
    let site = nights(2, 3);
    let history = site.read("state/history.jsonl");
    let ran = site.prune(24, "--dry-run").ends(0);
    assert!(ran.out.contains("would be deleted: left the contract"), "{}", ran.out);
    assert!(ran.out.contains("frankfurt: would delete 2 objects (2.0 KiB)"), "{}", ran.out);
    assert_eq!(site.tasks(BLOCK, "prune").pop().unwrap()["dry_run"], true);
    assert_eq!(site.dates(BLOCK), ["(19)", "20", "21"]);
    assert_eq!(site.read("state/history.jsonl"), history);
}

#[test]
fn a_side_that_does_not_answer_is_pruned_by_nobody_and_the_other_keeps_what_it_may_lack() {
    let site = nights(2, 3);
    site.good_but(ARCHIVE, "list", "exit 1");
    site.at("2026-11-23 01:00:00", "run").ends(0).tells("nothing is marked for deletion there tonight: paris");
    // A grace after it was set the mark is due; nobody stands behind it any more, and it is taken back.
    assert_eq!(site.dates(BLOCK), ["19", "20", "21", "22"]);
    let ran =
        site.prune(23, "").ends(1).tells("nobody knows what it holds, so the block side keeps what paris may lack");
    ran.says(&["web@20261120T0100", "keep: no newer point is good on both sides"]);
    assert_eq!(site.dates(BLOCK), ["19", "20", "21", "22"]);
    assert_eq!(site.tasks(ARCHIVE, "prune").len(), 1, "only the first night's marks");
}

#[test]
fn a_copy_stays_while_what_should_follow_it_lacks_objects_whatever_the_manifests_say() {
    let site = nights(2, 3);
    let plan = || site.prune(22, "--dry-run --json").ends(0);
    assert_eq!(planned(&plan(), "web@20261120T01", BLOCK), ("drop".into(), "left the contract".into()));
    assert_eq!(site.tasks(ARCHIVE, "check")[0]["depth"], "presence");
    // On the archive side both newer copies lost a volume: nobody here has verified them yet.
    let stored = site.read("archive.points");
    let points: Vec<_> =
        stored.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["point"].clone()).collect();
    let finding = serde_json::json!({"message_type": "finding", "target": "paris", "object": "volumes/aa", "kind": "missing",
        "problem": "there is no such object", "points": points[1..]});
    let end = r#"{"message_type":"error","exit_code":21,"code":"damaged","message":"some objects are damaged"}"#;
    site.good_but(ARCHIVE, "check", &format!("say '{finding}'; say '{end}'; exit 21"));
    let ran = plan();
    assert_eq!(planned(&ran, "web@20261120T01", BLOCK), ("undo".into(), "no newer point is good on both sides".into()));
    ran.tells("volumes/aa: there is no such object");
    // Who does not say what is there is a side that did not answer.
    site.good_but(ARCHIVE, "check", "exit 1");
    let ran = site.prune(22, "--json").ends(1).tells("nobody knows what it holds");
    assert_eq!(planned(&ran, "web@20261120T01", BLOCK), ("undo".into(), "no newer point is good on both sides".into()));
    assert_eq!(site.dates(ARCHIVE), ["(19)", "20", "21"]);
}

#[test]
fn one_side_that_fails_leaves_the_other_done() {
    let site = nights(2, 3);
    let damaged = "say '{\"message_type\":\"error\",\"exit_code\":21,\"code\":\"damaged\",\"message\":\"points/web/x cannot be read\"}'; exit 21";
    site.good_but(BLOCK, "prune", damaged);
    let ran = site.prune(23, "--json").ends(21).tells("frankfurt: dualsync-block: points/web/x cannot be read");
    let summary = ran.last();
    assert_eq!((&summary["targets"][0]["state"], &summary["targets"][1]["state"]), (&"failed".into(), &"done".into()));
    assert_eq!(summary["targets"][1]["deleted_bytes"], 2048);
    assert_eq!(site.dates(BLOCK), ["(19)", "20", "21"]);
    assert_eq!(site.dates(ARCHIVE), ["20", "21"]);
}

#[test]
fn a_writer_that_says_nothing_of_what_it_pruned_has_failed() {
    let site = nights(2, 3);
    site.good_but(ARCHIVE, "prune", &format!("say '{SUMMARY}'; exit 0"));
    site.prune(23, "").ends(1).tells("it left out what it pruned");
}

#[test]
fn a_mark_that_the_rule_no_longer_stands_behind_is_taken_back() {
    let site = nights(2, 3);
    assert_eq!(site.dates(BLOCK), ["(19)", "20", "21"]);
    keep(&site, 5);
    let ran = site.prune(22, "").ends(0);
    ran.says(&["web@20261120T0100", "kept again"]);
    assert_eq!(site.dates(BLOCK), ["19", "20", "21"]);
}

#[test]
fn more_than_a_third_within_a_week_stays_until_somebody_says_yes() {
    let site = nights(9, 9);
    keep(&site, 2);
    site.at("2026-11-29 01:00:00", "run").ends(0).tells("web block: 8 of 10 points would leave within 7 days");
    assert_eq!(site.dates(BLOCK).len(), 10);
    let refused = site.prune(29, "").ends(1).tells("8 of 10 points would leave within 7 days");
    refused.tells("hint: look at `dualsync prune --dry-run`, then `dualsync prune --yes`");
    assert_eq!(site.dates(BLOCK)[0], "19");
    site.prune(29, "--dry-run").ends(0);
    site.prune(29, "--yes").ends(0);
    assert_eq!(site.dates(BLOCK)[7..], ["(26)", "27", "28"]);
    // What was said yes to is not asked for again the nights after.
    site.night(30);
    site.prune(30, "").ends(0);
    assert_eq!(site.dates(BLOCK), ["(27)", "28", "29"]);
}

#[test]
fn a_folder_is_not_pruned_while_a_run_is_on() {
    let site = nights(2, 3);
    let lock = std::fs::File::options().write(true).open(site.path("state/locks/web.lock")).unwrap();
    lock.lock().unwrap();
    let ran = site.prune(23, "").ends(11).tells("frankfurt: not pruned: source 'web' is locked by another run");
    assert!(ran.err.contains("hint: a folder is pruned while no run of this host is on"), "{}", ran.err);
    assert_eq!(site.tasks(BLOCK, "prune").len(), 1, "only the marks of the run");
    site.prune(23, "--dry-run").ends(0);
    drop(lock);
    site.prune(23, "").ends(0);
}

#[test]
fn while_a_folder_is_pruned_no_run_begins() {
    let site = nights(2, 3);
    // The writer itself tries a run of the host.
    let inner = "\"$at/bin/dualsync\" --config \"$at/dualsync.toml\" run >/dev/null 2>&1; echo $? > \"$at/inner\"";
    site.good_but(
        BLOCK,
        "prune",
        &format!(
            "{inner}\nprintf '%s' \"$job\" | python3 -ISE \"$at/prune.py\" \"$at/block\"\nsay '{SUMMARY}'\nexit 0"
        ),
    );
    site.prune(23, "").ends(0);
    assert_eq!(site.read("inner"), "11\n");
}

#[test]
fn a_failed_marking_is_a_warning_and_no_failed_run() {
    let site = nights(2, 2);
    site.good_but(BLOCK, "prune", "exit 1");
    let ran = site.night(22).tells("web: nothing is marked for deletion there tonight: frankfurt");
    assert_eq!(ran.last()["marks"]["archive"]["marked"].as_array().unwrap().len(), 1);
}

#[test]
fn a_night_with_one_copy_lets_nothing_go() {
    let site = nights(2, 2);
    site.at("2026-11-22 01:00:00", "run --only block").ends(0);
    site.good_but(ARCHIVE, "backup", "exit 1");
    site.at("2026-11-23 01:00:00", "run").ends(4);
    // The 19th has a successor on both sides, the 20th has none.
    assert_eq!(site.dates(BLOCK), ["(19)", "20", "21", "22"]);
    assert_eq!(site.dates(ARCHIVE), ["19", "20"]);
}

#[test]
fn the_first_date_outlives_its_point_even_without_the_runs_that_made_it() {
    let site = nights(2, 2);
    // The history is lost; the stores still know.
    std::fs::remove_file(site.path("state/history.jsonl")).unwrap();
    for day in [22, 23, 24] {
        site.night(day);
        site.prune(day, "").ends(0);
    }
    assert_eq!(site.dates(BLOCK)[0], "(21)");
    keep(&site, 8);
    let summary = site.at("2026-11-24 08:00:00", "verify --json --presence").ends(22).last();
    let states: Vec<_> =
        summary["contract"].as_array().unwrap().iter().filter(|row| row["mechanism"] == "block").collect();
    let state = |date: &str| states.iter().find(|row| row["date"] == date).unwrap()["state"].clone();
    assert_eq!(state("2026-11-19"), "red", "it was there once: {states:?}");
    assert_eq!(state("2026-11-18"), "before_start");
}

#[test]
fn list_and_show_say_what_leaves_and_when() {
    let site = nights(2, 3);
    let out = site.at("2026-11-22 06:00:00", "list").ends(0).out;
    assert!(out.contains("deleting   deleting") && out.contains("may go: left the contract"), "{out}");
    let shown = site.at("2026-11-22 06:00:00", "show web@20261120").ends(0);
    shown.says(&["  marked         2026-11-22T01:0", ": left the contract; goes after 2026-11-23T01:0"]);
    let listed = site.at("2026-11-22 06:00:00", "list --json").ends(0).last();
    let mark = &listed[0]["copies"]["block"]["mark"];
    assert_eq!((&mark["reason"], &mark["asked"]), (&"left the contract".into(), &false.into()));
    // Deleted on one side only: the other says so.
    site.good_but(ARCHIVE, "prune", "exit 1");
    site.prune(23, "").ends(1);
    let listed = site.at("2026-11-23 06:00:00", "list").ends(0);
    listed.says(&["web@20261120T0100", "block: deleted at 2026-11-23T06:0", ": left the contract"]);
}

#[test]
fn only_the_named_sources_are_pruned() {
    let site = nights(2, 3);
    site.prune(23, "mail").ends(2).tells("there is no source 'mail'");
    site.prune(23, "web").ends(0);
    assert_eq!(site.dates(BLOCK), ["20", "21"]);
}

#[test]
fn a_source_that_left_the_configuration_keeps_its_points() {
    let site = nights(2, 3);
    site.configure(&site.config().replace("name = \"web\"", "name = \"mail\""));
    let ran = site.prune(22, "").ends(0);
    assert!(ran.out.contains("keep: its source is not in the configuration"), "{}", ran.out);
    assert_eq!(site.dates(BLOCK), ["19", "20", "21"], "a mark without a rule is taken back");
}

/// A site whose block target is a bucket that locks.
fn site_that_locks() -> Site {
    let site = Site::new();
    let folder = format!("kind = \"directory\"\npath = \"{}\"", site.path("store-block").display());
    let bucket = "kind = \"s3\"\nendpoint = \"http://127.0.0.1:9\"\nregion = \"x\"\nbucket = \"acme\"\n\
                  credentials = \"env:LEFT\"\nimmutability = \"compliance\"";
    let config = site.config().replace(&folder, bucket);
    assert!(config.contains(bucket), "{config}");
    site.configure(&format!("{config}retention = {{ daily = 12, month_ends = 1 }}\n"));
    site
}

#[test]
fn a_bucket_that_locks_is_told_until_when_the_contract_needs_each_copy() {
    let site = site_that_locks();
    site.night(20);
    // 2026-11-19 is needed until the 30th, which ends at noon of Athens on the day after; and a grace;
    // and up to the next whole week.
    let backup = &site.tasks(BLOCK, "backup")[0];
    assert_eq!(backup["lock_until"], "2026-12-03T00:00:00Z", "{backup}");
    let locks = site.tasks(BLOCK, "prune")[0]["locks"].clone();
    assert_eq!(locks[0]["until"], "2026-12-03T00:00:00Z", "{locks}");
    assert!(locks[0]["manifest"].as_str().unwrap().contains("20261120T0100"), "{locks}");
    // The end of a month is needed as long as December, the month after it, is the last.
    site.at("2026-12-01 01:00:00", "run --json").ends(0);
    assert_eq!(site.tasks(BLOCK, "backup")[1]["lock_until"], "2027-01-07T00:00:00Z");
    assert_eq!(site.tasks(BLOCK, "prune")[1]["locks"].as_array().unwrap().len(), 2);
    // What nobody asked to be locked is not.
    assert!(site.tasks(ARCHIVE, "backup").iter().all(|job| job["lock_until"].is_null()));
    assert!(site.tasks(ARCHIVE, "prune").is_empty());
}

#[test]
fn one_object_that_is_not_what_it_should_be_lets_no_lock_end() {
    let site = site_that_locks();
    site.night(20);
    site.good_but(
        BLOCK,
        "list",
        r#"while read -r line; do say "${line%\}}"',"message_type":"point","state":"available"}'; done < "$at/block.points"
say '{"message_type":"finding","target":"frankfurt","object":"points/junk","kind":"unexpected","problem":"its name is not a manifest'"'"'s","points":[],"paths":[]}'
say '{"message_type":"error","exit_code":21,"code":"damaged","message":"some manifests are not what they should be"}'
exit 21"#,
    );
    let ran = site.night(21).tells("frankfurt: points/junk: its name is not a manifest's");
    let ran = ran.tells("web: nothing is marked for deletion there tonight: frankfurt: ");
    assert!(!ran.err.contains("locks could"), "{}", ran.err);
    let tonight = site.tasks(BLOCK, "prune").pop().unwrap();
    assert_eq!(tonight["locks"].as_array().unwrap().len(), 2, "{tonight}");
    assert!(tonight["drop"].as_array().unwrap().is_empty() && tonight["sweep"] != true, "{tonight}");
    let before = site.tasks(BLOCK, "prune").len();
    site.prune(22, "")
        .ends(21)
        .says(&["frankfurt: ", "did not tell all that it holds, so nothing was marked or deleted"]);
    let tasks = site.tasks(BLOCK, "prune");
    assert_eq!((tasks.len(), tasks[before]["locks"].as_array().unwrap().len()), (before + 1, 2));
    site.prune(22, "--dry-run").ends(21);
    assert_eq!(site.tasks(BLOCK, "prune").len(), before + 1, "a dry run locks nothing");
}
