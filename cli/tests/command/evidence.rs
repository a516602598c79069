//! The chain of reports: made by each verify, kept in both stores, read back by `verify --evidence`.

use std::fs;

use serde_json::Value;

use crate::site::{ARCHIVE, BLOCK, Ran, Site};

const AWAY: &str =
    r#"say '{"message_type":"error","exit_code":1,"code":"store","message":"no route to the store"}'; exit 1"#;

fn with_point() -> Site {
    let site = Site::new();
    site.at("2026-11-20 01:00:00", "run").ends(0);
    site
}

impl Site {
    /// A verify at this hour of the morning after.
    fn verify_at(&self, hour: u8) -> Ran {
        self.at(&format!("2026-11-20 {hour:02}:00:00"), "verify --presence")
    }

    /// What a store keeps: number, time, digest, digest of the one before.
    fn kept(&self, mechanism: &str) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.path(&format!("{mechanism}.evidence"))).unwrap_or_default();
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }

    fn numbers(&self, mechanism: &str) -> Vec<String> {
        self.kept(mechanism).into_iter().map(|kept| kept[0].clone()).collect()
    }

    fn report(&self, number: u32) -> Value {
        serde_json::from_str(&self.read(&format!("state/reports/{number}/report.json"))).unwrap()
    }

    /// Changes what a store keeps.
    fn forge(&self, mechanism: &str, change: impl Fn(&str) -> String) {
        let path = format!("{mechanism}.evidence");
        let changed = change(&self.read(&path));
        fs::write(self.path(&path), changed).unwrap();
    }

    fn chain(&self) -> Ran {
        self.at("2026-11-20 09:00:00", "verify --evidence")
    }
}

#[test]
fn each_verify_makes_one_report_in_three_forms_and_both_stores_keep_it() {
    let site = with_point();
    site.verify_at(2).ends(0).tells("report 1 is kept in paris, frankfurt");
    site.verify_at(3).ends(0);
    assert_eq!(site.numbers(BLOCK), ["1", "2"]);
    assert_eq!(site.kept(BLOCK), site.kept(ARCHIVE));
    assert_eq!(site.kept(BLOCK)[1][3], site.kept(BLOCK)[0][2], "the second names the first");
    for form in ["json", "txt", "html"] {
        let text = site.read(&format!("state/reports/2/report.{form}"));
        assert!(text.contains("web-01") && text.contains("web@20261120T010000Z"), "{text}");
        assert_eq!(text, site.read(&format!("block.reports/2/report.{form}")));
    }
    let report = site.report(2);
    assert_eq!((&report["report"]["number"], &report["report"]["host"]), (&2.into(), &"web-01".into()));
    assert_eq!(report["report"]["previous"], site.kept(BLOCK)[0][2].as_str());
    let ran = site.chain().ends(0);
    for line in
        ["paris: 2 reports, the newest is 2: each one proved", "frankfurt: 2 reports, the newest is 2: each one proved"]
    {
        assert!(ran.out.contains(line), "{}", ran.out);
    }
}

#[test]
fn the_report_says_where_the_copies_are_and_how_that_was_established() {
    let site = with_point();
    site.run(&format!("init --sheet {}", site.path("sheet.txt").display())).ends(0);
    site.verify_at(2).ends(0);
    let report = &site.report(1)["report"];
    let target = &report["targets"][0];
    assert_eq!(
        (&target["target"], &target["country"], &target["basis"]),
        (&"frankfurt".into(), &"DE".into(), &"declared".into())
    );
    assert_eq!(target["repository"], "0123456789abcdef");
    assert_eq!(target["keys"][0], serde_json::json!(["key id", "beef"]));
    assert!(target["encryption"].as_str().unwrap().contains("AES-256-GCM"));
    assert!(report["drills"][0]["restore"].is_null(), "none yet");
    assert!(report["shared"].as_array().unwrap().len() >= 2);
    let html = site.read("state/reports/1/report.html");
    for text in ["GOOD, WITH REMARKS.", "no restore was rehearsed", "declared: only the configuration says so"] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn a_restore_is_the_drill_of_the_next_report() {
    let site = with_point();
    site.at("2026-11-20 02:00:00", &format!("restore web@latest --to {}", site.path("back").display())).ends(0);
    site.at("2026-11-20 02:00:00", &format!("restore web@latest --dry-run --to {}", site.path("not").display()))
        .ends(0);
    site.verify_at(3).ends(0);
    let drill = &site.report(1)["report"]["drills"][0]["restore"];
    assert_eq!((&drill["from"], &drill["bytes"], &drill["verified"]), (&"archive".into(), &2048.into(), &true.into()));
    assert_eq!(drill["at"].as_str().unwrap()[..16], *"2026-11-20T02:00");
}

#[test]
fn a_store_that_was_away_is_said_and_mended_by_the_next_verify() {
    let site = with_point();
    site.verify_at(2).ends(0);
    site.good_but(BLOCK, "evidence", AWAY);
    site.verify_at(3).ends(0).tells("frankfurt: its reports could not be read").tells("report 2 is kept in paris;");
    assert_eq!((site.numbers(BLOCK), site.numbers(ARCHIVE)), (vec!["1".into()], vec!["1".into(), "2".into()]));
    let html = site.read("state/reports/2/report.html");
    assert!(html.contains("away, so this report is not kept there yet") && html.contains("no route to the store"));
    site.chain().ends(1).tells("frankfurt: its reports could not be read");
    site.good(BLOCK);
    site.chain().ends(23).tells("frankfurt: report 2 is missing, and paris has it");
    site.verify_at(4).ends(0).tells("frankfurt lacked report 2: it is there now");
    assert_eq!(site.kept(BLOCK), site.kept(ARCHIVE));
    assert_eq!(site.report(3)["report"]["chain"][1]["mended"], serde_json::json!([2]));
    site.chain().ends(0);
}

#[test]
fn a_host_that_lost_its_memory_goes_on_and_mends_from_the_other_store() {
    let site = with_point();
    site.verify_at(2).ends(0);
    site.good_but(BLOCK, "evidence", AWAY);
    site.verify_at(3).ends(0);
    site.good(BLOCK);
    fs::remove_dir_all(site.path("state/reports")).unwrap();
    site.verify_at(4).ends(0).tells("frankfurt lacked report 2");
    assert_eq!(site.numbers(BLOCK), ["1", "2", "3"]);
    assert_eq!(site.kept(BLOCK), site.kept(ARCHIVE));
    let left: Vec<_> =
        fs::read_dir(site.path("state/reports")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "3" || name == ".lock"), "{left:?}");
}

#[test]
fn both_stores_away_cost_no_report_and_no_number() {
    let site = with_point();
    for mechanism in [BLOCK, ARCHIVE] {
        site.good_but(mechanism, "evidence", AWAY);
    }
    site.verify_at(2).ends(0).tells("report 1 is kept in no store");
    for mechanism in [BLOCK, ARCHIVE] {
        site.good(mechanism);
    }
    site.verify_at(3).ends(0);
    assert_eq!(
        (site.numbers(BLOCK), site.numbers(ARCHIVE)),
        (vec!["1".to_owned(), "2".into()], vec!["1".into(), "2".into()])
    );
    site.chain().ends(0);
}

/// Three reports, one store changed by `change`: `verify --evidence` ends with 23 and `sentence`.
#[track_caller]
fn broken(mechanism: &str, change: impl Fn(&str) -> String, sentence: &str) {
    let site = with_point();
    for hour in 2..5 {
        site.verify_at(hour).ends(0);
    }
    site.forge(mechanism, change);
    let ran = site.chain().ends(23).tells(sentence).tells("hint: ");
    assert!(ran.out.contains("BROKEN"), "{}", ran.out);
    let json = Ran::of(site.command("verify --evidence --json").output().unwrap()).ends(23);
    assert_eq!(json.last()["exit_code"], 23);
}

fn without(number: &str) -> impl Fn(&str) -> String + '_ {
    move |text| text.lines().filter(|line| !line.starts_with(number)).fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn a_report_that_was_taken_out_is_named_with_its_store() {
    broken(BLOCK, without("2 "), "frankfurt: report 2 is missing");
    broken(ARCHIVE, without("3 "), "paris: report 3 is");
}

#[test]
fn a_report_that_was_exchanged_is_named_with_its_store() {
    let site = with_point();
    for hour in 2..5 {
        site.verify_at(hour).ends(0);
    }
    let digest = site.kept(BLOCK)[1][2].clone();
    site.forge(BLOCK, |text| text.replacen(&digest, &"e".repeat(64), 1));
    site.chain().ends(23).tells("report 2 is another report than in paris");
    // The verify that comes after says so in its own report, and ends with it.
    site.verify_at(6).ends(23);
    let html = site.read("state/reports/4/report.html");
    assert!(html.contains("NOT GOOD.") && html.contains("is another report than in paris"));
}

#[test]
fn a_proof_that_is_not_good_is_told_in_the_programs_words() {
    let site = with_point();
    site.verify_at(2).ends(0);
    let digest = site.kept(ARCHIVE)[0][2].clone();
    let line = format!(
        r#"{{"message_type":"evidence","number":1,"at":"2026-11-20T02:00:00Z","sha256":"{digest}","object":"evidence/1/proof","problem":"report.html does not fit its digest"}}"#
    );
    site.good_but(ARCHIVE, "evidence", &format!("say '{line}'\nsay '{}'\nexit 0", crate::site::SUMMARY));
    site.chain().ends(23).tells("paris: report 1 report.html does not fit its digest");
}

#[test]
fn a_report_that_a_store_had_and_lost_is_put_back_and_told() {
    let site = with_point();
    for hour in 2..5 {
        site.verify_at(hour).ends(0);
    }
    site.forge(BLOCK, without("2 "));
    site.verify_at(6).ends(23).tells("frankfurt: report 2 was kept there and was gone; it was put there again");
    site.verify_at(7).ends(0);
    site.chain().ends(0);
}

#[test]
fn two_verifies_at_once_take_two_numbers() {
    let site = with_point();
    let command = || {
        let mut command = site.command("verify --presence --quiet");
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let (one, other) = (command(), command());
    for child in [one, other] {
        // Today is long after the point, so dates are missing.
        Ran::of(child.wait_with_output().unwrap()).ends(22);
    }
    assert_eq!(site.numbers(BLOCK), ["1", "2"]);
    Ran::of(site.command("verify --evidence").output().unwrap()).ends(0);
}

#[test]
fn a_chain_that_nobody_began_is_whole() {
    let ran = Site::new().run("verify --evidence").ends(0);
    assert!(ran.out.contains("no report is kept yet"), "{}", ran.out);
}
