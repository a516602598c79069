//! `dualsync status`: what the stores hold, for people, Nagios, Prometheus and programs.

use std::fs;

use crate::site::{ARCHIVE, BLOCK, Ran, Site};

const AWAY: &str =
    r#"say '{"message_type":"error","exit_code":1,"code":"store","message":"no route to the store"}'; exit 1"#;

/// The night of the 19th, made at one in the morning of the 20th.
fn one_night() -> Site {
    let site = Site::new();
    site.at("2026-11-20 01:00:00", "run").ends(0);
    site
}

impl Site {
    fn status(&self, time: &str, options: &str) -> Ran {
        self.at(&format!("2026-11-{time}:00"), &format!("status {options}"))
    }
}

#[test]
fn a_fresh_night_is_well_on_both_sides() {
    let site = one_night();
    let ran = site.status("20 03:00", "").ends(0);
    for text in [
        "ok    web  both          block DE 2h 0m ago for 2026-11-19  archive FR 2h 0m ago for 2026-11-19  never verified",
        "both 1, block only 0, archive only 0, none 0",
        "no report yet",
    ] {
        assert!(ran.out.contains(text), "{text} is not in\n{}", ran.out);
    }
    site.at("2026-11-20 03:00:00", "verify --presence").ends(0);
    let ran = site.status("20 04:00", "").ends(0);
    assert!(
        ran.out.contains("verified 1h 0m ago") && ran.out.contains("report 1 is 1h 0m old, kept in paris, frankfurt"),
        "{}",
        ran.out
    );
}

#[test]
fn a_source_that_never_succeeded_is_red_whatever_its_job_said() {
    let ran = Site::new().run("status").ends(22).tells("never succeeded: there is no good copy");
    assert!(ran.out.contains("FAIL  web  none") && ran.out.contains("none 1"), "{}", ran.out);
    // The job ended well, and the store lost what it made.
    let site = one_night();
    fs::remove_file(site.path("archive.points")).unwrap();
    let ran = site.status("20 03:00", "").ends(22).tells("the archive copy in FR: never succeeded");
    assert!(ran.out.contains("FAIL  web  block only"), "{}", ran.out);
}

#[test]
fn a_night_that_is_missing_is_a_gap_and_a_copy_that_is_gone_is_21() {
    let site = one_night();
    let ran = site.status("23 12:00", "").ends(22).tells("3d 11h old, more than 1d 8h");
    assert!(ran.out.contains("dates of the contract missing: 2026-11-22"), "{}", ran.out);
    site.at("2026-11-21 01:00:00", "run").ends(0);
    let kept = site.read("archive.points").lines().last().unwrap().to_owned();
    fs::write(site.path("archive.points"), format!("{kept}\n")).unwrap();
    let json = site.status("21 03:00", "--json").ends(21).last();
    let archive = &json["sources"][0]["copies"]["archive"];
    assert_eq!(
        (&archive["missing"][0], &archive["contract"]["gaps"][0]),
        (&"web@20261120T010000Z".into(), &"2026-11-19".into())
    );
    assert_eq!((&json["level"], &json["exit_code"]), (&"critical".into(), &21.into()));
}

#[test]
fn a_store_that_does_not_answer_is_said_and_is_no_gap() {
    let site = one_night();
    site.good_but(ARCHIVE, "list", AWAY);
    let ran = site.status("20 03:00", "").ends(1).tells("paris").tells("no route to the store");
    assert!(ran.out.contains("warn  web  unknown") && ran.out.contains("archive FR not known"), "{}", ran.out);
    let nagios = site.status("20 03:00", "--nagios").ends(3);
    assert!(nagios.out.starts_with("DUALSYNC UNKNOWN - web archive in FR: the store did not answer"), "{}", nagios.out);
    assert!(nagios.out.contains("'web_archive_age'=U;100800;115200;0 'web_archive_gaps'=U;;0;0"), "{}", nagios.out);
}

#[test]
fn nagios_gets_one_line_and_its_four_codes() {
    let site = one_night();
    let ran = site.status("20 03:00", "--nagios").ends(0);
    assert_eq!(
        ran.out,
        "DUALSYNC OK - both 1, block only 0, archive only 0, none 0 | 'web_block_age'=7200s;100800;115200;0 \
         'web_block_gaps'=0;;0;0 'web_archive_age'=7200s;100800;115200;0 'web_archive_gaps'=0;;0;0\n"
    );
    let critical = site.status("21 12:00", "--nagios").ends(2);
    assert!(critical.out.starts_with("DUALSYNC CRITICAL - ") && critical.out.lines().count() == 1, "{}", critical.out);
    site.configure("host = 1\n");
    let unknown = site.status("20 03:00", "--nagios").ends(3);
    assert!(unknown.out.starts_with("DUALSYNC UNKNOWN - "), "{}", unknown.out);
}

#[test]
fn thresholds_are_the_sources_own() {
    let site = one_night();
    let with = |status: &str| {
        site.configure(&site.config().replace("schedule = ", &format!("status = {status}\nschedule = ")));
    };
    with("{ warn = \"1h\", critical = \"90m\" }");
    assert!(site.status("20 03:00", "--nagios").ends(2).out.contains("2h 0m old, more than 1h 30m"));
    with("{ warn = \"1h\" }");
    let warned = site.status("20 03:00", "--nagios").ends(1);
    assert!(
        warned.out.starts_with("DUALSYNC WARNING - web block in DE: the newest good copy is 2h 0m old"),
        "{}",
        warned.out
    );
}

#[test]
fn prometheus_reads_a_whole_file_with_documented_names() {
    let site = one_night();
    site.good_but(BLOCK, "list", AWAY);
    let path = site.path("metrics.prom");
    fs::write(&path, "old").unwrap();
    let ran = site.status("20 03:00", &format!("--prometheus {}", path.display())).ends(1);
    assert_eq!(ran.out, "");
    let text = site.read("metrics.prom");
    for line in [
        "# TYPE dualsync_newest_copy_timestamp_seconds gauge",
        "dualsync_status_timestamp_seconds 1795143600",
        "dualsync_newest_copy_timestamp_seconds{source=\"web\",mechanism=\"archive\",country=\"FR\"} 1795136400",
        "dualsync_newest_copy_age_seconds{source=\"web\",mechanism=\"archive\",country=\"FR\"} 7200",
        "dualsync_contract_dates{source=\"web\",mechanism=\"archive\",country=\"FR\",state=\"green\"} 1",
        "dualsync_source_state{source=\"web\",state=\"unknown\"} 1",
        "dualsync_source_state{source=\"web\",state=\"both\"} 0",
        "dualsync_target_up{target=\"frankfurt\",mechanism=\"block\"} 0",
        "dualsync_target_up{target=\"paris\",mechanism=\"archive\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("mechanism=\"block\",country=\"DE\"} 7200"), "what is not known has no value");
    let page =
        fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/semantics.md")).unwrap();
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge")) {
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
    let beside: Vec<_> = fs::read_dir(site.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!beside.iter().any(|name| name.to_string_lossy().starts_with(".metrics")), "{beside:?}");
}

#[test]
fn only_the_asked_sources_are_shown() {
    one_night().run("status mail").ends(2).tells("there is no source 'mail'");
    let json = one_night().status("20 03:00", "web --json").ends(0).last();
    assert_eq!((json["sources"].as_array().unwrap().len(), &json["counts"]["both"]), (1, &1.into()));
}
