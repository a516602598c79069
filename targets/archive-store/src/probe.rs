//! Finds out what a store really does.
//!
//! Every claim is put to the test on scratch objects below `probe/` and looked at afterwards: there
//! are servers that say yes to everything. What opendal gives no way to try is reported as not
//! tried, never as there.

use std::fmt::Display;

use bytes::Bytes;
use dualsync_model::event::{Capability, CapabilityState};
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;

use crate::contract::{Conditional, ErrorKind, Key, Lock, Operation, Store, StoreError};
use crate::digest::sha256;

/// Beyond this difference of the clocks, seconds, nothing may be marked or deleted.
const CLOCKS_APART_MAX: i64 = 600;

/// Tries `store` at the job's time `now`. `Err` when it cannot even be written, read and listed.
pub async fn probe(store: &dyn Store, now: Timestamp) -> Result<Vec<Capability>, StoreError> {
    let key = scratch_key(store, now)?;
    let body = Bytes::from(format!("dualsync was here: {key}"));
    let mut found = vec![round_trip(store, &key, &body).await?];
    found.push(conditional_put(store, &key, &body).await);
    found.push(not_tried("checksum"));
    found.push(versioning(store, &key).await);
    found.push(not_tried("object_lock"));
    found.push(clock(store, now));
    found.push(delete(store, &key).await);
    Ok(found)
}

fn scratch_key(store: &dyn Store, now: Timestamp) -> Result<Key, StoreError> {
    let failure = || StoreError::new(ErrorKind::Other, Operation::Open, store.describe(), "probe/");
    let random = getrandom::u64().map_err(|error| failure().caused_by(error.to_string()))?;
    Key::new(format!("probe/{}-{random:016x}", now.compact())).map_err(|error| failure().caused_by(error))
}

fn report(name: &str, state: CapabilityState, detail: impl Display) -> Capability {
    Capability { name: name.to_owned(), state, detail: detail.to_string() }
}

/// An error that is an answer: the store or its rights do not go that far.
fn absent(name: &str, error: &StoreError) -> Capability {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(" ({cause})"));
    report(name, CapabilityState::Absent, format!("{error}{cause}"))
}

async fn round_trip(store: &dyn Store, key: &Key, body: &Bytes) -> Result<Capability, StoreError> {
    store.put(key, body.clone(), sha256(body)).await?;
    let (whole, part) = (store.get(key).await?, store.get_range(key, 9, 8).await?);
    let listed = store.list("probe/", None).await?.into_iter().find(|info| info.key == *key);
    let (state, detail) = if whole != *body || part != body[9..17] {
        (CapabilityState::Failed, "what came back is not what was written")
    } else if listed.is_none_or(|info| info.size != body.len() as u64) {
        (CapabilityState::Failed, "the listing does not show what was written")
    } else {
        (CapabilityState::Enforced, "an object was written, read whole and in part, and listed")
    };
    Ok(report("round_trip", state, detail))
}

async fn conditional_put(store: &dyn Store, key: &Key, first: &Bytes) -> Capability {
    let name = "conditional_put";
    let second = Bytes::from_static(b"this must not replace the first");
    let outcome = match store.put_if_absent(key, second.clone(), sha256(&second)).await {
        Ok(outcome) => outcome,
        Err(error) => return absent(name, &error),
    };
    match (outcome, store.get(key).await) {
        (_, Err(error)) => absent(name, &error),
        (Conditional::Refused, Ok(body)) if body == *first => {
            report(name, CapabilityState::Enforced, "If-None-Match was honoured: the first object is still there")
        }
        (Conditional::Refused, Ok(_)) => {
            report(name, CapabilityState::Ignored, "If-None-Match was answered with a refusal, and the object replaced")
        }
        (Conditional::Written, Ok(_)) => {
            report(name, CapabilityState::Ignored, "If-None-Match was answered with success although the key was taken")
        }
    }
}

fn not_tried(name: &str) -> Capability {
    let why = match name {
        "checksum" => "opendal computes the Content-MD5 that it sends, so a wrong one cannot be sent",
        _ => "a scratch object under a lock would stay, and the target asks for no `immutability`",
    };
    report(name, CapabilityState::NotTried, why)
}

async fn versioning(store: &dyn Store, key: &Key) -> Capability {
    let name = "versioning";
    match store.versions(key.as_str()).await {
        Ok(Some(_)) => report(name, CapabilityState::Enforced, "the scratch object has a version with an id"),
        Ok(None) => {
            report(name, CapabilityState::Absent, "the store keeps no versions, or does not let them be listed")
        }
        Err(error) => absent(name, &error),
    }
}

/// For so long a scratch object is locked, seconds.
const LOCKED_S: i64 = 60;

/// Tries whether the store enforces a lock: a scratch object is locked for a minute, the lock read back, and the object deleted.
/// On a store that does what it says the object stays, a few bytes below `probe/`.
pub async fn probe_lock(store: &dyn Store, now: Timestamp, mode: LockMode) -> Capability {
    match try_lock(store, now, mode).await {
        Ok((state, detail)) => report("object_lock", state, detail),
        Err(error) => absent("object_lock", &error),
    }
}

async fn try_lock(
    store: &dyn Store,
    now: Timestamp,
    mode: LockMode,
) -> Result<(CapabilityState, &'static str), StoreError> {
    use CapabilityState::{Absent, Enforced, Ignored};

    let key = scratch_key(store, now)?;
    let body = Bytes::from_static(b"dualsync tries a lock");
    store.put(&key, body.clone(), sha256(&body)).await?;
    // Whole seconds, the last one begun: what is read back may not be shorter.
    let until = Timestamp::from_seconds(store.now().seconds() + LOCKED_S);
    let locked = store.lock(&key, None, Lock { mode, until }).await;
    let told = match locked {
        Ok(()) => store.lock_of(&key, None).await?,
        Err(error) => {
            // Nothing holds the scratch object; where it cannot be deleted, `delete` says so.
            let _ = store.purge(&key).await;
            return Err(error);
        }
    };
    let holds = told.is_some_and(|told| told.covers(Lock { mode, until: until.plus_seconds(-1) }));
    let has_versions = store.versions(key.as_str()).await?.is_some();
    Ok(match store.purge(&key).await {
        _ if !holds => (Ignored, "the lock was answered with success, and cannot be read back"),
        _ if !has_versions => (Absent, "the store keeps no versions, or does not let them be listed"),
        Ok(purged) if purged.locked > 0 => (Enforced, "a locked version could not be deleted"),
        Ok(_) => (Ignored, "a locked version was deleted as if it were none"),
        Err(error) if error.kind() == ErrorKind::Denied => {
            (Enforced, "the lock was read back; these credentials may not delete, so nobody tried to")
        }
        Err(error) => return Err(error),
    })
}

fn clock(store: &dyn Store, now: Timestamp) -> Capability {
    if !store.has_clock() {
        return report("clock", CapabilityState::Absent, "the store tells no time; the job's time counts");
    }
    let ahead = store.now().seconds_since(now);
    if ahead.abs() > CLOCKS_APART_MAX {
        let detail = format!("the store is {ahead} s ahead of this host: nothing will be marked or deleted");
        return report("clock", CapabilityState::Failed, detail);
    }
    report("clock", CapabilityState::Enforced, format!("the store is {ahead} s ahead of this host"))
}

async fn delete(store: &dyn Store, key: &Key) -> Capability {
    match store.purge(key).await {
        Ok(purged) if purged.locked > 0 => {
            let detail = "the bucket's default retention locks the scratch object, which stays until that ends";
            return report("delete", CapabilityState::Absent, detail);
        }
        Ok(_) => {}
        Err(error) => return absent("delete", &error),
    }
    match store.head(key).await {
        Ok(None) => report("delete", CapabilityState::Enforced, "the scratch object was deleted and is gone"),
        Ok(Some(_)) => report("delete", CapabilityState::Ignored, "the scratch object was deleted and is still there"),
        Err(error) => absent("delete", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::faulty::{Fault, FaultyStore};
    use crate::memory::MemoryStore;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    async fn check(store: &dyn Store, expected: &[(&str, CapabilityState)]) {
        let found = probe(store, NOW).await.unwrap();
        for (name, state) in expected {
            let capability = found.iter().find(|capability| capability.name == *name).unwrap();
            assert_eq!(capability.state, *state, "{capability:?}");
        }
    }

    #[tokio::test]
    async fn a_good_store_passes_and_nothing_is_left_behind() {
        let store = MemoryStore::new(NOW);
        let (good, absent) = (CapabilityState::Enforced, CapabilityState::Absent);
        check(&store, &[("round_trip", good), ("conditional_put", good), ("delete", good)]).await;
        check(&store, &[("clock", absent), ("versioning", absent)]).await;
        check(&store, &[("checksum", CapabilityState::NotTried), ("object_lock", CapabilityState::NotTried)]).await;
        assert!(store.keys().is_empty());
    }

    #[tokio::test]
    async fn a_bucket_that_keeps_versions_is_told_and_keeps_nothing_of_the_probe() {
        let store = MemoryStore::new(NOW);
        store.keep_versions();
        check(&store, &[("versioning", CapabilityState::Enforced), ("delete", CapabilityState::Enforced)]).await;
        assert_eq!((store.keys().len(), store.hidden()), (0, 0));
        store.lock_all(NOW.plus_seconds(60));
        check(&store, &[("delete", CapabilityState::Absent)]).await;
    }

    #[tokio::test]
    async fn a_lock_is_tried_by_deleting_what_it_locks() {
        let check = async |store: &MemoryStore, expected| {
            let found = probe_lock(store, NOW, LockMode::Compliance).await;
            assert_eq!((found.name.as_str(), found.state), ("object_lock", expected), "{found:?}");
        };
        let plain = MemoryStore::new(NOW);
        check(&plain, CapabilityState::Absent).await;
        assert!(plain.keys().is_empty());
        let locking = MemoryStore::new(NOW);
        locking.keep_versions();
        check(&locking, CapabilityState::Enforced).await;
        assert_eq!(locking.keys().len(), 1);
    }

    #[tokio::test]
    async fn clocks_may_be_ten_minutes_apart_and_no_more() {
        let store = MemoryStore::new(NOW);
        for (ahead, expected) in
            [(500, CapabilityState::Enforced), (-500, CapabilityState::Enforced), (700, CapabilityState::Failed)]
        {
            store.set_now(NOW.plus_seconds(ahead));
            check(&store, &[("clock", expected)]).await;
        }
    }

    #[tokio::test]
    async fn rights_that_end_before_deletion_are_reported_and_no_failure() {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(NOW));
        let store = FaultyStore::new(memory, |call| {
            Some(Fault::Fail(ErrorKind::Denied)).filter(|_| call.operation == Operation::Delete)
        });
        check(&store, &[("round_trip", CapabilityState::Enforced), ("delete", CapabilityState::Absent)]).await;
    }

    #[tokio::test]
    async fn a_store_that_damages_or_refuses_is_found_out() {
        let damaged = FaultyStore::at_call(Arc::new(MemoryStore::new(NOW)), 2, Fault::Flip(0));
        check(&damaged, &[("round_trip", CapabilityState::Failed)]).await;
        let refused = FaultyStore::at_call(Arc::new(MemoryStore::new(NOW)), 0, Fault::Fail(ErrorKind::MissingBucket));
        assert_eq!(probe(&refused, NOW).await.unwrap_err().kind(), ErrorKind::MissingBucket);
    }
}
