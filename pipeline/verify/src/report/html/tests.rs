//! The page tells everything, trusts no text, needs nothing from outside, and says nothing by colour alone.

use dualsync_model::event::Event;
use dualsync_model::outcome::Exit;
use dualsync_model::time::Timestamp;

use super::*;
use crate::chain::{Fault, Shelf};
use crate::examine::compare;
use crate::exclude::Exclude;
use crate::report::around::{
    Around, Basis, Drill, Newest, Restore, SharedFact, SourceFacts, Statement, TargetFacts, Turn, TurnOfTarget,
};
use crate::report::reading::{CopyReading, Reading};
use crate::report::{ContractRow, ContractState, PointReport, Scope, TargetName};
use crate::samples::{directory, file, finding, lines, point};
use crate::side::{Both, Side};
use crate::verdict::Verdict;

const NOW_S: i64 = 1_795_140_000;

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW_S)
}

fn row(date: &str, mechanism: Side, state: ContractState, reason: &str) -> ContractRow {
    let there = matches!(state, ContractState::Green | ContractState::Amber);
    ContractRow {
        source: "web".parse().unwrap(),
        date: date.parse().unwrap(),
        mechanism,
        country: if mechanism == Side::Block { "DE" } else { "FR" }.into(),
        state,
        reason: reason.into(),
        needs: "daily".into(),
        point: there.then(|| "web@20261120T020000Z".parse().unwrap()),
    }
}

fn good(words: &str) -> Statement {
    Statement { grade: Grade::Green, words: words.into() }
}

fn target(name: &str, mechanism: Side, word: &str) -> TargetFacts {
    TargetFacts {
        target: name.into(),
        mechanism,
        country: if mechanism == Side::Block { "DE" } else { "FR" }.into(),
        basis: Basis::Confirmed,
        provider: Some(format!("Provider {word}")),
        region: Some(format!("region {word}")),
        place: format!("https://s3.example, bucket {word}"),
        statements: vec![good(&format!("lies there {word}"))],
        encryption: "AES-256-GCM".into(),
        repository: Some(format!("0123 {word}")),
        keys: vec![(format!("key id {word}"), format!("beef {word}"))],
        newest: Some(Newest { sequence: 7, sha256: "ab".repeat(32) }),
        away: None,
    }
}

fn shelf(name: &str) -> Shelf {
    Shelf { target: name.into(), reports: 11, newest: Some(11), mended: vec![], away: None, faults: vec![] }
}

fn reading() -> Reading {
    let copy = |mechanism| CopyReading {
        point: "web@20261120T020000Z".parse().unwrap(),
        business_date: "2026-11-19".parse().unwrap(),
        mechanism,
        compared_at: Some(now()),
        slices_read: 30,
        oldest_at: Some(now().plus_seconds(-9 * 86_400)),
    };
    Reading { slices: 30, copies: vec![copy(Side::Block), copy(Side::Archive)] }
}

/// The first copy so many days old, wholly read and compared so many days ago; what the contract's first row needs.
fn aged(report: &mut Report, days: i64, read: Option<i64>, compared: Option<i64>) -> CopyReading {
    let ago = |days: i64| now().plus_seconds(-days * 86_400);
    let point = dualsync_model::id::PointId::new("web".parse().unwrap(), ago(days));
    report.contract[0].point = Some(point.clone());
    let (oldest_at, compared_at) = (read.map(ago), compared.map(ago));
    CopyReading { point, compared_at, oldest_at, ..report.around.reading.copies[0].clone() }
}

/// A report on which everything is good; `word` stands in every text that comes from outside.
fn report(word: &str) -> Report {
    let facts = || vec![directory(""), file(&format!("a {word}"), "x")];
    let found = compare(Exclude::default(), true, lines(facts()).into_iter(), lines(facts()).into_iter());
    let name = |target: &str, country: &str| TargetName { target: target.into(), country: country.into() };
    let targets = Both { block: name("frankfurt", "DE"), archive: name("paris", "FR") };
    let copies = Both { block: Some(point()), archive: Some(point()) };
    let restore = Restore {
        at: now(),
        point: "web@20261120T020000Z".parse().unwrap(),
        from: format!("archive {word}"),
        bytes: 4096,
        duration_s: 7,
        partial: false,
        verified: true,
    };
    let around = Around {
        number: 12,
        previous: Some("cd".repeat(32)),
        host: format!("web-01 {word}"),
        version: "0.1.0".into(),
        sources: vec![SourceFacts {
            source: "web".parse().unwrap(),
            block: "frankfurt".into(),
            archive: "paris".into(),
            snapshot: format!("frozen {word}"),
            promise: format!("12 dates {word}"),
        }],
        targets: vec![target("frankfurt", Side::Block, word), target("paris", Side::Archive, word)],
        turn: None,
        reading: reading(),
        drills: vec![Drill { source: "web".parse().unwrap(), restore: Some(restore) }],
        shared: vec![SharedFact { subject: format!("host {word}"), statement: good(&format!("kernel {word}")) }],
        chain: vec![shelf("paris"), shelf("frankfurt")],
    };
    let contract = Side::BOTH.map(|side| row("2026-11-19", side, ContractState::Green, ""));
    let point = PointReport::new(&copies, targets, Scope::Full, found).unwrap();
    Report { created_at: now(), points: vec![point], contract: contract.to_vec(), around }
}

/// Every element that is opened is closed, in order.
#[track_caller]
fn assert_well_formed(html: &str) {
    let mut open = Vec::new();
    let body = html.replace("<!DOCTYPE html>", "");
    for part in body.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        let name = tag.split_whitespace().next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name), "</{name}>"),
            None if name == "meta" => {}
            None => open.push(name.to_owned()),
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn a_good_report_is_green_and_has_every_part_in_order() {
    let report = report("");
    assert_eq!((report.grade(), report.reasons(), report.exit()), (Grade::Green, vec![], Exit::Done));
    let html = report.html();
    assert_well_formed(&html);
    let parts = [
        "<title>Backup compliance report 12, web-01",
        "GOOD.",
        "How to read this page",
        "The contract: which dates can be restored from which country",
        "DE (block copy): 1 of 1 dates are there.",
        "2026-11-19",
        "all files compared 2026-11-20",
        "What was read back for this report",
        "both copies say the same",
        "How much of everything that is kept was read back",
        "Every stored byte of all 2 kept copies was read back within the last 9 days.",
        "Restore drills",
        "Where the copies are, and how they are sealed",
        "confirmed: the endpoint is known",
        "What the two copies still share",
        "This report as evidence",
        "cdcdcd",
    ];
    let mut rest = html.as_str();
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("'{part}' is not there, or not after the one before"));
        rest = &rest[at..];
    }
}

#[test]
fn texts_from_outside_stay_texts_and_never_become_markup() {
    let hostile = "<script>alert(1)</script>\" onload='x' & \u{202e}\u{7}</td>";
    let mut report = report(hostile);
    report.around.chain[0].away = Some(hostile.into());
    report.around.chain[1].faults.push(Fault { number: 3, target: hostile.into(), problem: hostile.into() });
    report.around.drills[0].restore = None;
    report.contract[0] = row("2026-11-19", Side::Block, ContractState::Red, hostile);
    report.around.turn = Some(Turn {
        date: "2026-11-20".parse().unwrap(),
        slice: "3/30".parse().unwrap(),
        targets: vec![TurnOfTarget {
            target: hostile.into(),
            points: 1,
            objects: 2,
            fetched_bytes: 3,
            findings: vec![hostile.into()],
            failure: Some(hostile.into()),
        }],
    });
    let html = report.html();
    assert_well_formed(&html);
    assert!(!html.contains("<script") && !html.contains('\u{202e}') && !html.contains('\u{7}'));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&#39;x&#39; &amp;"));
}

#[test]
fn differences_and_findings_are_told_with_their_paths() {
    let mut report = report("");
    let left = vec![directory(""), file("etc/<b>", "x")];
    let mut right = lines(vec![directory(""), file("etc/<b>", "y")]);
    right.insert(0, Ok(Event::Finding(finding("volumes/1", "missing"))));
    let found = compare(Exclude::default(), true, lines(left).into_iter(), right.into_iter());
    let name = || TargetName { target: "t".into(), country: "DE".into() };
    let copies = Both { block: Some(point()), archive: Some(point()) };
    report.points =
        vec![PointReport::new(&copies, Both { block: name(), archive: name() }, Scope::Full, found).unwrap()];
    assert_eq!(report.grade(), Grade::Red);
    let html = report.html();
    assert_well_formed(&html);
    for text in ["a copy is damaged", "etc/&lt;b&gt;", "volumes/1", "etc/passwd", "NOT GOOD."] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn what_is_kept_in_a_store_names_no_file() {
    let mut report = report("");
    let left = vec![directory(""), file("secret/plans", "x")];
    let mut right = lines(vec![directory(""), file("secret/plans", "y")]);
    right.insert(0, Ok(Event::Finding(finding("volumes/1", "missing"))));
    let found = compare(Exclude::default(), true, lines(left).into_iter(), right.into_iter());
    let name = || TargetName { target: "t".into(), country: "DE".into() };
    let copies = Both { block: Some(point()), archive: Some(point()) };
    report.points =
        vec![PointReport::new(&copies, Both { block: name(), archive: name() }, Scope::Full, found).unwrap()];
    let json = |report: &Report| serde_json::to_string(&report.summary()).unwrap();
    for form in [json(&report), report.full_text(), report.html()] {
        assert!(form.contains("secret/plans") && form.contains("etc/passwd"), "{form}");
    }
    let kept = report.without_names();
    for form in [json(&kept), kept.full_text(), kept.html()] {
        assert!(!form.contains("secret") && !form.contains("passwd"), "{form}");
        assert!(form.contains("volumes/1") && (form.contains("details.json") || form.starts_with('{')), "{form}");
    }
    assert!(kept.full_text().contains("differences: 1 content (wrong: 1 unknown)"), "{}", kept.full_text());
    assert_well_formed(&kept.html());
    assert_eq!((kept.verdict(), kept.exits()), (report.verdict(), report.exits()));
}

#[test]
fn of_many_points_those_that_are_well_are_a_line_each() {
    let mut report = report("");
    let good = report.points[0].clone();
    report.points.extend([good.clone(), good.clone(), good]);
    report.points[2].verdict = Verdict::Disagree;
    let html = report.html();
    assert_well_formed(&html);
    assert!(html.contains("3 points on which nothing is wrong"));
    assert_eq!(html.matches("<h3>Point web@").count(), 1, "the one that differs has its own place");
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let html = report("").html();
    for word in ["<script", "src=", "href=", "@import", "url(", "<link", "<img", "<iframe", "javascript:"] {
        assert!(!html.contains(word), "{word}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn each_state_of_a_date_has_a_sign_and_a_word() {
    let mut report = report("");
    report.contract = vec![
        row("2026-11-19", Side::Block, ContractState::Green, ""),
        row("2026-10-31", Side::Block, ContractState::Amber, "2026-10-30 stands in"),
        row("2026-11-18", Side::Block, ContractState::Red, "no copy"),
        row("2026-09-30", Side::Block, ContractState::BeforeStart, "before the first point"),
    ];
    let html = report.html();
    assert_well_formed(&html);
    for (sign, word) in [("\u{2713}", "there"), ("\u{25b2}", "stands in"), ("\u{2717}", "missing")] {
        let cell = format!("\" aria-hidden=\"true\">{sign}</span> <strong>{word}</strong><small>");
        assert!(html.contains(&cell), "{cell}");
    }
    assert!(
        html.contains("2026-10-30 stands in") && html.contains("no copy") && html.contains("before the first copy")
    );
}

/// A change, the grade it makes, words of the sentence that tells it, the exit code.
type Case = (fn(&mut Report), Grade, &'static str, Exit);

#[test]
fn everything_that_is_not_green_is_a_reason_at_the_top() {
    let cases: &[Case] = &[
        (|report| report.points.clear(), Grade::Red, "No point was there", Exit::Damaged),
        (
            |report| report.contract[0] = row("2026-11-19", Side::Block, ContractState::Red, "no copy"),
            Grade::Red,
            "web: 1 date is missing in DE (block copy): 2026-11-19.",
            Exit::Contract,
        ),
        (
            |report| {
                report.contract[1] = row("2026-10-31", Side::Archive, ContractState::Amber, "2026-10-30 stands in");
            },
            Grade::Amber,
            "replaced by an earlier day of the same month in FR",
            Exit::Done,
        ),
        (
            |report| report.around.reading.copies[0] = aged(report, 40, Some(31), None),
            Grade::Amber,
            "Reading back is late: every stored byte of all 2 kept copies was read back within the last 31 days",
            Exit::Done,
        ),
        (
            |report| report.around.reading.copies[0] = aged(report, 40, None, None),
            Grade::Amber,
            "Reading back is late: of 1 kept copies that are 30 days old 0 were read back whole",
            Exit::Done,
        ),
        (
            |report| report.around.reading.copies[0] = aged(report, 40, Some(31), Some(31)),
            Grade::Amber,
            "1 copy that the contract needs was not read back whole within the last 30 days.",
            Exit::Done,
        ),
        (
            |report| report.around.drills[0].restore.as_mut().unwrap().at = now().plus_seconds(-93 * 86_400),
            Grade::Amber,
            "web: the last restore on this host was on",
            Exit::Done,
        ),
        (|report| report.around.drills[0].restore = None, Grade::Amber, "no restore was rehearsed", Exit::Done),
        (
            |report| report.around.targets[0].statements[0].grade = Grade::Amber,
            Grade::Amber,
            "frankfurt: lies there",
            Exit::Done,
        ),
        (
            |report| report.around.targets[1].away = Some("no route".into()),
            Grade::Red,
            "paris: the store did not",
            Exit::Done,
        ),
        (|report| report.around.shared[0].statement.grade = Grade::Amber, Grade::Amber, "host : kernel", Exit::Done),
        (
            |report| report.around.chain[0].away = Some("no route".into()),
            Grade::Amber,
            "reports could not be kept",
            Exit::Done,
        ),
        (
            |report| {
                let fault = Fault { number: 3, target: "paris".into(), problem: "is missing".into() };
                report.around.chain[0].faults.push(fault);
            },
            Grade::Red,
            "paris: report 3 is missing.",
            Exit::Evidence,
        ),
        (
            |report| {
                let targets = vec![TurnOfTarget {
                    target: "paris".into(),
                    points: 1,
                    objects: 1,
                    fetched_bytes: 1,
                    findings: vec!["volumes/1 is missing".into()],
                    failure: None,
                }];
                let (date, slice) = ("2026-11-20".parse().unwrap(), "3/30".parse().unwrap());
                report.around.turn = Some(Turn { date, slice, targets });
            },
            Grade::Red,
            "paris: the rotation found 1 stored objects",
            Exit::Damaged,
        ),
    ];
    for (change, grade, words, exit) in cases {
        let mut report = report("");
        change(&mut report);
        let reasons = report.reasons();
        assert_eq!(report.grade(), *grade, "{words}");
        assert!(reasons.iter().any(|reason| reason.words.contains(words)), "{words} is not in {reasons:?}");
        assert_eq!(report.exit(), *exit, "{words}");
        let (html, text) = (report.html(), report.full_text());
        assert_well_formed(&html);
        assert!(html.contains(words), "{words} is not on the page");
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}

#[test]
fn the_text_has_all_of_it_too() {
    let text = report("").full_text();
    for part in [
        "Backup compliance report 12, web-01",
        "GOOD. Everything that was promised is there",
        "web 2026-11-19 block in DE: green",
        "Read back: every stored byte",
        "30 of 30 parts",
        "frankfurt (block copies)",
        "AES-256-GCM",
        "the report before: SHA-256 cdcd",
        "Exit code 0: done",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
