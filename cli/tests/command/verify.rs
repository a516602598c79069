//! `dualsync verify`: verdicts, exit codes, the report, what is remembered.

use crate::site::{ARCHIVE, BLOCK, ROOT, SUMMARY, Site, file};

/// One point of the night of the 20th, seen on that morning: no date is due yet but its own.
fn with_point() -> Site {
    let site = Site::new();
    site.at("2026-11-20 01:00:00", "run").ends(0);
    site
}

impl Site {
    fn verify(&self, options: &str) -> crate::site::Ran {
        self.at("2026-11-20 02:00:00", &format!("verify {options}"))
    }

    /// What both sides witness.
    fn witness(&self, mechanism: &str, files: &[String]) {
        let lines: Vec<_> = std::iter::once(ROOT.to_owned()).chain(files.iter().cloned()).collect();
        let body: Vec<_> = lines.iter().map(|line| format!("say '{line}'")).collect();
        self.good_but(mechanism, "facts", &format!("{}\nsay '{SUMMARY}'\nexit 0", body.join("\n")));
    }

    /// The verbs of verify, behind those of the run: `backup`, and `list` for its marks.
    fn verbs(&self, mechanism: &str) -> Vec<String> {
        let verb = |job: serde_json::Value| job["task"]["verb"].as_str().unwrap_or_default().to_owned();
        let reads = |verb: &String| !matches!(verb.as_str(), "init" | "evidence");
        self.jobs(mechanism).into_iter().map(verb).skip(2).filter(reads).collect()
    }
}

#[test]
fn two_equal_copies_agree() {
    let site = with_point();
    let ran = site.verify("--json").ends(0);
    let summary = ran.last();
    assert_eq!((&summary["message_type"], &summary["verdict"]), (&"summary".into(), &"agree".into()));
    for field in ["witnessed_entries", "witnessed_bytes", "differences", "findings", "contract", "report"] {
        assert!(!summary[field].is_null(), "{field}");
    }
    assert_eq!(summary["contract"][0]["state"], "green");
    let text = site.verify("").ends(0).out;
    assert!(text.contains("web@20261120T010000Z: agree") && text.contains("Verdict: agree"), "{text}");
}

#[test]
fn copies_that_differ_end_with_20_and_name_the_file() {
    let site = with_point();
    site.witness(BLOCK, &[file("etc", 'a')]);
    site.witness(ARCHIVE, &[file("etc", 'b')]);
    let summary = site.verify("--json").ends(20).last();
    assert_eq!(summary["verdict"], "disagree");
    assert_eq!(
        (&summary["differences"][0]["path"], &summary["differences"][0]["kind"]),
        (&"etc".into(), &"content".into())
    );
    // What is kept in the stores, in clear, names no file.
    assert!(!site.read("block.reports/1/report.json").contains("\"etc\""));
    assert!(site.read("state/reports/1/details.json").contains("\"etc\""));
    assert!(!site.path("block.reports/1/details.json").exists());
}

#[test]
fn a_damaged_object_ends_with_21_is_remembered_and_mended_by_a_good_verify() {
    let site = with_point();
    let finding = "say '{\"message_type\":\"finding\",\"target\":\"frankfurt\",\"object\":\"packs/aa/bb\",\"kind\":\"missing\",\"problem\":\"is not there\",\"paths\":[\"etc/passwd\"]}'";
    site.good_but(BLOCK, "check", &format!("{finding}\nsay '{SUMMARY}'\nexit 0"));
    let summary = site.verify("--json").ends(21).last();
    assert_eq!((&summary["verdict"], &summary["findings"][0]["object"]), (&"damaged".into(), &"packs/aa/bb".into()));
    let state = |site: &Site| site.run("list --json").ends(0).last()[0]["copies"]["block"]["state"].clone();
    assert_eq!(state(&site), "damaged");
    site.good(BLOCK);
    // Looking at the objects alone never makes a copy good again.
    site.verify("--presence");
    assert_eq!(state(&site), "damaged");
    site.verify("").ends(0);
    assert_eq!(state(&site), "available");
}

#[test]
fn a_missing_copy_ends_with_21_and_the_other_is_read_all_the_same() {
    let site = with_point();
    std::fs::remove_file(site.path("archive.points")).unwrap();
    let summary = site.verify("--json").ends(21).last();
    assert_eq!(summary["verdict"], "one_side_missing");
    assert_eq!(site.verbs(BLOCK), ["list", "check", "facts"]);
}

#[test]
fn a_reader_that_dies_hangs_or_prints_garbage_never_agrees() {
    for body in [format!("say '{ROOT}'; exit 1"), format!("say '{ROOT}'; sleep 60"), "echo tralala".to_owned()] {
        let site = with_point();
        site.be_impatient();
        site.good_but(ARCHIVE, "facts", &body);
        let summary = site.verify("--json").ends(21).last();
        assert_eq!(summary["verdict"], "one_side_missing", "{body}");
        let listed = site.run("list --json").ends(0).last();
        assert_eq!(listed[0]["copies"]["archive"]["state"], "available", "a reader's fault is not the copy's: {body}");
        assert!(listed[0]["copies"]["archive"]["verified_at"].is_null(), "{body}");
        assert!(!listed[0]["copies"]["block"]["verified_at"].is_null(), "{body}");
    }
}

#[test]
fn a_date_that_is_missing_ends_with_22() {
    let site = with_point();
    let summary = site.at("2026-11-23 12:00:00", "verify --json").ends(22).last();
    assert_eq!(summary["verdict"], "agree");
    let red = summary["contract"].as_array().unwrap().iter().filter(|row| row["state"] == "red").count();
    assert!(red >= 2, "{summary}");
}

#[test]
fn each_option_asks_the_programs_for_its_own_depth() {
    let check = |options: &str, verbs: &[&str], depth: &str, slice: Option<&str>| {
        let site = with_point();
        site.verify(options).ends(0);
        assert_eq!(site.verbs(ARCHIVE)[1..], *verbs, "{options}");
        let task = site.tasks(ARCHIVE, "check").remove(0);
        assert_eq!(task["depth"], depth, "{options}");
        assert_eq!(task.get("slice").and_then(|slice| slice.as_str()), slice, "{options}");
    };
    check("", &["check", "facts"], "presence", None);
    check("--full", &["check", "facts"], "objects", None);
    check("--slice 3/30", &["check", "facts"], "objects", Some("3/30"));
    check("--objects", &["check"], "objects", None);
    check("--presence", &["check"], "presence", None);
}

#[test]
fn nothing_to_verify_is_no_agreement() {
    Site::new().run("verify").ends(21).tells("no point to verify");
}

#[test]
fn the_point_the_latest_or_all_are_verified() {
    let site = with_point();
    site.at("2026-11-21 01:00:00", "run").ends(0);
    let points = |options: &str| {
        let summary = site.at("2026-11-21 02:00:00", &format!("verify --json {options}")).ends(0).last();
        summary["report"]["points"].as_array().unwrap().len()
    };
    assert_eq!(points(""), 1);
    assert_eq!(points("--latest"), 1);
    assert_eq!(points("--all"), 2);
    assert_eq!(points("web@20261120"), 1);
}

#[test]
fn dates_of_a_store_that_does_not_answer_are_red_for_that_reason() {
    let site = with_point();
    site.good_but(ARCHIVE, "list", "exit 1");
    let ran =
        site.at("2026-11-20 08:00:00", "verify --presence --json").ends(1).tells("not every target answered: paris");
    let dates = ran.last()["contract"].clone();
    let of =
        |mechanism: &str| dates.as_array().unwrap().iter().find(|row| row["mechanism"] == mechanism).unwrap().clone();
    assert_eq!((&of(BLOCK)["date"], &of(BLOCK)["state"]), (&"2026-11-19".into(), &"green".into()));
    assert_eq!((&of(ARCHIVE)["date"], &of(ARCHIVE)["state"]), (&"2026-11-19".into(), &"red".into()));
    assert_eq!(of(ARCHIVE)["reason"], "not known: paris did not answer");
}
