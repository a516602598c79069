//! Files that are one member, in storage order.
//!
//! Volumes come fetched ([`super::fetch`]); their frames are unpacked side by side, each only when a worker
//! is free; the sink gets each member once, with all files that want it.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::task::JoinHandle;

use crate::catalog::entry::At;
use crate::contents::fetch::{Frame, fetch};
use crate::contents::plan::frame_key;
use crate::contents::{ReadError, Sink, Wanted};
use crate::damage::Damage;
use crate::sort::Sorted;
use crate::volume::content;
use crate::volume::reader::{VolumeError, Volumes, packing, unpack};

/// Files handed to the sink at once; a member that more files share is unpacked again for the next.
const FILES_MAX: usize = 4096;

pub(super) async fn read(
    volumes: &Arc<Volumes>,
    frames: Sorted,
    wants: Sorted,
    sink: &Arc<dyn Sink>,
    damage: &Arc<Damage>,
) -> Result<(), ReadError> {
    let mut fetched = std::pin::pin!(fetch(volumes, frames, damage));
    let mut wants = Wants(wants.peekable());
    let mut workers = Workers::new(sink);
    let outcome = async {
        while let Some(next) = fetched.next().await {
            let next = next?;
            for (frame, packed) in &next.frames {
                while let Some(files) = wants.next_of(&next.volume, *frame)? {
                    workers.give(&next.volume, packed, files).await?;
                }
            }
        }
        Ok(())
    };
    // What is being worked on comes to its end in any case: a sink is left alone afterwards.
    let outcome = outcome.await;
    workers.finish().await.and(outcome)
}

/// Threads that unpack frames, as many as the machine can run.
struct Workers<'s> {
    sink: &'s Arc<dyn Sink>,
    running: FuturesUnordered<JoinHandle<()>>,
    running_max: usize,
}

impl<'s> Workers<'s> {
    fn new(sink: &'s Arc<dyn Sink>) -> Self {
        let running_max = std::thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 4));
        Self { sink, running: FuturesUnordered::new(), running_max }
    }

    async fn give(
        &mut self,
        volume: &str,
        packed: &Result<Bytes, Arc<VolumeError>>,
        files: Vec<Wanted>,
    ) -> Result<(), ReadError> {
        if self.running.len() >= self.running_max
            && let Some(done) = self.running.next().await
        {
            done?;
        }
        let (volume, packed, sink) = (volume.to_owned(), packed.clone(), Arc::clone(self.sink));
        self.running.push(tokio::task::spawn_blocking(move || serve(&volume, packed, &files, &*sink)));
        Ok(())
    }

    async fn finish(mut self) -> Result<(), ReadError> {
        let mut outcome = Ok(());
        while let Some(done) = self.running.next().await {
            outcome = outcome.and(done.map_err(ReadError::from));
        }
        outcome
    }
}

/// Unpacks a frame and gives the sink each member that is wanted of it.
fn serve(volume: &str, packed: Result<Bytes, Arc<VolumeError>>, files: &[Wanted], sink: &dyn Sink) {
    let place = |wanted: &Wanted| wanted.entry.at.as_ref().map(|at| (at.offset, at.bytes));
    let frame = packed.and_then(|packed| Ok(unpack(volume, packing(volume)?, &packed)?));
    for files in files.chunk_by(|a, b| place(a) == place(b)) {
        let Some(at) = files.first().and_then(|file| file.entry.at.as_ref()) else { continue };
        match &frame {
            Ok(frame) => {
                let data = member(volume, frame, at);
                sink.member(files, data.as_deref());
            }
            Err(error) => sink.member(files, Err(error)),
        }
    }
}

/// The data of one member of an unpacked frame.
pub(super) fn member(volume: &str, frame: &[u8], at: &At) -> Result<Vec<u8>, VolumeError> {
    let tar = || {
        let start = usize::try_from(at.offset).ok()?;
        frame.get(start..start.checked_add(usize::try_from(at.bytes).ok()?)?)
    };
    let short = || VolumeError::Content {
        key: volume.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "a frame that is too short"),
    };
    content::data(volume, tar().ok_or_else(short)?)
}

/// The sorted files, taken frame by frame.
struct Wants(Peekable<Sorted>);

impl Wants {
    /// The next files in a frame, at most [`FILES_MAX`]; `None` when there are no more in it.
    fn next_of(&mut self, volume: &str, frame: Frame) -> Result<Option<Vec<Wanted>>, ReadError> {
        let key = frame_key(volume, frame.start);
        let mut files = Vec::new();
        while files.len() < FILES_MAX
            && let Some(record) =
                self.0.next_if(|record| !matches!(record, Ok(record) if !record.key.starts_with(&key)))
        {
            files.push(serde_json::from_slice(&record?.value)?);
        }
        Ok((!files.is_empty()).then_some(files))
    }
}
