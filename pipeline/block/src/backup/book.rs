//! The book of a run: the pages of the point being made, what they use, and what was uploaded.
//!
//! It settles pages: from the page as it was and what changed to a page that is shared, a delta, or
//! full. It puts map objects when enough pages wait, and checkpoints. Nothing here reads the source.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use dualsync_block_store::contract::ObjectLock;

use crate::backup::BackupError;
use crate::backup::uses::PackUses;
use crate::digest::Sha256;
use crate::fetch::ObjectError;
use crate::image::blocks_of_page;
use crate::locking;
use crate::manifest::Reference;
use crate::maps::{Fetch, MapReader, MapWriter};
use crate::names;
use crate::page::{Decoded, Page, PageIndex, StoredBlock, decode};
use crate::pagetable::{Location, PageRef, PageTable};
use crate::repository::Repository;
use crate::seal::OpenError;

/// What a run has so far.
pub struct Book {
    repository: Arc<Repository>,
    reader: MapReader,
    /// Blocks of the source.
    blocks: u64,
    /// Blocks that each page of `table` had when it came from the parent.
    old_blocks: u64,
    /// Pages settled in this run, whose block count is the source's.
    settled: HashSet<PageIndex>,
    /// Where each page is.
    pub table: PageTable,
    writer: MapWriter,
    /// What packs are used for.
    pub uses: PackUses,
    map_sizes: HashMap<Sha256, u32>,
    /// Objects that nothing new may name.
    pub banned: Arc<HashSet<Sha256>>,
    /// Objects that this run stored.
    pub stored: HashSet<Sha256>,
    /// Stored bytes of them.
    pub added_bytes: u64,
    /// What new objects are put under.
    pub lock: Option<ObjectLock>,
    /// Pages of the parent that cannot be read: their blocks are sent as if they were new.
    pub lost_pages: u64,
}

impl Book {
    /// A book that begins with the parent's pages; `parent_blocks` is the size of its source.
    pub fn new(
        repository: Arc<Repository>,
        blocks: u64,
        parent: Option<(&PageTable, u64)>,
        banned: Arc<HashSet<Sha256>>,
        lock: Option<ObjectLock>,
    ) -> Self {
        let pages = blocks.div_ceil(crate::format::page::BLOCKS as u64);
        let mut table = PageTable::default();
        for index in (0..pages).map(PageIndex) {
            table.push(parent.map_or(PageRef::Zero, |(parent, _)| parent.get(index)));
        }
        Self {
            reader: MapReader::new(Arc::clone(&repository), Fetch::Whole),
            repository,
            blocks,
            old_blocks: parent.map_or(0, |(_, blocks)| blocks),
            settled: HashSet::new(),
            table,
            writer: MapWriter::default(),
            uses: PackUses::default(),
            map_sizes: HashMap::new(),
            banned,
            stored: HashSet::new(),
            added_bytes: 0,
            lock,
            lost_pages: 0,
        }
    }

    /// The objects of an earlier manifest or checkpoint, by size.
    pub fn know(&mut self, maps: &[Reference], packs: &[Reference]) {
        self.map_sizes.extend(maps.iter().map(|reference| (reference.sha256, reference.size)));
        for reference in packs {
            self.uses.know(reference.sha256, reference.size);
        }
    }

    /// How many pages the point has.
    pub fn pages(&self) -> u64 {
        self.table.len() as u64
    }

    /// A page of another table, an interrupted run's; `None` past its end.
    pub async fn foreign(
        &mut self,
        table: &PageTable,
        blocks: u64,
        index: PageIndex,
    ) -> Result<Option<Page>, ObjectError> {
        if index.0 >= table.len() as u64 {
            return Ok(None);
        }
        let page = self.reader.page(index, blocks_of_page(blocks, index), table.get(index)).await?;
        Ok(Some(page.resized(blocks_of_page(self.blocks, index))))
    }

    /// The page as it is now, with as many blocks as the source has there.
    pub async fn page(&mut self, index: PageIndex) -> Result<Page, ObjectError> {
        let now = blocks_of_page(self.blocks, index);
        if let Some((base, bytes)) = self.writer.waiting(index) {
            let (base, decoded) = (base, decode(bytes));
            return self.waiting_page(index, now, base, decoded).await;
        }
        let blocks = if self.settled.contains(&index) { now } else { blocks_of_page(self.old_blocks, index) };
        match self.reader.page(index, blocks, self.table.get(index)).await {
            // A parent's damage must not spread to the new point, nor keep it from being made.
            Err(error) if error.is_damage() && !self.settled.contains(&index) => {
                tracing::warn!(%error, "a page of the previous point cannot be read");
                self.lost_pages += 1;
                self.table.set(index, PageRef::Zero);
                Ok(Page::zero(index, now))
            }
            other => Ok(other?.resized(now)),
        }
    }

    async fn waiting_page(
        &mut self,
        index: PageIndex,
        blocks: usize,
        base: Option<Location>,
        decoded: Result<Decoded, OpenError>,
    ) -> Result<Page, ObjectError> {
        let wrong = |problem| ObjectError::new(names::fixed(names::REPO), problem);
        match (decoded.map_err(wrong)?, base) {
            (Decoded::Full(page), _) => Ok(page),
            (Decoded::Delta(delta), Some(location)) => {
                let base = self.reader.full(index, blocks, location).await?;
                delta.apply(&base).map_err(wrong)
            }
            (Decoded::Delta(_), None) => Err(wrong(OpenError::Malformed("a waiting delta without its base"))),
        }
    }

    /// Pages that cannot stay where they are, since their map object is banned.
    fn must_move(&self, index: PageIndex) -> bool {
        self.table.get(index).locations().any(|location| self.banned.contains(&location.object))
    }

    /// Settles a page: `old` as it was, `changes` by position. `first` is false when the page was
    /// settled in this run before and is counted already.
    pub async fn settle(
        &mut self,
        old: &Page,
        changes: &[(usize, Option<StoredBlock>)],
        first: bool,
    ) -> Result<(), BackupError> {
        let index = old.index();
        if !first {
            self.uses.remove(old);
        }
        if changes.is_empty() && !self.must_move(index) && !self.has_new_size(index) {
            self.uses.add(old);
            self.settled.insert(index);
            return Ok(());
        }
        let mut new = old.clone();
        for (position, block) in changes {
            new.set(*position, *block);
        }
        self.uses.add(&new);
        self.place(&new).await?;
        if self.writer.is_full() {
            self.put_map().await?;
        }
        Ok(())
    }

    /// Whether the page covers more or fewer blocks than when it was stored.
    fn has_new_size(&self, index: PageIndex) -> bool {
        !self.settled.contains(&index)
            && self.table.get(index) != PageRef::Zero
            && blocks_of_page(self.old_blocks, index) != blocks_of_page(self.blocks, index)
    }

    async fn place(&mut self, new: &Page) -> Result<(), BackupError> {
        let index = new.index();
        let base = self.base_of(index);
        self.writer.take_back(index);
        let was_settled = !self.settled.insert(index);
        if new.is_zero() {
            self.table.set(index, PageRef::Zero);
            return Ok(());
        }
        if let Some(location) = base.filter(|location| !self.banned.contains(&location.object)) {
            let blocks = if was_settled { new.blocks() } else { blocks_of_page(self.old_blocks, index) };
            let full = self.reader.full(index, blocks, location).await.map_err(BackupError::Parent)?;
            // Changed back to what the full page says.
            if full == *new {
                self.table.set(index, PageRef::Full(location));
                return Ok(());
            }
            if let Some(delta) = new.delta_from(&full, location.digest) {
                self.writer.push(index, Some(location), delta.encode());
                return Ok(());
            }
        }
        self.writer.push(index, None, new.encode());
        Ok(())
    }

    /// The stored full page that the page stands on now.
    fn base_of(&self, index: PageIndex) -> Option<Location> {
        if let Some((base, _)) = self.writer.waiting(index) {
            return base;
        }
        self.table.get(index).locations().next()
    }

    /// Stores a page anew, standing alone.
    pub async fn rewrite(&mut self, index: PageIndex) -> Result<(), BackupError> {
        let page = self.page(index).await.map_err(BackupError::Parent)?;
        self.settled.insert(index);
        self.writer.push(index, None, page.encode());
        if self.writer.is_full() {
            self.put_map().await?;
        }
        Ok(())
    }

    /// Map objects of which this point uses too little, pages in it to be stored anew.
    pub fn pages_of_sparse_maps(&self, share_percent: u64) -> Vec<PageIndex> {
        let is_sparse = |(object, live): &(Sha256, u64)| {
            let size = self.map_sizes.get(object).copied().map_or(*live, u64::from);
            !self.stored.contains(object) && live * 100 < size * share_percent
        };
        let sparse: HashSet<Sha256> =
            self.table.live_objects().into_iter().filter(is_sparse).map(|(object, _)| object).collect();
        if sparse.is_empty() {
            return Vec::new();
        }
        let needs_sparse =
            |(_, page): &(u64, PageRef)| page.locations().any(|location| sparse.contains(&location.object));
        (0..).zip(self.table.iter()).filter(needs_sparse).map(|(index, _)| PageIndex(index)).collect()
    }

    /// Stores the pages that wait.
    pub async fn put_map(&mut self) -> Result<(), BackupError> {
        let Some(sealed) = self.writer.seal(self.repository.keys())? else { return Ok(()) };
        let key = names::map(&sealed.sha256);
        let size = sealed.bytes.len();
        locking::put(&self.repository, &key, sealed.bytes.clone(), sealed.sha256, self.lock).await?;
        read_back(&self.repository, &key, &sealed.bytes).await?;
        self.repository.cache().put(&sealed.sha256, &sealed.bytes);
        for (index, page) in sealed.pages {
            self.table.set(index, page);
        }
        self.stored_object(sealed.sha256, size);
        self.map_sizes.insert(sealed.sha256, small(size));
        Ok(())
    }

    /// A pack arrived.
    pub fn put_pack(&mut self, pack: Sha256, size: usize) {
        self.uses.know(pack, small(size));
        self.stored_object(pack, size);
    }

    fn stored_object(&mut self, object: Sha256, size: usize) {
        self.stored.insert(object);
        self.added_bytes += size as u64;
    }

    /// The map objects in use, in order of their names.
    pub fn map_references(&self) -> Vec<Reference> {
        let refer = |(sha256, live): (Sha256, u64)| {
            let live = u32::try_from(live).unwrap_or(u32::MAX);
            Reference { sha256, size: self.map_sizes.get(&sha256).copied().unwrap_or(live), live }
        };
        self.table.live_objects().into_iter().map(refer).collect()
    }
}

fn small(size: usize) -> u32 {
    u32::try_from(size).expect("packs and map objects are at most 32 MiB")
}

/// Reads metadata back after it was stored: nothing is believed of a store that was not tried.
pub async fn read_back(
    repository: &Repository,
    key: &dualsync_block_store::contract::Key,
    bytes: &Bytes,
) -> Result<(), BackupError> {
    let stored = repository.get(key).await.map_err(BackupError::ReadBack)?;
    if stored == *bytes {
        return Ok(());
    }
    Err(BackupError::ReadBack(ObjectError::new(key.clone(), crate::fetch::Problem::Digest)))
}
