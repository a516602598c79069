//! A signal stops both writers, commits nothing, and ends with 130.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::site::{ARCHIVE, BLOCK, Site};

/// Works and never ends, and leaves its number.
const ENDLESS: &str = "echo $$ > \"$at/$(basename \"$0\").pid\"; while :; do say '{\"message_type\":\"status\",\"phase\":\"reading\",\"bytes_done\":1,\"items_done\":0,\"transferred_bytes\":0}'; sleep 0.1; done";

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::yield_now();
    }
}

fn signal(pid: u32, name: &str) {
    let done = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_signal_stops_both_writers_and_commits_nothing() {
    for name in ["INT", "TERM", "HUP"] {
        let site = Site::new();
        site.good_but(BLOCK, "backup", ENDLESS);
        site.good_but(ARCHIVE, "backup", ENDLESS);
        let mut command = site.command("run -q");
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = |mechanism: &str| {
            std::fs::read_to_string(site.path(&format!("dualsync-{mechanism}.pid"))).unwrap_or_default()
        };
        wait_until("both writers work", || pid(BLOCK).ends_with('\n') && pid(ARCHIVE).ends_with('\n'));
        signal(child.id(), name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("stopped by SIG{name}")));
        for mechanism in [BLOCK, ARCHIVE] {
            let stat = format!("/proc/{}/stat", pid(mechanism).trim());
            let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z"));
            wait_until("the writer is gone", gone);
            assert!(!site.path(&format!("{mechanism}.points")).exists(), "{mechanism} committed");
        }
        let listed = site.run("list --json").ends(0).last();
        assert_eq!(listed, serde_json::json!([]));
    }
}

#[test]
fn a_signal_lets_the_snapshot_go() {
    let site = Site::new();
    let at = site.path("").display().to_string();
    site.script("take", &format!("echo device={at}/web.img; echo tree={at}/tree"));
    site.script("release", &format!("echo release > {at}/log"));
    let commands =
        format!("snapshot = \"command\"\nsnapshot_command = {{ take = \"{at}/take\", release = \"{at}/release\" }}");
    site.configure(&site.config().replace("snapshot = \"none\"", &commands));
    site.good_but(BLOCK, "backup", ENDLESS);
    let mut child = site.command("run -q").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the writer works", || site.path("dualsync-block.pid").exists());
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(site.read("log"), "release\n");
}

#[test]
fn writers_do_not_outlive_a_dualsync_that_is_killed() {
    let site = Site::new();
    site.good_but(BLOCK, "backup", ENDLESS);
    site.good_but(ARCHIVE, "backup", ENDLESS);
    let mut child = site.command("run -q").stdout(Stdio::null()).spawn().unwrap();
    let pid =
        |mechanism: &str| std::fs::read_to_string(site.path(&format!("dualsync-{mechanism}.pid"))).unwrap_or_default();
    wait_until("both writers work", || pid(BLOCK).ends_with('\n') && pid(ARCHIVE).ends_with('\n'));
    child.kill().unwrap();
    child.wait().unwrap();
    for mechanism in [BLOCK, ARCHIVE] {
        let stat = format!("/proc/{}/stat", pid(mechanism).trim());
        wait_until("the writer is gone", || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z")));
    }
}
