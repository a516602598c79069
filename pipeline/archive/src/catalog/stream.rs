//! A whole catalog as one stream of lines, segment after segment.
//!
//! Fetches one segment ahead, from a local folder where it lies there already: segments are named by
//! their digest, so a cached one is proved before it is used, and losing the folder costs time only. Promises
//! the order of the catalog and that as many parts follow an entry as it says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use dualsync_model::path::RawPath;

use crate::catalog::entry::{Entry, Line, Part};
use crate::catalog::segment::{Lines, SegmentError, open_lines};
use crate::catalog::{IndexError, SegmentRef, parse_index};
use crate::digest::Digest;
use crate::format::{SEGMENT_BYTES_MAX, SEGMENT_STORED_BYTES_MAX, catalog_key};
use crate::manifest::{Manifest, Stored};
use crate::objects::{ObjectError, Objects, check};
use crate::seal::Identity;
use crate::spool::{Spool, SpoolError};

/// Why a catalog cannot be read to its end; each names the object.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// An object cannot be had.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A segment or index does not open.
    #[error("cannot read {key}")]
    Segment {
        /// The object.
        key: String,
        /// Why not.
        #[source]
        source: SegmentError,
    },
    /// The index is none.
    #[error("cannot read {key}")]
    Index {
        /// The object.
        key: String,
        /// Why not.
        #[source]
        source: IndexError,
    },
    /// The lines do not stand in the one order, or parts are missing.
    #[error("{key} does not continue the catalog: {what}")]
    Order {
        /// The segment.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Parts of a huge file could not be spilled.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The program is ending.
    #[error("reading the catalog was given up")]
    Stopped,
}

/// Segments kept locally, by digest.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// In `folder`, which is made when it is not there.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    /// The stored bytes of an object, if they are here and right.
    pub fn get(&self, stored: Stored) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path(stored.sha256)).ok()?;
        check("", &bytes, stored).is_ok().then_some(bytes)
    }

    /// Keeps the stored bytes of an object. A failure only costs a request later.
    pub fn put(&self, sha256: Digest, bytes: &[u8]) {
        let path = self.path(sha256);
        let temporary = path.with_extension("new");
        if fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path)).is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }

    /// Removes all but these.
    pub fn keep_only(&self, wanted: &std::collections::HashSet<Digest>) {
        for file in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = file.file_name();
            let known = name.to_str().and_then(|name| name.parse().ok()).is_some_and(|digest| wanted.contains(&digest));
            if !known {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    fn path(&self, sha256: Digest) -> PathBuf {
        self.0.join(sha256.hex())
    }
}

/// The segments of the catalog of `manifest`.
pub async fn segments(
    objects: &Objects,
    identity: &Identity,
    manifest: &Manifest,
    cache: Option<&Cache>,
) -> Result<Vec<SegmentRef>, CatalogError> {
    let stored = manifest.objects.catalog;
    let key = catalog_key(&stored.sha256.hex());
    let bytes = fetch(objects, stored, cache).await?;
    let plain = open_lines(identity, &bytes, SEGMENT_BYTES_MAX)
        .map_err(|source| CatalogError::Segment { key: key.clone(), source })?;
    parse_index(&plain).map_err(|source| CatalogError::Index { key, source })
}

async fn fetch(objects: &Objects, stored: Stored, cache: Option<&Cache>) -> Result<Vec<u8>, CatalogError> {
    let key = catalog_key(&stored.sha256.hex());
    if let Some(bytes) = cache.and_then(|cache| cache.get(stored)) {
        return Ok(bytes);
    }
    if stored.bytes > SEGMENT_STORED_BYTES_MAX {
        return Err(ObjectError::Length { key, found: stored.bytes, wanted: SEGMENT_STORED_BYTES_MAX }.into());
    }
    let bytes = objects.get_exact(&key, stored).await?;
    if let Some(cache) = cache {
        cache.put(stored.sha256, &bytes);
    }
    Ok(bytes.into())
}

/// One entry with its parts.
pub struct Grouped {
    /// The entry.
    pub entry: Entry,
    /// Its parts, in their order; on disk when they are many.
    pub parts: Spool<Part>,
}

/// The entries of a catalog, for a thread that may block.
pub struct Entries {
    segments: mpsc::Receiver<Result<(String, Vec<u8>), CatalogError>>,
    identity: Identity,
    spill: PathBuf,
    current: Option<(String, Lines)>,
    last: Option<RawPath>,
}

impl Entries {
    /// Begins to fetch; must be called inside the runtime. Spills into the folder `spill`.
    pub fn new(
        objects: Objects,
        identity: Identity,
        segments: Vec<SegmentRef>,
        cache: Option<Cache>,
        spill: &Path,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for segment in segments {
                let stored = Stored { bytes: segment.bytes, sha256: segment.sha256 };
                let fetched = fetch(&objects, stored, cache.as_ref()).await.map(|bytes| (segment.key(), bytes));
                let failed = fetched.is_err();
                if sender.send(fetched).await.is_err() || failed {
                    return;
                }
            }
        });
        Self { segments: receiver, identity, spill: spill.to_owned(), current: None, last: None }
    }

    fn line(&mut self) -> Result<Option<Line>, CatalogError> {
        loop {
            if let Some((key, lines)) = &mut self.current {
                if let Some(line) = lines.next() {
                    return line.map(Some).map_err(|source| CatalogError::Segment { key: key.clone(), source });
                }
                self.current = None;
            }
            let Some(fetched) = self.segments.blocking_recv() else { return Ok(None) };
            let (key, stored) = fetched?;
            let lines = Lines::open(&self.identity, stored)
                .map_err(|source| CatalogError::Segment { key: key.clone(), source })?;
            self.current = Some((key, lines));
        }
    }

    fn order(&self, what: &'static str) -> CatalogError {
        let key = self.current.as_ref().map(|(key, _)| key.clone()).unwrap_or_default();
        CatalogError::Order { key, what }
    }

    fn group(&mut self) -> Result<Option<Grouped>, CatalogError> {
        let entry = match self.line()? {
            None => return Ok(None),
            Some(Line::Parts(_)) => return Err(self.order("parts without their entry")),
            Some(Line::Entry(entry)) => *entry,
        };
        if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
            return Err(self.order("entries out of order"));
        }
        self.last = Some(entry.path.clone());
        let mut parts = Spool::new(&self.spill);
        while parts.len() < entry.parts {
            match self.line()? {
                Some(Line::Parts(more)) => more.into_iter().try_for_each(|part| parts.push(part))?,
                _ => return Err(self.order("parts are missing")),
            }
        }
        if parts.len() > entry.parts {
            return Err(self.order("more parts than their entry says"));
        }
        Ok(Some(Grouped { entry, parts }))
    }
}

impl Iterator for Entries {
    type Item = Result<Grouped, CatalogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.group().transpose()
    }
}
