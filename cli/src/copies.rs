//! Both copies of one moment, made side by side: each checked and committed for itself.
//!
//! The order is the one that keeps a bad copy from ever existing: a writer says `prepared` when it has
//! read everything; then, and only then, the snapshot is asked whether it still is what was taken; only
//! after a yes the writer hears `commit`. The snapshot is let go when nobody reads it any more, before the
//! last manifest is written: a frozen file system thaws as early as it can. One side's failure is its own.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use dualsync_model::event::{Committed, Event, Summary, Warning};
use dualsync_model::job::Command;
use dualsync_snapshot::{Invalid, ReleaseError, Taken};

use crate::mechanism::{Mechanism, Pair};
use crate::output::Progress;
use crate::writer::{Writer, WriterError};

/// What became of one copy.
#[derive(Debug, Default)]
pub struct CopyEnd {
    /// Its manifest, once durable: from here on the copy exists, whatever happens to the program.
    pub committed: Option<Committed>,
    /// The last line, where it came.
    pub summary: Option<Summary>,
    /// What did not stop it.
    pub warnings: Vec<Warning>,
    /// What did.
    pub error: Option<CopyError>,
    /// How long it took, seconds.
    pub duration_s: u64,
}

/// Why a copy was not made, or not ended well.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The program failed.
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// The program did its work, but on a moment that did not hold.
    #[error("the snapshot did not hold until everything was read")]
    Moment(#[source] Arc<Invalid>),
}

/// The moment that both read, with the number of those that still do.
struct Moment {
    taken: RefCell<Option<Taken>>,
    /// Why it is lost, once it is: the first answer knows best.
    lost: RefCell<Option<Arc<Invalid>>>,
    readers: Cell<usize>,
    release: RefCell<Option<ReleaseError>>,
}

impl Moment {
    fn still_valid(&self) -> Result<(), Arc<Invalid>> {
        if let Some(lost) = &*self.lost.borrow() {
            return Err(Arc::clone(lost));
        }
        // Whoever asks still counts as a reader, so the moment is there.
        let answer = self.taken.borrow_mut().as_mut().map_or(Ok(()), Taken::still_valid).map_err(Arc::new);
        *self.lost.borrow_mut() = answer.clone().err();
        answer
    }
}

/// One reader of a moment; the last one to go releases it.
struct Reader<'a>(&'a Moment);

impl<'a> Reader<'a> {
    fn new(moment: &'a Moment) -> Self {
        moment.readers.set(moment.readers.get() + 1);
        Self(moment)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.readers.set(self.0.readers.get() - 1);
        if self.0.readers.get() == 0
            && let Some(taken) = self.0.taken.borrow_mut().take()
        {
            *self.0.release.borrow_mut() = taken.release().err();
        }
    }
}

/// Makes the copies whose writers `start` starts, and lets the moment go.
///
/// `None` for a side that was not asked for. The second value is a release that failed: a person has to look.
pub async fn make<S>(
    taken: Taken,
    asked: &Pair<bool>,
    progress: &RefCell<Progress<'_>>,
    start: impl Fn(Mechanism) -> S,
) -> (Pair<Option<CopyEnd>>, Option<ReleaseError>)
where
    S: Future<Output = Result<Writer, WriterError>>,
{
    let moment = Moment {
        taken: RefCell::new(Some(taken)),
        lost: RefCell::new(None),
        readers: Cell::new(0),
        release: RefCell::new(None),
    };
    let side = |mechanism: Mechanism| {
        let reader = asked.get(mechanism).then(|| (Reader::new(&moment), start(mechanism)));
        async move {
            let (reader, started) = reader?;
            Some(one(mechanism, started, reader, progress).await)
        }
    };
    // Both readers are counted before either side runs: the faster must not release under the slower.
    let (block, archive) = (side(Mechanism::Block), side(Mechanism::Archive));
    let (block, archive) = tokio::join!(block, archive);
    (Pair { block, archive }, moment.release.take())
}

async fn one(
    mechanism: Mechanism,
    started: impl Future<Output = Result<Writer, WriterError>>,
    reader: Reader<'_>,
    progress: &RefCell<Progress<'_>>,
) -> CopyEnd {
    let clock = Instant::now();
    let mut end = CopyEnd::default();
    if let Err(error) = follow(mechanism, started, reader, progress, &mut end).await {
        end.error.get_or_insert(error.into());
    }
    end.duration_s = clock.elapsed().as_secs();
    end
}

async fn follow(
    mechanism: Mechanism,
    started: impl Future<Output = Result<Writer, WriterError>>,
    reader: Reader<'_>,
    progress: &RefCell<Progress<'_>>,
    end: &mut CopyEnd,
) -> Result<(), WriterError> {
    let mut writer = started.await?;
    let mut reader = Some(reader);
    loop {
        match writer.next().await? {
            Event::Status(status) => progress.borrow_mut().update(mechanism, &status),
            Event::Warning(warning) => end.warnings.push(warning),
            Event::Prepared(_) => {
                let Some(reader) = reader.take() else { return Err(writer.reject("a second prepared")) };
                let valid = reader.0.still_valid();
                drop(reader);
                writer.answer(if valid.is_ok() { Command::Commit } else { Command::Abort }).await;
                end.error = valid.err().map(CopyError::Moment);
            }
            Event::Committed(committed) if reader.is_none() && end.error.is_none() => end.committed = Some(committed),
            Event::Summary(summary) if end.committed.is_some() => {
                end.summary = Some(summary);
                return Ok(());
            }
            _ => return Err(writer.reject("an event out of place")),
        }
    }
}
