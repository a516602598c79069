//! Files in parts, one after the other, each in the order of its bytes.
//!
//! Neighbouring parts that lie side by side in a volume are fetched as one *run*. Many runs are fetched ahead, since a
//! far store lets each wait, and few are unpacked ahead, since that is what fills memory; the file takes the parts in
//! order. Every part is checked against its own digest, so that a damaged file names the volume that damaged it.

use std::fs::File;
use std::iter::Peekable;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;

use crate::buffers::Buffer;
use crate::catalog::entry::Part;
use crate::contents::members::place;
use crate::contents::plan::FILE;
use crate::contents::{Outlet, PartedFile, ReadError, Wanted};
use crate::digest::Digest;
use crate::sort::spool::Spooled;
use crate::volume::reader::{VolumeError, Volumes};

/// Runs being fetched, or fetched and still packed.
const RUNS_FETCHED: usize = 8;

/// Runs being unpacked, or unpacked and not yet taken.
const RUNS_OPENED: usize = 3;

/// Stored bytes of a run.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// Unpacked bytes of a run, but for its last part.
const RUN_PLAIN_BYTES_MAX: u64 = 4 << 20;

/// The parts of a run, in order.
type Opened = Vec<Result<Bytes, Arc<VolumeError>>>;

pub(super) async fn read(volumes: &Arc<Volumes>, parted: Spooled, outlet: &Outlet) -> Result<(), ReadError> {
    let mut parted = parted.peekable();
    while let Some(record) = parted.next() {
        let wanted: Wanted = serde_json::from_slice(&record?.value)?;
        if outlet.is_closed() {
            return Ok(());
        }
        let mut file = Arc::clone(&outlet.sink).begin(wanted);
        let begun = file.begun().map(Arc::new);
        let runs = Runs { parted: &mut parted, pending: Vec::new().into_iter().peekable(), end: 0 };
        let mut opened = futures::stream::iter(runs)
            .map(|run| {
                let (volumes, begun) = (Arc::clone(volumes), begun.clone());
                let fetched = tokio::spawn(async move {
                    let (offset, run) = run?;
                    match held(begun, offset, &run).await? {
                        Some(parts) => Ok(Fetched::Opened(parts)),
                        None => fetch(&volumes, run).await,
                    }
                });
                async move { fetched.await? }
            })
            .buffered(RUNS_FETCHED)
            .map(|fetched| {
                let volumes = Arc::clone(volumes);
                async move {
                    let fetched: Fetched = fetched?;
                    Ok::<_, ReadError>(tokio::task::spawn_blocking(move || fetched.open(&volumes)).await?)
                }
            })
            .buffered(RUNS_OPENED);
        while let Some(run) = opened.next().await {
            let run = run?;
            if outlet.is_closed() {
                return Ok(());
            }
            file = tokio::task::spawn_blocking(move || give(file, &run)).await?;
        }
        drop(opened);
        tokio::task::spawn_blocking(move || file.end()).await?;
    }
    Ok(())
}

/// The parts of a run out of what was read before: all of them, each with its digest, or none.
async fn held(begun: Option<Arc<File>>, mut offset: u64, run: &[Part]) -> Result<Option<Opened>, ReadError> {
    let Some(file) = begun else { return Ok(None) };
    let run = run.to_vec();
    Ok(tokio::task::spawn_blocking(move || {
        let mut parts = Vec::with_capacity(run.len());
        for part in &run {
            let mut data = vec![0; usize::try_from(part.bytes).ok()?];
            file.read_exact_at(&mut data, offset).ok()?;
            offset += part.bytes;
            parts.push(Ok((Digest::of(&data) == part.sha256).then(|| Bytes::from(data))?));
        }
        Some(parts)
    })
    .await?)
}

fn give(mut file: Box<dyn PartedFile>, run: &Opened) -> Box<dyn PartedFile> {
    for part in run {
        file.part(part.as_deref().map_err(|error| &**error));
    }
    file
}

/// Cuts the parts of one file into runs.
struct Runs<'s> {
    parted: &'s mut Peekable<Spooled>,
    pending: Peekable<std::vec::IntoIter<Part>>,
    /// Where the next run begins in the data of the file.
    end: u64,
}

impl Runs<'_> {
    /// The next part of this file, without taking it.
    fn peek(&mut self) -> Result<Option<&Part>, ReadError> {
        while self.pending.peek().is_none() {
            match self.parted.next_if(|record| !matches!(record, Ok(record) if record.key == FILE)) {
                None => return Ok(None),
                Some(record) => {
                    let parts: Vec<Part> = serde_json::from_slice(&record?.value)?;
                    self.pending = parts.into_iter().peekable();
                }
            }
        }
        Ok(self.pending.peek())
    }

    fn next_run(&mut self) -> Result<Vec<Part>, ReadError> {
        let mut run: Vec<Part> = Vec::new();
        while let Some(part) = self.peek()? {
            if !run.is_empty() && !continues(&run, part) {
                break;
            }
            run.extend(self.pending.next());
        }
        Ok(run)
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<(u64, Vec<Part>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = match self.next_run() {
            Ok(run) if run.is_empty() => return None,
            other => other,
        };
        Some(run.map(|run| {
            let begin = self.end;
            self.end += run.iter().map(|part| part.bytes).sum::<u64>();
            (begin, run)
        }))
    }
}

/// Whether `next` lies right behind `run`, or in its last frame, and the run is still short.
fn continues(run: &[Part], next: &Part) -> bool {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return false };
    let same_frame = next.at.frame == last.at.frame && next.at.frame_bytes == last.at.frame_bytes;
    let behind = next.at.frame == last.at.frame.saturating_add(last.at.frame_bytes);
    let stored = next.at.frame.saturating_add(next.at.frame_bytes).saturating_sub(first.at.frame);
    let plain: u64 = run.iter().map(|part| part.bytes).sum();
    next.at.volume == first.at.volume
        && (same_frame || behind)
        && stored <= RUN_BYTES_MAX
        && plain < RUN_PLAIN_BYTES_MAX
}

/// A run that came.
enum Fetched {
    /// What age unpacked of the volume from `start` on.
    Packed { run: Vec<Part>, start: u64, packed: Buffer },
    /// Its parts, or why they are not to be had.
    Opened(Opened),
}

impl Fetched {
    fn open(self, volumes: &Volumes) -> Opened {
        match self {
            Self::Opened(parts) => parts,
            Self::Packed { run, start, packed } => {
                run.iter().map(|part| unfold(volumes, part, frame_of(part, &packed, start))).collect()
            }
        }
    }
}

async fn fetch(volumes: &Volumes, run: Vec<Part>) -> Result<Fetched, ReadError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(Fetched::Opened(Vec::new())) };
    let start = first.at.frame;
    let end = last.at.frame.saturating_add(last.at.frame_bytes);
    match volumes.packed(&first.at.volume, start..end).await {
        Ok(packed) => Ok(Fetched::Packed { run, start, packed }),
        Err(error) if error.finding().is_none() => Err(ReadError::Store(Arc::new(error))),
        Err(error) if run.len() == 1 => Ok(Fetched::Opened(vec![Err(Arc::new(error))])),
        // Some of it may be intact: age proves each chunk by itself.
        Err(_) => {
            let mut opened = Vec::with_capacity(run.len());
            for part in run {
                opened.extend(Box::pin(fetch(volumes, vec![part])).await?.open(volumes));
            }
            Ok(Fetched::Opened(opened))
        }
    }
}

/// The packed frame of a part, out of what was unsealed from `start` on.
fn frame_of<'p>(part: &Part, packed: &'p [u8], start: u64) -> &'p [u8] {
    let range = || {
        let from = usize::try_from(part.at.frame.checked_sub(start)?).ok()?;
        packed.get(from..from.checked_add(usize::try_from(part.at.frame_bytes).ok()?)?)
    };
    range().unwrap_or_default()
}

/// The data of a part, proved against its digest.
fn unfold(volumes: &Volumes, part: &Part, packed: &[u8]) -> Result<Bytes, Arc<VolumeError>> {
    let volume = part.at.volume.as_str();
    let frame = volumes.unpack(volume, packed)?;
    let place = place(volume, &frame, &part.at)?;
    let data = Bytes::from_owner(frame).slice(place);
    if Digest::of(&data) == part.sha256 && data.len() as u64 == part.bytes {
        return Ok(data);
    }
    let source = std::io::Error::other("a part has other bytes than the catalog says");
    Err(Arc::new(VolumeError::Content { key: volume.to_owned(), source }))
}
