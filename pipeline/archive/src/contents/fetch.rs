//! Fetches the frames that a plan names, volume by volume, whole or in ranges, some ahead.
//!
//! A volume of which half is needed is fetched at once and proved against its digest; of others the
//! wanted ranges are. When that fails, the damage is noted and each frame is tried by itself. What is
//! ahead is bounded in bytes.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::buffers::Buffer;
use crate::contents::ReadError;
use crate::contents::plan::split_frame_key;
use crate::damage::Damage;
use crate::sort::{Record, SortError, Sorted};
use crate::volume::reader::{VolumeError, Volumes};

/// Fetches in flight.
const FETCHES: usize = 4;

/// Fetched bytes in memory, in KiB, those that are worked on among them; a bigger volume takes all of it.
const HELD_KIB_MAX: u32 = 48 << 10;

/// Frames closer than this are fetched in one range.
const GAP_BYTES_MAX: u64 = 256 << 10;

/// No range is longer, unless one frame is.
const RANGE_BYTES_MAX: u64 = 8 << 20;

/// A frame that holds something wanted: where it lies in what age unpacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) start: u64,
    bytes: u64,
}

/// What is fetched by one request.
struct Fetch {
    volume: String,
    frames: Vec<Frame>,
    /// All of the volume, and not the range of these frames.
    whole: bool,
    stored_bytes: u64,
}

/// A frame as it came, or why it did not.
pub(super) type Got = (Frame, Result<Sealed, Arc<VolumeError>>);

pub(super) struct Fetched {
    pub(super) volume: String,
    pub(super) frames: Vec<Got>,
}

/// A frame that can be opened. What it was fetched with stays in memory, and keeps its room, until the last
/// frame of it is dropped.
#[derive(Clone)]
pub(super) struct Sealed {
    held: Arc<Held>,
    frame: Frame,
}

struct Held {
    volume: String,
    bytes: HeldBytes,
    _room: Arc<OwnedSemaphorePermit>,
}

enum HeldBytes {
    /// A whole volume as it is stored.
    Stored(Bytes),
    /// What age unpacked from this offset on.
    Plain(u64, Buffer),
}

impl Sealed {
    /// The frame, still packed.
    pub(super) fn open(&self, volumes: &Volumes) -> Result<Buffer, VolumeError> {
        let Held { volume, bytes, .. } = &*self.held;
        let Frame { start, bytes: length } = self.frame;
        match bytes {
            HeldBytes::Stored(stored) => volumes.unseal(volume, stored, start..start.saturating_add(length)),
            HeldBytes::Plain(from, plain) => {
                let range = || {
                    let start = usize::try_from(start.checked_sub(*from)?).ok()?;
                    plain.get(start..start.checked_add(usize::try_from(length).ok()?)?)
                };
                let short = || VolumeError::Content {
                    key: volume.clone(),
                    source: std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "an end before its frames"),
                };
                let range = range().ok_or_else(short)?;
                let mut packed = volumes.buffer(range.len());
                packed.extend_from_slice(range);
                Ok(packed)
            }
        }
    }
}

/// The frames in storage order, fetched.
pub(super) fn fetch(
    volumes: &Arc<Volumes>,
    frames: Sorted,
    damage: &Arc<Damage>,
) -> impl Stream<Item = Result<Fetched, ReadError>> {
    let ahead = Arc::new(Semaphore::new(HELD_KIB_MAX as usize));
    let planned = Fetches { frames: frames.peekable(), planned: VecDeque::new(), volumes };
    futures::stream::iter(planned)
        // Room is given in the order of the volumes: a later one that held it would keep the next from coming.
        .then(move |fetch| reserve(Arc::clone(&ahead), fetch))
        .map(|reserved| {
            let (volumes, damage) = (Arc::clone(volumes), Arc::clone(damage));
            // A task each, since hashing and unsealing are work for a thread and not only waiting.
            let task = tokio::spawn(async move {
                let (fetch, ahead) = reserved?;
                fetch_one(&volumes, fetch, &damage, ahead).await
            });
            async move { task.await? }
        })
        .buffered(FETCHES)
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
        // A volume that the point does not list has no size: its frames fail one by one, by name. Where the list was
        // not read, few frames are wanted.
        let stored_bytes = self.volumes.listed(&volume).map_or(u64::MAX, |stored| stored.bytes);
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
    ahead: Arc<Semaphore>,
    fetch: Result<Fetch, ReadError>,
) -> Result<(Fetch, OwnedSemaphorePermit), ReadError> {
    let fetch = fetch?;
    let kib = u32::try_from(fetch.stored_bytes >> 10).unwrap_or(u32::MAX).clamp(1, HELD_KIB_MAX);
    let room = ahead.acquire_many_owned(kib).await.expect("this semaphore is never closed");
    Ok((fetch, room))
}

async fn fetch_one(
    volumes: &Volumes,
    fetch: Fetch,
    damage: &Damage,
    room: OwnedSemaphorePermit,
) -> Result<Fetched, ReadError> {
    let Fetch { volume, frames, whole, .. } = fetch;
    let room = Arc::new(room);
    let together = if whole {
        volumes.fetch(&volume).await.map(HeldBytes::Stored)
    } else {
        range(volumes, &volume, &frames).await
    };
    let got = match together {
        Ok(bytes) => {
            let held = Arc::new(Held { volume: volume.clone(), bytes, _room: room });
            frames.into_iter().map(|frame| (frame, Ok(Sealed { held: Arc::clone(&held), frame }))).collect()
        }
        Err(error) if error.finding().is_none() => return Err(ReadError::Store(Arc::new(error))),
        Err(error) => {
            damage.note_volume(&error, None);
            one_by_one(volumes, &volume, frames, &room).await?
        }
    };
    Ok(Fetched { volume, frames: got })
}

/// What age unpacks from the first frame to the last.
async fn range(volumes: &Volumes, volume: &str, frames: &[Frame]) -> Result<HeldBytes, VolumeError> {
    let start = frames.first().map_or(0, |frame| frame.start);
    let end = frames.last().map_or(start, |frame| frame.start.saturating_add(frame.bytes));
    Ok(HeldBytes::Plain(start, volumes.packed(volume, start..end).await?))
}

/// What is left of a damaged volume: age proves each chunk by itself, so an intact frame is found.
async fn one_by_one(
    volumes: &Volumes,
    volume: &str,
    frames: Vec<Frame>,
    room: &Arc<OwnedSemaphorePermit>,
) -> Result<Vec<Got>, ReadError> {
    let mut got = Vec::with_capacity(frames.len());
    for frame in frames {
        match range(volumes, volume, &[frame]).await {
            Ok(bytes) => {
                let held = Arc::new(Held { volume: volume.to_owned(), bytes, _room: Arc::clone(room) });
                got.push((frame, Ok(Sealed { held, frame })));
            }
            Err(error) if error.finding().is_none() => return Err(ReadError::Store(Arc::new(error))),
            Err(error) => got.push((frame, Err(Arc::new(error)))),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(frames: &[(u64, u64)], stored_bytes: u64) -> Vec<(bool, Vec<u64>, u64)> {
        let frames = frames.iter().map(|(start, bytes)| Frame { start: *start, bytes: *bytes }).collect();
        let starts = |fetch: &Fetch| fetch.frames.iter().map(|frame| frame.start).collect();
        plan("volumes/v", frames, stored_bytes)
            .iter()
            .map(|fetch| (fetch.whole, starts(fetch), fetch.stored_bytes))
            .collect()
    }

    #[test]
    fn most_of_a_volume_is_fetched_at_once() {
        assert_eq!(ranges(&[(0, 30), (70, 30)], 110), [(true, vec![0, 70], 110)]);
        assert_eq!(ranges(&[(0, 30)], 110), [(false, vec![0], 30)]);
    }

    #[test]
    fn near_frames_share_a_range_and_far_ones_do_not() {
        const MIB: u64 = 1 << 20;
        let far = MIB + GAP_BYTES_MAX + 1;
        assert_eq!(
            ranges(&[(0, MIB), (MIB + GAP_BYTES_MAX, MIB)], 64 * MIB),
            [(false, vec![0, MIB + GAP_BYTES_MAX], 2 * MIB + GAP_BYTES_MAX)]
        );
        assert_eq!(ranges(&[(0, MIB), (far, MIB)], 64 * MIB), [(false, vec![0], MIB), (false, vec![far], MIB)]);
    }

    #[test]
    fn no_range_grows_without_bound() {
        const MIB: u64 = 1 << 20;
        let frames: Vec<_> = (0..20).map(|n| (n * MIB, MIB)).collect();
        let sizes: Vec<_> = ranges(&frames, 64 * MIB).into_iter().map(|(_, _, bytes)| bytes).collect();
        assert_eq!(sizes, [8 * MIB, 8 * MIB, 4 * MIB]);
        assert_eq!(ranges(&[(u64::MAX, u64::MAX)], u64::MAX - 1).len(), 1, "nonsense overflows nothing");
    }
}
