//! Each figure of the report is changed by something that a copy says, and by nothing else.

use std::collections::BTreeMap;

use dualsync_model::event::{Event, Summary as Ending, Warning};
use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::path::RawPath;
use serde_json::Value;

use super::*;
use crate::exclude::Exclude;
use crate::samples::{Lines, directory, file, finding, point, summary};

/// What the two programs say, and what stands around it.
#[derive(Clone)]
struct Said {
    copies: Copies,
    before: Both<Vec<Event>>,
    facts: Both<Vec<Fact>>,
    ending: Both<Option<Ending>>,
    contract: Vec<ContractRow>,
}

fn link(target: Option<&str>) -> Fact {
    Fact { kind: EntryKind::Symlink, size: 1, sha256: None, link_target: target.map(RawPath::new), ..file("l", "") }
}

/// Two good copies of a folder, a file of ten bytes, a link.
fn said() -> Said {
    let facts = vec![directory(""), file("a", "ten bytes."), link(Some("a"))];
    let row = ContractRow {
        source: "web".parse().unwrap(),
        date: "2026-11-19".parse().unwrap(),
        mechanism: Side::Block,
        country: "DE".into(),
        state: ContractState::Green,
        reason: "verified".into(),
        needs: "daily".into(),
        point: None,
    };
    Said {
        copies: Both { block: Some(point()), archive: Some(point()) },
        before: Both::default(),
        facts: Both { block: facts.clone(), archive: facts },
        ending: Both { block: Some(summary()), archive: Some(summary()) },
        contract: vec![row],
    }
}

impl Said {
    fn lines(&self, side: Side) -> Lines {
        let facts = self.facts.get(side).iter().map(|fact| Event::Fact(Box::new(fact.clone())));
        let ending = self.ending.get(side).clone().map(Event::Summary);
        self.before.get(side).iter().cloned().chain(facts).chain(ending).map(Ok).collect()
    }

    fn report(&self) -> Report {
        let (block, archive) = (self.lines(Side::Block), self.lines(Side::Archive));
        let found =
            crate::examine::compare(Exclude::new(["cache"]).unwrap(), true, block.into_iter(), archive.into_iter());
        let name = |target: &str, country: &str| TargetName { target: target.into(), country: country.into() };
        let targets = Both { block: name("frankfurt", "DE"), archive: name("paris", "FR") };
        let point = PointReport::new(&self.copies, targets, Scope::Full, found).expect("two copies");
        Report {
            created_at: Timestamp::default(),
            points: vec![point],
            contract: self.contract.clone(),
            around: Around::default(),
        }
    }

    fn fact(&mut self, side: Side, path: &str) -> &mut Fact {
        let facts = self.facts.get_mut(side);
        facts.iter_mut().find(|fact| fact.path == RawPath::new(path)).expect("it is in the sample")
    }

    fn ending(&mut self, side: Side) -> &mut Ending {
        self.ending.get_mut(side).as_mut().expect("it is in the sample")
    }
}

/// Every leaf of the JSON by its pointer.
fn leaves(report: &Report) -> BTreeMap<String, Value> {
    fn walk(at: String, value: Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) => map.into_iter().for_each(|(key, value)| walk(format!("{at}/{key}"), value, found)),
            Value::Array(list) => {
                list.into_iter().enumerate().for_each(|(key, value)| walk(format!("{at}/{key}"), value, found));
            }
            leaf => {
                found.insert(at, leaf);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(String::new(), serde_json::to_value(report.summary()).unwrap(), &mut found);
    found
}

type Change = fn(&mut Said);

const POINT: &str = "/report/points/0";

/// A figure, and what changes it. `~` stands for [`POINT`].
const FIGURES: &[(&str, Change)] = &[
    ("/verdict", |said| said.fact(Side::Block, "a").mode = 0),
    ("/exit_code", |said| said.fact(Side::Block, "a").mode = 0),
    ("/exit_codes/0", |said| said.contract[0].state = ContractState::Red),
    ("/witnessed_entries", |said| said.fact(Side::Archive, "a").uid = 7),
    ("/witnessed_bytes", |said| said.fact(Side::Archive, "a").sha256 = Some("other".into())),
    ("/differences_total", |said| said.fact(Side::Archive, "a").uid = 7),
    ("/differences/0/path", |said| said.fact(Side::Archive, "a").uid = 7),
    ("/differences/0/culprit", |said| said.fact(Side::Archive, "a").uid = 7),
    ("/findings_total", |said| said.before.block.push(Event::Finding(finding("o", "missing")))),
    ("/findings/0/object", |said| said.before.archive.push(Event::Finding(finding("o", "missing")))),
    ("/contract/0/state", |said| said.contract[0].state = ContractState::Amber),
    ("~/verdict", |said| said.ending.archive = None),
    ("~/copies/block/manifest", |said| said.copies.block = None),
    ("~/copies/block/sequence", |said| said.copies.block = None),
    ("~/copies/archive/sequence", |said| said.copies.archive = None),
    ("~/copies/archive/sha256", |said| said.copies.archive = None),
    ("~/copies/block/entries", |said| said.facts.block.push(directory("z"))),
    ("~/copies/archive/entries", |said| said.facts.archive.push(directory("z"))),
    ("~/copies/block/content_files", |said| said.fact(Side::Block, "a").sha256 = None),
    ("~/copies/archive/content_files", |said| said.fact(Side::Archive, "a").sha256 = None),
    ("~/copies/block/content_bytes", |said| said.fact(Side::Block, "a").size = 11),
    ("~/copies/archive/content_bytes", |said| said.fact(Side::Archive, "a").size = 11),
    ("~/copies/block/fetched_bytes", |said| said.ending(Side::Block).fetched_bytes += 1),
    ("~/copies/archive/fetched_bytes", |said| said.ending(Side::Archive).fetched_bytes += 1),
    ("~/copies/block/objects", |said| said.ending(Side::Block).objects += 1),
    ("~/copies/archive/objects", |said| said.ending(Side::Archive).objects += 1),
    ("~/copies/block/requests", |said| said.ending(Side::Block).requests.head += 1),
    ("~/copies/archive/requests", |said| said.ending(Side::Archive).requests.get += 1),
    ("~/copies/block/warnings", |said| said.before.block.push(warning())),
    ("~/copies/archive/warnings", |said| said.before.archive.push(warning())),
    ("~/copies/block/findings_total", |said| said.before.block.push(Event::Finding(finding("o", "missing")))),
    ("~/copies/archive/findings_total", |said| said.before.archive.push(Event::Finding(finding("o", "missing")))),
    ("~/copies/block/end/end", |said| said.ending.block = None),
    ("~/copies/archive/end/end", |said| said.ending.archive = None),
    ("~/witness/entries", |said| said.fact(Side::Block, "l").mode = 0),
    ("~/witness/content_files", |said| said.fact(Side::Block, "a").sha256 = Some("other".into())),
    ("~/witness/content_bytes", |said| said.fact(Side::Block, "a").size = 11),
    ("~/witness/times_to_the_second", |said| said.fact(Side::Block, "a").mtime_whole_seconds = true),
    ("~/witness/content/block_only", |said| skip(said, Side::Archive)),
    ("~/witness/content/archive_only", |said| skip(said, Side::Block)),
    ("~/witness/content/neither", |said| {
        skip(said, Side::Block);
        skip(said, Side::Archive);
    }),
    ("~/witness/xattrs/block_only", |said| said.fact(Side::Archive, "a").xattrs = None),
    ("~/witness/xattrs/archive_only", |said| said.fact(Side::Block, "a").xattrs = None),
    ("~/witness/xattrs/neither", |said| {
        said.fact(Side::Block, "a").xattrs = None;
        said.fact(Side::Archive, "a").xattrs = None;
    }),
    ("~/witness/targets/block_only", |said| said.fact(Side::Archive, "l").link_target = None),
    ("~/witness/targets/archive_only", |said| said.fact(Side::Block, "l").link_target = None),
    ("~/witness/targets/neither", |said| {
        said.fact(Side::Block, "l").link_target = None;
        said.fact(Side::Archive, "l").link_target = None;
    }),
    ("~/witness/unheard/block_only", |said| cut(said, Side::Archive)),
    ("~/witness/unheard/archive_only", |said| cut(said, Side::Block)),
    ("~/differences/total", |said| said.fact(Side::Block, "a").gid = 7),
    ("~/differences/by_kind/owner", |said| said.fact(Side::Block, "a").gid = 7),
    ("~/differences/by_kind/missing", |said| said.facts.block.push(directory("z"))),
    ("~/differences/by_culprit/archive", |said| said.facts.block.push(directory("z"))),
    ("~/differences/by_culprit/block", |said| said.facts.archive.push(directory("z"))),
    ("~/differences/by_culprit/unknown", |said| said.fact(Side::Block, "a").gid = 7),
    ("~/explained/lost_and_found", |said| said.facts.block.push(directory("lost+found"))),
    ("~/explained/excluded", |said| said.facts.block.insert(2, directory("cache"))),
];

/// Figures that nothing a copy says reaches: a bound that its own test reaches, a count that stays 0, the report's own.
const FIXED: &[&str] =
    &["~/witness/links_unchecked", "~/witness/unheard/neither", "/report/number", "/report/reading/slices"];

fn warning() -> Event {
    Event::Warning(Warning { code: "clock".into(), message: "slow".into(), path: None })
}

fn skip(said: &mut Said, side: Side) {
    let fact = said.fact(side, "a");
    (fact.sha256, fact.state) = (None, FactState::Skipped);
}

/// The side dies after its first entry.
fn cut(said: &mut Said, side: Side) {
    said.facts.get_mut(side).truncate(1);
    *said.ending.get_mut(side) = None;
}

fn pointer(name: &str) -> String {
    name.replace('~', POINT)
}

#[test]
fn each_figure_is_changed_by_what_a_copy_says() {
    let before = leaves(&said().report());
    for (figure, change) in FIGURES {
        let mut changed = said();
        change(&mut changed);
        let after = leaves(&changed.report());
        let at = pointer(figure);
        assert_ne!(before.get(&at), after.get(&at), "{figure}");
    }
}

#[test]
fn no_figure_is_without_such_a_change() {
    let covered: Vec<String> =
        FIGURES.iter().map(|(name, _)| pointer(name)).chain(FIXED.iter().map(|name| pointer(name))).collect();
    for (at, value) in leaves(&said().report()) {
        assert!(!value.is_number() || covered.contains(&at), "{at} is in no table");
    }
}

#[test]
fn two_equal_copies_agree_and_the_sums_are_right() {
    let report = said().report();
    assert_eq!((report.verdict(), report.exit(), report.exits()), (Verdict::Agree, Exit::Done, vec![]));
    let json = serde_json::to_value(report.summary()).unwrap();
    assert_eq!(json["message_type"], "summary");
    assert_eq!((&json["witnessed_entries"], &json["witnessed_bytes"]), (&3.into(), &10.into()));
    assert_eq!(json["contract"][0]["mechanism"], "block");
}

#[test]
fn the_worst_point_gives_the_verdict_and_every_exit_is_listed() {
    let (good, mut bad) = (said(), said());
    bad.fact(Side::Block, "a").mode = 0;
    bad.contract[0].state = ContractState::Red;
    let mut report = bad.report();
    report.points.extend(good.report().points);
    assert_eq!((report.verdict(), report.exits()), (Verdict::Disagree, vec![Exit::Differ, Exit::Contract]));
    let json = serde_json::to_value(report.summary()).unwrap();
    assert_eq!((&json["exit_code"], &json["witnessed_entries"]), (&20.into(), &5.into()));
    assert_eq!(json["exit_codes"], serde_json::json!([20, 22]));
}

#[test]
fn a_report_on_nothing_is_no_agreement() {
    let report =
        Report { created_at: Timestamp::default(), points: vec![], contract: vec![], around: Around::default() };
    assert_eq!((report.verdict(), report.exit()), (Verdict::OneSideMissing, Exit::Damaged));
    let nothing =
        PointReport::new(&Copies::default(), Both { block: name(), archive: name() }, Scope::Full, Examined::default());
    assert_eq!(nothing, None);
}

fn name() -> TargetName {
    TargetName { target: "t".into(), country: "DE".into() }
}

#[test]
fn a_check_of_objects_is_explained_and_never_agreement() {
    for (scope, word, told) in [
        (Scope::Objects(None), "objects", "of every object were checked"),
        (Scope::Objects("3/30".parse().ok()), "objects, slice 3/30", "of slice 3/30 were checked"),
        (Scope::Presence, "presence", "looked for in the listing"),
    ] {
        let lines = || -> Lines { vec![Ok(Event::Summary(summary()))] };
        let found = crate::examine::check_only(lines().into_iter(), lines().into_iter());
        let point = PointReport::new(&said().copies, Both { block: name(), archive: name() }, scope, found).unwrap();
        assert_eq!((point.verdict, point.compared), (Verdict::Explained, false));
        assert_eq!(serde_json::to_value(&point).unwrap()["scope"], word);
        let report = Report {
            created_at: Timestamp::default(),
            points: vec![point],
            contract: vec![],
            around: Around::default(),
        };
        let text = report.text();
        assert!(
            text.contains(told) && text.contains("contents not compared") && !text.contains("say the same"),
            "{text}"
        );
    }
}

#[test]
fn the_text_has_a_place_for_everything() {
    let mut said = said();
    said.before.block.push(Event::Finding(finding("packs/aa/bb", "digest")));
    said.fact(Side::Archive, "a").mode = 0o600;
    said.facts.block.push(directory("lost+found"));
    said.fact(Side::Archive, "l").xattrs = None;
    said.contract[0].state = ContractState::Amber;
    let text = said.report().text();
    let expected = "\
web@20261120T020000Z: damaged
  snapshot 5e by freeze, frozen, for 2026-11-19
  compared: every entry and all content, read back from both stores
  block copy in frankfurt (DE)
    manifest 7: points/web/x
    read back: 4 entries, 1 files (10 B); 4.0 KiB fetched, 3 objects, 5 requests
  archive copy in paris (FR)
    manifest 7: points/web/x
    read back: 3 entries, 1 files (10 B); 4.0 KiB fetched, 3 objects, 5 requests
  both say the same of 2 entries; 1 files (10 B) have one SHA-256 on both sides
  differences: 1
    a: mode block 0644, archive 0600; wrong: unknown (both copies are what their writers noted: the writers read different things)
  explained: 1 lost+found
  witnessed by only the block copy: extended attributes of 1 entries
  findings on the block side: 1
    frankfurt packs/aa/bb: digest, it is digest; hits etc/passwd

Contract
  web 2026-11-19 block in DE: amber, verified

Verdict: damaged (exit 21: a copy is damaged or missing)
";
    assert_eq!(text, expected);
}

#[test]
fn the_text_says_why_a_side_was_not_heard() {
    let mut said = said();
    cut(&mut said, Side::Block);
    said.ending.archive = None;
    let text = said.report().text();
    assert!(text.contains("it was not heard to the end: it ended without a summary"), "{text}");
    assert!(text.contains("entries after a side had ended of 2 entries"), "{text}");
}

#[test]
fn dates_before_the_first_point_are_one_line() {
    let mut said = said();
    let row = said.contract[0].clone();
    let before = ContractRow { state: ContractState::BeforeStart, reason: "before the first point".into(), ..row };
    said.contract.extend([before.clone(), before.clone(), before]);
    let text = said.report().text();
    assert!(text.contains("web 3 dates block in DE: before start, before the first point\n"), "{text}");
}
