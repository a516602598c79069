//! `delete` and `undelete`.

use crate::site::{ARCHIVE, BLOCK, Ran, Site};

fn two_nights() -> Site {
    let site = Site::new();
    for day in [20, 21] {
        site.at(&format!("2026-11-{day} 01:00:00"), "run").ends(0);
    }
    site
}

impl Site {
    fn morning(&self, day: u32, line: &str) -> Ran {
        self.at(&format!("2026-11-{day} 08:00:00"), line)
    }

    /// As a deleter leaves a store that was cut off after it had begun.
    fn begin_deleting(&self, mechanism: &str) {
        let marks = self.read(&format!("{mechanism}.marks"));
        let begun = marks.replace("\"asked\": true", "\"asked\": true, \"deleting\": true");
        assert_ne!(begun, marks);
        std::fs::write(self.path(&format!("{mechanism}.marks")), begun).unwrap();
    }

    fn states(&self, day: u32) -> Vec<(String, String)> {
        let listed = self.morning(day, "list --json").last();
        let state = |copy: &serde_json::Value| copy["state"].as_str().unwrap().to_owned();
        let rows = listed.as_array().unwrap().iter();
        rows.map(|row| (state(&row["copies"]["block"]), state(&row["copies"]["archive"]))).collect()
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(block, archive)| ((*block).to_owned(), (*archive).to_owned())).collect()
}

#[test]
fn a_point_is_marked_shown_with_its_loss_and_deleted_a_grace_later() {
    let site = two_nights();
    let ran = site.morning(21, "delete web@20261120 --yes").ends(0);
    ran.tells("the contract loses 2026-11-19 of web (block, DE): the copy is marked for deletion").tells("next: ");
    assert_eq!(site.states(21), pairs(&[("deleting", "deleting"), ("available", "available")]));
    let task = site.tasks(BLOCK, "prune").pop().unwrap();
    assert_eq!(task["sweep"], false);
    assert_eq!(task["drop"][0]["asked"], true);
    let waits = site.morning(21, "prune").ends(0).out;
    assert!(waits.contains("drop: a person asked for it (asked for <1s ago)"), "{waits}");
    site.morning(22, "prune").ends(0);
    assert_eq!(site.states(22), pairs(&[("available", "available")]));
}

#[test]
fn the_json_names_what_is_lost_and_what_was_done() {
    let site = two_nights();
    let summary = site.morning(21, "delete web@20261120 --yes --json").ends(0).last();
    assert_eq!(summary["message_type"], "summary");
    assert_eq!(summary["loses"].as_array().unwrap().len(), 2);
    assert_eq!((&summary["loses"][0]["date"], &summary["loses"][0]["state"]), (&"2026-11-19".into(), &"red".into()));
    assert_eq!(summary["targets"][1]["copies"][0]["action"], "marked");
}

#[test]
fn nothing_is_deleted_without_a_yes() {
    let site = two_nights();
    site.morning(21, "delete web@latest").ends(2).tells("there is no terminal to confirm it");
    site.morning(21, "delete --source web --all").ends(2).tells("add --yes");
    assert_eq!(site.states(21), pairs(&[("available", "available"), ("available", "available")]));
}

#[test]
fn one_copy_alone_can_be_deleted_and_the_other_stays() {
    let site = two_nights();
    site.morning(21, "delete web@20261120 --only archive --yes").ends(0);
    assert_eq!(site.states(21)[0], ("available".into(), "deleting".into()));
    site.morning(22, "prune").ends(0);
    assert_eq!(site.states(22)[0], ("available".into(), "missing".into()));
    site.morning(22, "delete web@20261120 --only archive --yes").ends(2).tells("there is no such copy");
}

#[test]
fn a_point_that_is_not_there_is_refused() {
    let site = two_nights();
    site.morning(21, "delete web@2019 --yes").ends(1).tells("there is no point 'web@2019'");
    site.morning(21, "delete --source mail --all --yes")
        .ends(2)
        .tells("there is no such copy of source 'mail' to delete");
}

#[test]
fn a_store_that_does_not_answer_leaves_the_other_side_marked_and_is_told() {
    let site = two_nights();
    site.good_but(ARCHIVE, "list", "exit 1");
    site.morning(21, "delete web@20261120 --yes").ends(1).tells("not every target answered: paris");
    site.good(ARCHIVE);
    assert_eq!(site.states(21)[0], ("deleting".into(), "available".into()));
}

#[test]
fn a_deletion_is_taken_back_at_any_age_until_deleting_has_begun() {
    let site = two_nights();
    site.morning(21, "delete web@20261120 --yes").ends(0);
    let ran = site.morning(21, "undelete web@20261120").ends(0);
    ran.says(&["frankfurt: web@20261120T0100", "kept again"]);
    assert_eq!(site.states(21)[0], ("available".into(), "available".into()));
    let again = site.morning(21, "undelete web@20261120").ends(0);
    assert!(again.out.contains("is not marked for deletion"), "{}", again.out);
    site.morning(21, "delete web@20261120 --yes").ends(0);
    let late = site.morning(25, "undelete web@20261120").ends(0);
    late.says(&["paris: web@20261120T0100", "kept again"]);
    assert_eq!(site.states(25)[0], ("available".into(), "available".into()));
    site.morning(25, "delete web@20261120 --yes").ends(0);
    site.begin_deleting(BLOCK);
    site.morning(25, "undelete web@20261120").ends(1).tells("frankfurt: refused: web@20261120T0100");
    assert_eq!(site.states(25)[0], ("deleting".into(), "available".into()));
}

#[test]
fn a_source_that_left_the_configuration_can_be_deleted_whole() {
    let site = two_nights();
    site.configure(&site.config().replace("name = \"web\"", "name = \"mail\""));
    site.morning(21, "delete --source web --all --yes").ends(0);
    site.morning(22, "prune").ends(0);
    assert_eq!(site.states(22), pairs(&[]));
}

#[test]
fn a_whole_source_that_is_deleted_raises_no_alarm_later_and_begins_anew() {
    let site = two_nights();
    assert_eq!(site.anchor(), 2);
    site.morning(21, "delete --source web --all --yes").ends(0);
    assert_eq!(site.anchor(), 2, "as long as the newest manifest is there it is remembered");
    site.morning(22, "prune").ends(0);
    assert!(!site.path("state/anchors/frankfurt.json").exists());
    site.at("2026-11-23 01:00:00", "run").ends(0);
    let backup = site.tasks(BLOCK, "backup").pop().unwrap();
    assert!(backup.get("remembered").is_none() && backup.get("other").is_none(), "{backup}");
    let summary = site.morning(23, "verify --presence --json").ends(0).last();
    let red = summary["contract"].as_array().unwrap().iter().filter(|row| row["state"] == "red").count();
    assert_eq!(red, 0, "its past went with it: {summary}");
}

#[test]
fn a_prune_that_was_cut_off_after_the_deletion_raises_no_alarm_either() {
    let site = two_nights();
    site.morning(21, "delete --source web --all --yes").ends(0);
    // The program deletes and dies before it can say so.
    let cut = "printf '%s' \"$job\" | python3 -ISE \"$at/prune.py\" \"$at/block\" > /dev/null; exit 1";
    site.good_but(BLOCK, "prune", cut);
    site.morning(22, "prune").ends(1);
    site.good(BLOCK);
    site.morning(22, "prune").ends(0);
    let prune = site.tasks(BLOCK, "prune").pop().unwrap();
    assert!(prune.get("remembered").is_none(), "{prune}");
}

impl Site {
    /// The sequence that is remembered of the block target.
    fn anchor(&self) -> u64 {
        let anchor: serde_json::Value = serde_json::from_str(&self.read("state/anchors/frankfurt.json")).unwrap();
        anchor["sequence"].as_u64().unwrap()
    }
}
