//! One writer is broken in every way a program can be: the other copy is made and restores, the exit
//! code is 4, and list and verify name the broken side.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dualsync_e2e::image::{Mounted, rsync_finds_no_difference, sh, text};
use dualsync_e2e::needs;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

/// How the writer misbehaves, as a shell script; `$real` is the real program.
const FAULTS: &[(&str, &str)] = &[
    ("exits at once", "exit 1"),
    ("panics", "echo \"thread 'main' panicked at pipeline/src/main.rs:1:1:\" >&2; exit 101"),
    ("dies of a signal", "kill -ABRT $$"),
    ("prints garbage", "echo 'thread main panicked'; sleep 60"),
    ("prints a line without an end", "head -c 3000000 /dev/zero | tr '\\0' x; sleep 60"),
    ("says nothing", "exec sleep 600"),
    (
        "speaks another protocol",
        "echo '{\"message_type\":\"hello\",\"protocol\":99,\"program\":\"x\",\"version\":\"9\"}'; sleep 60",
    ),
    (
        "lies about the end",
        "echo '{\"message_type\":\"hello\",\"protocol\":1,\"program\":\"x\",\"version\":\"1\"}'; exit 0",
    ),
    ("fills its standard error", "yes broken | head -c 5000000 >&2; exit 1"),
    (
        "dies before the commit",
        "\"$real\" \"$@\" | while read -r line; do case $line in *prepared*) exit 1;; esac; echo \"$line\"; done; exit 1",
    ),
];

fn site() -> Site {
    let site = Site::new();
    let source = tree::small_source(&site, "[limits]\nwriter_silence = \"3s\"\n");
    site.configure(&source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    site
}

fn state(point: &serde_json::Value, mechanism: &str) -> String {
    point["copies"][mechanism]["state"].as_str().unwrap_or("none").to_owned()
}

fn check(broken: &str, intact: &str) {
    let site = site();
    let program = format!("dualsync-{broken}");
    for (fault, script) in FAULTS {
        // Only the backup is broken: list, verify and restore use the real program again.
        site.programs.replace(&program, &format!("[ \"$1\" = backup ] || exec \"$real\" \"$@\"\n{script}"));
        let ran = site.dualsync(&["run", "--manual", "--json"]);
        assert_eq!(ran.code, 4, "{broken} {fault}: {}\n{}", ran.stdout, ran.stderr);
        site.programs.mend(&program);

        let points = site.dualsync(&["list", "--json"]).json();
        let newest = newest(&points);
        assert_eq!(state(&newest, intact), "available", "{broken} {fault}: {newest}");
        assert_ne!(state(&newest, broken), "available", "{broken} {fault}: {newest}");
        named_by_verify_and_restored(&site, &newest, broken, intact);
    }
}

fn newest(points: &serde_json::Value) -> serde_json::Value {
    let name = |point: &&serde_json::Value| point["point"].as_str().unwrap().to_owned();
    points.as_array().unwrap().iter().max_by_key(name).unwrap().clone()
}

/// Verify says which side has no copy of `point`, and the copy of the other side comes back as the source is.
fn named_by_verify_and_restored(site: &Site, point: &serde_json::Value, broken: &str, intact: &str) {
    let name = point["point"].as_str().unwrap();
    let summary = site.dualsync(&["verify", name, "--json"]).exits(21).summary();
    assert_eq!(summary["verdict"], "one_side_missing", "{broken}: {summary}");
    let said = site.dualsync(&["verify", name]).exits(21).stdout;
    let mut after = said.lines().skip_while(|line| !line.trim_start().starts_with(&format!("{broken} copy in ")));
    assert!(after.next().is_some() && after.next().map(str::trim) == Some("no manifest"), "{broken}:\n{said}");

    let to = site.path(&format!("restored-{name}"));
    let _ = site.dualsync(&["restore", name, "--to", text(&to), "--path", "**", "--from", intact, "--yes"]).exits(0);
    // The folder that was named is not part of what a glob matches.
    sh("touch", &["-r", text(&site.path("tree")), text(&to)]);
    rsync_finds_no_difference(&site.path("tree"), &to, &["/lost+found"]);
}

#[test]
fn a_broken_block_writer_leaves_the_archive_copy() {
    check("block", "archive");
}

#[test]
fn a_broken_archive_writer_leaves_the_block_copy() {
    check("archive", "block");
}

/// A target on a file system of 24 MiB, which a copy of 3 MiB of noise and a second one of 40 MiB fill.
#[test]
fn a_full_disk_on_one_side_leaves_the_other_copy() {
    if !needs::root_and_loop() {
        return;
    }
    for (target, broken, intact) in [("de", "block", "archive"), ("fr", "archive", "block")] {
        let site = Site::new();
        let source = tree::small_source(&site, "");
        let small = Mounted::make(site.directory.path(), target, "ext4", 24, &[]);
        site.configure(&source);
        let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
        let _ = site.dualsync(&["run"]).exits(0);
        tree::grow_small_source(&source, 40 << 20);
        let ran = site.dualsync(&["run", "--manual", "--json"]).exits(4);
        let summary = ran.summary();
        assert_eq!(summary["copies"][intact]["state"], "available", "{summary}");
        assert!((ran.stdout.clone() + &ran.stderr).contains("No space left"), "{}\n{}", ran.stdout, ran.stderr);

        // The point before is whole on both sides, the new one on the side that had room.
        let points = site.dualsync(&["list", "--json"]).json();
        let states: Vec<_> = points.as_array().unwrap().iter().map(|point| state(point, broken)).collect();
        assert_eq!(states.iter().filter(|state| *state == "available").count(), 1, "{broken}: {points}");
        let newest = newest(&points);
        assert_ne!(state(&newest, broken), "available", "{broken}: {newest}");
        named_by_verify_and_restored(&site, &newest, broken, intact);
        drop(small);
    }
}
