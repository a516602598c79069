//! Map objects: pages sealed one after the other, written once, read by page.
//!
//! [`MapWriter`] holds changed pages until an object is full, so that a page that changes twice in a
//! night is stored once. [`MapReader`] proves every page by the digest its reference carries; a
//! record of another object, even one of this repository, does not pass.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Compression, Compressor};
use crate::digest::{Blake3, Sha256};
use crate::fetch::ObjectError;
use crate::format::{ObjectKind, header, map, page, record};
use crate::keys::KeyTree;
use crate::names;
use crate::page::{Decoded, Page, PageIndex, decode};
use crate::pagetable::{Location, PageRef};
use crate::repository::Repository;
use crate::seal::{NoRandomness, ObjectOpener, ObjectSealer, OpenError, Scratch};
use crate::shadow;

/// A page that waits for its object.
#[derive(Clone, Debug)]
struct Pending {
    /// For a delta: the full page it stands on, stored long ago.
    base: Option<Location>,
    bytes: Vec<u8>,
}

/// Collects changed pages into objects.
#[derive(Debug, Default)]
pub struct MapWriter {
    pending: BTreeMap<PageIndex, Pending>,
    bytes: usize,
}

/// A finished map object.
#[derive(Debug)]
pub struct SealedMap {
    /// The stored bytes.
    pub bytes: Bytes,
    /// Their digest.
    pub sha256: Sha256,
    /// Where its pages are now.
    pub pages: Vec<(PageIndex, PageRef)>,
}

impl MapWriter {
    /// Takes the plain bytes of a page; `base` is the full page a delta stands on. A page that
    /// waits already is replaced.
    pub fn push(&mut self, index: PageIndex, base: Option<Location>, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        if let Some(old) = self.pending.insert(index, Pending { base, bytes }) {
            self.bytes -= old.bytes.len();
        }
    }

    /// Takes a waiting page back.
    pub fn take_back(&mut self, index: PageIndex) {
        if let Some(old) = self.pending.remove(&index) {
            self.bytes -= old.bytes.len();
        }
    }

    /// The plain bytes of a page that waits.
    pub fn waiting(&self, index: PageIndex) -> Option<(Option<Location>, &[u8])> {
        self.pending.get(&index).map(|pending| (pending.base, pending.bytes.as_slice()))
    }

    /// Whether there is enough for an object.
    pub fn is_full(&self) -> bool {
        self.bytes >= map::BYTES_TARGET
    }

    /// Whether no page waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Seals every waiting page into one object; `None` when there is none.
    pub fn seal(&mut self, keys: &KeyTree) -> Result<Option<SealedMap>, NoRandomness> {
        let pending = std::mem::take(&mut self.pending);
        let count = pending.len();
        if count == 0 {
            return Ok(None);
        }
        let mut sealer = Some(ObjectSealer::create(keys, ObjectKind::Map, Vec::new())?);
        let capacity = header::BYTES + std::mem::take(&mut self.bytes) + count * record::OVERHEAD_BYTES;
        let mut out = Vec::with_capacity(capacity);
        let mut compressor = Compressor::new(Compression::Fast);
        let mut placed = Vec::with_capacity(count);
        for (number, (index, page)) in pending.into_iter().enumerate() {
            let Some(current) = sealer.as_mut() else { break };
            if number == 0 {
                out.extend_from_slice(current.header());
            }
            let offset = out.len();
            let (codec, body) = compressor.compress(&page.bytes);
            let plain_bytes = small(page.bytes.len());
            if number + 1 < count {
                current.record(codec, plain_bytes, body, &mut out);
            } else if let Some(current) = sealer.take() {
                current.last(codec, plain_bytes, body, &mut out);
            }
            placed.push((index, page.base, Blake3::of(&page.bytes), small(offset), small(out.len() - offset)));
        }
        let object = Sha256::of(&out);
        let refer = |(index, base, digest, offset, length)| {
            let location = Location { digest, object, offset, length };
            let reference = match base {
                None => PageRef::Full(location),
                Some(full) => PageRef::Delta { full, delta: location },
            };
            (index, reference)
        };
        Ok(Some(SealedMap { bytes: out.into(), sha256: object, pages: placed.into_iter().map(refer).collect() }))
    }
}

fn small(length: usize) -> u32 {
    u32::try_from(length).expect("a map object ends at about 16 MiB")
}

/// How much of a map object a reader fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// The whole object, kept in the cache: for who reads every page.
    Whole,
    /// The page alone: for who reads a few files.
    Ranged,
}

/// Reads pages.
pub struct MapReader {
    repository: Arc<Repository>,
    fetch: Fetch,
    openers: HashMap<Sha256, Arc<ObjectOpener>>,
    last: Option<(Sha256, Bytes)>,
    scratch: Scratch,
}

/// Openers kept: a few objects are in use at a time.
const OPENERS_MAX: usize = 64;

impl MapReader {
    /// A reader of the repository's map objects.
    pub fn new(repository: Arc<Repository>, fetch: Fetch) -> Self {
        Self { repository, fetch, openers: HashMap::new(), last: None, scratch: Scratch::default() }
    }

    /// The page at `index`, which covers `blocks` blocks.
    pub async fn page(&mut self, index: PageIndex, blocks: usize, reference: PageRef) -> Result<Page, ObjectError> {
        match reference {
            PageRef::Zero => Ok(Page::zero(index, blocks)),
            PageRef::Full(full) => self.full(index, blocks, full).await,
            PageRef::Delta { full, delta } => {
                let base = self.full(index, blocks, full).await?;
                let error = |problem| ObjectError::new(names::map(&delta.object), OpenError::Malformed(problem));
                let Decoded::Delta(change) = self.decoded(delta).await? else {
                    return Err(error("a full page in the place of a delta"));
                };
                if change.base() != full.digest {
                    return Err(error("a delta page that stands on another page"));
                }
                change.apply(&base).map_err(|problem| ObjectError::new(names::map(&delta.object), problem))
            }
        }
    }

    /// The full page at `location`.
    pub async fn full(&mut self, index: PageIndex, blocks: usize, location: Location) -> Result<Page, ObjectError> {
        match self.decoded(location).await? {
            Decoded::Full(page) if page.index() == index && page.blocks() == blocks => Ok(page),
            _ => {
                let problem = OpenError::Malformed("a page that is not the one its reference tells");
                Err(ObjectError::new(names::map(&location.object), problem))
            }
        }
    }

    async fn decoded(&mut self, location: Location) -> Result<Decoded, ObjectError> {
        let key = names::map(&location.object);
        // A cached file that lies or ends early costs a second look at the store, nothing more.
        if let Some(sealed) = self.read_cached(location)
            && let Ok(decoded) = self.open(location, &sealed.0, &sealed.1)
        {
            return Ok(decoded);
        }
        let problem = match self.read_stored(location).await {
            Ok((clear, sealed)) => match self.open(location, &clear, &sealed) {
                Ok(decoded) => return Ok(decoded),
                Err(problem) => ObjectError::new(key.clone(), problem),
            },
            Err(error) if error.is_damage() => error,
            Err(error) => return Err(error),
        };
        // Who read the whole object has looked for an older version already.
        if self.fetch == Fetch::Whole {
            return Err(problem);
        }
        let older = shadow::good_version(self.repository.store(), &key, &location.object).await.ok_or(problem)?;
        self.repository.cache().put(&location.object, &older);
        let end = location.offset as usize + location.length as usize;
        let truncated = || ObjectError::new(key.clone(), OpenError::Truncated);
        let clear = older.get(..header::BYTES).ok_or_else(truncated)?;
        let sealed = older.get(location.offset as usize..end).ok_or_else(truncated)?;
        self.open(location, clear, sealed).map_err(|problem| ObjectError::new(key, problem))
    }

    fn read_cached(&self, location: Location) -> Option<(Bytes, Bytes)> {
        if self.last.as_ref().is_some_and(|(object, _)| *object == location.object) {
            return None;
        }
        let file = self.repository.cache().open_unproven(&location.object)?;
        let mut clear = vec![0; header::BYTES];
        file.read_exact_at(&mut clear, 0).ok()?;
        let end = u64::from(location.offset) + u64::from(location.length);
        if file.metadata().ok()?.len() < end {
            return None;
        }
        let mut sealed = vec![0; location.length as usize];
        file.read_exact_at(&mut sealed, location.offset.into()).ok()?;
        Some((clear.into(), sealed.into()))
    }

    async fn read_stored(&mut self, location: Location) -> Result<(Bytes, Bytes), ObjectError> {
        let key = names::map(&location.object);
        let (offset, length) = (u64::from(location.offset), u64::from(location.length));
        match self.fetch {
            Fetch::Ranged => {
                let clear = if self.openers.contains_key(&location.object) {
                    Bytes::new()
                } else {
                    self.repository.get_range(&key, 0, header::BYTES as u64).await?
                };
                Ok((clear, self.repository.get_range(&key, offset, length).await?))
            }
            Fetch::Whole => {
                let bytes = match &self.last {
                    Some((object, bytes)) if *object == location.object => bytes.clone(),
                    _ => {
                        self.repository.cache().forget(&location.object);
                        self.repository.get_cached(&key, &location.object).await?
                    }
                };
                self.last = Some((location.object, bytes.clone()));
                let end = location.offset as usize + location.length as usize;
                let truncated = || ObjectError::new(key.clone(), OpenError::Truncated);
                let sealed = (end <= bytes.len()).then(|| bytes.slice(location.offset as usize..end));
                let clear = (header::BYTES <= bytes.len()).then(|| bytes.slice(..header::BYTES));
                Ok((clear.ok_or_else(truncated)?, sealed.ok_or_else(truncated)?))
            }
        }
    }

    fn open(&mut self, location: Location, clear: &[u8], sealed: &[u8]) -> Result<Decoded, OpenError> {
        let opener = match self.openers.get(&location.object) {
            Some(opener) => Arc::clone(opener),
            None => Arc::new(ObjectOpener::new(self.repository.keys(), ObjectKind::Map, clear, Vec::new())?),
        };
        let mut plain = Vec::new();
        opener.open(sealed, page::BYTES_MAX, &mut self.scratch, &mut plain)?;
        if Blake3::of(&plain) != location.digest {
            return Err(OpenError::Malformed("a page that is not the one its reference tells"));
        }
        // Only an opener that has proved itself is kept.
        if self.openers.len() >= OPENERS_MAX {
            self.openers.clear();
        }
        self.openers.insert(location.object, opener);
        decode(&plain)
    }
}
