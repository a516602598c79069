//! Deleting elsewhere: the host may only put, and another machine, which reads no content, deletes what left the contract.
//! It has credentials of its own, the retention key of the block target, and no age identity.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;

use dualsync_e2e::clockfile::ClockFile;
use dualsync_e2e::image::text;
use dualsync_e2e::needs;
use dualsync_e2e::programs::Ran;
use dualsync_e2e::rgw::{COMMANDS, Rgw};
use dualsync_e2e::site::{Site, Source, write_secret};
use dualsync_e2e::tree;

const BUCKETS: [&str; 2] = ["left", "right"];

/// The host with its nights, the pruner's machine, the gateway that both know, and the clock that all three go by.
struct Stage {
    host: Site,
    pruner: Site,
    rgw: Rgw,
    clock: ClockFile,
}

impl Stage {
    fn new() -> Self {
        let (host, pruner) = (Site::new(), Site::new());
        let clock = ClockFile::new(&host.path("clock"), "2027-03-01T00:00:00Z".parse().unwrap());
        let rgw = Rgw::start_by(&host.path("ceph"), Some(&clock));
        let lines = "retention = { daily = 2 }\n";
        let source = tree::small_source(&host, lines);
        let [left, right] = BUCKETS.map(|name| rgw.bucket(name, false));
        host.configure_buckets(&left, &right, &source);
        let nothing = pruner.path("nothing");
        fs::create_dir(&nothing).unwrap();
        let of_nothing = Source { device: nothing.join("disk"), tree: nothing, lines: source.lines.clone() };
        let [left, right] = BUCKETS.map(|name| rgw.pruner(name));
        pruner.configure_buckets(&left, &right, &of_nothing);
        let stage = Self { host, pruner, rgw, clock };
        stage.hand_over_the_keys();
        stage
    }

    /// The pruner gets the retention key and the signing key; its identity stands in the configuration and is not there.
    fn hand_over_the_keys(&self) {
        let at = "01T00:30";
        let _ = self.at(at, &self.host, &["init", "--sheet", text(&self.host.path("sheet.txt"))]).exits(0);
        let key = self.host.path("retention.key");
        let _ = self.at(at, &self.host, &["keys", "add", "--target", "de", "--retention", text(&key)]).exits(0);
        write_secret(&self.pruner.path("retention.key"), &fs::read_to_string(&key).unwrap());
        let signing = fs::read_to_string(self.host.path("archive.signing")).unwrap();
        write_secret(&self.pruner.path("archive.signing"), &signing);
        let pinned = fs::read_to_string(self.host.config()).unwrap();
        let pinned = pinned.lines().find(|line| line.starts_with("signing_public")).expect("init pins it").to_owned();
        let config = fs::read_to_string(self.pruner.config()).unwrap();
        let config = config.replace("/block.key", "/retention.key");
        let config = config.replace("\nsigning_key", &format!("\n{pinned}\nsigning_key"));
        fs::write(self.pruner.config(), config).unwrap();
        assert!(!self.pruner.path("block.key").exists() && !self.pruner.path("archive.agekey").exists());
    }

    fn at(&self, time: &str, site: &Site, arguments: &[&str]) -> Ran {
        let at = format!("2027-03-{time}:00Z").parse().unwrap();
        Ran::of(&mut self.clock.at(&site.command(arguments), at))
    }

    /// The keys of what lies in both buckets.
    fn objects(&self) -> BTreeSet<String> {
        BUCKETS
            .iter()
            .flat_map(|bucket| self.rgw.list(bucket).into_iter().map(move |key| format!("{bucket}/{key}")))
            .collect()
    }
}

#[test]
fn who_may_delete_and_not_read_prunes_for_a_host_that_may_only_put() {
    if !needs::commands(&COMMANDS) || !needs::commands(&["faketime", "mke2fs"]) {
        return;
    }
    let stage = Stage::new();
    let before = stage.objects();
    for (night, noise) in ["01", "02", "03", "04"].into_iter().zip(1_u8..) {
        let bytes: Vec<_> = tree::random_bytes(1 << 20).iter().map(|byte| byte ^ noise.wrapping_mul(0x35)).collect();
        let source =
            Source { device: stage.host.path("data.img"), tree: stage.host.path("tree"), lines: String::new() };
        tree::write_small_source(&source, "noise", &bytes);
        let _ = stage.at(&format!("{night}T01:10"), &stage.host, &["run"]).exits(0);
    }
    let all = stage.objects();
    let listed = stage.at("04T02:00", &stage.pruner, &["list", "--json"]).exits(0).json();
    let points: Vec<_> =
        listed.as_array().unwrap().iter().map(|row| row["point"].as_str().unwrap().to_owned()).collect();
    assert_eq!(points.len(), 4, "{listed}");

    // The host's mark is a day old by now, and the host can do nothing about it.
    let ran = stage.at("05T02:00", &stage.host, &["prune", "--yes"]);
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    assert!(all.is_subset(&stage.objects()), "a host that may only put deleted something");

    // What it announced the pruner carries out, by a decision of its own.
    let ran = stage.at("05T02:10", &stage.pruner, &["prune", "--yes"]).exits(0);
    assert!(ran.stdout.contains("deleted: left the contract"), "{}", ran.stdout);
    let _ = stage.at("06T03:00", &stage.pruner, &["prune", "--yes"]).exits(0);
    let left = stage.objects();
    for (point, is_kept) in points.iter().zip([false, false, true, true]) {
        let time = point.trim_start_matches("web@");
        let keys = left.iter().filter(|key| key.contains("/points/web/") && key.contains(time)).count();
        assert_eq!(keys > 0, is_kept, "{point}: {left:?}");
    }
    for kind in ["/packs/", "/volumes/"] {
        let gone = all.difference(&left).filter(|key| key.contains(kind)).count();
        assert!(gone > 0, "no object under {kind} left: {left:?}");
    }
    assert!(before.is_subset(&left), "{:?}", before.difference(&left).collect::<Vec<_>>());

    // It reads no content, and the host finds everything that is kept whole.
    let to = stage.pruner.path("restored");
    let restore = |from| ["restore", "web@latest", "--from", from, "--to", text(&to)];
    let ran = stage.at("06T04:00", &stage.pruner, &restore("block")).exits(12);
    assert!(ran.stderr.contains("retention"), "{}", ran.stderr);
    let ran = stage.at("06T04:00", &stage.pruner, &restore("archive"));
    assert!(ran.code != 0 && ran.stderr.contains("archive.agekey"), "{} {}", ran.code, ran.stderr);
    assert!(!to.exists(), "nothing was written");
    let _ = stage.at("06T04:20", &stage.host, &["list"]).exits(0);
    let report = stage.at("06T04:30", &stage.host, &["verify", "--all", "--full", "--json"]).summary();
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");
    assert!(["agree", "explained"].contains(&report["verdict"].as_str().unwrap()), "{report}");
    let to = stage.host.path("restored");
    let restore = ["restore", &points[2], "--from", "archive", "--to", text(&to)];
    let _ = stage.at("06T05:00", &stage.host, &restore).exits(0);
}
