//! Sends sealed objects to the store, two at a time, and remembers what is durable.
//!
//! Promises that an object is listed only after the store said that it is durable. A checkpoint is put
//! only after everything sent before it. The first failure stops the whole pipeline: the store
//! client has tried again already where that makes sense.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dualsync_archive_store::contract::Receipt;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use crate::backup::BackupError;
use crate::backup::flow::{Flow, Permit};
use crate::events::Events;
use crate::format::{MANIFEST_BYTES_MAX, VOLUME_BYTES_MIN, VOLUME_BYTES_TARGET};
use crate::manifest::Stored;
use crate::objects::{ObjectError, Objects};

/// Objects on their way at once.
const UPLOADS: usize = 2;
/// A volume should take about this long, so that little is sent again when a line breaks.
const VOLUME_S: Duration = Duration::from_secs(20);

/// An object to send.
pub struct Upload {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// What it is.
    pub what: What,
}

/// What an object is.
pub enum What {
    /// A volume; its memory is given back once it is durable.
    Volume {
        /// Bytes of tar in it.
        tar_bytes: u64,
        /// Its memory.
        _memory: Permit,
    },
    /// A segment of the catalog, or an index.
    Catalog,
    /// A record that tells of everything sent before it, and is built only then.
    Checkpoint(Build),
}

/// Builds a record out of everything that is durable.
pub type Build = Box<dyn FnOnce(&SentObjects) -> Bytes + Send>;

/// An object that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Size and digest.
    pub stored: Stored,
    /// Of a volume: bytes of tar in it.
    pub tar_bytes: Option<u64>,
    /// What the store proved of it.
    pub receipt: Receipt,
}

/// Everything this run has sent.
pub type SentObjects = BTreeMap<String, Sent>;

/// Sends until there is no more; fails the flow on the first error.
pub async fn run(
    objects: Objects,
    mut uploads: Receiver<Upload>,
    target_bytes: Arc<AtomicUsize>,
    events: Events,
    flow: Flow,
) -> SentObjects {
    let mut sent = SentObjects::new();
    let mut running: JoinSet<Result<(String, Sent), ObjectError>> = JoinSet::new();
    while let Some(mut upload) = uploads.recv().await {
        let room = if matches!(upload.what, What::Checkpoint(_)) { 0 } else { UPLOADS - 1 };
        while running.len() > room {
            if !finish_one(&mut running, &mut sent, &flow).await {
                return sent;
            }
        }
        if let What::Checkpoint(build) = upload.what {
            (upload.bytes, upload.what) = (build(&sent), What::Catalog);
            if upload.bytes.len() as u64 > MANIFEST_BYTES_MAX {
                let message = "the run has sent so much that no checkpoint can tell it: cut off, it begins again here";
                events.warn("checkpoint", message.to_owned(), None);
                continue;
            }
        }
        running.spawn(send(objects.clone(), upload, target_bytes.clone(), events.clone()));
    }
    while !running.is_empty() {
        if !finish_one(&mut running, &mut sent, &flow).await {
            return sent;
        }
    }
    sent
}

async fn finish_one(
    running: &mut JoinSet<Result<(String, Sent), ObjectError>>,
    sent: &mut SentObjects,
    flow: &Flow,
) -> bool {
    match running.join_next().await {
        Some(Ok(Ok((key, object)))) => {
            sent.insert(key, object);
            true
        }
        Some(Ok(Err(error))) => {
            flow.fail(BackupError::Object(error));
            false
        }
        Some(Err(_)) => {
            flow.fail(BackupError::Died);
            false
        }
        None => true,
    }
}

async fn send(
    objects: Objects,
    upload: Upload,
    target_bytes: Arc<AtomicUsize>,
    events: Events,
) -> Result<(String, Sent), ObjectError> {
    let started = Instant::now();
    let (stored, receipt) = objects.put_seen(&upload.key, upload.bytes).await?;
    events.progress().transferred_bytes.fetch_add(stored.bytes, Ordering::Relaxed);
    let tar_bytes = match upload.what {
        What::Volume { tar_bytes, .. } => {
            target_bytes.store(volume_target(stored.bytes, started.elapsed()), Ordering::Relaxed);
            Some(tar_bytes)
        }
        What::Catalog | What::Checkpoint(_) => None,
    };
    Ok((upload.key, Sent { stored, tar_bytes, receipt }))
}

/// The size that takes about [`VOLUME_S`] at this rate, within the format's bounds.
fn volume_target(bytes: u64, took: Duration) -> usize {
    let milliseconds = took.as_millis().max(1);
    let wanted = u128::from(bytes) * VOLUME_S.as_millis() / milliseconds;
    usize::try_from(wanted).unwrap_or(usize::MAX).clamp(VOLUME_BYTES_MIN, VOLUME_BYTES_TARGET)
}

#[cfg(test)]
mod tests {
    use dualsync_archive_store::contract::{ErrorKind, Operation};
    use dualsync_archive_store::faulty::{Fault, FaultyStore};
    use dualsync_archive_store::memory::MemoryStore;
    use dualsync_model::time::Timestamp;

    use super::*;
    use crate::events::tests::Sink;

    fn catalog(key: &str) -> Upload {
        Upload { key: key.into(), bytes: Bytes::from_static(b"x"), what: What::Catalog }
    }

    async fn send_all(objects: Objects, uploads: Vec<Upload>, flow: &Flow) -> SentObjects {
        let (sender, receiver) = tokio::sync::mpsc::channel(uploads.len());
        for upload in uploads {
            assert!(sender.send(upload).await.is_ok());
        }
        drop(sender);
        run(objects, receiver, Arc::default(), Events::new(Sink::default()), flow.clone()).await
    }

    #[tokio::test]
    async fn what_is_listed_is_stored() {
        let store = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
        let flow = Flow::default();
        let sent = send_all(Objects::new(store.clone()), vec![catalog("a"), catalog("b"), catalog("c")], &flow).await;
        assert_eq!(sent.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(sent.keys().all(|key| store.peek(&key.parse().unwrap()).is_some()));
        assert!(!flow.is_stopped());
    }

    #[tokio::test]
    async fn a_checkpoint_waits_for_everything_before_it() {
        let store = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
        let below = store.clone();
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = seen.clone();
        let faulty = FaultyStore::new(store, move |call| {
            if call.operation == Operation::Put {
                log.lock().unwrap().push(call.object.to_owned());
            }
            None
        });
        let build = |sent: &SentObjects| Bytes::from(sent.keys().cloned().collect::<String>());
        let checkpoint = Upload { what: What::Checkpoint(Box::new(build)), ..catalog("checkpoint") };
        let uploads = vec![catalog("a"), catalog("b"), catalog("c"), checkpoint, catalog("d")];
        send_all(Objects::new(Arc::new(faulty)), uploads, &Flow::default()).await;
        let order = seen.lock().unwrap().clone();
        let at = |key: &str| order.iter().position(|seen| seen == key).unwrap();
        assert!(["a", "b", "c"].iter().all(|key| at(key) < at("checkpoint")), "{order:?}");
        assert_eq!(below.peek(&"checkpoint".parse().unwrap()).unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_checkpoint_that_no_run_would_read_is_not_put() {
        let store = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
        let too_long = usize::try_from(MANIFEST_BYTES_MAX).unwrap() + 1;
        let build = move |_: &SentObjects| Bytes::from(vec![0; too_long]);
        let checkpoint = Upload { what: What::Checkpoint(Box::new(build)), ..catalog("checkpoint") };
        let uploads = vec![catalog("a"), checkpoint, catalog("b")];
        let sent = send_all(Objects::new(store), uploads, &Flow::default()).await;
        assert_eq!(sent.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[tokio::test]
    async fn a_failed_object_stops_the_pipeline_and_is_not_listed() {
        let store: Arc<MemoryStore> = Arc::new(MemoryStore::new(Timestamp::from_seconds(0)));
        let faulty = FaultyStore::new(store, |call| (call.object == "b").then_some(Fault::Fail(ErrorKind::Denied)));
        let flow = Flow::default();
        let sent =
            send_all(Objects::new(Arc::new(faulty)), vec![catalog("a"), catalog("b"), catalog("c")], &flow).await;
        assert!(!sent.contains_key("b") && flow.is_stopped());
        assert!(matches!(flow.error(), Some(BackupError::Object(_))));
    }

    #[test]
    fn slow_lines_get_small_volumes() {
        assert_eq!(volume_target(32 << 20, Duration::ZERO), VOLUME_BYTES_TARGET);
        assert_eq!(volume_target(16 << 20, Duration::from_mins(10)), VOLUME_BYTES_MIN);
        assert_eq!(volume_target(24 << 20, VOLUME_S), 24 << 20);
    }
}
