//! Files that are one member, in storage order.
//!
//! Three stages: volumes are fetched ahead, whole or in ranges; their frames are unpacked side by
//! side; the sink gets each member once, with all files that want it. What is fetched ahead is bounded
//! in bytes, and a frame is only unpacked when a worker is free.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::catalog::entry::At;
use crate::contents::plan::{frame_key, split_frame_key};
use crate::contents::{ReadError, Sink, Wanted};
use crate::damage::Damage;
use crate::sort::{Record, SortError, Sorted};
use crate::volume::content;
use crate::volume::reader::{VolumeError, Volumes, packing, unpack};

/// Fetches in flight.
const FETCHES: usize = 4;

/// Stored bytes fetched ahead, in KiB; a bigger volume takes all of it. While a volume is unsealed it is in
/// memory twice.
const AHEAD_KIB_MAX: u32 = 64 << 10;

/// Frames closer than this are fetched in one range.
const GAP_BYTES_MAX: u64 = 256 << 10;

/// No range is longer, unless one frame is.
const RANGE_BYTES_MAX: u64 = 8 << 20;

/// Files handed to the sink at once; a member that more files share is unpacked again for the next.
const FILES_MAX: usize = 4096;

/// A frame that holds something wanted: where it lies in what age unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    start: u64,
    bytes: u64,
}

/// What is fetched by one request.
#[derive(Debug, PartialEq, Eq)]
struct Fetch {
    volume: String,
    frames: Vec<Frame>,
    /// All of the volume, and not the range of these frames.
    whole: bool,
    stored_bytes: u64,
}

/// A frame as it came, still packed.
type Packed = (Frame, Result<Bytes, Arc<VolumeError>>);

struct Fetched {
    volume: String,
    frames: Vec<Packed>,
    _ahead: OwnedSemaphorePermit,
}

pub(super) async fn read(
    volumes: &Arc<Volumes>,
    frames: Sorted,
    wants: Sorted,
    sink: &Arc<dyn Sink>,
    damage: &Arc<Damage>,
) -> Result<(), ReadError> {
    let ahead = Arc::new(Semaphore::new(AHEAD_KIB_MAX as usize));
    let planned = Fetches { frames: frames.peekable(), planned: VecDeque::new(), volumes };
    let mut fetched = std::pin::pin!(
        futures::stream::iter(planned)
            // Room is given in the order of the volumes: a later one that held it would keep the next from coming.
            .then(|fetch| reserve(&ahead, fetch))
            .map(|reserved| {
                let (volumes, damage) = (Arc::clone(volumes), Arc::clone(damage));
                // A task each, since unsealing is work for a thread and not only waiting.
                tokio::spawn(async move {
                    let (fetch, ahead) = reserved?;
                    fetch_one(&volumes, fetch, &damage, ahead).await
                })
            })
            .buffered(FETCHES)
    );
    let mut wants = Wants(wants.peekable());
    let mut workers = Workers::new(sink);
    let outcome = async {
        while let Some(next) = fetched.next().await {
            let next = next??;
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

/// Turns the sorted frames into requests: volume by volume, each whole or in ranges.
struct Fetches<'v> {
    frames: Peekable<Sorted>,
    planned: VecDeque<Fetch>,
    volumes: &'v Volumes,
}

impl Iterator for Fetches<'_> {
    type Item = Result<Fetch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(fetch) = self.planned.pop_front() {
            return Some(Ok(fetch));
        }
        let (volume, frames) = match self.next_volume()? {
            Ok(next) => next,
            Err(error) => return Some(Err(error.into())),
        };
        // A volume that the point does not list has no size: its frames fail one by one, by name.
        let stored_bytes = self.volumes.stored(&volume).map_or(u64::MAX, |stored| stored.bytes);
        self.planned = plan(&volume, frames, stored_bytes).into();
        self.planned.pop_front().map(Ok)
    }
}

impl Fetches<'_> {
    fn next_volume(&mut self) -> Option<Result<(String, Vec<Frame>), SortError>> {
        let mut volume = None;
        let mut frames: Vec<Frame> = Vec::new();
        loop {
            let same = self.frames.next_if(|record| match (record, &volume) {
                (Ok(record), Some(volume)) => split_frame_key(&record.key).0 == volume,
                (_, None) => true,
                (Err(_), Some(_)) => false,
            });
            match same {
                Some(Ok(Record { key, value })) => {
                    let (name, start) = split_frame_key(&key);
                    let bytes = value.try_into().map_or(0, u64::from_be_bytes);
                    volume.get_or_insert_with(|| name.to_owned());
                    match frames.last_mut() {
                        // Many members of one frame.
                        Some(last) if last.start == start => last.bytes = last.bytes.max(bytes),
                        _ => frames.push(Frame { start, bytes }),
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => return volume.map(|volume| Ok((volume, frames))),
            }
        }
    }
}

/// How to fetch `frames` of one volume: at once when that is most of it, else in ranges.
fn plan(volume: &str, frames: Vec<Frame>, stored_bytes: u64) -> Vec<Fetch> {
    let fetch =
        |frames: Vec<Frame>, whole, stored_bytes| Fetch { volume: volume.to_owned(), frames, whole, stored_bytes };
    let needed_bytes: u64 = frames.iter().map(|frame| frame.bytes).sum();
    if needed_bytes >= stored_bytes / 2 {
        return vec![fetch(frames, true, stored_bytes)];
    }
    let near = |a: &Frame, b: &Frame| b.start <= a.start.saturating_add(a.bytes).saturating_add(GAP_BYTES_MAX);
    let mut fetches: Vec<Fetch> = Vec::new();
    for frame in frames {
        let end = frame.start.saturating_add(frame.bytes);
        match fetches.last_mut() {
            Some(Fetch { frames, stored_bytes, .. })
                if frames.last().is_some_and(|last| near(last, &frame))
                    && frames.first().is_some_and(|first| end - first.start <= RANGE_BYTES_MAX) =>
            {
                *stored_bytes = frames.first().map_or(0, |first| end - first.start);
                frames.push(frame);
            }
            _ => fetches.push(fetch(vec![frame], false, frame.bytes)),
        }
    }
    fetches
}

async fn reserve(
    ahead: &Arc<Semaphore>,
    fetch: Result<Fetch, ReadError>,
) -> Result<(Fetch, OwnedSemaphorePermit), ReadError> {
    let fetch = fetch?;
    let kib = u32::try_from(fetch.stored_bytes >> 10).unwrap_or(u32::MAX).clamp(1, AHEAD_KIB_MAX);
    let room = Arc::clone(ahead).acquire_many_owned(kib).await.expect("this semaphore is never closed");
    Ok((fetch, room))
}

async fn fetch_one(
    volumes: &Volumes,
    fetch: Fetch,
    damage: &Damage,
    ahead: OwnedSemaphorePermit,
) -> Result<Fetched, ReadError> {
    let Fetch { volume, frames, whole, .. } = fetch;
    let together = if whole { open_whole(volumes, &volume).await } else { open_range(volumes, &volume, &frames).await };
    let packed = match together {
        Ok((start, bytes)) => frames.iter().map(|frame| (*frame, cut(&volume, &bytes, start, *frame))).collect(),
        Err(error) if error.finding().is_none() => return Err(ReadError::Store(Arc::new(error))),
        Err(error) => {
            damage.note_volume(&error, None);
            one_by_one(volumes, &volume, &frames).await?
        }
    };
    Ok(Fetched { volume, frames: packed, _ahead: ahead })
}

/// What age unpacks from a whole volume, proved against its digest, and where that begins.
async fn open_whole(volumes: &Volumes, volume: &str) -> Result<(u64, Bytes), VolumeError> {
    let stored = volumes.fetch(volume).await?;
    Ok((0, volumes.open(volume, &stored)?.into()))
}

async fn open_range(volumes: &Volumes, volume: &str, frames: &[Frame]) -> Result<(u64, Bytes), VolumeError> {
    let start = frames.first().map_or(0, |frame| frame.start);
    let end = frames.last().map_or(start, |frame| frame.start.saturating_add(frame.bytes));
    Ok((start, volumes.packed(volume, start..end).await?.into()))
}

/// What is left of a damaged volume: age proves each chunk by itself, so an intact frame is found.
async fn one_by_one(volumes: &Volumes, volume: &str, frames: &[Frame]) -> Result<Vec<Packed>, ReadError> {
    let mut packed = Vec::with_capacity(frames.len());
    for frame in frames {
        match volumes.packed(volume, frame.start..frame.start.saturating_add(frame.bytes)).await {
            Ok(bytes) => packed.push((*frame, Ok(bytes.into()))),
            Err(error) if error.finding().is_none() => return Err(ReadError::Store(Arc::new(error))),
            Err(error) => packed.push((*frame, Err(Arc::new(error)))),
        }
    }
    Ok(packed)
}

/// One frame of what was unpacked from `start` on.
fn cut(volume: &str, bytes: &Bytes, start: u64, frame: Frame) -> Result<Bytes, Arc<VolumeError>> {
    let range = || {
        let start = usize::try_from(frame.start.checked_sub(start)?).ok()?;
        let end = start.checked_add(usize::try_from(frame.bytes).ok()?)?;
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    };
    range().ok_or_else(|| {
        let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "a volume that ends before its frames");
        Arc::new(VolumeError::Content { key: volume.to_owned(), source })
    })
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
