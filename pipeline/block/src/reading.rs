//! Says that somebody reads a point, for as long as it is read: a deleter then keeps it, and `list` shows it.
//!
//! Best effort, in a task of its own: credentials that may not write and stores that hang are no reason to keep a
//! restore from its work. At the end it says so; a reader that was cut off is taken for dead when its
//! last sign of life is old.

use std::sync::Arc;
use std::time::Duration;

use dualsync_model::id::{PointId, RunId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::digest::Sha256;
use crate::fetch::sentence;
use crate::heartbeat::{Heartbeat, Work};
use crate::names;
use crate::repository::Repository;
use crate::seal::random_bytes;

/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_hours(1);
/// The last one is worth no longer wait.
const LAST_WORD: Duration = Duration::from_secs(10);

/// A point that is being read. Dropped without [`Reading::end`], it just falls silent.
#[derive(Debug)]
pub struct Reading {
    end: watch::Sender<bool>,
    beating: JoinHandle<()>,
}

impl Reading {
    /// Begins to give signs of life.
    pub fn begin(repository: &Arc<Repository>, point: &PointId, manifest: Sha256) -> Self {
        let (end, ended) = watch::channel(false);
        let beating = tokio::spawn(beat(Arc::clone(repository), point.clone(), manifest, ended));
        Self { end, beating }
    }

    /// The point is not read any more.
    pub async fn end(mut self) {
        let _ = self.end.send(true);
        if tokio::time::timeout(LAST_WORD, &mut self.beating).await.is_err() {
            tracing::debug!("the store takes no last sign of life");
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

async fn beat(repository: Arc<Repository>, point: PointId, manifest: Sha256, mut ended: watch::Receiver<bool>) {
    let Ok(random) = random_bytes() else { return };
    let (run, started_at) = (RunId::from_random(random), repository.store().now());
    for number in 0.. {
        let ended_now = *ended.borrow();
        let heartbeat = Heartbeat {
            work: Work::Restore,
            point: point.clone(),
            run: run.clone(),
            number,
            parent: Some(manifest),
            started_at,
            at: repository.store().now(),
            ended: ended_now,
        };
        let key = names::heartbeat(point.source(), &run, number);
        if let Err(error) = repository.put_document(&key, &heartbeat).await {
            tracing::debug!(error = %sentence(&error), "no sign of life of this reader");
            return;
        }
        if ended_now {
            return;
        }
        // Either may come first; a sender that is gone comes with an abort.
        let _ = tokio::time::timeout(HEARTBEAT, ended.wait_for(|ended| *ended)).await;
    }
}
