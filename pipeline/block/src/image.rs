//! The stored image of a point, block by block, fetched when asked for.
//!
//! A block comes as a range of its pack, is opened, inflated and hashed, and never given out when
//! it is not the block the map names. Only map pages are kept; a cache of blocks and reading ahead
//! belong to who knows the order of reads. For every block once, in pack order, there is
//! [`crate::restore`].

use std::collections::VecDeque;
use std::sync::Arc;

use dualsync_model::id::PointId;

use crate::digest::Sha256;
use crate::fetch::{ObjectError, sentence};
use crate::format::page;
use crate::manifest::Manifest;
use crate::maps::{Fetch, MapReader};
use crate::names::{self, ManifestName};
use crate::page::{Page, PageIndex, StoredBlock};
use crate::points::{Census, CensusError, load};
use crate::records::{Coalesce, fetch_run, runs};
use crate::repository::Repository;

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

/// How reads of a file system are put into requests.
const COALESCE: Coalesce = Coalesce { run_bytes_max: 4 << 20, gap_bytes_max: 64 << 10 };
/// Pages kept: 8 GiB of an image in blocks of 128 KiB.
const PAGE_CACHE: usize = 64;

/// A block's bytes; `None` for a block of zeros.
pub type Block = Option<Arc<[u8]>>;

/// The image of one point.
pub struct StoredImage {
    repository: Arc<Repository>,
    sha256: Sha256,
    manifest: Manifest,
    pages: tokio::sync::Mutex<Pages>,
}

struct Pages {
    reader: MapReader,
    kept: VecDeque<Arc<Page>>,
}

impl StoredImage {
    /// Opens the image of `point`; reads its manifest, no map and no pack.
    pub async fn open(repository: Arc<Repository>, point: &PointId) -> Result<Self, ImageOpenError> {
        let (sha256, manifest) = open_manifest(&repository, point).await?;
        let reader = MapReader::new(Arc::clone(&repository), Fetch::Ranged);
        let pages = tokio::sync::Mutex::new(Pages { reader, kept: VecDeque::new() });
        Ok(Self { repository, sha256, manifest, pages })
    }

    /// Digest of its manifest.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
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
        Ok(page.get(usize::try_from(block.0 % page::BLOCKS as u64).unwrap_or(0)))
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

    /// The bytes of one block; `None` for zeros.
    pub async fn read_block(&self, block: BlockIndex) -> Result<Block, ImageError> {
        match self.read_run(&[block]).await?.pop() {
            Some((_, result)) => result,
            None => Ok(None),
        }
    }

    /// The bytes of several blocks, neighbours in a pack by one request; each block has its own
    /// result. They come in pack order, zeros first, and are not kept: whoever reads ahead does.
    ///
    /// # Errors
    /// When the store does not answer, which says nothing about any block.
    pub async fn read_run(
        &self,
        blocks: &[BlockIndex],
    ) -> Result<Vec<(BlockIndex, Result<Block, ImageError>)>, ImageError> {
        let mut out = Vec::with_capacity(blocks.len());
        let mut wanted = Vec::new();
        for block in blocks {
            match self.stored(*block).await {
                Ok(None) => out.push((*block, Ok(None))),
                Ok(Some(stored)) => wanted.push((*block, stored)),
                Err(error) if error.is_damage => out.push((*block, Err(error))),
                Err(error) => return Err(error),
            }
        }
        for run in runs(wanted, COALESCE) {
            let first = run.first().map_or(BlockIndex(0), |(block, _)| *block);
            let take = |block, result: Result<&mut Vec<u8>, ObjectError>| {
                let result = result.map(|bytes| Some(Arc::from(bytes.as_slice())));
                out.push((block, result.map_err(|error| ImageError::new(block, &error))));
            };
            fetch_run(&self.repository, &run, self.block_bytes(), take)
                .await
                .map_err(|error| ImageError::new(first, &error))?;
        }
        Ok(out)
    }
}

/// Blocks that page `index` covers in an image of `blocks` blocks.
pub fn blocks_of_page(blocks: u64, index: PageIndex) -> usize {
    let before = index.0.saturating_mul(page::BLOCKS as u64);
    usize::try_from(blocks.saturating_sub(before).min(page::BLOCKS as u64)).unwrap_or(page::BLOCKS)
}

/// The manifest of a point.
pub async fn open_manifest(repository: &Repository, point: &PointId) -> Result<(Sha256, Manifest), ImageOpenError> {
    let (name, size) = find(repository, point).await?;
    let loaded = load(repository, &name, size).await;
    let manifest = loaded.map_err(|source| ImageOpenError::Manifest { point: point.clone(), source })?;
    Ok((name.sha256, manifest))
}

/// The newest manifest of a point. A listing of its time is enough: the key tells it.
async fn find(repository: &Repository, point: &PointId) -> Result<(ManifestName, u64), ImageOpenError> {
    let prefix = format!("{}{}/{}-", names::POINTS, point.source(), point.time().compact());
    let listed = repository.store().list(&prefix, None).await.map_err(CensusError::List)?;
    let named = listed.iter().filter_map(|object| Some((names::parse_manifest(object.key.as_str())?, object.size)));
    let mut named: Vec<_> = named.collect();
    match named.len() {
        0 if !repository.looks_under() => Err(ImageOpenError::NoSuchPoint(point.clone())),
        1 => Ok(named.remove(0)),
        // A retry made it twice: the chain says which is newer. Or a marker hides it.
        _ => {
            let census = Census::take(repository).await?;
            let head = census.find(point).ok_or_else(|| ImageOpenError::NoSuchPoint(point.clone()))?;
            Ok((head.name.clone(), head.size))
        }
    }
}
