//! What a thief hides on the archive path, in a bucket that keeps versions and locks them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dualsync_e2e::image::{rsync_finds_no_difference, text};
use dualsync_e2e::needs;
use dualsync_e2e::rgw::{COMMANDS, Rgw};
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

/// A site whose two buckets keep versions and lock.
fn site() -> Option<(Site, Rgw)> {
    if !needs::commands(&COMMANDS) || !needs::commands(&["rsync"]) {
        return None;
    }
    let site = Site::new();
    let rgw = Rgw::start(&site.path("ceph"));
    let source = tree::small_source(&site, "");
    site.configure_buckets(&rgw.bucket("left", true), &rgw.bucket("right", true), &source);
    let config = std::fs::read_to_string(site.config()).unwrap();
    let config = config.replace("kind = \"s3\"\n", "kind = \"s3\"\nimmutability = \"compliance\"\n");
    std::fs::write(site.config(), config).unwrap();
    Some((site, rgw))
}

fn points(site: &Site) -> usize {
    site.dualsync(&["list", "--json"]).json().as_array().map_or(0, Vec::len)
}

#[test]
fn what_a_thief_hides_is_listed_restored_told_and_stays_locked() {
    let Some((site, rgw)) = site() else { return };
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    for _ in 0..2 {
        let _ = site.dualsync(&["run"]).exits(0);
    }
    for (number, how) in ["marker", "junk"].into_iter().enumerate() {
        rgw.cover_all("right", how, "");
        assert_eq!(points(&site), 2 + number, "{how}");
        let to = site.path(how);
        let restored =
            site.dualsync(&["restore", "web@latest", "--from", "archive", "--to", text(&to), "--yes"]).exits(0);
        assert!(restored.stderr.contains("its good older version was read"), "{how}: {}", restored.stderr);
        rsync_finds_no_difference(&site.path("tree"), &to, &[]);
        let report = site.dualsync(&["verify", "--latest", "--full", "--json"]).exits(21).summary();
        let findings = report["findings"].as_array().unwrap();
        let archive: Vec<_> = findings.iter().filter(|found| found["target"] == "fr").collect();
        assert!(!archive.is_empty() && archive.iter().all(|found| found["kind"] == "shadowed"), "{how}: {report}");
        // The next night goes on, and knows the hidden points.
        let _ = site.dualsync(&["run"]).exits(0);
        assert_eq!(points(&site), 3 + number, "{how}");
    }
    let (gone, refused) = rgw.delete_all("right");
    let data = ["points/", "volumes/", "catalogs/", "repo.json"];
    let is_data = |key: &&String| data.iter().any(|folder| key.starts_with(folder));
    assert!(refused.iter().filter(is_data).count() >= 20, "{refused:?}");
    // Junk and markers go, what they hid stays: nothing has to be looked for below any more.
    let to = site.path("after");
    let restored = site.dualsync(&["restore", "web@latest", "--from", "archive", "--to", text(&to), "--yes"]).exits(0);
    assert!(!restored.stderr.contains("older version"), "{}; gone: {gone:?}", restored.stderr);
    rsync_finds_no_difference(&site.path("tree"), &to, &[]);
}
