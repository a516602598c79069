//! The chain of reports in both stores, by the real programs: what is done to it in a store is found and named.

use std::fs;
use std::path::PathBuf;

use dualsync_e2e::image::{sh, text};
use dualsync_e2e::needs;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

/// A site with one point and two reports.
fn two_reports() -> Site {
    let site = Site::new();
    let source = tree::small_source(&site, "");
    site.configure(&source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let _ = site.dualsync(&["run"]).exits(0);
    for _ in 0..2 {
        let _ = site.dualsync(&["verify", "--presence"]).exits(0);
    }
    site
}

/// The objects of the evidence in a store whose name has `word`, oldest first.
fn objects(site: &Site, store: &str, word: &str) -> Vec<PathBuf> {
    let found = sh("find", &[text(&site.path(store)), "-path", "*/evidence/*", "-type", "f", "-name", word]);
    let mut found: Vec<_> = found.lines().map(PathBuf::from).collect();
    found.sort();
    found
}

#[test]
fn both_stores_keep_each_report_and_the_chain_is_whole() {
    if !needs::commands(&["python3", "mke2fs"]) {
        return;
    }
    let site = two_reports();
    for store in ["de", "fr"] {
        let pages = objects(&site, store, "*.html");
        assert_eq!(pages.len(), 2, "{store}: {pages:?}");
        let here = fs::read(site.path("state/reports/2/report.html")).unwrap();
        assert_eq!(fs::read(&pages[1]).unwrap(), here, "{store}");
    }
    let ran = site.dualsync(&["verify", "--evidence"]).exits(0);
    for line in ["fr: 2 reports, the newest is 2: each one proved", "de: 2 reports, the newest is 2: each one proved"] {
        assert!(ran.stdout.contains(line), "{}", ran.stdout);
    }
}

#[test]
fn a_flipped_byte_in_any_file_of_a_report_is_found_on_its_side() {
    for (store, other) in [("de", "fr"), ("fr", "de")] {
        let site = two_reports();
        let files = objects(&site, store, "*");
        assert!(files.len() >= 8, "{files:?}");
        for path in files {
            let good = fs::read(&path).unwrap();
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            bad[middle] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, &bad).unwrap();
            let ran = site.dualsync(&["verify", "--evidence"]).exits(23);
            let told = format!("{}{}", ran.stdout, ran.stderr);
            assert!(told.contains(&format!("{store}: ")), "{}: {told}", path.display());
            assert!(!told.contains(&format!("chain of reports is broken: {other}: ")), "{}: {told}", path.display());
            fs::remove_file(&path).unwrap();
            fs::write(&path, &good).unwrap();
        }
        let _ = site.dualsync(&["verify", "--evidence"]).exits(0);
    }
}

#[test]
fn a_store_that_lost_its_evidence_is_named_and_mended_once() {
    let site = two_reports();
    for path in objects(&site, "de", "*") {
        fs::remove_file(path).unwrap();
    }
    let ran = site.dualsync(&["verify", "--evidence"]).exits(23);
    assert!(ran.stderr.contains("de: report"), "{}", ran.stderr);
    let ran = site.dualsync(&["verify", "--presence"]).exits(23);
    assert!(ran.stderr.contains("de: report 1 was kept there and was gone; it was put there again"), "{}", ran.stderr);
    let _ = site.dualsync(&["verify", "--presence"]).exits(0);
    let _ = site.dualsync(&["verify", "--evidence"]).exits(0);
    assert_eq!(objects(&site, "de", "*.html").len(), 4);
}

#[test]
fn a_host_that_lost_everything_mends_one_store_from_the_other() {
    let site = two_reports();
    for path in objects(&site, "fr", "*") {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(site.path("state")).unwrap();
    let _ = site.dualsync(&["verify", "--presence"]).exits(0);
    let _ = site.dualsync(&["verify", "--evidence"]).exits(0);
    assert_eq!((objects(&site, "fr", "*.html").len(), objects(&site, "de", "*.html").len()), (3, 3));
}
