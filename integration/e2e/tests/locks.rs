//! Object locks on a store that enforces them: what a thief with the host's credentials cannot do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dualsync_e2e::image::text;
use dualsync_e2e::needs;
use dualsync_e2e::rgw::{COMMANDS, Rgw};
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

/// A site whose two buckets keep versions and can lock.
fn site(immutability: &str) -> Option<(Site, Rgw)> {
    if !needs::commands(&COMMANDS) {
        return None;
    }
    let site = Site::new();
    let rgw = Rgw::start(&site.path("ceph"));
    let source = tree::small_source(&site, "");
    site.configure_buckets(&rgw.bucket("left", true), &rgw.bucket("right", true), &source);
    let config = std::fs::read_to_string(site.config()).unwrap();
    let config = config.replace("kind = \"s3\"\n", &format!("kind = \"s3\"\n{immutability}"));
    std::fs::write(site.config(), config).unwrap();
    Some((site, rgw))
}

#[test]
fn who_holds_the_credentials_cannot_delete_what_the_contract_needs() {
    let Some((site, rgw)) = site("immutability = \"compliance\"\n") else { return };
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let _ = site.dualsync(&["check"]).exits(0);
    for _ in 0..2 {
        let _ = site.dualsync(&["run"]).exits(0);
    }
    for bucket in ["left", "right"] {
        let (gone, refused) = rgw.delete_all(bucket);
        let data = ["packs/", "maps/", "points/", "volumes/", "catalogs/", "keys/", "repo.json"];
        let is_data = |key: &&String| data.iter().any(|folder| key.starts_with(folder));
        assert_eq!(gone.iter().filter(is_data).collect::<Vec<_>>(), [""; 0], "{bucket}");
        assert!(refused.iter().filter(is_data).count() >= 4, "{bucket}: {refused:?}");
    }
}

#[test]
fn a_bucket_without_locks_is_refused_where_immutability_is_asked_for() {
    let Some((site, rgw)) = site("") else { return };
    let source = dualsync_e2e::site::Source {
        device: site.path("data.img"),
        tree: site.path("tree"),
        lines: "snapshot = \"none\"\nidle = true\n".to_owned(),
    };
    site.configure_buckets(&rgw.bucket("no-locks", false), &rgw.bucket("none-here", false), &source);
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let config = std::fs::read_to_string(site.config()).unwrap();
    let config = config.replace("kind = \"s3\"\n", "kind = \"s3\"\nimmutability = \"governance\"\n");
    std::fs::write(site.config(), config).unwrap();
    let said = site.dualsync(&["run"]);
    assert_ne!(said.code, 0, "{}", said.stdout);
    assert!(said.stderr.contains("lock"), "{}", said.stderr);
    assert_ne!(site.dualsync(&["check"]).code, 0);
    assert_eq!(site.dualsync(&["list", "--json"]).json(), serde_json::json!([]));
}

#[test]
fn a_host_that_may_only_put_makes_its_nights_and_cannot_delete() {
    let Some((site, rgw)) = site("") else { return };
    let lines = "snapshot = \"none\"\nidle = true\n".to_owned();
    let source = dualsync_e2e::site::Source { device: site.path("data.img"), tree: site.path("tree"), lines };
    site.configure_buckets(&rgw.bucket("left", true), &rgw.bucket("right", true), &source);
    for bucket in ["left", "right"] {
        rgw.forbid_deleting(bucket);
    }
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let _ = site.dualsync(&["check"]).exits(0);
    for _ in 0..2 {
        let _ = site.dualsync(&["run"]).exits(0);
    }
    let _ = site.dualsync(&["verify", "--latest", "--full"]).exits(0);
    // A point is announced to be deleted by a mark, which is a put; nothing leaves by it.
    let _ = site.dualsync(&["delete", "web@latest", "--yes"]).exits(0);
    let points = site.dualsync(&["list", "--json"]).json();
    assert_eq!(points.as_array().map(Vec::len), Some(2), "{points}");
    // Who may delete prunes, with the keys and a state of its own.
    std::fs::remove_dir_all(site.path("state")).unwrap();
    for bucket in ["left", "right"] {
        let (gone, refused) = rgw.delete_all(bucket);
        assert!(gone.is_empty() && !refused.is_empty(), "{bucket}: {gone:?}");
        rgw.let_delete(bucket);
    }
    let _ = site.dualsync(&["prune", "--yes"]).exits(0);
    let _ = site.dualsync(&["verify", "--latest", "--full"]).exits(0);
}

/// Until when the version of `key` that was put first is locked.
fn first_lock(rgw: &Rgw, key: &str) -> String {
    let locks = rgw.locks("left");
    locks.into_iter().rfind(|(found, _)| found == key).map(|(_, until)| until).unwrap()
}

#[test]
fn what_a_thief_hides_stays_a_point_and_its_lock_is_made_longer() {
    let Some((site, rgw)) = site("immutability = \"compliance\"\n") else { return };
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let image = std::fs::read(site.path("data.img")).unwrap();
    for _ in 0..2 {
        let _ = site.dualsync(&["run"]).exits(0);
    }
    let keys: Vec<String> = rgw.locks("left").into_iter().map(|(key, _)| key).collect();
    let below = |folder: &str| keys.iter().filter(|key| key.starts_with(folder)).cloned().collect::<Vec<_>>();
    let (points, packs, maps) = (below("points/"), below("packs/"), below("maps/"));
    assert!(points.len() == 2 && !packs.is_empty() && !maps.is_empty(), "{keys:?}");
    // With the host's credentials: the newest manifest under a marker, the other under junk, a pack under both.
    rgw.hide("left", &points[1]);
    rgw.put("left", &points[0], "junk");
    for key in [&packs[0], &maps[0]] {
        rgw.put("left", key, "junk");
        rgw.hide("left", key);
    }
    rgw.put("left", "points/junk", "junk");
    let hidden = [&points[0], &points[1], &packs[0], &maps[0]];
    let before = hidden.map(|key| first_lock(&rgw, key));
    assert!(before.iter().all(|until| until != "-"), "{before:?}");
    // From now on points are needed for longer.
    let config = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), format!("{config}retention = {{ daily = 90 }}\n")).unwrap();
    let ran = site.dualsync(&["run"]).exits(0);
    for word in ["hides this manifest", "lie under a delete marker or another version", "its name is not a manifest's"]
    {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    for (key, before) in hidden.iter().zip(&before) {
        let after = first_lock(&rgw, key);
        assert!(after > *before, "{key}: {before}, then {after}");
    }
    // On a machine that remembers nothing, too.
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let listed = site.dualsync(&["list", "--json"]).json();
    let copies: Vec<_> = listed.as_array().unwrap().iter().map(|point| &point["copies"]["block"]["state"]).collect();
    assert_eq!(copies, ["available"; 3], "{listed}");
    let oldest = listed[0]["point"].as_str().unwrap();
    let to = site.path("restored.img");
    let _ = site.dualsync(&["restore", oldest, "--from", "block", "--to", text(&to)]).exits(0);
    assert!(std::fs::read(&to).unwrap() == image, "the oldest point, every byte");
}
