//! `init` and `check`.

use std::os::unix::fs::PermissionsExt;

use crate::site::{ARCHIVE, BLOCK, Site};

#[test]
fn without_a_configuration_a_commented_one_is_written_and_never_replaced() {
    let site = Site::new();
    let path = site.path("new/dualsync.toml");
    let line = format!("init --config {}", path.display());
    let ran = site.run(&line).ends(0);
    assert!(ran.out.contains("next: "), "{}", ran.out);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("[[source]]") && text.lines().filter(|line| line.starts_with('#')).count() > 10, "{text}");
    site.run(&format!("{line} --preset {}", "directories")).ends(2).tells("is not replaced");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn an_unknown_preset_lists_those_that_are_there() {
    let site = Site::new();
    let path = site.path("new.toml");
    site.run(&format!("init --preset x --config {}", path.display())).ends(2).tells("hint: there are: ");
    assert!(!path.exists());
}

#[test]
fn with_a_configuration_both_repositories_are_made_and_the_public_key_is_pinned() {
    let site = Site::new();
    let config = site.config();
    let pinned = config.lines().find(|line| line.starts_with("signing_public")).unwrap();
    site.configure(&config.replace(&format!("{pinned}\n"), ""));
    let sheet = site.path("sheet.txt");
    let line = format!("init --sheet {}", sheet.display());
    site.run(&line).ends(0).tells("pinned signing_public");
    assert_eq!(site.read("dualsync.toml"), config);
    for mechanism in [BLOCK, ARCHIVE] {
        assert_eq!(site.jobs(mechanism)[0]["task"]["verb"], "init");
    }
    let again = site.path("sheet-2.txt");
    site.run(&format!("init --sheet {}", again.display())).ends(0);
    assert_eq!(site.read("dualsync.toml"), config, "what is pinned is not pinned again");
}

#[test]
fn the_sheet_holds_the_secrets_and_nothing_else_does() {
    let site = Site::new();
    std::fs::write(site.path("block.key"), "very-secret-key\n").unwrap();
    let sheet = site.path("sheet.txt");
    let ran = site.run(&format!("init --json --sheet {}", sheet.display())).ends(0);
    assert!(site.read("sheet.txt").contains("very-secret-key"));
    assert_eq!(sheet.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!ran.out.contains("very-secret-key") && !ran.err.contains("very-secret-key"));
    let piped = site.run("init").ends(0).tells("--sheet FILE");
    assert!(!piped.out.contains("very-secret-key"), "a pipe is no terminal");
    site.run(&format!("init --sheet {}", sheet.display())).ends(1);
}

#[test]
fn a_pinned_key_that_is_another_is_the_wrong_key() {
    let site = Site::new();
    site.configure(&site.config().replace("RWQf6LRCG", "RWQf6LRCH"));
    site.run("init").ends(12).tells("does not belong to the pinned signing_public");
}

#[test]
fn one_target_that_fails_does_not_keep_the_other_from_being_made() {
    let site = Site::new();
    site.good_but(BLOCK, "init", "exit 1");
    site.run("init").ends(1).tells("frankfurt: ");
    assert_eq!(site.jobs(ARCHIVE).len(), 1);
}

/// Key files as `init` leaves them.
fn with_keys() -> Site {
    let site = Site::new();
    for name in ["block.key", "archive.agekey", "archive.signing"] {
        std::fs::write(site.path(name), "key").unwrap();
        std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    site
}

#[test]
fn check_tries_both_stores_and_says_what_is_shared() {
    let site = with_keys();
    let ran = site.run("check").ends(0);
    for expected in [
        "target frankfurt",
        "round_trip",
        "wrote, read and deleted",
        "shared disk",
        "both targets lie on one file system",
        "the configuration says that",
    ] {
        assert!(ran.out.contains(expected), "{expected} is not in\n{}", ran.out);
    }
    let last = site.run("check --json").ends(0).last();
    assert_eq!((&last["message_type"], &last["fail"]), (&"summary".into(), &0.into()));
}

#[test]
fn a_store_that_fails_gives_check_its_exit_code_and_the_rest_is_still_tried() {
    let site = with_keys();
    site.good_but(BLOCK, "probe", "say '{\"message_type\":\"error\",\"exit_code\":10,\"code\":\"repository_missing\",\"message\":\"no repository\"}'; exit 10");
    let ran = site.run("check").ends(10).tells("no repository");
    assert!(ran.out.contains("FAIL  target frankfurt"), "{}", ran.out);
    assert_eq!((site.tasks(ARCHIVE, "probe").len(), site.tasks(BLOCK, "init").len()), (1, 0));
    assert_eq!(site.tasks(ARCHIVE, "init")[0]["only_look"], true, "a check mends nothing");
}

#[test]
fn a_repository_that_is_missing_or_has_another_key_fails_the_check() {
    let site = with_keys();
    for (exit, code) in [(10, "repository_missing"), (12, "wrong_key")] {
        let line = format!(r#"{{"message_type":"error","exit_code":{exit},"code":"{code}","message":"not this one"}}"#);
        site.good_but(BLOCK, "init", &format!("say '{line}'; exit {exit}"));
        let ran = site.run("check").ends(exit).tells("not this one");
        assert!(ran.out.contains("FAIL  target frankfurt   repository"), "{}", ran.out);
    }
}

#[test]
fn a_key_that_others_can_read_fails_the_check() {
    let site = with_keys();
    std::fs::set_permissions(site.path("block.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    site.run("check").ends(1).tells("others can read it");
}
