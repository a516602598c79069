//! What a night without changes costs, and what a killed restore costs when it is taken up again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use dualsync_e2e::image::text;
use dualsync_e2e::programs::Ran;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

fn site() -> Site {
    let site = Site::new();
    let source = tree::small_source(&site, "");
    tree::grow_small_source(&source, 100 << 20);
    site.configure(&source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    site
}

#[test]
fn a_night_without_changes_uploads_only_metadata_in_twelve_requests() {
    let site = site();
    let _ = site.dualsync(&["run"]).exits(0);
    // The second night settles what the first could not know (files younger than its snapshot).
    let _ = site.dualsync(&["run"]).exits(0);
    let quiet = site.dualsync(&["run", "--json"]).exits(0).summary();
    for mechanism in ["block", "archive"] {
        let copy = &quiet["copies"][mechanism];
        let requests: u64 = copy["requests"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
        assert!((1..=12).contains(&requests), "{mechanism}: {copy}");
        assert!(copy["added_bytes"].as_u64().unwrap() < 64 << 10, "{mechanism}: {copy}");
    }
}

/// Starts a restore, kills it and its writer when `bytes` are done, and takes it up again.
fn killed_and_resumed(site: &Site, from: &str, to: &Path) -> Ran {
    let arguments = ["restore", "web@latest", "--from", from, "--to", text(to), "--yes", "--json"];
    let mut child =
        site.command(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["bytes_done"].as_u64().is_some_and(|done| done > 40 << 20) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    site.dualsync(&[&arguments[..], &["--resume"]].concat())
}

#[test]
fn a_killed_restore_is_taken_up_without_fetching_again_what_was_verified() {
    let site = site();
    let _ = site.dualsync(&["run"]).exits(0);
    for from in ["block", "archive"] {
        let whole = site.path(&format!("whole-{from}"));
        let all = site
            .dualsync(&["restore", "web@latest", "--from", from, "--to", text(&whole), "--yes", "--json"])
            .exits(0)
            .summary();
        let to = site.path(&format!("resumed-{from}"));
        let resumed = killed_and_resumed(&site, from, &to).exits(0).summary();
        let fetched = |summary: &serde_json::Value| summary["fetched_bytes"].as_u64().unwrap();
        assert!(fetched(&resumed) < fetched(&all) * 9 / 10, "{from}: {resumed} after {all}");
        dualsync_e2e::image::sh(
            if from == "block" { "cmp" } else { "diff" },
            &if from == "block" { vec![text(&whole), text(&to)] } else { vec!["-r", text(&whole), text(&to)] },
        );
    }
}
