//! What a night without changes costs, and what a killed restore costs when it is taken up again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use dualsync_e2e::image::{sh, text};
use dualsync_e2e::objects::{Objects, files};
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;
use rustix::process::{Pid, Signal, kill_process};

/// A source of about 100 MiB that do not compress, in files that lie in several packs and volumes.
fn site() -> Site {
    let site = Site::new();
    let source = tree::small_source(&site, "");
    for (number, bytes) in tree::random_bytes(100 << 20).chunks(10 << 20).enumerate() {
        fs::write(source.tree.join(format!("grown-{number}")), bytes).unwrap();
    }
    tree::make_image(&source, "256M");
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

fn restore<'a>(from: &'a str, to: &'a Path) -> [&'a str; 8] {
    ["restore", "web@latest", "--from", from, "--to", text(to), "--yes", "--json"]
}

/// The bytes that are there for good: what is allocated of an image, files that bear their names in a tree.
fn finished(to: &Path) -> u64 {
    match fs::metadata(to) {
        Ok(metadata) if metadata.is_dir() => {
            let named = fs::read_dir(to).unwrap().filter_map(Result::ok);
            named.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
        }
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    }
}

/// Starts a restore and kills it and its writer when 60 MiB are there; `None` when it was done before that.
fn killed(site: &Site, from: &str, to: &Path) -> Option<u64> {
    let mut command = site.command(&restore(from, to));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while finished(to) < 60 << 20 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let pid = child.id();
    let writers = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    let writers: Vec<i32> = writers.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    for writer in &writers {
        let _ = kill_process(Pid::from_raw(*writer).unwrap(), Signal::KILL);
        while fs::read_link(format!("/proc/{writer}/exe")).is_ok() {
            std::thread::yield_now();
        }
    }
    (ended.signal() == Some(9) && !writers.is_empty()).then(|| finished(to))
}

fn remove(to: &Path) {
    let _ = if to.is_dir() { fs::remove_dir_all(to) } else { fs::remove_file(to) };
}

#[test]
fn a_killed_restore_is_taken_up_without_fetching_again_what_was_verified() {
    let site = site();
    let _ = site.dualsync(&["run"]).exits(0);
    for (from, target, folder) in [("block", "de", "packs"), ("archive", "fr", "volumes")] {
        let whole = site.path(&format!("whole-{from}"));
        let all = site.dualsync(&restore(from, &whole)).exits(0).summary();
        let to = site.path(&format!("resumed-{from}"));
        // On a busy machine it may be done before anybody looks.
        let was_there = (0..5).find_map(|_| {
            remove(&to);
            killed(&site, from, &to)
        });
        let was_there = was_there.expect("no restore was killed half-way");
        let resumed = site.dualsync(&[&restore(from, &to)[..], &["--resume"]].concat()).exits(0).summary();
        let fetched = |summary: &serde_json::Value| summary["fetched_bytes"].as_u64().unwrap();
        let objects = Objects::Folder(site.path(target));
        let object_bytes = objects.get(&objects.keys(folder)[0]).len() as u64;
        assert!(fetched(&all) >= 100 << 20 && object_bytes < 40 << 20, "{from}: {all}");
        let most = fetched(&all) - was_there + object_bytes;
        assert!(fetched(&resumed) <= most, "{from}: {was_there} bytes were there: {resumed} after {all}");
        if from == "block" {
            sh("cmp", &[text(&whole), text(&to)]);
        } else {
            sh("diff", &["-r", text(&whole), text(&to)]);
            assert!(files(&to).len() > 100);
        }
    }
}
