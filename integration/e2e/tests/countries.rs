//! Two Garage servers as the two countries: the whole of the product over S3.

use dualsync_e2e::garage::Garage;
use dualsync_e2e::image::{fsck_is_clean, rsync_finds_no_difference, text};
use dualsync_e2e::needs;
use dualsync_e2e::site::{Site, write_secret};
use dualsync_e2e::tree;

fn site() -> Option<(Site, Garage, Garage)> {
    if !needs::commands(&["garage", "rsync"]) {
        return None;
    }
    let site = Site::new();
    let (de, fr) = (Garage::start(&site.path("garage-de")), Garage::start(&site.path("garage-fr")));
    let source = tree::small_source(&site, "");
    site.configure_s3(&de, &fr, &source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    Some((site, de, fr))
}

#[test]
fn two_countries_hold_one_night_and_either_brings_it_back() {
    let Some((site, _de, _fr)) = site() else { return };
    let _ = site.dualsync(&["check"]).exits(0);
    let _ = site.dualsync(&["run"]).exits(0);
    let report = site.dualsync(&["verify", "--latest", "--full", "--json"]).exits(0).summary();
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(0), "{report}");

    // A new server has neither caches nor history: only the keys and the buckets.
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let image = site.path("restored.img");
    let _ = site.dualsync(&["restore", "web@latest", "--from", "block", "--to", text(&image), "--yes"]).exits(0);
    fsck_is_clean(&image);
    let tree = site.path("restored");
    let _ = site.dualsync(&["restore", "web@latest", "--from", "archive", "--to", text(&tree), "--yes"]).exits(0);
    rsync_finds_no_difference(&site.path("tree"), &tree, &[]);
}

#[test]
fn a_quiet_night_over_s3_takes_twelve_requests_a_path() {
    let Some((site, _de, _fr)) = site() else { return };
    let _ = site.dualsync(&["run"]).exits(0);
    let _ = site.dualsync(&["run"]).exits(0);
    let quiet = site.dualsync(&["run", "--json"]).exits(0).summary();
    for mechanism in ["block", "archive"] {
        let copy = &quiet["copies"][mechanism];
        let requests: u64 = copy["requests"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
        assert!((1..=12).contains(&requests), "{mechanism}: {copy}");
    }
}

#[test]
fn an_unreachable_country_leaves_the_other_copy() {
    let Some((site, de, fr)) = site() else { return };
    drop(fr);
    let ran = site.dualsync(&["run", "--json"]).exits(4).summary();
    assert_eq!(ran["copies"]["block"]["state"], "available", "{ran}");
    assert_ne!(ran["copies"]["archive"]["state"], "available", "{ran}");
    drop(de);
}

/// `check` and `run` with one side's target spoilt: one clear sentence about it.
fn check_spoilt(site: &Site, target: &str, words: &[&str], secret: &str) {
    for (verb, code) in [("check", 1), ("run", 4)] {
        let said = site.dualsync(&[verb]).exits(code);
        let text = said.stdout + &said.stderr;
        let is_it = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(text.lines().any(is_it), "{target}: {verb}: {words:?} in\n{text}");
        assert!(!text.contains(secret), "{target}: {verb}: the secret is shown:\n{text}");
    }
}

#[test]
fn a_wrong_secret_and_a_missing_bucket_are_one_clear_sentence_on_either_side() {
    let Some((site, de, fr)) = site() else { return };
    let config = std::fs::read_to_string(site.config()).unwrap();
    for (target, garage) in [("de", &de), ("fr", &fr)] {
        let file = site.path(&format!("{target}.credentials"));
        let wrong = garage.credentials().replace("aws_secret_access_key = ", "aws_secret_access_key = 00");
        let secret = wrong.trim_end().rsplit(' ').next().unwrap();
        write_secret(&file, &wrong);
        check_spoilt(&site, target, &["the access key or its secret"], &secret[2..20]);
        write_secret(&file, &garage.credentials());

        let place = format!("endpoint = \"{}\"\nregion = \"garage\"\nbucket = \"", garage.endpoint());
        let other = config.replace(&format!("{place}copies"), &format!("{place}nowhere"));
        assert_ne!(other, config);
        std::fs::write(site.config(), other).unwrap();
        check_spoilt(&site, target, &["bucket", "nowhere"], &secret[2..20]);
        std::fs::write(site.config(), &config).unwrap();
    }
}
