//! `dualsync run`: two writers side by side, one moment, every way in which one of them can fail.

use crate::site::{ARCHIVE, BLOCK, SUMMARY, Site};

#[test]
fn both_copies_of_one_moment_are_made() {
    let site = Site::new();
    let ran = site.run("run --json").ends(0);
    let lines = ran.lines();
    assert!(lines.iter().any(|line| line["message_type"] == "status" && line["mechanism"] == "archive"), "{}", ran.out);
    let summary = ran.last();
    assert_eq!(summary["message_type"], "summary");
    for copy in [BLOCK, ARCHIVE] {
        assert_eq!(summary["copies"][copy]["state"], "available", "{summary}");
        assert_eq!(summary["copies"][copy]["added_bytes"], 1024);
    }
    let tasks = [BLOCK, ARCHIVE].map(|mechanism| site.tasks(mechanism, "backup").remove(0));
    for field in ["point", "run", "business_date", "snapshot", "class"] {
        assert_eq!(tasks[0][field], tasks[1][field], "{field}");
    }
    assert_eq!(tasks[0]["compression"], "deflate:1");
    assert_eq!(tasks[1]["compression"], "zstd:3");
}

#[test]
fn a_run_says_in_words_what_it_made() {
    let ran = Site::new().run("run").ends(0);
    assert!(ran.out.contains("block    2.0 KiB read, 1.0 KiB added"), "{}", ran.out);
    let quiet = Site::new().run("run -q").ends(0);
    assert_eq!(quiet.err, "");
}

#[test]
fn one_path_that_breaks_leaves_the_other_copy_and_ends_with_4() {
    let ways = [
        ("dies", "exit 1", "exit code 1"),
        ("is killed", "kill -KILL $$", "killed by signal 9"),
        ("prints garbage", "echo tralala; sleep 60", "not an event"),
        ("hangs", "sleep 60", "printed nothing for 1 s"),
        ("prints without end", "tr '\\0' x < /dev/zero", "longer than"),
        ("has a full disk", "echo 'No space left on device' >&2; exit 28", "No space left on device"),
        ("commits nothing", "say '{\"message_type\":\"summary\"}'; exit 0", "not an event"),
        (
            "commits too early",
            "say '{\"message_type\":\"committed\",\"manifest\":\"m\",\"sequence\":1,\"sha256\":\"00\"}'; sleep 60",
            "out of place",
        ),
    ];
    for (broken, good) in [(BLOCK, ARCHIVE), (ARCHIVE, BLOCK)] {
        for (name, body, expected) in ways {
            let site = Site::new();
            if name == "hangs" {
                site.be_impatient();
            }
            site.good_but(broken, "backup", body);
            let ran = site.run("run").ends(4).tells(expected);
            assert!(ran.err.contains(&format!("the {broken} copy was not made")), "{name}: {}", ran.err);
            let listed = site.run("list --json").ends(0).last();
            assert_eq!(listed[0]["copies"][broken]["state"], "error", "{name}: {listed}");
            assert_eq!(listed[0]["copies"][good]["state"], "available", "{name}: {listed}");
        }
    }
}

#[test]
fn a_missing_program_is_one_broken_path() {
    let site = Site::new();
    std::fs::remove_file(site.path("bin/dualsync-archive")).unwrap();
    let summary = site.run("run --json").ends(4).last();
    assert_eq!(summary["exit_code"], 4);
    assert_eq!(summary["copies"]["block"]["state"], "available");
    assert_eq!(summary["copies"]["archive"]["state"], "error");
}

#[test]
fn the_programs_are_never_looked_for_in_the_path() {
    let site = Site::new();
    let elsewhere = site.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(site.path("bin/dualsync-block"), elsewhere.join("dualsync-block")).unwrap();
    let path = format!("{}:/usr/bin:/bin", elsewhere.display());
    let output = site.command("run").env("PATH", path).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn with_both_paths_broken_the_worst_exit_code_wins() {
    let site = Site::new();
    let fail = |code: u8, word: &str| {
        format!(
            "say '{{\"message_type\":\"error\",\"exit_code\":{code},\"code\":\"{word}\",\"message\":\"no\"}}'; exit {code}"
        )
    };
    site.good_but(BLOCK, "backup", &fail(10, "repository_missing"));
    site.good_but(ARCHIVE, "backup", &fail(12, "wrong_key"));
    let error = site.run("run --json").ends(12).error();
    assert_eq!(error["codes"], serde_json::json!([12, 10]));
}

#[test]
fn only_one_copy_is_made_when_only_one_is_asked_for() {
    let site = Site::new();
    let summary = site.run("run --only archive --json").ends(0).last();
    assert_eq!(summary["copies"]["block"], serde_json::Value::Null);
    assert!(site.tasks(BLOCK, "backup").is_empty());
    site.good_but(BLOCK, "backup", "exit 1");
    site.run("run --only block").ends(1);
}

#[test]
fn entries_that_could_not_be_read_end_with_3() {
    let site = Site::new();
    let body = format!(
        "say '{{\"message_type\":\"warning\",\"code\":\"unreadable\",\"message\":\"cannot be read\",\"path\":\"etc/x\"}}'\n\
         say '{{\"message_type\":\"prepared\",\"sequence\":1,\"added_bytes\":2}}'\nread -r command\n\
         say '{{\"message_type\":\"committed\",\"manifest\":\"m\",\"sequence\":1,\"sha256\":\"00\"}}'\n\
         say '{}'\nexit 3",
        SUMMARY.replace("\"exit_code\":0", "\"exit_code\":3")
    );
    site.good_but(ARCHIVE, "backup", &body);
    site.run("run").ends(3).tells("warning: archive: etc/x: cannot be read");
}

#[test]
fn a_source_that_changes_under_the_writers_is_not_committed() {
    let site = Site::new();
    let body = "echo changed >> \"$at/web.img\"";
    site.good_but(BLOCK, "backup", body);
    site.good_but(ARCHIVE, "backup", body);
    site.run("run").ends(1).tells("the snapshot did not hold until everything was read");
    for mechanism in [BLOCK, ARCHIVE] {
        assert!(!site.path(&format!("{mechanism}.points")).exists(), "a copy of no one moment was committed");
    }
}

#[test]
fn a_second_run_of_a_source_is_told_who_works() {
    let site = Site::new();
    let body = "while ! test -f \"$at/go\"; do say '{\"message_type\":\"status\",\"phase\":\"reading\",\"bytes_done\":1,\"items_done\":0,\"transferred_bytes\":0}'; sleep 0.1; done";
    site.good_but(BLOCK, "backup", body);
    let mut first = site.command("run -q").stdout(std::process::Stdio::null()).spawn().unwrap();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while site.jobs(BLOCK).is_empty() && std::time::Instant::now() < patience {
        std::thread::yield_now();
    }
    site.run("run").ends(11).tells(&format!("(process {})", first.id()));
    let listed = site.run("list --json").ends(0).last();
    assert_eq!(listed[0]["copies"]["block"]["state"], "creating", "{listed}");
    std::fs::write(site.path("go"), "").unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    site.run("run").ends(0);
}

#[test]
fn a_manual_point_carries_its_words_and_its_end() {
    let site = Site::new();
    site.run("run --manual --note upgrade --expires 2d").ends(0);
    let task = site.tasks(BLOCK, "backup").remove(0);
    assert_eq!(task["class"], "manual");
    assert_eq!(task["note"], "upgrade");
    assert!(task["expires"].is_string(), "{task}");
}

#[test]
fn each_copy_learns_the_newest_manifest_of_both_targets() {
    let site = Site::new();
    site.run("run").ends(0);
    assert_eq!(site.tasks(BLOCK, "backup")[0].get("other"), None);
    site.run("run").ends(0);
    for mechanism in [BLOCK, ARCHIVE] {
        let task = site.tasks(mechanism, "backup").remove(1);
        assert_eq!(task["other"]["sequence"], 1, "{task}");
        assert_eq!(task["remembered"]["sequence"], 1, "{task}");
    }
}

#[test]
fn a_lost_state_costs_nothing_but_memory() {
    let site = Site::new();
    site.run("run").ends(0);
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let listed = site.run("list --json").ends(0).last();
    assert_eq!(listed[0]["copies"]["block"]["state"], "available");
    site.run("run").ends(0);
}

#[test]
fn the_date_of_a_run_is_that_of_its_night_and_a_missed_one_is_mended_first() {
    let site = Site::new();
    let date = |time: &str| site.at(time, "run --json").ends(0).last()["business_date"].clone();
    // Three in the night in Athens belongs to the day before; so does a retry before noon.
    assert_eq!(date("2026-11-20 01:00:00"), "2026-11-19");
    assert_eq!(date("2026-11-20 08:00:00"), "2026-11-19");
    // The night of the 21st is missed: at two in the afternoon its date is due and still open.
    assert_eq!(date("2026-11-21 12:00:00"), "2026-11-20");
    assert_eq!(date("2026-11-21 12:30:00"), "2026-11-21");
    // The night of the 23rd is missed; that of the 24th keeps its own date all the same.
    assert_eq!(date("2026-11-24 01:00:00"), "2026-11-23");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_touches_nothing() {
    let site = Site::new();
    let plan = site.run("run --dry-run --json").ends(0).last();
    assert_eq!(plan["message_type"], "plan");
    assert_eq!(plan["source"], "web");
    assert!(plan["copies"]["block"].as_str().unwrap().ends_with("store-block"), "{plan}");
    assert!(!site.path("state").exists());
    assert!(site.jobs(BLOCK).is_empty());
}

/// A source that two scripts hold still; what happens is noted in the file `log`.
fn with_commands(take: &str) -> Site {
    let site = Site::new();
    let at = site.path("").display().to_string();
    site.script("take", &format!("echo take >> {at}/log\n{take}\necho device={at}/web.img\necho tree={at}/tree"));
    site.script("release", &format!("echo release >> {at}/log"));
    let commands =
        format!("snapshot = \"command\"\nsnapshot_command = {{ take = \"{at}/take\", release = \"{at}/release\" }}");
    site.configure(&site.config().replace("snapshot = \"none\"", &commands));
    site
}

#[test]
fn a_snapshot_is_let_go_when_both_have_read_and_before_the_last_manifest() {
    let site = with_commands("");
    let slow = "while ! grep -q archive \"$at/log\"; do sleep 0.05; done";
    let commit = |mechanism: &str| {
        format!(
            "say '{{\"message_type\":\"prepared\",\"sequence\":1,\"added_bytes\":2}}'\nread -r command\necho {mechanism} >> \"$at/log\"\n\
             say '{{\"message_type\":\"committed\",\"manifest\":\"m\",\"sequence\":1,\"sha256\":\"00\"}}'\nsay '{SUMMARY}'\nexit 0"
        )
    };
    site.good_but(BLOCK, "backup", &format!("{slow}\n{}", commit(BLOCK)));
    site.good_but(ARCHIVE, "backup", &commit(ARCHIVE));
    site.run("run").ends(0);
    assert_eq!(site.read("log"), "take\narchive\nrelease\nblock\n");
    assert_eq!(site.tasks(BLOCK, "backup")[0]["snapshot"]["frozen"], true);
}

#[test]
fn a_snapshot_is_let_go_when_both_writers_fail() {
    let site = with_commands("");
    site.good_but(BLOCK, "backup", "exit 1");
    site.good_but(ARCHIVE, "backup", "exit 1");
    site.run("run").ends(1);
    assert_eq!(site.read("log"), "take\nrelease\n");
}

#[test]
fn without_a_snapshot_nothing_is_read() {
    let site = with_commands("echo 'no space for a snapshot' >&2; exit 5");
    site.run("run").ends(1).tells("'web' was not held still, so nothing was read");
    assert_eq!(site.read("log"), "take\nrelease\n");
    assert!(site.jobs(BLOCK).is_empty() && site.jobs(ARCHIVE).is_empty());
}

#[test]
fn a_snapshot_that_cannot_be_removed_is_a_failure_and_the_copies_stay() {
    let site = with_commands("");
    site.script("release", "exit 1");
    site.run("run").ends(1).tells("a snapshot may be left behind");
    let listed = site.run("list --json").ends(0).last();
    assert_eq!(listed[0]["copies"]["block"]["state"], "available");
}
