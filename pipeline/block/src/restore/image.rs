//! The way of the blocks: from the map by pack to the target, a few requests at once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dualsync_model::event::Event;
use dualsync_model::id::PointId;
use dualsync_model::job::{RestoreTask, Shape};
use tokio::task::JoinSet;

use crate::events::Events;
use crate::fetch::ObjectError;
use crate::format::page;
use crate::image::{BlockIndex, blocks_of_page};
use crate::manifest::Manifest;
use crate::maps::{Fetch, MapReader};
use crate::page::{Page, PageIndex, StoredBlock};
use crate::records::{Coalesce, Wanted, fetch_run, runs};
use crate::repository::Repository;
use crate::restore::damage::Damage;
use crate::restore::proof::{Expected, Proof, Standing};
use crate::restore::readback::{ReadBack, Target};
use crate::restore::sink::{Sink, SinkError};
use crate::restore::writer::{Ended, Outbox, Writer};
use crate::restore::{RestoreError, Restored};

/// Requests in flight, each of at most [`COALESCE`]'s bytes: 48 MiB in all.
const FETCHES: usize = 6;
/// How records are put into requests: what is fetched is what is needed, in large pieces.
const COALESCE: Coalesce = Coalesce { run_bytes_max: 8 << 20, gap_bytes_max: 128 << 10 };

/// One restore.
pub struct ImageRestore<'a> {
    repository: Arc<Repository>,
    manifest: Manifest,
    point: PointId,
    to: PathBuf,
    is_device: bool,
    resume: bool,
    sink: Arc<Sink>,
    events: &'a Events,
    reader: MapReader,
    damage: Arc<Mutex<Damage>>,
    fetches: JoinSet<Result<(), RestoreError>>,
}

impl<'a> ImageRestore<'a> {
    /// A restore of `manifest` to `sink`.
    pub fn new(
        repository: Arc<Repository>,
        manifest: Manifest,
        task: &RestoreTask,
        sink: Arc<Sink>,
        events: &'a Events,
    ) -> Self {
        Self {
            reader: MapReader::new(Arc::clone(&repository), Fetch::Whole),
            repository,
            manifest,
            point: task.point.clone(),
            to: task.to.clone(),
            is_device: task.shape == Shape::Device,
            resume: task.resume,
            sink,
            events,
            damage: Arc::default(),
            fetches: JoinSet::new(),
        }
    }

    fn block_bytes(&self) -> u64 {
        u64::from(self.manifest.description.block_bytes)
    }

    fn blocks(&self) -> u64 {
        self.manifest.description.source_bytes.div_ceil(self.block_bytes())
    }

    /// Writes everything, then proves everything.
    pub async fn run(mut self) -> Result<Restored, RestoreError> {
        let bytes = self.manifest.description.source_bytes;
        self.events.progress().begin("restoring", bytes, self.blocks());
        let writer = Writer::start(Arc::clone(&self.sink), Arc::clone(self.events.progress()));
        let unpacked = self.unpack(&writer).await;
        // None is left that could hand over more. Where the target failed, the others stopped for that.
        self.fetches.shutdown().await;
        writer.finish().await?;
        unpacked?;
        self.sink.sync()?;
        self.prove().await?;
        let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        for finding in damage.findings(self.repository.target(), &self.point) {
            self.events.say(&Event::Finding(finding));
        }
        Ok(Restored { blocks: self.blocks(), bytes, damaged: damage.count() })
    }

    /// Everything is fetched, unpacked and handed over.
    async fn unpack(&mut self, writer: &Writer) -> Result<(), RestoreError> {
        let mut standing = if self.resume { Some(self.target().proof()?) } else { None };
        for index in (0..self.manifest.pages.len() as u64).map(PageIndex) {
            if let Some(page) = self.page(index).await? {
                self.restore_page(&page, standing.as_mut(), writer).await?;
            }
        }
        while let Some(done) = self.fetches.join_next().await {
            done??;
        }
        Ok(())
    }

    fn target(&self) -> Target {
        Target {
            path: self.to.clone(),
            is_device: self.is_device,
            size_bytes: self.manifest.description.source_bytes,
            block_bytes: self.block_bytes(),
        }
    }

    /// The page; `None` when it is damaged, which loses its blocks.
    async fn page(&mut self, index: PageIndex) -> Result<Option<Page>, RestoreError> {
        let blocks = blocks_of_page(self.blocks(), index);
        match self.reader.page(index, blocks, self.manifest.pages.get(index)).await {
            Ok(page) => Ok(Some(page)),
            Err(error) if error.is_damage() => {
                self.lose_page(index, blocks, &error)?;
                Ok(None)
            }
            Err(error) => Err(RestoreError::Fetch(error)),
        }
    }

    fn lose_page(&self, index: PageIndex, blocks: usize, error: &ObjectError) -> Result<(), RestoreError> {
        let first = index.0 * page::BLOCKS as u64;
        for block in first..first + blocks as u64 {
            self.damage.lock().unwrap_or_else(PoisonError::into_inner).add(BlockIndex(block), error);
        }
        if !self.sink.is_blank() {
            self.zero(BlockIndex(first), blocks as u64)?;
        }
        Ok(())
    }

    /// Whether every block of the page is lost.
    fn is_lost(&self, index: PageIndex, blocks: usize) -> bool {
        let first = index.0 * page::BLOCKS as u64;
        let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        (first..first + blocks as u64).all(|block| damage.holds(BlockIndex(block)))
    }

    fn zero(&self, first: BlockIndex, count: u64) -> Result<(), SinkError> {
        let start = first.0 * self.block_bytes();
        let end = (start + count * self.block_bytes()).min(self.manifest.description.source_bytes);
        self.sink.write_zeros(start, end - start)
    }

    async fn restore_page(
        &mut self,
        page: &Page,
        mut standing: Option<&mut Proof>,
        writer: &Writer,
    ) -> Result<(), RestoreError> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut zeros: Option<(BlockIndex, u64)> = None;
        for (position, stored) in page.iter().enumerate() {
            let block = BlockIndex(page.index().0 * page::BLOCKS as u64 + position as u64);
            let is_right = match standing.as_deref_mut() {
                Some(proof) => proof.look(block, stored.map(|stored| stored.hash))? == Standing::Right,
                None => stored.is_none() && self.sink.is_blank(),
            };
            if is_right {
                self.events.progress().add(self.block_bytes(), 1);
                continue;
            }
            match (stored, &mut zeros) {
                (Some(stored), _) => wanted.push((block, stored)),
                (None, Some((first, count))) if first.0 + *count == block.0 => *count += 1,
                (None, _) => {
                    if let Some((first, count)) = zeros.replace((block, 1)) {
                        self.zero(first, count)?;
                        self.events.progress().add(count * self.block_bytes(), count);
                    }
                }
            }
        }
        if let Some((first, count)) = zeros {
            self.zero(first, count)?;
            self.events.progress().add(count * self.block_bytes(), count);
        }
        for run in runs(wanted, COALESCE) {
            while self.fetches.len() >= FETCHES {
                if let Some(done) = self.fetches.join_next().await {
                    done??;
                }
            }
            self.fetch(run, writer.outbox());
        }
        Ok(())
    }

    fn fetch(&mut self, run: Vec<Wanted>, mut outbox: Outbox) {
        let (repository, sink) = (Arc::clone(&self.repository), Arc::clone(&self.sink));
        let (damage, progress) = (Arc::clone(&self.damage), Arc::clone(self.events.progress()));
        let (block_bytes, source_bytes) = (self.block_bytes(), self.manifest.description.source_bytes);
        self.fetches.spawn(async move {
            let mut failed = None;
            let take = |block: BlockIndex, result: Result<&mut Vec<u8>, ObjectError>| {
                let offset = block.0 * block_bytes;
                let outcome = match result {
                    Ok(bytes) => outbox.put(offset, bytes).map_err(|Ended| RestoreError::Writer),
                    Err(error) => {
                        damage.lock().unwrap_or_else(PoisonError::into_inner).add(block, &error);
                        let length = block_bytes.min(source_bytes - offset);
                        progress.add(length, 1);
                        if sink.is_blank() {
                            Ok(())
                        } else {
                            sink.write_zeros(offset, length).map_err(RestoreError::from)
                        }
                    }
                };
                failed = failed.take().or(outcome.err());
            };
            let block_bytes_max = usize::try_from(block_bytes).unwrap_or(usize::MAX);
            fetch_run(&repository, &run, block_bytes_max, take).await.map_err(RestoreError::Fetch)?;
            outbox.send().map_err(|Ended| RestoreError::Writer)?;
            let fetched = run.iter().map(|(_, stored)| u64::from(stored.place.length)).sum();
            progress.transfer(fetched);
            failed.map_or(Ok(()), Err)
        });
    }

    /// Reads everything back from the medium and compares it with the map.
    async fn prove(&mut self) -> Result<(), RestoreError> {
        self.events.progress().begin("verifying", self.manifest.description.source_bytes, self.blocks());
        let mut back = ReadBack::new(self.target(), Arc::clone(self.events.progress()));
        for index in (0..self.manifest.pages.len() as u64).map(PageIndex) {
            let blocks = blocks_of_page(self.blocks(), index);
            let page = match self.reader.page(index, blocks, self.manifest.pages.get(index)).await {
                Ok(page) => page,
                // Its blocks are zeros and told already.
                Err(error) if error.is_damage() && self.is_lost(index, blocks) => continue,
                // It could be read when its blocks were written: without it nothing is proved.
                Err(error) => return Err(RestoreError::Fetch(error)),
            };
            back.look(&self.expected(&page)).await?;
        }
        match back.finish().await? {
            None => Ok(()),
            Some(block) => Err(RestoreError::Unfaithful { path: self.to.clone(), block: block.0 }),
        }
    }

    /// What the blocks of `page` should be on the target: lost ones are zeros.
    fn expected(&self, page: &Page) -> Vec<Expected> {
        let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        let first = page.index().0 * page::BLOCKS as u64;
        let expected = |(block, stored): (u64, Option<StoredBlock>)| {
            let block = BlockIndex(block);
            (block, stored.filter(|_| !damage.holds(block)).map(|stored| stored.hash))
        };
        (first..).zip(page.iter()).map(expected).collect()
    }
}
