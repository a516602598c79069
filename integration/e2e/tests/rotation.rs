//! Three dates of `verify --slice today/3` read every stored byte of every kept point: what is wrong with an old one is
//! found by then, and is held against the points that need it and no other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dualsync_e2e::clockfile::ClockFile;
use dualsync_e2e::image::text;
use dualsync_e2e::kept::objects;
use dualsync_e2e::needs;
use dualsync_e2e::programs::Ran;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The largest object of a kind that came into a store.
fn largest(before: &[String], folder: &Path, kind: &str) -> String {
    let there = objects(folder);
    let new = there.iter().filter(|(name, _)| name.starts_with(kind) && !before.contains(name));
    new.max_by_key(|(_, bytes)| **bytes).unwrap().0.clone()
}

#[test]
fn a_flipped_byte_of_an_old_point_is_found_within_the_dates_of_a_round() {
    if !needs::commands(&["faketime", "mke2fs"]) {
        return;
    }
    let site = Site::new();
    let source = tree::small_source(&site, "");
    site.configure(&source);
    let clock = ClockFile::new(&site.path("clock"), "2027-03-01T00:00:00Z".parse().unwrap());
    let at = |time: &str, arguments: &[&str]| {
        Ran::of(&mut clock.at(&site.command(arguments), format!("2027-03-{time}:00Z").parse().unwrap()))
    };
    let _ = at("01T00:30", &["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);

    // Each night another megabyte that does not compress stands in the place of the one before, so each has a pack and a
    // volume of its own; those of the second night are neither the oldest nor the newest.
    let mut damaged = Vec::new();
    for night in 1..=3_u8 {
        let before = ["de", "fr"].map(|store| objects(&site.path(store)).into_keys().collect::<Vec<_>>());
        let noise: Vec<_> = tree::random_bytes(1 << 20).iter().map(|byte| byte ^ night.wrapping_mul(0x55)).collect();
        tree::write_small_source(&source, "noise", &noise);
        let _ = at(&format!("0{night}T01:10"), &["run"]).exits(0);
        if night == 2 {
            damaged = vec![
                ("de", largest(&before[0], &site.path("de"), "packs/")),
                ("fr", largest(&before[1], &site.path("fr"), "volumes/")),
            ];
        }
    }
    let listed = || at("03T06:00", &["list", "--json"]).exits(0).json();
    let points: Vec<_> =
        listed().as_array().unwrap().iter().map(|row| row["point"].as_str().unwrap().to_owned()).collect();
    assert_eq!(points.len(), 3);
    for (store, object) in &damaged {
        flip_a_byte(&site.path(store).join(object));
    }

    let mut found = BTreeSet::new();
    let mut read = 0;
    for date in ["03T07:00", "04T02:00", "05T02:00"] {
        let ran = at(date, &["verify", "--slice", "today/3", "--json"]);
        let summary = ran.summary();
        let mut is_new = false;
        for target in summary["report"]["turn"]["targets"].as_array().unwrap() {
            assert_eq!(target["failure"], serde_json::Value::Null, "{date}: {target}");
            let name = target["target"].as_str().unwrap().to_owned();
            for finding in target["findings"].as_array().unwrap() {
                let object = finding.as_str().unwrap().split(' ').next().unwrap().trim_end_matches(':').to_owned();
                assert!(found.insert((name.clone(), object)), "{date}: told twice: {finding}");
                is_new = true;
            }
        }
        assert!(!is_new || ran.code == 21, "{date}: {} {}", ran.code, ran.stderr);
        // What was found is held against the point that needs it, from then on and on its side only.
        for (mechanism, target) in [("block", "de"), ("archive", "fr")] {
            let second = if found.iter().any(|(name, _)| name == target) { "damaged" } else { "available" };
            assert_eq!(states(&listed(), mechanism), ["available", second, "available"], "{date}: {mechanism}");
        }
        read += 1;
        for copy in summary["report"]["reading"]["copies"].as_array().unwrap() {
            assert_eq!(copy["slices_read"], read, "{date}: {copy}");
        }
    }
    let expected: BTreeSet<_> = damaged.iter().map(|(store, object)| ((*store).to_owned(), object.clone())).collect();
    assert_eq!(found, expected);
}

fn states(listed: &serde_json::Value, mechanism: &str) -> Vec<String> {
    let state = |row: &serde_json::Value| row["copies"][mechanism]["state"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(state).collect()
}
