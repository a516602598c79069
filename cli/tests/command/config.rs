//! Mistakes in the configuration: decided from the file alone, before anything is touched.

use crate::site::{ARCHIVE, BLOCK, Site};

#[track_caller]
fn check(change: impl Fn(&str) -> String, expected: &str) {
    let site = Site::new();
    let config = site.config();
    let changed = change(&config);
    assert_ne!(changed, config, "the change hits nothing");
    site.configure(&changed);
    for line in ["run --dry-run", "run", "check"] {
        site.run(line).ends(2).tells(expected).tells("hint: ");
        let error = site.run(&format!("{line} --json")).ends(2).error();
        assert_eq!(error["code"], 2);
    }
    assert!(!site.path("state").exists(), "state was touched");
    assert!(site.jobs(BLOCK).is_empty() && site.jobs(ARCHIVE).is_empty(), "a writer was started");
}

#[test]
fn a_misspelt_key_is_named_with_its_line() {
    check(|config| config.replace("country = \"FR\"", "contry = \"FR\""), "dualsync.toml:20");
}

#[test]
fn two_targets_in_one_country_are_refused() {
    check(|config| config.replace("country = \"FR\"", "country = \"DE\""), "targets.paris.country");
}

#[test]
fn a_country_outside_the_union_is_refused() {
    check(|config| config.replace("country = \"FR\"", "country = \"CH\""), "targets.paris.country");
}

#[test]
fn a_secret_in_the_place_of_a_reference_is_refused_and_not_repeated() {
    let site = Site::new();
    site.configure(&site.config().replace("key = \"file:", "key = \"hunter2:"));
    let ran = site.run("run").ends(2).tells("reference to a secret");
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
}

#[test]
fn a_feature_that_is_not_built_is_refused_with_that_reason() {
    check(|config| config.replace("snapshot = \"none\"", "snapshot = \"zfs\""), "not built yet");
}

#[test]
fn without_a_configuration_the_hint_leads_to_init() {
    let site = Site::new();
    std::fs::remove_file(site.path("dualsync.toml")).unwrap();
    site.run("run").ends(2).tells("cannot read the configuration").tells("dualsync init");
}

#[test]
fn an_environment_that_is_not_text_does_not_matter() {
    use std::os::unix::ffi::OsStrExt;

    let site = Site::new();
    let strange = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let output = site.command("run --dry-run").env("LC_STRANGE", strange).env(strange, "x").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_environment_wins_over_the_file_and_the_option_over_both() {
    let site = Site::new();
    let output = site.command("run --dry-run").env("DUALSYNC__TARGETS__PARIS__COUNTRY", "DE").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let other = site.path("other.toml");
    std::fs::rename(site.path("dualsync.toml"), &other).unwrap();
    site.run("run --dry-run").ends(2);
    site.run(&format!("run --dry-run --config {}", other.display())).ends(0);
}
