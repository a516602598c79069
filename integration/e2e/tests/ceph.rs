//! Two buckets of a Ceph gateway as the two countries: a store that enforces what Garage only answers to.

use dualsync_e2e::image::{fsck_is_clean, rsync_finds_no_difference, text};
use dualsync_e2e::needs;
use dualsync_e2e::rgw::{COMMANDS, Rgw};
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

#[test]
fn a_night_on_a_gateway_that_keeps_versions() {
    if !needs::commands(&COMMANDS) || !needs::commands(&["rsync"]) {
        return;
    }
    let site = Site::new();
    let rgw = Rgw::start(&site.path("ceph"));
    let source = tree::small_source(&site, "");
    site.configure_buckets(&rgw.bucket("locked", true), &rgw.bucket("plain", false), &source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);

    let said = site.dualsync(&["check", "--json"]).exits(0).stdout;
    let found = |name: &str| {
        let lines = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut lines = lines.filter(|line| line["subject"] == "target de" && line["name"] == name);
        lines.next().unwrap_or_default()["detail"].as_str().unwrap_or_default().to_owned()
    };
    for name in ["versioning", "clock", "delete"] {
        assert!(found(name).starts_with("works"), "{name}: {}", found(name));
    }
    // The bucket locks what asks for it, and was seen to.
    let lock = found("object_lock");
    assert!(lock.starts_with("works") && lock.contains("only what asks for a lock has one"), "{lock}");

    let _ = site.dualsync(&["run"]).exits(0);
    let report = site.dualsync(&["verify", "--latest", "--full", "--json"]).exits(0).summary();
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(0), "{report}");

    // A new server: only the keys and the buckets.
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let image = site.path("restored.img");
    let _ = site.dualsync(&["restore", "web@latest", "--from", "block", "--to", text(&image), "--yes"]).exits(0);
    fsck_is_clean(&image);
    let tree = site.path("restored");
    let _ = site.dualsync(&["restore", "web@latest", "--from", "archive", "--to", text(&tree), "--yes"]).exits(0);
    rsync_finds_no_difference(&site.path("tree"), &tree, &[]);
}
