//! Blocks on demand, read ahead where it pays, in bounded memory.
//!
//! A read that comes from nowhere fetches its own blocks only: file-system records lie scattered,
//! and each stray block costs money. A read that goes on where another stopped doubles its reach,
//! up to [`REACH_BYTES_MAX`], and from half way on, at full reach from its beginning, the next stretch is fetched while this
//! one is consumed. Each block that turns out damaged is noted once, with the bytes of the image it spoils.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

use super::source::{Block, BlockSource, Damage, Unavailable};

/// Most bytes fetched ahead in one stretch.
pub const REACH_BYTES_MAX: u64 = 8 << 20;
/// Bytes of blocks kept, whatever the image.
const CACHE_BYTES: u64 = 40 << 20;
/// Reads answered at the same time; the rest wait, so that their buffers do not add up. About as many as a walk asks at once:
/// stray blocks are small, and each waits for the store.
const READS_MAX: usize = 12;
/// Bytes of blocks fetched at the same time: two long stretches, or a stray block for every read.
const FETCHED_BYTES_MAX: u64 = 16 << 20;
/// Places that are remembered as the end of a read that may go on.
const STREAMS: usize = 8;

/// Why bytes of the image cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// A stored object is damaged; it is on the list of damages.
    #[error("block {block} of the image is damaged")]
    Damaged {
        /// Which block.
        block: u64,
    },
    /// The store gave no answer.
    #[error("block {block} of the image cannot be fetched")]
    Unavailable {
        /// Which block.
        block: u64,
        /// Why.
        source: Unavailable,
    },
    /// Beyond the end of the image.
    #[error("a read of {length} bytes at {offset} lies beyond the end of the image")]
    Range {
        /// Asked offset.
        offset: u64,
        /// Asked length.
        length: u64,
    },
}

/// A damaged block and the bytes of the image that it spoils.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// Bytes of the image.
    pub bytes: Range<u64>,
    /// What is wrong.
    pub damage: Damage,
}

/// An image whose blocks are fetched when they are needed.
#[derive(Debug)]
pub struct CachedImage<S> {
    source: S,
    state: Mutex<State>,
    reads: Semaphore,
    /// Blocks that may be fetched now.
    fetches: Semaphore,
}

impl<S: BlockSource> CachedImage<S> {
    /// Nothing is fetched yet.
    pub fn new(source: S) -> Arc<Self> {
        let fetches = Semaphore::new(usize_of(Self::fetched_max(&source)));
        Arc::new(Self { source, state: Mutex::default(), reads: Semaphore::new(READS_MAX), fetches })
    }

    /// Blocks that may be fetched at the same time.
    fn fetched_max(source: &S) -> u64 {
        (FETCHED_BYTES_MAX / source.block_bytes()).max(1)
    }

    /// Bytes of the image.
    pub fn size_bytes(&self) -> u64 {
        self.source.size_bytes()
    }

    /// The stored image itself, for its counts.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The damages found so far; those that stood in the way of a read last are the last.
    pub fn damages(&self) -> Vec<DamagedRange> {
        self.lock().damages.values().cloned().collect()
    }

    /// Why the store gave no answer, when that happened.
    pub fn unavailable(&self) -> Option<Unavailable> {
        self.lock().unavailable.clone()
    }

    /// Fills `buffer` from `offset` on.
    pub async fn read(self: &Arc<Self>, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let length = buffer.len() as u64;
        let end = offset.checked_add(length).filter(|end| *end <= self.size_bytes());
        let end = end.ok_or(ReadError::Range { offset, length })?;
        // The semaphore is never closed.
        let _permit = self.reads.acquire().await;
        let block_bytes = self.source.block_bytes();
        let wanted = offset / block_bytes..end.div_ceil(block_bytes);
        let mut rest = buffer;
        let mut at = offset;
        for block in wanted.clone() {
            let upto = ((block + 1) * block_bytes).min(end);
            let (part, tail) = rest.split_at_mut(usize_of(upto - at));
            self.copy_block(block, wanted.end, at % block_bytes, part).await?;
            (rest, at) = (tail, upto);
        }
        Ok(())
    }

    async fn copy_block(
        self: &Arc<Self>,
        block: u64,
        wanted_end: u64,
        from: u64,
        part: &mut [u8],
    ) -> Result<(), ReadError> {
        let (stretch, ahead) = self.plan(block, wanted_end);
        if let Some(ahead) = ahead {
            let image = Arc::clone(self);
            tokio::spawn(async move { image.fetch(&ahead).await.is_ok() });
        }
        let blocks = self.fetch(&stretch).await.map_err(|source| ReadError::Unavailable { block, source })?;
        match blocks.get(usize_of(block - stretch.blocks.start)) {
            Some(Block::Zero) => part.fill(0),
            Some(Block::Data(bytes)) => {
                let from = usize_of(from);
                let bytes = bytes.get(from..from + part.len()).ok_or(ReadError::Damaged { block })?;
                part.copy_from_slice(bytes);
            }
            Some(Block::Damaged(_)) => {
                self.lock().meet(block);
                return Err(ReadError::Damaged { block });
            }
            None => return Err(ReadError::Damaged { block }),
        }
        Ok(())
    }

    /// The stretch that holds `block`, made now if there is none, and one to fetch ahead.
    fn plan(&self, block: u64, wanted_end: u64) -> (Arc<Stretch>, Option<Arc<Stretch>>) {
        let block_bytes = self.source.block_bytes();
        let blocks = self.source.size_bytes().div_ceil(block_bytes);
        let reach_max = (REACH_BYTES_MAX / block_bytes).max(1);
        let mut state = self.lock();
        if let Some(found) = state.find(block) {
            let length = found.blocks.end - found.blocks.start;
            // A stream that has come so far goes on: the next stretch is inflated beside this one, on another core.
            let from = if length >= reach_max { found.blocks.start } else { found.blocks.start + length / 2 };
            let ahead = (block >= from).then(|| state.go_on(found.blocks.end, reach_max, blocks)).flatten();
            state.evict(CACHE_BYTES / block_bytes);
            return (found, ahead);
        }
        let reach = state.reach_from(block, wanted_end.max(block + 1) - block, reach_max);
        let stretch = state.insert(block..(block + reach).min(blocks));
        state.evict(CACHE_BYTES / block_bytes);
        (stretch, None)
    }

    /// The blocks of a stretch; whoever asks first fetches, the others wait for that.
    async fn fetch<'a>(&self, stretch: &'a Stretch) -> Result<&'a [Block], Unavailable> {
        let blocks = stretch
            .content
            .get_or_try_init(|| async {
                let count = (stretch.blocks.end - stretch.blocks.start).min(Self::fetched_max(&self.source));
                // The semaphore is never closed. Who holds a part of it waits for nothing but the store.
                let _permit = self.fetches.acquire_many(u32::try_from(count).unwrap_or(1)).await;
                let blocks = self.source.read_blocks(stretch.blocks.clone()).await?;
                self.note_damages(stretch.blocks.start, &blocks);
                Ok::<_, Unavailable>(blocks)
            })
            .await;
        if let Err(unavailable) = &blocks {
            self.lock().unavailable.get_or_insert_with(|| unavailable.clone());
        }
        blocks.map(Vec::as_slice)
    }

    fn note_damages(&self, first: u64, blocks: &[Block]) {
        let block_bytes = self.source.block_bytes();
        for (index, block) in (first..).zip(blocks) {
            if let Block::Damaged(damage) = block {
                let bytes = index * block_bytes..((index + 1) * block_bytes).min(self.source.size_bytes());
                let mut state = self.lock();
                // What is fetched again is noted already.
                if !state.damaged.contains_key(&index) {
                    state.note(index, DamagedRange { bytes, damage: damage.clone() });
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, the maps are still maps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Neighbouring blocks that are fetched together.
#[derive(Debug)]
struct Stretch {
    blocks: Range<u64>,
    content: OnceCell<Vec<Block>>,
}

/// A place where reading may go on, and how far it reached last time.
#[derive(Clone, Copy, Debug)]
struct Stream {
    next: u64,
    reach: u64,
}

#[derive(Debug, Default)]
struct State {
    /// By first block; no two overlap. The number is the time of the last use.
    stretches: BTreeMap<u64, (Arc<Stretch>, u64)>,
    clock: u64,
    kept_blocks: u64,
    /// Most recent first.
    streams: Vec<Stream>,
    /// By block, when it was met last.
    damaged: BTreeMap<u64, u64>,
    /// By when they were met last.
    damages: BTreeMap<u64, DamagedRange>,
    met: u64,
    unavailable: Option<Unavailable>,
}

impl State {
    fn find(&mut self, block: u64) -> Option<Arc<Stretch>> {
        self.clock += 1;
        let clock = self.clock;
        let (stretch, used) = self.stretches.range_mut(..=block).next_back()?.1;
        if !stretch.blocks.contains(&block) {
            return None;
        }
        *used = clock;
        Some(Arc::clone(stretch))
    }

    fn insert(&mut self, mut blocks: Range<u64>) -> Arc<Stretch> {
        if let Some((next, _)) = self.stretches.range(blocks.start..).next() {
            blocks.end = blocks.end.min(*next);
        }
        let stretch = Arc::new(Stretch { blocks: blocks.clone(), content: OnceCell::new() });
        self.clock += 1;
        self.kept_blocks += blocks.end - blocks.start;
        self.stretches.insert(blocks.start, (Arc::clone(&stretch), self.clock));
        stretch
    }

    /// How many blocks to fetch from `block` on, where `wanted` are asked for. A small gap after
    /// the last stretch still counts as going on: files in storage order leave gaps.
    fn reach_from(&mut self, block: u64, wanted: u64, reach_max: u64) -> u64 {
        let before = self
            .streams
            .iter()
            .position(|stream| (stream.next..=stream.next.saturating_add(stream.reach)).contains(&block));
        let reach = match before {
            Some(position) => (self.streams.remove(position).reach * 2).max(wanted),
            None => wanted,
        }
        .clamp(1, reach_max);
        self.streams.insert(0, Stream { next: block + reach, reach });
        self.streams.truncate(STREAMS);
        reach
    }

    /// The stretch after `end`, when a stream is well under way there and nothing is fetched yet.
    fn go_on(&mut self, end: u64, reach_max: u64, blocks: u64) -> Option<Arc<Stretch>> {
        let stream = self.streams.iter_mut().find(|stream| stream.next == end)?;
        if stream.reach * 4 < reach_max || end >= blocks || self.stretches.contains_key(&end) {
            return None;
        }
        stream.reach = (stream.reach * 2).min(reach_max);
        stream.next = end + stream.reach;
        let until = stream.next.min(blocks);
        Some(self.insert(end..until))
    }

    fn note(&mut self, block: u64, damage: DamagedRange) {
        self.met += 1;
        self.damaged.insert(block, self.met);
        self.damages.insert(self.met, damage);
    }

    /// A damaged block stood in the way of a read: it may have been noted long before, by who read ahead.
    fn meet(&mut self, block: u64) {
        if let Some(damage) = self.damaged.get(&block).and_then(|met| self.damages.remove(met)) {
            self.note(block, damage);
        }
    }

    /// Forgets the stretches that were not used for longest.
    fn evict(&mut self, kept_max: u64) {
        while self.kept_blocks > kept_max.max(1) && self.stretches.len() > 1 {
            let oldest = self.stretches.iter().min_by_key(|(_, (_, used))| *used).map(|(first, _)| *first);
            let Some((stretch, _)) = oldest.and_then(|first| self.stretches.remove(&first)) else { return };
            self.kept_blocks -= stretch.blocks.end - stretch.blocks.start;
        }
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
