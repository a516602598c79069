//! The documented configuration is understood, and each mistake leads to its line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dualsync_config::error::Place;
use dualsync_config::manual::ManualLimits;
use dualsync_config::source::SnapshotDriver;
use dualsync_config::{ConfigError, Settings};
use dualsync_model::job::{Keys, LockMode, Place as StorePlace, Resend};
use dualsync_model::time::Timestamp;
use dualsync_rules::mechanism::Mechanism;
use dualsync_rules::residency::Severity;
use dualsync_rules::retention::rule::Rule;

const FULL: &str = r#"host = "web-01"
timezone = "Europe/Athens"
day_cutoff = "12:00"
state = "/var/lib/dualsync"

[targets.frankfurt]
mechanism = "block"
kind = "s3"
country = "DE"
provider = "hetzner"
endpoint = "https://fsn1.your-objectstorage.com"
region = "fsn1"
bucket = "acme-block"
prefix = "web-01"
credentials = "file:/etc/dualsync/frankfurt.credentials"
key = "file:/etc/dualsync/block.key"

[targets.paris]
mechanism = "archive"
kind = "s3"
country = "FR"
provider = "scaleway"
endpoint = "https://s3.fr-par.scw.cloud"
region = "fr-par"
bucket = "acme-archive"
prefix = "web-01"
credentials = "systemd:paris"
identity = "file:/etc/dualsync/archive.agekey"
signing_key = "file:/etc/dualsync/archive.signing"
signing_public = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]

[[source]]
name = "web"
device = "/dev/vg0/data"
tree = "/data"
snapshot = "freeze"
exclude = ["cache/**"]
block = "frankfurt"
archive = "paris"
schedule = "0 3 * * *"
retention = { daily = 12, month_ends = 3, year_ends = 1 }
bandwidth = "50MiB/s"
compression = { block = "deflate:1", archive = "zstd:3" }
"#;

fn parse(text: &str) -> Result<Settings, ConfigError> {
    Settings::parse(text, Path::new("dualsync.toml"), std::iter::empty())
}

/// The documented file with one text replaced, which must be there exactly once.
fn full_with(old: &str, new: &str) -> String {
    assert_eq!(FULL.matches(old).count(), 1, "{old}");
    FULL.replace(old, new)
}

fn message_of(text: &str) -> String {
    match parse(text) {
        Err(error) => error.to_string(),
        Ok(settings) => settings.check_policy().expect_err(text).to_string(),
    }
}

#[test]
fn the_documented_configuration_means_what_the_document_says() {
    let settings = parse(FULL).unwrap();
    settings.check_policy().unwrap();
    assert_eq!(settings.host, "web-01");
    assert_eq!(settings.days.cutoff_s, 12 * 3600);
    assert_eq!(settings.state, PathBuf::from("/var/lib/dualsync"));

    let source = settings.source("web").unwrap();
    assert_eq!(source.snapshot, SnapshotDriver::Freeze);
    assert_eq!(source.exclude, ["cache/**"]);
    assert_eq!(source.bandwidth, Some(50 << 20));
    assert_eq!(source.retention, Rule::CONTRACT);
    assert_eq!((source.compression_block.as_str(), source.compression_archive.as_str()), ("deflate:1", "zstd:3"));

    let block = settings.target(source, Mechanism::Block);
    assert_eq!(block.target.prefix, "web-01");
    assert_eq!(block.target.credentials.as_ref().unwrap().to_string(), "file:/etc/dualsync/frankfurt.credentials");
    assert!(matches!(&block.target.place, StorePlace::S3 { endpoint, region, bucket }
        if endpoint == "https://fsn1.your-objectstorage.com" && region == "fsn1" && bucket == "acme-block"));
    assert!(matches!(&block.keys, Keys::Block { key } if key.to_string() == "file:/etc/dualsync/block.key"));

    let archive = settings.target(source, Mechanism::Archive);
    assert!(
        matches!(&archive.keys, Keys::Archive { recipients, signing_public: Some(_), .. } if recipients.len() == 1)
    );
}

#[test]
fn what_is_not_said_has_its_default() {
    let mut text = FULL.to_owned();
    for line in [
        "timezone",
        "day_cutoff",
        "state",
        "prefix",
        "retention",
        "bandwidth",
        "compression",
        "schedule",
        "signing_public",
        "exclude",
        "recipients",
    ] {
        text = text.lines().filter(|known| !known.starts_with(line)).collect::<Vec<_>>().join("\n");
    }
    let settings = parse(&text).unwrap();
    let source = &settings.sources[0];
    assert_eq!(settings.days.cutoff_s, 12 * 3600);
    assert_eq!(settings.days.tolerance_s, 4 * 3600);
    assert_eq!(settings.state, PathBuf::from("/var/lib/dualsync"));
    assert_eq!(settings.limits.writer_silence, Duration::from_mins(15));
    assert_eq!(settings.limits.freeze, Duration::from_mins(1));
    assert_eq!(settings.limits.grace, Duration::from_hours(24));
    assert_eq!(source.retention, Rule::CONTRACT);
    assert_eq!((source.resend, source.manual), (Resend::default(), ManualLimits::default()));
    assert_eq!((source.bandwidth, source.schedule.as_ref(), source.status), (None, None, None));
    assert_eq!((source.compression_block.as_str(), source.compression_archive.as_str()), ("deflate:1", "zstd:3"));
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    assert_eq!(settings.business_date(now).to_string(), "2026-11-20");
    assert!(settings.slots(source, now, now.plus_seconds(1_000_000)).is_empty());
}

#[test]
fn each_mistake_names_file_line_key_and_expectation() {
    let check = |old: &str, new: &str, expected: &str| assert_eq!(message_of(&full_with(old, new)), expected);
    check(
        "country = \"FR\"",
        "country = \"France\"",
        "dualsync.toml:21: targets.paris.country: expected a two-letter country code like \"DE\", found \"France\"",
    );
    check(
        "country = \"FR\"",
        "contry = \"FR\"",
        "dualsync.toml:21: targets.paris.contry: unknown key, did you mean \"country\"?",
    );
    check(
        "bucket = \"acme-block\"\n",
        "",
        "dualsync.toml:6: targets.frankfurt.bucket: missing, expected the name of a bucket",
    );
    check("host = \"web-01\"\n", "", "dualsync.toml:1: host: missing, expected the name of this host, like \"web-01\"");
    check(
        "\"Europe/Athens\"",
        "\"Athens\"",
        "dualsync.toml:2: timezone: expected a time zone like \"Europe/Athens\", found \"Athens\"",
    );
    check(
        "\"12:00\"",
        "\"noon\"",
        "dualsync.toml:3: day_cutoff: expected a time of day like \"12:00\", found \"noon\"",
    );
    check(
        "\"/var/lib/dualsync\"",
        "\"lib\"",
        "dualsync.toml:4: state: expected an absolute path without .., found \"lib\"",
    );
    check(
        "\"50MiB/s\"",
        "\"fast\"",
        "dualsync.toml:43: source[0].bandwidth: expected bytes a second like \"50MiB/s\", found \"fast\"",
    );
    check(
        "archive = \"zstd:3\"",
        "archive = \"deflate:1\"",
        "dualsync.toml:44: source[0].compression.archive: expected zstd:1 to zstd:19, gzip:1 to gzip:9, bzip2:1 to bzip2:9, xz:0 to xz:9 or off, found \"deflate:1\"",
    );
    check(
        "daily = 12",
        "daily = \"many\"",
        "dualsync.toml:42: source[0].retention.daily: expected an integer, found string \"many\"",
    );
    check(
        "daily = 12",
        "dayly = 12",
        "dualsync.toml:42: source[0].retention.dayly: unknown key, did you mean \"daily\"?",
    );
    check(
        "\"cache/**\"",
        "\"/cache\"",
        "dualsync.toml:38: source[0].exclude[0]: expected a glob relative to tree like \"cache/**\", found \"/cache\"",
    );
    check(
        "archive = \"paris\"",
        "archive = \"pariss\"",
        "dualsync.toml:40: source[0].archive: expected the name of a target (frankfurt, paris), found \"pariss\"",
    );
    check(
        "archive = \"paris\"",
        "archive = \"frankfurt\"",
        "dualsync.toml:40: source[0].archive: expected a target with mechanism = \"archive\", \"frankfurt\" is the other one",
    );
    check(
        "key = \"file:/etc/dualsync/block.key\"",
        "identity = \"file:/etc/dualsync/block.key\"",
        "dualsync.toml:16: targets.frankfurt.identity: only allowed with mechanism = \"archive\"",
    );
}

#[test]
fn a_key_whose_feature_is_not_built_is_refused_with_that_reason() {
    let check = |old: &str, new: &str, expected: &str| {
        let message = message_of(&full_with(old, new));
        assert!(message.contains("not built yet") && message.contains(expected), "{message}");
    };
    for driver in ["lvm", "reflink", "btrfs", "zfs"] {
        check("snapshot = \"freeze\"", &format!("snapshot = \"{driver}\""), driver);
    }
    check("kind = \"s3\"\ncountry = \"FR\"", "kind = \"sftp\"\ncountry = \"FR\"", "targets.paris.kind");
}

#[test]
fn immutability_is_a_mode_of_a_bucket() {
    let with = |mode: &str| {
        full_with("bucket = \"acme-block\"", &format!("bucket = \"acme-block\"\nimmutability = \"{mode}\""))
    };
    let modes = [("governance", LockMode::Governance), ("compliance", LockMode::Compliance)];
    for (text, mode) in modes {
        let settings = parse(&with(text)).unwrap();
        assert_eq!(settings.targets["frankfurt"].target.immutability, Some(mode));
        assert_eq!(settings.targets["paris"].target.immutability, None);
    }
    let check = |text: &str, expected: &str| {
        let message = message_of(text);
        assert!(message.contains(expected), "{message}");
    };
    check(&with("yes"), "targets.frankfurt.immutability: expected \"governance\" or \"compliance\", found \"yes\"");
    check(&full_with("host = \"web-01\"", "host = \"web-01\"\nimmutability = \"compliance\""), "belongs to a target");
}

#[test]
fn a_business_date_ends_at_the_cut_off_of_the_next_day() {
    let settings = parse(FULL).unwrap();
    // Athens, noon: 2026-11-21T12:00+02:00, and in summer +03:00.
    for (date, end) in [("2026-11-20", "2026-11-21T10:00:00Z"), ("2026-07-31", "2026-08-01T09:00:00Z")] {
        let date = date.parse().unwrap();
        let end: Timestamp = end.parse().unwrap();
        assert_eq!(settings.end_of(date), end);
        assert_eq!(settings.business_date(end.plus_seconds(-1)), date);
        assert_eq!(settings.business_date(end), date.plus_days(1));
    }
}

#[test]
fn a_secret_in_the_place_of_a_reference_is_never_repeated() {
    for (old, new) in [
        ("credentials = \"systemd:paris\"", "credentials = \"hunter2\""),
        ("key = \"file:/etc/dualsync/block.key\"", "key = \"hunter2\""),
        (
            "signing_public = \"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"",
            "signing_public = \"hunter2\"",
        ),
        ("\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"", "\"AGE-SECRET-KEY-hunter2\""),
        ("endpoint = \"https://s3.fr-par.scw.cloud\"", "endpoint = \"https://u:hunter2@s3.fr-par.scw.cloud\""),
    ] {
        let message = message_of(&full_with(old, new));
        assert!(message.contains("expected") && !message.contains("hunter2"), "{message}");
    }
}

#[test]
fn all_sections_are_checked_in_one_go() {
    let text = full_with("country = \"FR\"", "country = \"France\"").replace("\"50MiB/s\"", "\"fast\"");
    let Err(ConfigError::Wrong(problems)) = parse(&text) else { panic!("accepted") };
    let lines: Vec<_> = problems.iter().map(|problem| &problem.place).collect();
    let line = |line| Place::Line { file: PathBuf::from("dualsync.toml"), line };
    assert_eq!(lines, [&line(21), &line(43)]);
}

#[test]
fn what_is_not_toml_is_found_on_its_line() {
    let message = message_of(&full_with("bucket = \"acme-block\"", "bucket = acme-block"));
    assert!(message.starts_with("dualsync.toml:13: "), "{message}");
    assert!(message_of("").contains("host: missing"));
    let unreadable = Settings::load(Path::new("/nonexistent/dualsync.toml"), std::iter::empty()).unwrap_err();
    assert!(matches!(unreadable, ConfigError::Unreadable { .. }));
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let check = |old: &str, new: &str, expected: &str| {
        let message = message_of(&full_with(old, new));
        assert!(message.contains(expected), "{message}");
    };
    check("snapshot = \"freeze\"", "snapshot = \"freeze\"\nidle = true", "idle: only allowed with snapshot = \"none\"");
    check("snapshot = \"freeze\"", "snapshot = \"command\"", "snapshot_command: missing");
    check(
        "snapshot = \"freeze\"",
        "snapshot = \"none\"\nsnapshot_command = { take = \"/a\", release = \"/b\" }",
        "snapshot_command: only allowed with snapshot = \"command\"",
    );
    check(
        "snapshot = \"freeze\"",
        "snapshot = \"command\"\nsnapshot_command = { take = \"take\", release = \"/b\" }",
        "snapshot_command.take: expected a program with its absolute path, found \"take\"",
    );
    check("snapshot = \"freeze\"", "snapshot = \"freez\"", "did you mean \"freeze\"?");
    check(
        "retention = { daily = 12, month_ends = 3, year_ends = 1 }",
        "retention = { max_points = 3 }",
        "keeps nothing",
    );
    check(
        "bucket = \"acme-block\"",
        "bucket = \"acme-block\"\npath = \"/x\"",
        "path: only allowed with kind = \"directory\"",
    );
    let twice = format!("{FULL}{}", &FULL[FULL.find("[[source]]").unwrap()..]);
    assert!(message_of(&twice).contains("source[1].name: expected a name of its own, \"web\" is there twice"));
}

#[test]
fn the_users_commands_are_handed_on_as_they_were_typed() {
    let typed = "snapshot = \"command\"\nsnapshot_command = { take = \"/sbin/take --fast\", release = \"/sbin/drop\", check = \"/sbin/ok\" }";
    let settings = parse(&full_with("snapshot = \"freeze\"", typed)).unwrap();
    let expected = SnapshotDriver::Command {
        take: "/sbin/take --fast".to_owned(),
        release: "/sbin/drop".to_owned(),
        check: Some("/sbin/ok".to_owned()),
    };
    assert_eq!(settings.sources[0].snapshot, expected);
}

#[test]
fn limits_have_bounds() {
    let with = |line: &str| full_with("[targets.frankfurt]", &format!("[limits]\n{line}\n\n[targets.frankfurt]"));
    let settings = parse(&with("writer_silence = \"2s\"\nrun_total = \"2d\"\ndue_tolerance = \"6h\"")).unwrap();
    assert_eq!(settings.limits.writer_silence, Duration::from_secs(2));
    assert_eq!(settings.limits.run_total, Duration::from_hours(48));
    assert_eq!(settings.days.tolerance_s, 6 * 3600);
    let message = message_of(&with("run_total = \"30d\""));
    assert_eq!(message, "dualsync.toml:7: limits.run_total: expected 60 to 2505600 seconds, found \"30d\"");
    assert!(message_of(&with("grace = \"1h\"")).contains("limits.grace"));
    assert!(message_of(&with("freeze = \"0s\"")).contains("limits.freeze: expected a duration"));
}

/// The documented file with one more line in its source.
fn with_line(line: &str) -> String {
    full_with("bandwidth = \"50MiB/s\"\n", &format!("{line}\n"))
}

#[test]
fn resend_and_manual_limits_mean_what_they_say() {
    let source = |line: &str| parse(&with_line(line)).unwrap().sources.remove(0);
    let check = |line: &str, sparse_percent, bytes_max| {
        assert_eq!(source(line).resend, Resend { sparse_percent, bytes_max }, "{line}");
    };
    check("resend = { sparse = \"30%\", max = \"1GiB\" }", 30, 1 << 30);
    check("resend = { sparse = \"0%\" }", 0, 16 << 30);
    check("resend = { max = \"5GB\" }", 50, 5_000_000_000);
    let days = |days: u64| Duration::from_hours(24 * days);
    let check = |line: &str, max_points, max_age, expires| {
        assert_eq!(source(line).manual, ManualLimits { max_points, max_age, expires }, "{line}");
    };
    check("manual = { max_points = 0 }", 0, days(30), days(7));
    check("manual = { max_age = \"90d\", expires = \"60d\" }", 10, days(90), days(60));
    // The usual expiry gives way to a shorter limit.
    check("manual = { max_age = \"2d\" }", 10, days(2), days(2));
}

#[test]
fn silly_resend_and_manual_limits_are_refused() {
    let check = |line: &str, expected: &str| {
        assert_eq!(message_of(&with_line(line)), format!("dualsync.toml:43: source[0].{expected}"));
    };
    check(
        "resend = { sparse = \"95%\" }",
        "resend.sparse: expected a share from \"0%\" (never) to \"90%\", like \"50%\", found \"95%\"",
    );
    check("resend = { max = \"0GiB\" }", "resend.max: expected a size like \"50MiB\" or \"1.5GB\", found \"0GiB\"");
    check("resend = { spars = \"50%\" }", "resend.spars: unknown key, did you mean \"sparse\"?");
    check("manual = { max_points = 1001 }", "manual.max_points: expected at most 1000, found 1001");
    check(
        "manual = { max_age = \"1d\", expires = \"2d\" }",
        "manual.expires: expected at most max_age (86400 seconds), found \"2d\"",
    );
    check(
        "manual = { max_age = \"long\" }",
        "manual.max_age: expected a duration like \"15m\", \"24h\" or \"2d\", found \"long\"",
    );
    check("manual = { maxpoints = 3 }", "manual.maxpoints: unknown key, did you mean \"max_points\"?");
}

#[test]
fn a_broken_policy_is_refused_with_its_line() {
    let check = |old: &str, new: &str, expected: &str| {
        let settings = parse(&full_with(old, new)).unwrap();
        let Err(error @ ConfigError::Policy(_)) = settings.check_policy() else { panic!("accepted: {new}") };
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(
        "country = \"FR\"",
        "country = \"IT\"",
        "dualsync.toml:21: targets.paris.country: s3.fr-par.scw.cloud is Scaleway Object Storage region fr-par (Paris), which lies in FR, not in IT",
    );
    check(
        "\"https://s3.fr-par.scw.cloud\"",
        "\"http://s3.fr-par.scw.cloud\"",
        "dualsync.toml:23: targets.paris.endpoint: http://",
    );
    check("\"systemd:paris\"", "\"file:/etc/dualsync/frankfurt.credentials\"", "use the same credentials");
}

#[test]
fn a_known_endpoint_overrides_the_claim_and_an_unknown_one_is_declared() {
    let text = full_with("endpoint = \"https://s3.fr-par.scw.cloud\"", "endpoint = \"https://s3.example.net\"")
        .replace("provider = \"scaleway\"", "provider = \"our own machines\"");
    let settings = parse(&text).unwrap();
    settings.check_policy().unwrap();
    let findings = settings.policy_findings(&settings.sources[0]);
    let declared: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Declared).collect();
    assert_eq!(declared.len(), 1, "{declared:?}");
    assert_eq!(declared[0].to_string(), "declared: paris: the configuration says that s3.example.net lies in FR");
}

#[test]
fn a_newer_provider_table_replaces_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("providers.toml");
    std::fs::write(&table, "[[provider]]\nid = \"scaleway\"\nname = \"Moved\"\nlegal_entity = \"x\"\nheadquarters = \"FR\"\nsources = [\"https://x\"]\ndomains = [\"scw.cloud\"]\nregion = [{ id = \"fr-par\", place = \"Antwerp\", country = \"BE\", endpoints = [\"s3.fr-par.scw.cloud\"] }]\n").unwrap();
    let text = format!("providers = {:?}\n{FULL}", table.display().to_string());
    let error = parse(&text).unwrap().check_policy().unwrap_err().to_string();
    assert!(error.contains("Moved region fr-par (Antwerp), which lies in BE, not in FR"), "{error}");
    std::fs::write(&table, "[[provider]]\nid = \"x\"\n").unwrap();
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.starts_with("dualsync.toml:1: providers: ") && error.contains("missing field"), "{error}");
}

#[test]
fn the_environment_overrides_and_is_named_in_errors() {
    let load = |name: &str, value: &str| {
        let env = std::iter::once((name.to_owned(), value.to_owned()));
        Settings::parse(FULL, Path::new("dualsync.toml"), env)
    };
    let settings = load("DUALSYNC__TARGETS__PARIS__BUCKET", "other-bucket").unwrap();
    let archive = settings.target(&settings.sources[0], Mechanism::Archive);
    assert!(matches!(&archive.target.place, StorePlace::S3 { bucket, .. } if bucket == "other-bucket"));
    let error = load("DUALSYNC__SOURCE__WEB__BANDWIDTH", "fast").unwrap_err().to_string();
    assert!(error.starts_with("DUALSYNC__SOURCE__WEB__BANDWIDTH: source[0].bandwidth: expected bytes"), "{error}");
}

#[test]
fn a_copy_is_late_after_28_and_too_late_after_32_hours_unless_the_source_says_otherwise() {
    let hours = |text: &str| {
        let status = parse(text).unwrap().sources[0].status.unwrap();
        (status.warn.as_secs() / 3600, status.critical.as_secs() / 3600)
    };
    let with = |status: &str| full_with("bandwidth = ", &format!("status = {status}\nbandwidth = "));
    assert_eq!(hours(FULL), (28, 32));
    assert_eq!(hours(&with("{ warn = \"8d\", critical = \"9d\" }")), (8 * 24, 9 * 24));
    assert_eq!(hours(&with("{ critical = \"2d\" }")), (28, 48));
    assert!(message_of(&with("{ critical = \"2h\" }")).contains("source[0].status: expected warn not above critical"));
    assert!(message_of(&with("{ warn = \"soon\" }")).contains("source[0].status.warn: expected a duration"));
    assert!(message_of(&with("{ late = \"2h\" }")).contains("source[0].status.late: unknown key"));
}

#[test]
fn sealed_mode_needs_somebody_who_can_read() {
    let recipients = FULL.lines().find(|line| line.starts_with("recipients")).unwrap();
    let sealed = FULL.replace(recipients, &format!("{recipients}\nsealed = true"));
    let settings = parse(&sealed).unwrap();
    let archive = settings.target(&settings.sources[0], Mechanism::Archive);
    assert!(matches!(&archive.keys, Keys::Archive { sealed: true, .. }));
    let error = parse(&FULL.replace(recipients, "sealed = true")).unwrap_err();
    assert!(error.to_string().contains("sealed mode needs recipients"), "{error}");
    let key = "key = \"file:/etc/dualsync/block.key\"";
    assert!(parse(&full_with(key, &format!("{key}\nsealed = true"))).is_err(), "only the archive path has it");
}
