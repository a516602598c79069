//! `dualsync restore`: what TO becomes, which copy is read, and what is never written over.

use crate::site::{ARCHIVE, BLOCK, Site};

fn with_point() -> Site {
    let site = Site::new();
    site.at("2026-11-20 01:00:00", "run").ends(0);
    for mechanism in [BLOCK, ARCHIVE] {
        std::fs::remove_file(site.path(&format!("{mechanism}.jobs"))).unwrap();
    }
    site
}

impl Site {
    /// The restore task a writer was given.
    fn task(&self, mechanism: &str) -> Option<serde_json::Value> {
        self.jobs(mechanism).into_iter().map(|job| job["task"].clone()).find(|task| task["verb"] == "restore")
    }
}

#[test]
fn a_to_that_is_not_there_becomes_an_image_from_block_and_else_a_directory() {
    let check = |options: &str, mechanism: &str, shape: &str| {
        let site = with_point();
        let to = site.path("to");
        site.run(&format!("restore web@latest --to {} {options}", to.display())).ends(0);
        let task = site.task(mechanism).unwrap();
        assert_eq!(task["shape"], shape, "{options}");
        assert_eq!(task["to"], to.display().to_string());
    };
    check("--from block", BLOCK, "image");
    check("--from block --path etc/**", BLOCK, "tree");
    check("--from archive", ARCHIVE, "tree");
    check("", ARCHIVE, "tree");
}

#[test]
fn what_stands_at_to_is_not_written_over_by_accident() {
    let site = with_point();
    let image = site.path("web.img");
    let line = format!("restore web@latest --to {}", image.display());
    site.run(&line).ends(2).tells("would be written over").tells("--overwrite");
    site.run(&format!("{line} --overwrite")).ends(2).tells("no terminal to ask").tells("--yes");
    assert_eq!(site.task(BLOCK), None);
    site.run(&format!("{line} --overwrite --yes")).ends(0);
    assert_eq!(site.task(BLOCK).unwrap()["overwrite"], true);
}

#[test]
fn what_cannot_be_made_is_refused_before_a_store_is_asked() {
    let site = with_point();
    let image = site.path("web.img");
    let check = |options: &str, expected: &str| {
        site.run(&format!("restore web@latest {options}")).ends(2).tells(expected);
    };
    check(&format!("--to {} --from archive", image.display()), "cannot be restored to a device or an image");
    check(&format!("--to {} --path x", image.display()), "--path restores files into a directory");
    check("--to /dev/null", "neither a block device nor a file");
    assert!(site.jobs(BLOCK).is_empty());
}

#[test]
fn the_other_copy_is_read_when_the_fitting_one_is_not_there() {
    let site = with_point();
    std::fs::remove_file(site.path("archive.points")).unwrap();
    let to = site.path("to").display().to_string();
    site.run(&format!("restore web@latest --to {to}"))
        .ends(0)
        .tells("the archive copy is missing, so the block copy is read");
    assert_eq!(site.task(BLOCK).unwrap()["shape"], "tree");
    site.run(&format!("restore web@latest --to {to} --from archive")).ends(21).tells("the archive copy is missing");
}

#[test]
fn the_other_copy_is_read_when_the_first_turns_out_damaged() {
    let damaged = "say '{\"message_type\":\"finding\",\"target\":\"paris\",\"object\":\"volumes/x\",\"kind\":\"digest\",\"problem\":\"is not what was stored\",\"paths\":[\"etc/passwd\"]}'\n\
        say '{\"message_type\":\"error\",\"exit_code\":21,\"code\":\"damaged\",\"message\":\"one object is damaged\"}'; exit 21";
    let site = with_point();
    site.good_but(ARCHIVE, "restore", damaged);
    let to = site.path("to").display().to_string();
    let ran = site.run(&format!("restore web@latest --to {to}")).ends(0);
    let ran = ran.tells("volumes/x: is not what was stored; hits etc/passwd").tells("the block copy is read instead");
    assert!(ran.out.contains("from the block copy"), "{}", ran.out);
    site.run(&format!("restore web@latest --to {to} --from archive"))
        .ends(21)
        .tells("--from block reads the other copy");
}

#[test]
fn options_reach_the_writer_and_numbers_come_back() {
    let site = with_point();
    let to = site.path("to").display().to_string();
    let summary =
        site.run(&format!("restore web@latest --to {to} --path a/* --path b --dry-run --resume --json")).ends(0).last();
    let task = site.task(ARCHIVE).unwrap();
    assert_eq!(task["paths"], serde_json::json!(["a/*", "b"]));
    assert_eq!((&task["dry_run"], &task["resume"], &task["kernel_mount"]), (&true.into(), &true.into(), &true.into()));
    assert_eq!((&summary["from"], &summary["bytes"]), (&"archive".into(), &2048.into()));
}

#[test]
fn another_identity_opens_the_archive_copy_and_only_that() {
    let site = with_point();
    let recovery = site.path("recovery.agekey");
    for from in ["archive", "block"] {
        let to = site.path(&format!("out-{from}"));
        let line = format!("restore web@latest --from {from} --identity {} --to {}", recovery.display(), to.display());
        site.run(&line).ends(0);
    }
    let job = |mechanism| {
        let jobs = site.jobs(mechanism);
        jobs.into_iter().find(|job| job["task"]["verb"] == "restore").unwrap()["keys"].clone()
    };
    assert_eq!(job(ARCHIVE)["identity"], format!("file:{}", recovery.display()));
    assert_eq!(job(BLOCK)["key"], format!("file:{}", site.path("block.key").display()));
}
