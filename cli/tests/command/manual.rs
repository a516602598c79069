//! Points on demand: their expiry and their number.

use crate::site::{ARCHIVE, BLOCK, Site};

fn limited(limits: &str) -> Site {
    let site = Site::new();
    site.configure(&format!("{}manual = {limits}\n", site.config()));
    site
}

#[test]
fn a_manual_point_goes_when_it_was_asked_to_or_after_the_usual_time() {
    let site = Site::new();
    let expires = |options: &str| {
        site.at("2026-11-20 01:00:00", &format!("run --manual {options}")).ends(0);
        site.tasks(BLOCK, "backup").pop().unwrap()["expires"].clone()
    };
    assert_eq!(expires("--expires 2d"), "2026-11-22T01:00:00Z");
    assert_eq!(expires(""), "2026-11-27T01:00:00Z");
}

#[test]
fn a_manual_point_that_would_stay_too_long_is_refused_before_anything_is_touched() {
    let site = Site::new();
    for line in ["run --manual --expires 31d", "run --manual --expires 31d --dry-run"] {
        site.run(line).ends(2).tells("a manual point of 'web' may stay for 30d 0h at most").tells("manual.max_age");
    }
    assert!(site.jobs(BLOCK).is_empty() && site.jobs(ARCHIVE).is_empty());
}

#[test]
fn more_manual_points_than_the_limit_are_refused_until_one_is_over() {
    let site = limited("{ max_points = 2 }");
    site.at("2026-11-20 01:00:00", "run").ends(0);
    site.at("2026-11-20 02:00:00", "run --manual --expires 1d").ends(0);
    site.at("2026-11-20 03:00:00", "run --manual --only block").ends(0);
    let refused = site.at("2026-11-20 04:00:00", "run --manual").ends(2);
    refused.tells("'web' has 2 manual points, and manual.max_points allows 2").tells("`dualsync delete POINT`");
    site.at("2026-11-20 05:00:00", "run").ends(0);
    site.at("2026-11-21 02:00:00", "run --manual").ends(0);
}

#[test]
fn a_limit_of_none_allows_none() {
    let site = limited("{ max_points = 0 }");
    site.run("run --manual").ends(2).tells("'web' may have no manual points (manual.max_points = 0)");
    site.run("run").ends(0);
}

#[test]
fn a_store_that_does_not_answer_does_not_keep_the_other_from_a_manual_point() {
    let site = Site::new();
    site.good_but(ARCHIVE, "list", "exit 1");
    site.run("run --manual").ends(0);
}
