//! For every request of an object's life: what if exactly that one goes wrong?
//!
//! The requests are real ones, through opendal and its layers, to a toy server that breaks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod servers {
    pub mod scripted;
    pub mod toy;
}

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dualsync_archive_store::contract::{ErrorKind, Key, Operation, Store, StoreError};
use dualsync_archive_store::digest::sha256;
use dualsync_archive_store::faulty::{Call, Fault, FaultyStore};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_archive_store::service::{Patience, Service, ServiceStore};
use dualsync_model::time::Timestamp;
use servers::scripted::{Scripted, says};
use servers::toy::{Mishap, Toy};

const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
const BODY: &[u8] = b"a sealed volume, more or less";

fn bucket(endpoint: &str) -> ServiceStore {
    let options = [
        ("endpoint", endpoint),
        ("region", "toy"),
        ("bucket", "b"),
        ("access_key_id", "A"),
        ("secret_access_key", "S"),
        ("checksum_algorithm", "md5"),
        ("disable_config_load", "true"),
        ("disable_ec2_metadata", "true"),
    ];
    let options: HashMap<_, _> = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let service = Service { scheme: "s3".to_owned(), options, name: "toy".to_owned() };
    let wait = Duration::from_micros(10);
    let patience = Patience {
        again_max: 2,
        wait_min: wait,
        wait_max: wait,
        total: Duration::from_mins(1),
        silence: Duration::from_mins(1),
    };
    ServiceStore::open(service, patience, NOW).unwrap()
}

/// Everything that a path does with one object.
async fn live(store: &dyn Store) -> Result<(), StoreError> {
    let key = Key::new("volumes/1").unwrap();
    store.put(&key, Bytes::from_static(BODY), sha256(BODY)).await?;
    assert_eq!(store.get(&key).await?, BODY);
    assert_eq!(store.get_range(&key, 2, 6).await?, BODY[2..8]);
    assert_eq!(store.head(&key).await?.unwrap().size, BODY.len() as u64);
    assert_eq!(store.list("volumes/", None).await?.len(), 1);
    store.delete(&key).await
}

#[tokio::test]
async fn any_one_request_may_go_wrong_and_the_object_lives_as_it_should() {
    let quiet = Toy::run(usize::MAX, Mishap::Refused);
    let store = bucket(&quiet.endpoint);
    live(&store).await.unwrap();
    assert_eq!((quiet.requests(), store.requests().total()), (6, 6), "one request for each call");
    for mishap in [Mishap::Refused, Mishap::AnswerLost, Mishap::AnswerCut] {
        for at in 0..6 {
            let toy = Toy::run(at, mishap);
            let store = bucket(&toy.endpoint);
            live(&store).await.unwrap_or_else(|error| panic!("{mishap:?} at {at}: {error:?}"));
            assert!(toy.objects.lock().unwrap().is_empty());
            assert_eq!(store.requests().total(), u64::try_from(toy.requests()).unwrap(), "each one is counted");
            // A write in doubt costs a look, and a read where it had arrived; all else costs itself once more.
            assert!((6..=8).contains(&toy.requests()), "{mishap:?} at {at}: {}", toy.requests());
        }
    }
}

#[tokio::test]
async fn a_server_that_never_recovers_is_given_up_after_the_tries_one_has() {
    let server = Scripted::run(vec![says(500, &[], "")]);
    let store = bucket(&server.endpoint);
    assert_eq!(store.get(&Key::new("k").unwrap()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(server.asked().len(), 3);
}

fn spoilt(script: impl Fn(Call<'_>) -> Option<Fault> + Send + Sync + 'static) -> (Arc<MemoryStore>, FaultyStore) {
    let memory = Arc::new(MemoryStore::new(NOW));
    (Arc::clone(&memory), FaultyStore::new(memory, script))
}

#[tokio::test]
async fn the_faulty_double_fails_where_it_is_told_and_nowhere_else() {
    for number in 0..6 {
        let store = FaultyStore::at_call(Arc::new(MemoryStore::new(NOW)), number, Fault::Fail(ErrorKind::Full));
        assert_eq!(live(&store).await.unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(store.calls(), number + 1);
    }
    let store = FaultyStore::at_call(Arc::new(MemoryStore::new(NOW)), 6, Fault::Fail(ErrorKind::Full));
    live(&store).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_leaves_the_deed_and_a_failure_leaves_nothing() {
    let put = |fault| {
        let (memory, store) = spoilt(move |call| Some(fault).filter(|_| call.operation == Operation::Put));
        async move {
            let outcome = store.put(&Key::new("k").unwrap(), Bytes::from_static(BODY), sha256(BODY)).await;
            (outcome.unwrap_err().kind(), memory.keys().len())
        }
    };
    assert_eq!(put(Fault::LoseAnswer).await, (ErrorKind::Timeout, 1));
    assert_eq!(put(Fault::Fail(ErrorKind::Unavailable)).await, (ErrorKind::Unavailable, 0));
}

#[tokio::test]
async fn reads_are_cut_and_flipped_as_scripted() {
    let key = Key::new("k").unwrap();
    for (fault, expected) in [(Fault::Truncate(3), b"abc".to_vec()), (Fault::Flip(7), b"abc\x9bef".to_vec())] {
        let (memory, store) = spoilt(move |call| Some(fault).filter(|_| call.object == "k"));
        memory.replace(key.clone(), Bytes::from_static(b"abcdef"));
        let found = store.get(&key).await.unwrap();
        if matches!(fault, Fault::Flip(_)) {
            assert_eq!((found.len(), found[1]), (6, !b'b'));
        } else {
            assert_eq!(found, expected);
        }
    }
}
