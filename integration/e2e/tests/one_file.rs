//! What one missed file costs on a machine that has the configuration and the keys and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use dualsync_e2e::garage::Garage;
use dualsync_e2e::image::text;
use dualsync_e2e::needs;
use dualsync_e2e::site::{Site, Source};
use dualsync_e2e::tree;

const MIB: u64 = 1 << 20;

/// Of each path: requests and bytes that are fetched.
const COSTS_MAX: [(&str, u64, u64); 2] = [("archive", 6, 4 * MIB), ("block", 40, 8 * MIB)];

/// A source of 20,000 small files and 24 of 1 MiB, and what is in all of these.
fn source(site: &Site) -> (Source, Vec<u8>) {
    let source = tree::small_source(site, "");
    for folder in 0..40 {
        let inside = source.tree.join(format!("many{folder}"));
        fs::create_dir(&inside).unwrap();
        for file in 0..500 {
            fs::write(inside.join(format!("file {file}")), format!("{folder} {file}")).unwrap();
        }
    }
    let big = tree::random_bytes(24 << 20);
    for (number, bytes) in big.chunks(1 << 20).enumerate() {
        fs::write(source.tree.join(format!("grown-{number:02}")), bytes).unwrap();
    }
    tree::make_image(&source, "512M");
    (source, big)
}

/// Makes a night and brings one file back by either path.
fn one_file_is_cheap(site: &Site, big: &[u8]) {
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let _ = site.dualsync(&["run"]).exits(0);
    for (from, requests_max, bytes_max) in COSTS_MAX {
        fs::remove_dir_all(site.path("state")).unwrap();
        let to = site.path(&format!("one-{from}"));
        let arguments =
            ["restore", "web@latest", "--from", from, "--path", "grown-13", "--to", text(&to), "--yes", "--json"];
        let summary = site.dualsync(&arguments).exits(0).summary();
        assert_eq!(fs::read(to.join("grown-13")).unwrap(), big[13 << 20..14 << 20], "{from}");
        let requests: u64 =
            summary["requests"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
        let fetched = summary["fetched_bytes"].as_u64().unwrap();
        eprintln!("{from}: {} and {fetched} bytes", summary["requests"]);
        assert!((1..=requests_max).contains(&requests), "{from}: {summary}");
        assert!((MIB..=bytes_max).contains(&fetched), "{from}: {summary}");
    }
}

#[test]
fn one_file_of_twenty_thousand_is_few_requests_from_a_directory() {
    if !needs::root_and_loop() {
        return;
    }
    let site = Site::new();
    let (source, big) = source(&site);
    site.configure(&source);
    one_file_is_cheap(&site, &big);
}

#[test]
fn one_file_of_twenty_thousand_is_few_requests_over_s3() {
    if !needs::root_and_loop() || !needs::commands(&["garage"]) {
        return;
    }
    let site = Site::new();
    let (de, fr) = (Garage::start(&site.path("garage-de")), Garage::start(&site.path("garage-fr")));
    let (source, big) = source(&site);
    site.configure_s3(&de, &fr, &source);
    one_file_is_cheap(&site, &big);
}
