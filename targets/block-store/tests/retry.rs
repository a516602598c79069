//! What the retrying store does when calls fail, without waiting for real.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, Operation, Store};
use dualsync_block_store::digest::sha256;
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_block_store::memory::MemoryStore;
use dualsync_block_store::pause::Pause;
use dualsync_block_store::retry::{Patience, RetryingStore};
use dualsync_model::time::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const BODY: Bytes = Bytes::from_static(b"sealed");

/// A retrying store over a faulty one over memory, with the waits that were asked for.
struct Rig {
    store: RetryingStore,
    faulty: Arc<FaultyStore>,
    memory: Arc<MemoryStore>,
    waits: Arc<Mutex<Vec<Duration>>>,
}

fn rig(plan: impl Fn(u64, Operation) -> Option<Fault> + Send + Sync + 'static) -> Rig {
    rig_with(Patience::default(), plan)
}

fn rig_with(patience: Patience, plan: impl Fn(u64, Operation) -> Option<Fault> + Send + Sync + 'static) -> Rig {
    let memory = Arc::new(MemoryStore::new(NOW));
    let faulty = Arc::new(FaultyStore::new(memory.clone(), move |call| plan(call.number, call.operation)));
    let waits = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&waits);
    let pause = Pause::new(move |wait| {
        noted.lock().unwrap().push(wait);
        Box::pin(std::future::ready(()))
    });
    let store = RetryingStore::new(faulty.clone(), patience, pause);
    Rig { store, faulty, memory, waits }
}

fn key() -> Key {
    Key::new("packs/aa/1").unwrap()
}

/// The whole life of one object.
async fn live(store: &dyn Store) -> Result<(), ErrorKind> {
    let name = key();
    store.put(&name, BODY, sha256(&BODY)).await.map_err(|error| error.kind())?;
    assert_eq!(store.get(&name).await.map_err(|error| error.kind())?, BODY);
    assert_eq!(store.get_range(&name, 1, 2).await.map_err(|error| error.kind())?, BODY[1..3]);
    assert_eq!(store.list("packs/", None).await.map_err(|error| error.kind())?.len(), 1);
    assert!(store.head(&name).await.map_err(|error| error.kind())?.is_some());
    store.delete(&name).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn any_one_call_may_fail_in_passing_and_nobody_notices() {
    for fault in [
        Fault::Fail(ErrorKind::Unavailable),
        Fault::Fail(ErrorKind::Throttled),
        Fault::Fail(ErrorKind::Timeout),
        Fault::LoseAnswer,
    ] {
        let undisturbed = rig(|_, _| None);
        live(&undisturbed.store).await.unwrap();
        for number in 0..undisturbed.faulty.calls() {
            let rig = rig(move |call, _| (call == number).then_some(fault));
            live(&rig.store).await.unwrap();
            assert_eq!(rig.waits.lock().unwrap().len(), 1, "{fault:?} at {number}");
            assert!(rig.memory.keys().is_empty());
        }
    }
}

#[tokio::test]
async fn what_does_not_pass_by_itself_is_not_tried_again() {
    for kind in [
        ErrorKind::Denied,
        ErrorKind::BadCredentials,
        ErrorKind::MissingBucket,
        ErrorKind::UnknownHost,
        ErrorKind::BadCertificate,
        ErrorKind::ClockSkew,
        ErrorKind::Checksum,
        ErrorKind::Full,
        ErrorKind::Other,
    ] {
        let rig = rig(move |_, _| Some(Fault::Fail(kind)));
        assert_eq!(live(&rig.store).await, Err(kind));
        assert_eq!(rig.store.get(&key()).await.unwrap_err().kind(), kind);
        assert_eq!((rig.faulty.calls(), rig.waits.lock().unwrap().len()), (2, 0), "{kind}");
    }
}

#[tokio::test]
async fn patience_ends_after_eight_tries_and_waits_stay_below_their_bounds() {
    let rig = rig(|_, _| Some(Fault::Fail(ErrorKind::Unavailable)));
    assert_eq!(rig.store.get(&key()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(rig.faulty.calls(), 8);
    let waits = rig.waits.lock().unwrap();
    for (wait, most_ms) in waits.iter().zip([500, 1000, 2000, 4000, 8000, 16_000, 32_000]) {
        assert!(*wait <= Duration::from_millis(most_ms), "{wait:?} of {most_ms} ms");
    }
    assert_eq!(waits.len(), 7);
    assert!(waits.iter().any(|wait| *wait != waits[0]), "they are drawn, not fixed");
}

#[tokio::test]
async fn who_waits_for_an_answer_waits_for_three_tries() {
    let patience = Patience::brief();
    for _ in 0..50 {
        let rig = rig_with(patience, |_, _| Some(Fault::Fail(ErrorKind::Unavailable)));
        assert_eq!(rig.store.list("", None).await.unwrap_err().kind(), ErrorKind::Unavailable);
        let waits = rig.waits.lock().unwrap();
        assert_eq!((rig.faulty.calls(), waits.len()), (3, 2));
        assert!(waits.iter().sum::<Duration>() <= Duration::from_secs(10), "{waits:?}");
    }
}

#[tokio::test]
async fn no_try_begins_after_the_total_time() {
    let faulty =
        Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(NOW)), |_| Some(Fault::Fail(ErrorKind::Unavailable))));
    let patience = Patience { total_ms: 0, wait_first_ms: 1_000_000, wait_max_ms: 1_000_000, ..Patience::default() };
    let pause = Pause::new(|_| panic!("there is no time to wait"));
    let store = RetryingStore::new(faulty.clone(), patience, pause);
    assert_eq!(store.get(&key()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(faulty.calls(), 1);
}

#[tokio::test]
async fn the_lost_answer_of_a_write_is_looked_for_before_anything_is_sent_again() {
    let rig = rig(|call, _| (call == 0).then_some(Fault::LoseAnswer));
    rig.store.put(&key(), BODY, sha256(&BODY)).await.unwrap();
    let requests = rig.store.requests();
    assert_eq!((requests.put, requests.head, requests.get), (1, 1, 1));
}

#[tokio::test]
async fn a_write_that_was_turned_away_is_sent_again_without_a_look() {
    let rig = rig(|call, _| (call == 0).then_some(Fault::Fail(ErrorKind::Throttled)));
    rig.store.put(&key(), BODY, sha256(&BODY)).await.unwrap();
    let requests = rig.store.requests();
    assert_eq!((requests.put, requests.head, requests.get), (1, 0, 0));
}

#[tokio::test]
async fn other_bytes_under_the_key_are_an_error_and_stay() {
    for other in ["other!", "longer than ours"] {
        let rig = rig(|call, _| (call == 0).then_some(Fault::Fail(ErrorKind::Timeout)));
        rig.memory.replace(key(), Bytes::from_static(other.as_bytes()));
        let error = rig.store.put(&key(), BODY, sha256(&BODY)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(rig.memory.peek(&key()).unwrap(), other.as_bytes());
    }
}

#[tokio::test]
async fn a_look_that_fails_too_does_not_give_the_write_up() {
    let rig = rig(|call, operation| match operation {
        Operation::Put if call == 0 => Some(Fault::LoseAnswer),
        Operation::Head => Some(Fault::Fail(ErrorKind::Unavailable)),
        _ => None,
    });
    rig.store.put(&key(), BODY, sha256(&BODY)).await.unwrap();
    assert_eq!(rig.memory.peek(&key()).unwrap(), BODY);
}

#[tokio::test]
async fn reads_that_are_cut_or_changed_reach_the_caller_whose_digests_judge_them() {
    let cut = rig(|_, operation| (operation == Operation::Get).then_some(Fault::Truncate(2)));
    cut.store.put(&key(), BODY, sha256(&BODY)).await.unwrap();
    assert_eq!(cut.store.get(&key()).await.unwrap(), BODY[..2]);
    let flipped = rig(|_, operation| (operation == Operation::Get).then_some(Fault::Flip(7)));
    flipped.store.put(&key(), BODY, sha256(&BODY)).await.unwrap();
    let found = flipped.store.get(&key()).await.unwrap();
    assert_eq!(found.iter().zip(BODY.iter()).filter(|(a, b)| a != b).count(), 1);
}
