//! What a mark means to a run and to a deleter, by who signed it and by whose clock.

use super::*;
use crate::events::tests::Sink;
use crate::format::{FORMAT, VERSION};
use crate::manifest::tests::secret;
use crate::record;
use crate::sample::{Made, Sample};

const STORE: Clock = Clock { now: Timestamp::from_seconds(1_000), is_stores: true };
const JOB: Clock = Clock { now: Timestamp::from_seconds(1_000), is_stores: false };

/// Marks on `volumes/a`: kind, when the store got it, what it says of itself (or that nobody signed it).
fn marks(names: &[(Kind, i64, Option<i64>)]) -> Marks {
    let id = format!("{}-0001020304050607", object_digest("volumes/a"));
    let info = |(kind, modified, _): &(Kind, i64, _)| ObjectInfo {
        key: mark_key(&id, *kind).parse().unwrap(),
        size: 1,
        modified: Timestamp::from_seconds(*modified),
    };
    let mut marks = Marks::of_listing(&names.iter().map(info).collect::<Vec<_>>());
    for (kind, _, said) in names {
        let group = marks.0.values_mut().next().unwrap();
        if let Some(said) = said {
            group[0].slot(*kind).as_mut().unwrap().proof = Proof::Good(Box::new(mark("volumes/a", *said)));
        }
    }
    marks
}

fn mark(object: &str, seconds: i64) -> Mark {
    Mark {
        format: FORMAT.to_owned(),
        version: VERSION,
        repository: "00".repeat(16),
        object: object.to_owned(),
        marked_at: Timestamp::from_seconds(seconds),
        reason: "rule".into(),
        asked: false,
        manifest: None,
    }
}

#[test]
fn a_mark_holds_until_it_is_undone_and_longer_once_deletion_began() {
    use Kind::{Deleting, Mark, Undone};
    let check = |names: &[(Kind, i64, Option<i64>)], holds: bool, stands: bool| {
        let marks = marks(names);
        assert_eq!(marks.is_marked("volumes/a"), holds, "{names:?}");
        assert_eq!(marks.standing("volumes/a", STORE).is_some(), stands, "{names:?}");
        assert!(!marks.is_marked("volumes/b"));
    };
    check(&[(Mark, 5, Some(5))], true, true);
    check(&[(Mark, 5, None)], true, false);
    check(&[(Mark, 5, Some(5)), (Undone, 6, Some(6))], false, false);
    check(&[(Mark, 5, Some(5)), (Undone, 6, None)], true, true);
    check(&[(Mark, 5, Some(5)), (Deleting, 7, Some(7)), (Undone, 6, Some(6))], true, true);
    check(&[(Mark, 5, Some(5)), (Deleting, 7, None), (Undone, 6, Some(6))], true, false);
    check(&[(Undone, 6, Some(6))], false, false);
    check(&[(Deleting, 7, Some(7))], true, false);
}

#[test]
fn a_run_takes_a_mark_for_old_and_a_deleter_for_young() {
    let check = |names: &[(Kind, i64, Option<i64>)], clock, run: i64, deleter: Option<i64>| {
        let marks = marks(names);
        assert_eq!(marks.age_for_run("volumes/a", clock), Some(run), "{names:?}");
        assert_eq!(marks.standing("volumes/a", clock).and_then(|group| group.age(clock)), deleter, "{names:?}");
    };
    // The store's word and the record's differ: the deleter waits for both.
    check(&[(Kind::Mark, 100, Some(400))], STORE, 900, Some(600));
    check(&[(Kind::Mark, 400, Some(100))], STORE, 600, Some(600));
    // A service that tells no times gives the epoch.
    check(&[(Kind::Mark, 0, Some(400))], STORE, 1_000, Some(600));
    // A store without a clock: only the record counts, and without one the run keeps away.
    check(&[(Kind::Mark, 100, Some(400))], JOB, 600, Some(600));
    check(&[(Kind::Mark, 900, None)], JOB, i64::MAX, None);
    check(&[(Kind::Mark, 100, Some(9_000))], JOB, i64::MAX, Some(-8_000));
    check(&[(Kind::Deleting, 100, Some(400))], JOB, i64::MAX, None);
}

#[test]
fn taking_back_is_late_by_whichever_clock_says_so() {
    use Kind::{Deleting, Mark, Undone};
    let check = |mark: (i64, Option<i64>), undone: (i64, Option<i64>), clock, late: bool| {
        let marks = marks(&[(Mark, mark.0, mark.1), (Undone, undone.0, undone.1)]);
        assert_eq!(marks.is_undone_late("volumes/a", clock, 800), late, "{mark:?} {undone:?}");
        assert!(marks.standing("volumes/a", clock).is_none() || undone.1.is_none());
    };
    check((0, Some(0)), (700, Some(700)), STORE, false);
    check((0, Some(0)), (701, Some(700)), STORE, true);
    check((0, Some(0)), (700, Some(701)), STORE, true);
    check((0, Some(0)), (900, Some(700)), JOB, false);
    check((0, Some(0)), (0, Some(701)), JOB, true);
    // What nobody signed takes nothing back, at no time.
    check((0, Some(0)), (701, None), STORE, false);
    let both = [(Mark, 5, Some(5)), (Deleting, 900, Some(900)), (Undone, 600, Some(700))];
    let met = |marks: Marks, clock| marks.on("volumes/a")[0].met_for(clock);
    assert_eq!((met(marks(&both), STORE), met(marks(&both), JOB)), (Some(300), Some(300)));
    assert_eq!((met(marks(&both[..2]), STORE), met(marks(&[both[0], both[2]]), STORE)), (None, None));
    let marks = marks(&both);
    assert!(marks.actionable("volumes/a", STORE).is_some() && marks.actionable_on_copy("volumes/a", STORE).is_none());
}

#[test]
fn strange_names_are_no_marks() {
    let digest = object_digest("volumes/a");
    for name in ["nonsense", "x-y", &digest, &format!("{digest}-00"), &format!("{digest}-0001020304050607.other")] {
        assert!(parse(&format!("{MARKS}{name}")).is_none(), "{name}");
    }
    assert!(parse(&format!("{MARKS}{digest}-0001020304050607.undone")).is_some());
}

fn made() -> Made {
    let mut sample = Sample::new();
    sample.directory("");
    sample.finish()
}

#[tokio::test]
async fn a_name_alone_keeps_away_and_decides_nothing() {
    let made = made();
    let manifest = made.key("points/", "manifest.json");
    let key = mark_key(&format!("{}-0001020304050607", object_digest(manifest.as_str())), Kind::Mark);
    let record = |key: &str, object: &str| bytes::Bytes::from(record::write(key, &mark(object, 5), &secret()));
    let load = async || {
        let sink = Sink::default();
        let marks = Marks::load(&made.repository, [manifest.as_str()], &Events::new(sink.clone())).await.unwrap();
        ((marks.is_marked(manifest.as_str()), marks.is_proved(manifest.as_str())), sink.events().len())
    };
    let put = |key: &str, bytes| made.store.replace(key.parse().unwrap(), bytes);
    assert_eq!(load().await, ((false, false), 0));
    put(&key, bytes::Bytes::new());
    assert_eq!(load().await, ((true, false), 1));
    put(&key, record(&key, "points/web/other"));
    assert_eq!(load().await, ((true, false), 1));
    put(&key, record(&key, manifest.as_str()));
    assert_eq!(load().await, ((true, true), 0));
    let undone = format!("{key}.undone");
    put(&undone, record(&key, manifest.as_str()));
    assert_eq!(load().await, ((true, true), 1));
    put(&undone, record(&undone, manifest.as_str()));
    assert_eq!(load().await, ((false, false), 0));
}
