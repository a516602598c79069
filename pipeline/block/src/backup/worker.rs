//! One thread of a backup: reads, hashes, compares, compresses and seals block after block.
//!
//! All of it happens on one core while the block is in its cache. A worker has one open pack; a
//! full one is opened, inflated and hashed again here, before anybody may name it. It decides
//! nothing about pages: it reports what became of each block that is not as it was.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::codec::{Compression, Compressor};
use crate::device::{AlignedBuf, DeviceError, Source};
use crate::digest::{Blake3, Sha256};
use crate::events::Progress;
use crate::ext4::Allocation;
use crate::keys::KeyTree;
use crate::pack::{PackWriter, SealedPack, verify};
use crate::page::{Page, StoredBlock};
use crate::pool::{Buffer, BufferPool};
use crate::seal::{NoRandomness, OpenError, Scratch};

/// Bytes read at once, when blocks are smaller.
const READ_BYTES: usize = 1 << 20;

/// What all workers of a pass share.
pub struct Shared {
    /// What is read.
    pub source: Arc<Source>,
    /// What is certainly free; `None` reads all.
    pub allocation: Option<Arc<Allocation>>,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Keys of the repository.
    pub keys: KeyTree,
    /// How blocks are compressed.
    pub compression: Compression,
    /// Packs that nothing new may name.
    pub banned: Arc<HashSet<Sha256>>,
    /// Memory for packs.
    pub pool: BufferPool,
    /// What is told to the user.
    pub progress: Arc<Progress>,
}

/// Blocks of one page to look at.
pub struct PageJob {
    /// The page as the parent point has it.
    pub old: Page,
    /// The page as an interrupted run left it.
    pub extra: Option<Page>,
    /// Look at these positions only, and send them whatever they are; all positions when absent.
    pub only: Option<Vec<usize>>,
}

/// Names an open pack until it has a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Which worker fills it.
    pub worker: usize,
    /// Which of its packs, in order.
    pub number: u64,
}

/// What became of a block that is not as in the parent.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// It is zero or free now.
    Zero,
    /// An interrupted run has sent it.
    Known(StoredBlock),
    /// It is entry `entry` of a pack that is being made.
    Sent {
        /// The pack.
        ticket: Ticket,
        /// Which of its blocks.
        entry: usize,
    },
}

/// What a worker reports.
pub enum Report {
    /// A page was looked at.
    Page(PageReport),
    /// A pack is full, or the last one.
    Pack(Ticket, SealedPack<Buffer>),
    /// The worker gives up; the backup has failed.
    Failed(WorkerError),
}

/// What became of a page.
pub struct PageReport {
    /// The page as it was.
    pub old: Page,
    /// What changed, by position.
    pub changes: Vec<(usize, Change)>,
    /// Bytes read.
    pub read_bytes: u64,
    /// Blocks not read because they are free.
    pub free_blocks: u64,
    /// The pack that the worker fills now: later pages name no earlier one.
    pub open: Ticket,
}

/// Why a worker gives up.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The source cannot be read.
    #[error("cannot read the source")]
    Source(#[from] DeviceError),
    /// A pack that was just made does not read back: memory or a library is at fault.
    #[error("a new pack does not read back, so nothing of it may be used: test the memory of this host")]
    ReadBack(#[source] OpenError),
    /// No salt could be drawn.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Works until there are no jobs left; ends early when nobody listens.
pub fn work(number: usize, shared: &Shared, jobs: &Mutex<mpsc::Receiver<PageJob>>, reports: &mpsc::Sender<Report>) {
    let mut worker = Worker::new(number, shared, reports);
    let result = worker.run(jobs);
    if let Err(Stop::Failed(error)) = result {
        // Nobody listening means the backup has ended already.
        let _ = reports.blocking_send(Report::Failed(error));
    }
}

/// Why the loop ends.
enum Stop {
    Failed(WorkerError),
    NobodyListens,
}

impl<E: Into<WorkerError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    reports: &'a mpsc::Sender<Report>,
    compressor: Compressor,
    scratch: Scratch,
    buffer: AlignedBuf,
    ticket: Ticket,
    pack: Option<PackWriter<Buffer>>,
}

impl<'a> Worker<'a> {
    fn new(number: usize, shared: &'a Shared, reports: &'a mpsc::Sender<Report>) -> Self {
        Self {
            shared,
            reports,
            compressor: Compressor::new(shared.compression),
            scratch: Scratch::default(),
            buffer: AlignedBuf::new(READ_BYTES.max(shared.block_bytes)),
            ticket: Ticket { worker: number, number: 0 },
            pack: None,
        }
    }

    fn run(&mut self, jobs: &Mutex<mpsc::Receiver<PageJob>>) -> Result<(), Stop> {
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
            let Some(job) = job else { break };
            let report = self.page(job)?;
            self.report(Report::Page(report))?;
        }
        self.finish_pack()
    }

    fn report(&self, report: Report) -> Result<(), Stop> {
        self.reports.blocking_send(report).map_err(|_| Stop::NobodyListens)
    }

    fn page(&mut self, job: PageJob) -> Result<PageReport, Stop> {
        let PageJob { old, extra, only } = job;
        let open = self.ticket;
        let mut report = PageReport { old, changes: Vec::new(), read_bytes: 0, free_blocks: 0, open };
        let compare = only.is_none();
        let positions = only.unwrap_or_else(|| (0..report.old.blocks()).collect());
        let mut at = 0;
        while at < positions.len() {
            let count = self.readable(&report.old, &positions[at..])?;
            if count == 0 {
                self.skipped(positions[at], &mut report);
                at += 1;
                continue;
            }
            let run = &positions[at..at + count];
            let length = self.read(&report.old, run)?;
            report.read_bytes += length as u64;
            for (nth, position) in run.iter().enumerate() {
                let known = extra.as_ref().filter(|_| compare).and_then(|extra| extra.get(*position));
                let old = report.old.get(*position).filter(|_| compare);
                self.block(nth, *position, [old, known], &mut report)?;
            }
            at += count;
        }
        report.open = self.ticket;
        Ok(report)
    }

    fn offset(&self, old: &Page, position: usize) -> u64 {
        (old.index().0 * crate::format::page::BLOCKS as u64 + position as u64) * self.shared.block_bytes as u64
    }

    /// Bytes of the block; the last one of a source may be short.
    fn bytes_at(&self, offset: u64) -> usize {
        let rest = self.shared.source.size_bytes().saturating_sub(offset);
        usize::try_from(rest).unwrap_or(usize::MAX).min(self.shared.block_bytes)
    }

    /// How many of `positions`, one after the other, are read at once; 0 when the first needs no reading.
    fn readable(&self, old: &Page, positions: &[usize]) -> Result<usize, DeviceError> {
        let most = (READ_BYTES / self.shared.block_bytes).max(1);
        let mut count = 0;
        let mut data = 0..0;
        for position in positions.iter().take(most) {
            if count > 0 && *position != positions[count - 1] + 1 {
                break;
            }
            let offset = self.offset(old, *position);
            let end = offset + self.bytes_at(offset) as u64;
            let free = self.shared.allocation.as_ref().is_some_and(|allocation| allocation.is_free(offset..end));
            if !free && data.end <= offset {
                data = self.shared.source.next_data(offset)?.unwrap_or(u64::MAX..u64::MAX);
            }
            if free || end <= data.start {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    fn read(&mut self, old: &Page, run: &[usize]) -> Result<usize, DeviceError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(0) };
        let (start, end) = (self.offset(old, *first), self.offset(old, *last));
        let length = usize::try_from(end - start).unwrap_or(0) + self.bytes_at(end);
        self.buffer.set_len(length);
        self.shared.source.read_at(start, &mut self.buffer)?;
        Ok(length)
    }

    /// A block that is free or a hole.
    fn skipped(&self, position: usize, report: &mut PageReport) {
        report.free_blocks += 1;
        if report.old.get(position).is_some() {
            report.changes.push((position, Change::Zero));
        }
        self.shared.progress.add(self.bytes_at(self.offset(&report.old, position)) as u64, 1);
    }

    /// Block `nth` of what was read last; `known` is what the parent and an interrupted run have
    /// of it, as far as it may be used.
    fn block(
        &mut self,
        nth: usize,
        position: usize,
        known: [Option<StoredBlock>; 2],
        report: &mut PageReport,
    ) -> Result<(), Stop> {
        let length = self.bytes_at(self.offset(&report.old, position));
        let start = nth * self.shared.block_bytes;
        self.shared.progress.add(length as u64, 1);
        if is_zero(&self.buffer[start..start + length]) {
            if report.old.get(position).is_some() {
                report.changes.push((position, Change::Zero));
            }
            return Ok(());
        }
        let hash = Blake3::of(&self.buffer[start..start + length]);
        let usable = |known: &StoredBlock| known.hash == hash && !self.shared.banned.contains(&known.pack.sha256);
        let [old, extra] = known.map(|known| known.filter(usable));
        match (old, extra) {
            (Some(_), _) => {}
            (None, Some(known)) => report.changes.push((position, Change::Known(known))),
            (None, None) => {
                let entry = self.send(hash, start, length)?;
                report.changes.push((position, Change::Sent { ticket: self.ticket, entry }));
            }
        }
        Ok(())
    }

    fn send(&mut self, hash: Blake3, start: usize, length: usize) -> Result<usize, Stop> {
        if self.pack.as_ref().is_some_and(|pack| !pack.has_room(length)) {
            self.finish_pack()?;
        }
        let pack = match self.pack.take() {
            Some(pack) => pack,
            None => PackWriter::create(&self.shared.keys, self.shared.pool.take())?,
        };
        let pack = self.pack.insert(pack);
        Ok(pack.push(hash, &self.buffer[start..start + length], &mut self.compressor))
    }

    fn finish_pack(&mut self) -> Result<(), Stop> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let sealed = pack.finish();
        verify(&self.shared.keys, &sealed, &mut self.scratch).map_err(WorkerError::ReadBack)?;
        self.report(Report::Pack(self.ticket, sealed))?;
        self.ticket.number += 1;
        Ok(())
    }
}

/// Whether every byte is zero; ends at the first part that is not.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|part| part.iter().fold(0, |seen, byte| seen | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_every_byte() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 4095, 4096, 9_999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }
}
