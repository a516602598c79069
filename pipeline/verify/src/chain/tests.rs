//! Each thing that can be done to a chain gives a sentence that names report and place.

use dualsync_model::time::Timestamp;

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

fn digest(number: u64) -> String {
    format!("{number:064x}")
}

fn id(number: u64) -> ReportId {
    ReportId {
        number,
        at: Timestamp::from_seconds(i64::try_from(number).unwrap() * 1000),
        sha256: digest(number),
        previous: (number > 1).then(|| digest(number - 1)),
    }
}

fn kept(number: u64) -> Evidence {
    Evidence { report: id(number), object: format!("evidence/{number}/proof"), problem: None }
}

fn place(target: &str, numbers: &[u64]) -> Listed {
    Listed { target: target.into(), reports: numbers.iter().map(|number| kept(*number)).collect() }
}

fn both(frankfurt: &[u64], paris: &[u64]) -> Vec<Listed> {
    vec![place("frankfurt", frankfurt), place("paris", paris)]
}

/// The faults of `places`, each as `REPORT PLACE: SENTENCE`.
fn told(places: &[Listed], remembered: Option<u64>) -> Vec<String> {
    let faults = judge(places, remembered.map(id).as_ref(), NOW);
    faults.into_iter().map(|fault| format!("{} {}: {}", fault.number, fault.target, fault.problem)).collect()
}

#[test]
fn two_equal_whole_chains_have_no_fault() {
    assert_eq!(told(&both(&[1, 2, 3], &[1, 2, 3]), Some(3)), [""; 0]);
    assert_eq!(told(&both(&[], &[]), None), [""; 0]);
    // The order in which a store lists is nobody's business.
    assert_eq!(told(&both(&[3, 1, 2], &[2, 3, 1]), Some(2)), [""; 0]);
}

#[test]
fn a_report_that_was_taken_out_is_named_with_its_place() {
    assert_eq!(told(&both(&[1, 3], &[1, 2, 3]), Some(3)), ["2 frankfurt: is missing"]);
    assert_eq!(told(&both(&[1, 2, 3], &[2, 3]), Some(3)), ["1 paris: is missing"]);
    assert_eq!(told(&both(&[1, 5], &[1, 5]), None), ["2 frankfurt: to 4 are missing", "2 paris: to 4 are missing"]);
}

#[test]
fn an_end_that_was_cut_off_is_seen_by_the_other_side_and_by_this_host() {
    assert_eq!(told(&both(&[1, 2], &[1, 2, 3]), None), ["3 frankfurt: is missing, and paris has it"]);
    assert_eq!(
        told(&both(&[1, 2], &[1, 2]), Some(3)),
        [
            "3 frankfurt: is what this host remembers, and the newest is 2",
            "3 paris: is what this host remembers, and the newest is 2"
        ]
    );
    assert!(told(&both(&[], &[]), Some(1)).iter().all(|fault| fault.ends_with("none is there")));
}

#[test]
fn a_report_in_the_place_of_another_is_seen() {
    let mut places = both(&[1, 2, 3], &[1, 2, 3]);
    places[0].reports[1].report.sha256 = digest(77);
    assert_eq!(
        told(&places, Some(3)),
        [
            "2 paris: is another report than in frankfurt",
            "3 frankfurt: names another report before it than the one that is there"
        ]
    );
    // Both sides exchanged it: what this host remembers is left.
    for place in &mut places {
        place.reports[2].report.sha256 = digest(99);
        place.reports[1].report.sha256 = digest(2);
    }
    assert_eq!(
        told(&places, Some(3)),
        [
            "3 frankfurt: is another report than the one this host made",
            "3 paris: is another report than the one this host made"
        ]
    );
}

#[test]
fn a_bad_proof_is_told_in_the_programs_words() {
    let mut places = both(&[1, 2], &[1, 2]);
    places[1].reports[1].problem = Some("report.html does not fit its digest".into());
    assert_eq!(told(&places, Some(2)), ["2 paris: report.html does not fit its digest"]);
}

#[test]
fn links_that_cannot_be_are_told() {
    let check = |change: fn(&mut ReportId), expected: &str| {
        let mut places = both(&[1, 2], &[1, 2]);
        for place in &mut places {
            for kept in &mut place.reports {
                change(&mut kept.report);
            }
        }
        let told = told(&places, None);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|fault| fault.ends_with(expected)), "{told:?}");
    };
    check(|report| report.previous = Some(digest(1)), "is the first and names one before it");
    check(|report| report.previous = None, "names no report before it");
    let mut twice = both(&[1, 1, 2], &[1, 2]);
    twice[0].reports[0].report.at = Timestamp::from_seconds(5);
    assert_eq!(told(&twice, None), ["1 frankfurt: is there more than once"]);
}

#[test]
fn a_clock_that_was_set_back_breaks_no_chain() {
    let mut places = both(&[1, 2], &[1, 2]);
    places[0].reports[1].report.at = Timestamp::from_seconds(-5);
    places[1].reports[1].report.at = Timestamp::from_seconds(-5);
    assert_eq!(told(&places, Some(2)), [""; 0]);
}

#[test]
fn a_report_from_the_future_is_told_until_its_time_has_come() {
    let mut places = both(&[1], &[1]);
    let later = |seconds: i64| Timestamp::from_seconds(NOW.seconds() + seconds);
    places[0].reports[0].report.at = later(CLOCK_TOLERANCE);
    places[1].reports[0].report.at = later(CLOCK_TOLERANCE + 1);
    let faults = told(&places, None);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("1 paris: is of ") && faults[0].contains("still to come"), "{faults:?}");
}

#[test]
fn the_next_report_follows_the_highest_that_anyone_knows() {
    assert_eq!(next(&[], &[]), (1, None));
    assert_eq!(next(&both(&[1, 2], &[1]), &[]), (3, Some(digest(2))));
    assert_eq!(next(&both(&[1], &[]), &[id(1), id(2), id(3)]), (4, Some(digest(3))));
    // Two reports by one number: this host goes on with its own.
    let mut places = both(&[1, 2], &[1, 2]);
    places[1].reports[1].report.sha256 = digest(77);
    assert_eq!(next(&places, &[id(1), id(2)]), (3, Some(digest(2))));
}

#[test]
fn what_a_store_missed_while_it_was_away_is_put_there_oldest_first() {
    let lack = |target: &str, number| Lack { target: target.into(), report: id(number) };
    assert_eq!(lacking(&both(&[1, 2, 3], &[1]), &[]), [lack("paris", 2), lack("paris", 3)]);
    assert_eq!(lacking(&both(&[1], &[1]), &[id(2)]), [lack("frankfurt", 2), lack("paris", 2)]);
    assert_eq!(lacking(&both(&[1, 2], &[1, 2]), &[id(2)]), []);
    // What is wrong is not spread, and nothing is written over it.
    let mut places = both(&[1, 2], &[1]);
    places[0].reports[1].problem = Some("bad".into());
    assert_eq!(lacking(&places, &[]), []);
    assert_eq!(lacking(&places, &[id(2)]), [lack("paris", 2)]);
}
