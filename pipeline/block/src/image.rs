//! The stored image of a point, block by block, fetched when asked for.
//!
//! A block comes as a range of its pack, is opened, inflated and hashed, and never given out when
//! it is not the block the map names. Neighbours in a pack come in one request: up to 4 MiB when
//! reads run forward. Two small caches bound the memory (24 MiB of blocks, 64 pages). For who
//! needs every block once, in pack order, there is [`crate::restore`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use dualsync_model::id::PointId;

use crate::digest::Sha256;
use crate::fetch::{ObjectError, sentence};
use crate::format::{ObjectKind, page};
use crate::manifest::Manifest;
use crate::maps::{Fetch, MapReader};
use crate::names;
use crate::pack::open_block;
use crate::page::{Page, PageIndex, StoredBlock};
use crate::points::{Census, CensusError, load};
use crate::repository::Repository;
use crate::seal::{ObjectOpener, OpenError, Scratch};

/// Number of a block in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(pub u64);

/// What the map says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// All zeros, nothing is stored.
    Zero,
    /// Part of a pack.
    Stored {
        /// The pack.
        pack: Sha256,
        /// Where in it.
        offset: u32,
        /// Bytes there.
        length: u32,
    },
}

/// A block that cannot be given out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {block} needs '{object}': {problem}", block = block.0)]
pub struct ImageError {
    /// The block.
    pub block: BlockIndex,
    /// Key of the stored object.
    pub object: String,
    /// The fixed word of a finding: `missing`, `truncated`, `digest`, `forged`, ...
    pub kind: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// False when the store did not answer, which says nothing about the object.
    pub is_damage: bool,
}

impl ImageError {
    fn new(block: BlockIndex, error: &ObjectError) -> Self {
        Self {
            block,
            object: error.object.to_string(),
            kind: error.kind(),
            problem: sentence(&error.problem),
            is_damage: error.is_damage(),
        }
    }
}

/// Why a point cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ImageOpenError {
    /// No good manifest tells of it.
    #[error("there is no point {0} in this repository")]
    NoSuchPoint(PointId),
    /// Its manifest is wrong.
    #[error("the manifest of {point} cannot be used")]
    Manifest {
        /// The point.
        point: PointId,
        /// What is wrong.
        source: ObjectError,
    },
    /// The points are not known.
    #[error(transparent)]
    Census(#[from] CensusError),
}

/// One request brings at most this much.
const RUN_BYTES_MAX: u64 = 4 << 20;
/// Bytes between two wanted records that are fetched along rather than asked around.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Blocks kept, in bytes.
const BLOCK_CACHE_BYTES: usize = 24 << 20;
/// Pages kept.
const PAGE_CACHE: usize = 64;

/// A block's bytes; `None` for a block of zeros.
pub type Block = Option<Arc<[u8]>>;

/// The image of one point.
pub struct StoredImage {
    repository: Arc<Repository>,
    manifest: Manifest,
    pages: tokio::sync::Mutex<Pages>,
    blocks: Mutex<Blocks>,
}

struct Pages {
    reader: MapReader,
    kept: VecDeque<Arc<Page>>,
}

#[derive(Default)]
struct Blocks {
    kept: HashMap<BlockIndex, Arc<[u8]>>,
    order: VecDeque<BlockIndex>,
    bytes: usize,
    /// One past the block that was asked for last.
    expected: Option<BlockIndex>,
}

impl StoredImage {
    /// Opens the image of `point`; reads its manifest, no map and no pack.
    pub async fn open(repository: Arc<Repository>, point: &PointId) -> Result<Self, ImageOpenError> {
        let name = find(&repository, point).await?;
        let manifest = load(&repository, &name.0, name.1)
            .await
            .map_err(|source| ImageOpenError::Manifest { point: point.clone(), source })?;
        Ok(Self::of_manifest(repository, manifest))
    }

    /// The image that `manifest` describes.
    pub fn of_manifest(repository: Arc<Repository>, manifest: Manifest) -> Self {
        let reader = MapReader::new(Arc::clone(&repository), Fetch::Ranged);
        let pages = tokio::sync::Mutex::new(Pages { reader, kept: VecDeque::new() });
        Self { repository, manifest, pages, blocks: Mutex::default() }
    }

    /// Bytes of the image.
    pub fn size_bytes(&self) -> u64 {
        self.manifest.description.source_bytes
    }

    /// Bytes of a block; the last one of the image may be shorter.
    pub fn block_bytes(&self) -> usize {
        self.manifest.description.block_bytes as usize
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> u64 {
        self.size_bytes().div_ceil(self.block_bytes() as u64)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The repository.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Bytes of one block of this image.
    pub fn bytes_of(&self, block: BlockIndex) -> usize {
        let block_bytes = self.block_bytes() as u64;
        let start = block.0.saturating_mul(block_bytes);
        usize::try_from(self.size_bytes().saturating_sub(start).min(block_bytes)).unwrap_or(0)
    }

    /// Where a block is stored; zero past the end.
    pub async fn entry(&self, block: BlockIndex) -> Result<Entry, ImageError> {
        Ok(self.stored(block).await?.map_or(Entry::Zero, |stored| Entry::Stored {
            pack: stored.pack.sha256,
            offset: stored.place.offset,
            length: stored.place.length,
        }))
    }

    async fn stored(&self, block: BlockIndex) -> Result<Option<StoredBlock>, ImageError> {
        if block.0 >= self.blocks() {
            return Ok(None);
        }
        let page = self.page(block).await?;
        Ok(page.get(position(block)))
    }

    async fn page(&self, block: BlockIndex) -> Result<Arc<Page>, ImageError> {
        let index = PageIndex(block.0 / page::BLOCKS as u64);
        let mut pages = self.pages.lock().await;
        if let Some(page) = pages.kept.iter().find(|page| page.index() == index) {
            return Ok(Arc::clone(page));
        }
        let blocks = blocks_of_page(self.blocks(), index);
        let reference = self.manifest.pages.get(index);
        let page = pages.reader.page(index, blocks, reference).await.map_err(|error| ImageError::new(block, &error))?;
        let page = Arc::new(page);
        if pages.kept.len() >= PAGE_CACHE {
            pages.kept.pop_front();
        }
        pages.kept.push_back(Arc::clone(&page));
        Ok(page)
    }

    /// The bytes of a block; `None` for zeros. Reads that run forward fetch ahead.
    pub async fn read_block(&self, block: BlockIndex) -> Result<Block, ImageError> {
        let (kept, forward) = self.look_in_cache(block);
        if kept.is_some() {
            return Ok(kept);
        }
        let wanted = if forward { self.ahead(block).await? } else { vec![block] };
        let mut first = None;
        for (index, result) in self.read_run(&wanted).await? {
            if index == block {
                first = Some(result?);
            } else if let Ok(Some(bytes)) = result {
                self.keep(index, &bytes);
            }
        }
        let bytes = first.flatten();
        if let Some(bytes) = &bytes {
            self.keep(block, bytes);
        }
        Ok(bytes)
    }

    /// `block` and the blocks behind it that one request brings along: those of the same pack.
    async fn ahead(&self, block: BlockIndex) -> Result<Vec<BlockIndex>, ImageError> {
        let mut wanted = vec![block];
        let Some(first) = self.stored(block).await? else { return Ok(wanted) };
        let count = (RUN_BYTES_MAX / self.block_bytes() as u64).max(1);
        for next in (block.0 + 1..block.0 + count).map(BlockIndex) {
            match self.stored(next).await? {
                Some(stored) if stored.pack == first.pack => wanted.push(next),
                _ => break,
            }
        }
        Ok(wanted)
    }

    /// Fetches `blocks` into the cache, as far as they fit; errors come when the block is read.
    pub async fn prefetch(&self, blocks: &[BlockIndex]) -> Result<(), ImageError> {
        let room = BLOCK_CACHE_BYTES / 2 / self.block_bytes().max(1);
        let wanted: Vec<_> = blocks.iter().copied().filter(|block| !self.is_kept(*block)).take(room).collect();
        for (index, result) in self.read_run(&wanted).await? {
            if let Ok(Some(bytes)) = result {
                self.keep(index, &bytes);
            }
        }
        Ok(())
    }

    /// The bytes of several blocks, neighbours in a pack by one request; each block has its own
    /// result. They come in pack order, and are not kept.
    ///
    /// # Errors
    /// When a map page cannot be read, or the store does not answer.
    pub async fn read_run(
        &self,
        blocks: &[BlockIndex],
    ) -> Result<Vec<(BlockIndex, Result<Block, ImageError>)>, ImageError> {
        let mut out = Vec::with_capacity(blocks.len());
        let mut by_pack: BTreeMap<Sha256, Vec<(BlockIndex, StoredBlock)>> = BTreeMap::new();
        for block in blocks {
            match self.stored(*block).await {
                Ok(None) => out.push((*block, Ok(None))),
                Ok(Some(stored)) => by_pack.entry(stored.pack.sha256).or_default().push((*block, stored)),
                Err(error) => out.push((*block, Err(error))),
            }
        }
        for mut records in by_pack.into_values() {
            records.sort_by_key(|(_, stored)| stored.place.offset);
            for run in runs(&records) {
                self.read_records(run, &mut out).await?;
            }
        }
        Ok(out)
    }

    async fn read_records(
        &self,
        run: &[(BlockIndex, StoredBlock)],
        out: &mut Vec<(BlockIndex, Result<Block, ImageError>)>,
    ) -> Result<(), ImageError> {
        let Some((first_block, first)) = run.first().copied() else { return Ok(()) };
        let start = u64::from(first.place.offset);
        let end = run.iter().map(|(_, stored)| end_of(stored)).max().unwrap_or(start);
        let key = names::pack(&first.pack.sha256);
        let bytes = match self.repository.get_range(&key, start, end - start).await {
            Ok(bytes) => bytes,
            // A pack that ends early may still hold the first of them: ask one by one.
            Err(error) if error.is_damage() && run.len() > 1 => {
                for one in run {
                    Box::pin(self.read_records(std::slice::from_ref(one), out)).await?;
                }
                return Ok(());
            }
            Err(error) if error.is_damage() => {
                out.push((first_block, Err(ImageError::new(first_block, &error))));
                return Ok(());
            }
            Err(error) => return Err(ImageError::new(first_block, &error)),
        };
        let opener = ObjectOpener::from_salt(self.repository.keys(), ObjectKind::Pack, first.pack.salt);
        let (mut scratch, mut plain) = (Scratch::default(), Vec::new());
        for (block, stored) in run {
            let at = usize::try_from(u64::from(stored.place.offset) - start).unwrap_or(usize::MAX);
            let sealed = bytes.get(at..).and_then(|rest| rest.get(..stored.place.length as usize));
            let checked = sealed.ok_or(OpenError::Truncated).and_then(|sealed| {
                open_block(&opener, sealed, stored.hash, self.bytes_of(*block), &mut scratch, &mut plain)
            });
            let result = match checked {
                Ok(()) => Ok(Some(Arc::from(plain.as_slice()))),
                Err(problem) => Err(ImageError::new(*block, &ObjectError::new(key.clone(), problem))),
            };
            out.push((*block, result));
        }
        Ok(())
    }

    fn look_in_cache(&self, block: BlockIndex) -> (Block, bool) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let forward = blocks.expected == Some(block);
        blocks.expected = Some(BlockIndex(block.0 + 1));
        (blocks.kept.get(&block).cloned(), forward)
    }

    fn is_kept(&self, block: BlockIndex) -> bool {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).kept.contains_key(&block)
    }

    fn keep(&self, block: BlockIndex, bytes: &Arc<[u8]>) {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks.kept.insert(block, Arc::clone(bytes)).is_none() {
            blocks.order.push_back(block);
            blocks.bytes += bytes.len();
        }
        while blocks.bytes > BLOCK_CACHE_BYTES {
            let Some(oldest) = blocks.order.pop_front() else { break };
            if let Some(old) = blocks.kept.remove(&oldest) {
                blocks.bytes -= old.len();
            }
        }
    }
}

/// Cuts records of one pack, in order of offset, into runs that one request fetches.
fn runs(records: &[(BlockIndex, StoredBlock)]) -> Vec<&[(BlockIndex, StoredBlock)]> {
    let mut out = Vec::new();
    let mut begin = 0;
    for at in 1..=records.len() {
        let cut = records.get(at).is_none_or(|(_, next)| {
            let start = u64::from(records[begin].1.place.offset);
            let gap = u64::from(next.place.offset).saturating_sub(end_of(&records[at - 1].1));
            gap > GAP_BYTES_MAX || end_of(next) - start > RUN_BYTES_MAX
        });
        if cut {
            out.push(&records[begin..at]);
            begin = at;
        }
    }
    out
}

fn end_of(stored: &StoredBlock) -> u64 {
    u64::from(stored.place.offset) + u64::from(stored.place.length)
}

fn position(block: BlockIndex) -> usize {
    usize::try_from(block.0 % page::BLOCKS as u64).unwrap_or(0)
}

/// Blocks that page `index` covers in an image of `blocks` blocks.
pub fn blocks_of_page(blocks: u64, index: PageIndex) -> usize {
    let before = index.0.saturating_mul(page::BLOCKS as u64);
    usize::try_from(blocks.saturating_sub(before).min(page::BLOCKS as u64)).unwrap_or(page::BLOCKS)
}

/// The newest good manifest of a point. A listing of its source is enough: the key tells the time.
async fn find(repository: &Repository, point: &PointId) -> Result<(names::ManifestName, u64), ImageOpenError> {
    let prefix = format!("{}{}/{}-", names::POINTS, point.source(), point.time().compact());
    let listed = repository.store().list(&prefix, None).await.map_err(CensusError::List)?;
    let mut named: Vec<_> = listed
        .iter()
        .filter_map(|object| names::parse_manifest(object.key.as_str()).map(|name| (name, object.size)))
        .collect();
    match named.len() {
        0 => Err(ImageOpenError::NoSuchPoint(point.clone())),
        1 => Ok(named.remove(0)),
        // A retry made it twice: the chain says which is newer.
        _ => {
            let census = Census::take(repository).await?;
            let head = census.find(point).ok_or_else(|| ImageOpenError::NoSuchPoint(point.clone()))?;
            Ok((head.name.clone(), head.size))
        }
    }
}
