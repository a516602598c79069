//! Wrong usage, help, completions and manual pages.

use crate::site::Site;

#[test]
fn wrong_usage_ends_with_2_and_a_hint_and_touches_nothing() {
    let site = Site::new();
    for line in [
        "",
        "prune --only block",
        "attach web@latest",
        "run --note x",
        "restore web@latest",
        "run --only both",
        "list -q -v",
    ] {
        site.run(line).ends(2);
    }
    site.run("run mail").ends(2).tells("there is no source 'mail'").tells("hint: the configuration has: web");
    assert!(!site.path("state").exists());
}

#[test]
fn wrong_usage_is_told_in_json_where_the_line_asks_for_it() {
    let error = Site::new().run("--json restore").ends(2).error();
    assert_eq!(error["message_type"], "exit_error");
    assert_eq!(error["code"], 2);
    assert!(error["hint"].is_string(), "{error}");
}

#[test]
fn help_and_version_end_well_and_name_every_exit_code() {
    let site = Site::new();
    let help = site.run("--help").ends(0).out;
    for code in [0, 1, 2, 3, 4, 10, 11, 12, 20, 21, 22, 23, 130] {
        assert!(help.contains(&format!("{code} ")), "{code}");
    }
    assert!(!help.contains("watchdog"), "{help}");
    assert!(site.run("--version").ends(0).out.starts_with("dualsync "));
    for verb in [
        "init",
        "run",
        "list",
        "show",
        "verify",
        "restore",
        "prune",
        "delete",
        "undelete",
        "check",
        "completions",
        "man",
    ] {
        assert!(site.run(&format!("{verb} --help")).ends(0).out.contains("Global options"), "{verb}");
    }
}

#[test]
fn completions_and_manual_pages_need_no_configuration() {
    let site = Site::new();
    std::fs::remove_file(site.path("dualsync.toml")).unwrap();
    assert!(site.run("completions bash").ends(0).out.contains("--overwrite"));
    assert!(site.run("man").ends(0).out.contains(".TH dualsync"));
    let folder = site.path("man1");
    site.run(&format!("man {}", folder.display())).ends(0);
    assert!(folder.join("dualsync.1").is_file() && folder.join("dualsync-restore.1").is_file());
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let site = Site::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = site.command("completions bash").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not be written"));
}

#[test]
fn the_watchdog_without_arguments_is_wrong_usage_and_harms_nothing() {
    Site::new().run("__watchdog").ends(2);
}
