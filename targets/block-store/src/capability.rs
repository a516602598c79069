//! Tries what a store can do, with scratch objects, and believes nothing that cannot be read back.
//!
//! Some servers answer 200 to a wrong checksum, a conditional write or a lock, and ignore it. So
//! each capability is tried, then looked at from the other side. Credentials that may not delete
//! are a finding, not a failure: the best write-only credentials are of that kind.

use std::io;

use bytes::Bytes;
use dualsync_model::event::{Capability, CapabilityState};
use dualsync_model::time::Timestamp;

use crate::contract::{ErrorKind, Key, Operation, Seen, Setting, Store, StoreError};
use crate::digest::sha256;
use crate::versions::{Remains, erase};

/// How far the job's clock and the store's may be apart, seconds: beyond it nothing is marked or deleted.
const CLOCK_APART_MAX_S: i64 = 600;

/// What `store` was seen to do. The first failure of a plain write, read or listing is an error.
pub async fn probe(store: &dyn Store, job_now: Timestamp) -> Result<Vec<Capability>, StoreError> {
    let scratch = Scratch::new(store, job_now)?;
    let mut seen = vec![scratch.round_trip().await?];
    seen.push(scratch.checksum().await);
    seen.push(scratch.conditional_put().await);
    seen.push(scratch.setting("versioning", Setting::Versioning).await);
    seen.push(scratch.setting("object_lock", Setting::ObjectLock).await);
    seen.push(clock(store, job_now));
    seen.push(scratch.delete().await);
    Ok(seen)
}

fn capability(name: &str, state: CapabilityState, detail: impl Into<String>) -> Capability {
    Capability { name: name.to_owned(), state, detail: detail.into() }
}

/// The store refused, or could not: its own words.
fn refused(name: &str, error: &StoreError) -> Capability {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    capability(name, CapabilityState::Absent, format!("{error}{cause}"))
}

/// The objects of one probe. They carry time and random bytes, so that two probes never meet.
struct Scratch<'a> {
    store: &'a dyn Store,
    /// Holds [`Scratch::body`].
    object: Key,
    /// Is offered bytes that do not fit their digest.
    wrong: Key,
    body: Bytes,
}

impl<'a> Scratch<'a> {
    fn new(store: &'a dyn Store, job_now: Timestamp) -> Result<Self, StoreError> {
        let failed = |cause: io::Error| {
            StoreError::new(ErrorKind::Other, Operation::Open, store.describe(), "probe/").because(cause)
        };
        let random = getrandom::u64().map_err(|error| failed(io::Error::other(error)))?;
        let name = format!("probe/{}-{random:016x}", job_now.compact());
        let key = |text: String| Key::new(text).map_err(|error| failed(io::Error::other(error)));
        Ok(Self { store, object: key(name.clone())?, wrong: key(format!("{name}-wrong"))?, body: Bytes::from(name) })
    }

    async fn round_trip(&self) -> Result<Capability, StoreError> {
        self.store.put(&self.object, self.body.clone(), sha256(&self.body)).await?;
        let whole = self.store.get(&self.object).await?;
        let part = self.store.get_range(&self.object, 6, 8).await?;
        let listed = self.store.list(self.object.as_str(), None).await?;
        let failed = |detail: &str| Ok(capability("round_trip", CapabilityState::Failed, detail));
        if whole != self.body || part != self.body[6..14] {
            return failed("other bytes came back than were written");
        }
        if !listed.iter().any(|info| info.key == self.object && info.size == self.body.len() as u64) {
            return failed("an object that was written is not in the listing");
        }
        Ok(capability("round_trip", CapabilityState::Enforced, "written, read back whole and in part, and listed"))
    }

    async fn checksum(&self) -> Capability {
        let digest = sha256(b"the digest of other bytes");
        let put = self.store.put(&self.wrong, self.body.clone(), digest).await;
        let stored = self.store.head(&self.wrong).await;
        match (put, stored) {
            (Err(error), Ok(None)) if error.kind() == ErrorKind::Checksum => {
                capability("checksum", CapabilityState::Enforced, "a body that does not fit its SHA-256 was refused")
            }
            (Ok(()), _) => {
                capability("checksum", CapabilityState::Ignored, "a body that does not fit its SHA-256 was accepted")
            }
            (Err(_), Ok(Some(_))) => capability(
                "checksum",
                CapabilityState::Ignored,
                "a body that does not fit its SHA-256 was refused and stored",
            ),
            (Err(error), _) => refused("checksum", &error),
        }
    }

    async fn conditional_put(&self) -> Capability {
        const NAME: &str = "conditional_put";
        let other = Bytes::from_static(b"a second object under the same key");
        let put = self.store.put_if_absent(&self.object, other.clone(), sha256(&other)).await;
        let kept = match self.store.get(&self.object).await {
            Ok(found) => found == self.body,
            Err(error) => return refused(NAME, &error),
        };
        match (put, kept) {
            (Ok(false), true) => {
                capability(NAME, CapabilityState::Enforced, "a second write was refused, the first is there")
            }
            (Ok(true), false) => {
                capability(NAME, CapabilityState::Ignored, "a second write was to be refused and replaced the first")
            }
            (Ok(_), _) => {
                capability(NAME, CapabilityState::Ignored, "the answer to a second write and what is stored contradict")
            }
            (Err(error), _) => refused(NAME, &error),
        }
    }

    async fn setting(&self, name: &str, setting: Setting) -> Capability {
        match self.store.setting(setting, &self.object).await {
            Ok(Seen::Works(detail)) => capability(name, CapabilityState::Enforced, detail),
            Ok(Seen::Claimed(detail)) => capability(name, CapabilityState::Ignored, detail),
            Ok(Seen::Absent(detail)) => capability(name, CapabilityState::Absent, detail),
            Err(error) => refused(name, &error),
        }
    }

    /// With all its versions, where these credentials may; who may only hide an object has to leave it.
    async fn erase(&self, key: &Key) -> Result<Remains, StoreError> {
        let keeps_versions = self.store.keeps_versions().await?;
        match erase(self.store, key, keeps_versions).await {
            Err(error) if error.kind() == ErrorKind::Denied && keeps_versions => {
                self.store.delete(key).await.map(|()| Remains::default())
            }
            other => other,
        }
    }

    async fn delete(&self) -> Capability {
        let mut locked = 0;
        for key in [&self.wrong, &self.object] {
            match self.erase(key).await {
                Ok(remains) => locked += remains.versions,
                Err(error) => return refused("delete", &error),
            }
        }
        if locked > 0 {
            let detail = "the scratch objects are hidden, and stay until their lock ends";
            return capability("delete", CapabilityState::Enforced, detail);
        }
        match self.store.head(&self.object).await {
            Ok(None) => capability("delete", CapabilityState::Enforced, "the scratch objects are gone"),
            Ok(Some(_)) => capability("delete", CapabilityState::Ignored, "a deleted scratch object is still there"),
            Err(error) => refused("delete", &error),
        }
    }
}

fn clock(store: &dyn Store, job_now: Timestamp) -> Capability {
    if !store.has_clock() {
        return capability("clock", CapabilityState::Absent, "this store has no clock of its own; the job's counts");
    }
    let apart = store.now().seconds_since(job_now);
    if apart.abs() <= CLOCK_APART_MAX_S {
        capability("clock", CapabilityState::Enforced, format!("the store's clock is {apart} s ahead of this host's"))
    } else {
        let detail = format!("the store's clock is {apart} s ahead of this host's: nothing may be marked or deleted");
        capability("clock", CapabilityState::Failed, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::faulty::{Fault, FaultyStore};
    use crate::memory::MemoryStore;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn state(seen: &[Capability], name: &str) -> CapabilityState {
        seen.iter().find(|capability| capability.name == name).unwrap().state
    }

    #[tokio::test]
    async fn a_good_store_is_seen_to_be_good_and_left_clean() {
        let memory = MemoryStore::new(NOW);
        memory.set_now(NOW);
        let seen = probe(&memory, NOW).await.unwrap();
        for name in ["round_trip", "checksum", "conditional_put", "clock", "delete"] {
            assert_eq!(state(&seen, name), CapabilityState::Enforced, "{name}");
        }
        for name in ["versioning", "object_lock"] {
            assert_eq!(state(&seen, name), CapabilityState::Absent, "{name}");
        }
        assert!(memory.keys().is_empty());
    }

    #[tokio::test]
    async fn a_clock_that_is_far_off_fails() {
        let memory = MemoryStore::new(NOW);
        memory.set_now(NOW.plus_seconds(-700));
        assert_eq!(state(&probe(&memory, NOW).await.unwrap(), "clock"), CapabilityState::Failed);
    }

    #[tokio::test]
    async fn credentials_that_may_not_delete_are_a_finding() {
        let memory = Arc::new(MemoryStore::new(NOW));
        let store = FaultyStore::new(memory.clone(), |call| {
            (call.operation == Operation::Delete).then_some(Fault::Fail(ErrorKind::Denied))
        });
        let seen = probe(&store, NOW).await.unwrap();
        assert_eq!(state(&seen, "delete"), CapabilityState::Absent);
        assert_eq!(state(&seen, "clock"), CapabilityState::Absent);
        assert_eq!(memory.keys().len(), 1);
    }

    #[tokio::test]
    async fn bytes_that_come_back_changed_fail_the_round_trip() {
        let store = FaultyStore::at_call(Arc::new(MemoryStore::new(NOW)), 1, Fault::Flip(3));
        assert_eq!(state(&probe(&store, NOW).await.unwrap(), "round_trip"), CapabilityState::Failed);
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_written_is_an_error() {
        let store = FaultyStore::at_call(Arc::new(MemoryStore::new(NOW)), 0, Fault::Fail(ErrorKind::BadCredentials));
        assert_eq!(probe(&store, NOW).await.unwrap_err().kind(), ErrorKind::BadCredentials);
    }
}
