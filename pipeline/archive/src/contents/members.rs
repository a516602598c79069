//! Files that are one member, in storage order.
//!
//! Volumes come fetched ([`super::fetch`]); their frames are unpacked side by side, each only when a worker
//! is free; the sink gets each member once, with all files that want it.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::task::JoinHandle;

use crate::catalog::entry::At;
use crate::contents::fetch::{Frame, Sealed, fetch};
use crate::contents::plan::frame_key;
use crate::contents::{Outlet, ReadError, Sink, Wanted};
use crate::damage::Damage;
use crate::sort::Sorted;
use crate::volume::content;
use crate::volume::reader::{VolumeError, Volumes};

/// Files handed to the sink at once; a member that more files share is unpacked again for the next.
const FILES_MAX: usize = 2048;

/// Unpacked bytes of the frames that are worked on, unless one alone is longer. Each is in memory up to three
/// times: packed, unpacked, and the member that is given to the sink.
const UNPACKED_BYTES_MAX: u64 = 24 << 20;

pub(super) async fn read(
    volumes: &Arc<Volumes>,
    frames: Sorted,
    wants: Sorted,
    outlet: &Outlet,
    damage: &Arc<Damage>,
) -> Result<(), ReadError> {
    let mut fetched = std::pin::pin!(fetch(volumes, frames, damage));
    let mut wants = Wants(wants.peekable());
    let mut workers = Workers::new(volumes, &outlet.sink);
    let outcome = async {
        while let Some(next) = fetched.next().await {
            let next = next?;
            if outlet.is_closed() {
                break;
            }
            // By value: a volume gives its room back as its frames are done.
            for (frame, sealed) in next.frames {
                while let Some(files) = wants.next_of(&next.volume, frame)? {
                    workers.give(&next.volume, &sealed, files).await?;
                }
            }
        }
        Ok(())
    };
    // What is being worked on comes to its end in any case: a sink is left alone afterwards.
    let outcome = outcome.await;
    workers.finish().await.and(outcome)
}

/// Threads that unpack frames: as many as the machine can run and memory can hold.
struct Workers<'s> {
    volumes: &'s Arc<Volumes>,
    sink: &'s Arc<dyn Sink>,
    /// Each gives back how many bytes it was started for.
    running: FuturesUnordered<JoinHandle<u64>>,
    running_max: usize,
    unpacked_bytes: u64,
}

impl<'s> Workers<'s> {
    fn new(volumes: &'s Arc<Volumes>, sink: &'s Arc<dyn Sink>) -> Self {
        // One more than cores: while one waits for the disk, or the next frame is looked up, no core is idle.
        let running_max = std::thread::available_parallelism().map_or(2, |count| (count.get() + 1).min(4));
        Self { volumes, sink, running: FuturesUnordered::new(), running_max, unpacked_bytes: 0 }
    }

    async fn give(
        &mut self,
        volume: &str,
        sealed: &Result<Sealed, Arc<VolumeError>>,
        files: Vec<Wanted>,
    ) -> Result<(), ReadError> {
        let end = |file: &Wanted| file.entry.at.as_ref().map_or(0, |at| at.offset.saturating_add(at.bytes));
        let bytes = files.iter().map(end).max().unwrap_or(0);
        while self.running.len() >= self.running_max
            || (!self.running.is_empty() && self.unpacked_bytes.saturating_add(bytes) > UNPACKED_BYTES_MAX)
        {
            if let Some(done) = self.running.next().await {
                self.unpacked_bytes -= done?;
            }
        }
        self.unpacked_bytes += bytes;
        let (volumes, sink) = (Arc::clone(self.volumes), Arc::clone(self.sink));
        let (volume, sealed) = (volume.to_owned(), sealed.clone());
        self.running.push(tokio::task::spawn_blocking(move || {
            serve(&volumes, &volume, sealed, &files, &*sink);
            bytes
        }));
        Ok(())
    }

    async fn finish(mut self) -> Result<(), ReadError> {
        let mut outcome = Ok(());
        while let Some(done) = self.running.next().await {
            outcome = outcome.and(done.map(|_| ()).map_err(ReadError::from));
        }
        outcome
    }
}

/// Unpacks a frame and gives the sink each member that is wanted of it.
fn serve(volumes: &Volumes, volume: &str, sealed: Result<Sealed, Arc<VolumeError>>, files: &[Wanted], sink: &dyn Sink) {
    let tar = |wanted: &Wanted| wanted.entry.at.as_ref().map(|at| (at.offset, at.bytes));
    let frame = sealed.and_then(|sealed| {
        let packed = sealed.open(volumes)?;
        // The room of the volume is free from here on.
        drop(sealed);
        Ok(volumes.unpack(volume, &packed)?)
    });
    for files in files.chunk_by(|a, b| tar(a) == tar(b)) {
        let Some(at) = files.first().and_then(|file| file.entry.at.as_ref()) else { continue };
        match &frame {
            Ok(frame) => {
                let place = place(volume, frame, at);
                sink.member(files, place.as_ref().map(|place| &frame[place.clone()]));
            }
            Err(error) => sink.member(files, Err(error)),
        }
    }
}

/// Where in an unpacked frame the data of one member lies.
pub(super) fn place(volume: &str, frame: &[u8], at: &At) -> Result<Range<usize>, VolumeError> {
    let tar = || {
        let start = usize::try_from(at.offset).ok()?;
        let end = start.checked_add(usize::try_from(at.bytes).ok()?)?;
        Some((start, frame.get(start..end)?))
    };
    let short = || VolumeError::Content {
        key: volume.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "a frame that is too short"),
    };
    let (start, tar) = tar().ok_or_else(short)?;
    let data = content::place(volume, tar)?;
    Ok(start + data.start..start + data.end)
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
