//! A signal stops both writers, commits nothing, and ends with 130.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::site::{ARCHIVE, BLOCK, Site};

/// Works and never ends, and leaves its number.
const ENDLESS: &str = "echo $$ > \"$at/$(basename \"$0\").pid\"; while :; do say '{\"message_type\":\"status\",\"phase\":\"reading\",\"bytes_done\":1,\"items_done\":0,\"transferred_bytes\":0}'; sleep 0.1; done";

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_mins(2);
    while !done() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::yield_now();
    }
}

/// On a busy machine a writer is silent for longer than the limit of the other tests: here nothing but the
/// signal may end it.
fn patient_site() -> Site {
    let site = Site::new();
    site.configure(&site.config().replace("writer_silence = \"1s\"", "writer_silence = \"5m\""));
    site
}

fn signal(pid: u32, name: &str) {
    let done = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_signal_stops_both_writers_and_commits_nothing() {
    for name in ["INT", "TERM", "HUP"] {
        let site = patient_site();
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
    let site = patient_site();
    let at = site.path("").display().to_string();
    site.script("take", &format!("echo device={at}/web.img; echo tree={at}/tree"));
    site.script("release", &format!("echo release > {at}/log"));
    let commands =
        format!("snapshot = \"command\"\nsnapshot_command = {{ take = \"{at}/take\", release = \"{at}/release\" }}");
    site.configure(&site.read("dualsync.toml").replace("snapshot = \"none\"", &commands));
    site.good_but(BLOCK, "backup", ENDLESS);
    let mut child = site.command("run -q").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the writer works", || site.path("dualsync-block.pid").exists());
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(site.read("log"), "release\n");
}

/// A source with a snapshot command whose calls are logged with the snapshot's id.
fn with_snapshot_command() -> Site {
    let site = patient_site();
    for name in ["block.key", "archive.agekey", "archive.signing"] {
        std::fs::write(site.path(name), "key").unwrap();
        std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let at = site.path("").display().to_string();
    site.script(
        "take",
        &format!("echo take $DUALSYNC_SNAPSHOT >> {at}/log; echo device={at}/web.img; echo tree={at}/tree"),
    );
    site.script(
        "release",
        &format!("test ! -e {at}/stuck && echo release $DUALSYNC_SNAPSHOT $DUALSYNC_TREE >> {at}/log"),
    );
    let commands =
        format!("snapshot = \"command\"\nsnapshot_command = {{ take = \"{at}/take\", release = \"{at}/release\" }}");
    site.configure(&site.read("dualsync.toml").replace("snapshot = \"none\"", &commands));
    site
}

/// Kills a run while its block writer works; gives back the id of the snapshot that it left.
fn killed_run(site: &Site) -> String {
    site.good_but(BLOCK, "backup", ENDLESS);
    let _ = std::fs::remove_file(site.path("dualsync-block.pid"));
    let mut child = site.command("run -q").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the writer works", || site.path("dualsync-block.pid").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    site.good(BLOCK);
    let log = site.read("log");
    let last = log.lines().last().unwrap();
    last.strip_prefix("take ").unwrap_or_else(|| panic!("a killed run releases nothing: {log}")).to_owned()
}

#[test]
fn what_a_killed_run_left_standing_is_released_by_the_next_run_and_by_check() {
    let site = with_snapshot_command();
    for line in ["run", "check"] {
        let id = killed_run(&site);
        site.run(line).ends(0);
        let log = site.read("log");
        let released = log.lines().filter(|line| line.starts_with(&format!("release {id} /"))).count();
        assert_eq!(released, 1, "{line}: with the environment of its take: {log}");
        assert_eq!(std::fs::read_dir(site.path("state/snapshots")).unwrap().count(), 0);
    }
}

#[test]
fn a_leftover_that_cannot_be_released_stops_no_backup_and_is_told_each_time() {
    let site = with_snapshot_command();
    let id = killed_run(&site);
    std::fs::write(site.path("stuck"), "").unwrap();
    let note = format!("when it is gone, remove {}", site.path(&format!("state/snapshots/web.{id}")).display());
    site.run("check").ends(1).tells(&note);
    site.run("run").ends(1).tells(&note);
    assert!(site.path("block.points").exists(), "the copies were made");
    std::fs::remove_file(site.path("stuck")).unwrap();
    site.run("run").ends(0);
    assert_eq!(std::fs::read_dir(site.path("state/snapshots")).unwrap().count(), 0);
}

#[test]
fn writers_do_not_outlive_a_dualsync_that_is_killed() {
    let site = patient_site();
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
