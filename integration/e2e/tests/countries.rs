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

#[test]
fn a_wrong_secret_and_a_missing_bucket_are_one_clear_sentence() {
    let Some((site, de, _fr)) = site() else { return };
    let wrong = de.credentials().replace("aws_secret_access_key = ", "aws_secret_access_key = 00");
    write_secret(&site.path("de.credentials"), &wrong);
    let said = site.dualsync(&["check"]);
    assert_ne!(said.code, 0);
    let text = said.stdout + &said.stderr;
    assert!(text.contains("credentials"), "{text}");
    assert!(!text.contains(&wrong[wrong.len() - 20..wrong.len() - 1]), "the secret is shown: {text}");

    write_secret(&site.path("de.credentials"), &de.credentials());
    let config = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), config.replacen("bucket = \"copies\"", "bucket = \"nowhere\"", 1)).unwrap();
    let said = site.dualsync(&["check"]);
    assert_ne!(said.code, 0);
    let text = said.stdout + &said.stderr;
    assert!(text.contains("bucket") && text.contains("nowhere"), "{text}");
}
