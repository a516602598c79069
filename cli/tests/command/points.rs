//! `list` and `show`.

use crate::site::{ARCHIVE, BLOCK, Site};

fn two_nights() -> Site {
    let site = Site::new();
    site.at("2026-11-19 01:00:00", "run").ends(0);
    site.at("2026-11-20 01:00:00", "run").ends(0);
    site
}

#[test]
fn list_json_is_one_array_of_points_with_both_copies() {
    let site = two_nights();
    let ran = site.run("list --json").ends(0);
    assert_eq!(ran.out.lines().count(), 1);
    let points = ran.last();
    assert_eq!(points.as_array().unwrap().len(), 2);
    let point = &points[1];
    assert_eq!(point["point"], "web@20261120T010000Z");
    assert_eq!(point["source"], "web");
    assert_eq!(point["business_date"], "2026-11-19");
    assert_eq!(point["class"], "auto");
    assert_eq!(point["size_bytes"], 4096);
    for field in ["created_at", "reasons"] {
        assert!(!point[field].is_null(), "{field}");
    }
    for field in ["state", "stored_bytes", "added_bytes", "duration_s"] {
        assert!(!point["copies"]["archive"][field].is_null(), "{field}");
    }
    assert!(point["copies"]["block"]["verified_at"].is_null());
}

#[test]
fn a_table_is_for_people() {
    let site = two_nights();
    let out = site.run("list").ends(0).out;
    assert!(out.starts_with("POINT"), "{out}");
    assert!(out.contains("web@20261120T010000Z") && out.contains("4.0 KiB"), "{out}");
    assert!(Site::new().run("list").ends(0).out.contains("no points yet"));
}

#[test]
fn a_target_that_does_not_answer_is_named_and_the_other_side_is_listed() {
    let site = two_nights();
    site.good_but(ARCHIVE, "list", "say '{\"message_type\":\"error\",\"exit_code\":1,\"code\":\"store\",\"message\":\"no route to the store\"}'; exit 1");
    let ran = site.run("list --json").ends(1).tells("paris").tells("no route to the store");
    let points = ran.last();
    assert_eq!(points[0]["copies"]["block"]["state"], "available");
    assert_eq!(points[0]["copies"]["archive"]["state"], "error");
}

#[test]
fn show_takes_a_unique_beginning_or_the_latest() {
    let site = two_nights();
    for text in ["web@20261120T010000Z", "web@20261120", "web@latest"] {
        assert_eq!(site.run(&format!("show {text} --json")).ends(0).last()["point"], "web@20261120T010000Z", "{text}");
    }
    let out = site.run("show web@latest").ends(0).out;
    assert!(out.contains("snapshot") && out.contains("none (not frozen)"), "{out}");
}

#[test]
fn a_point_that_is_not_meant_clearly_is_refused() {
    let site = two_nights();
    site.run("show web@2026").ends(2).tells("web@20261119T010000Z, web@20261120T010000Z").tells("type more of it");
    site.run("show web@2025").ends(1).tells("there is no point 'web@2025'");
    site.run("show @latest").ends(2).tells("is not a point");
}

#[test]
fn a_copy_that_vanished_from_its_store_is_missing() {
    let site = two_nights();
    std::fs::remove_file(site.path(&format!("{BLOCK}.points"))).unwrap();
    let points = site.run("list --json").ends(0).last();
    assert_eq!(points[0]["copies"]["block"]["state"], "missing");
    assert_eq!(points[0]["copies"]["archive"]["state"], "available");
}
