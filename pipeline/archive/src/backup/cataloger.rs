//! Writes the catalog: entries in their order, with the places that their members have by now.
//!
//! One thread. A segment that says what one of the parent's segments says is not stored again. Every
//! so many volumes it prepares a checkpoint: what is stored by now, by content, so that a run that
//! is cut off does not have to send it again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use dualsync_model::path::RawPath;

use crate::backup::BackupError;
use crate::backup::assemble::Naming;
use crate::backup::checkpoint::Checkpoints;
use crate::backup::flow::{Flow, Stopped};
use crate::backup::frames::FrameTable;
use crate::backup::index::content_key;
use crate::backup::item::{Item, NewPart, Parts};
use crate::backup::live::Live;
use crate::backup::place::{Place, Volumes};
use crate::backup::upload::{Upload, What};
use crate::catalog::entry::{At, Line, Part};
use crate::catalog::segment::{Draft, seal_lines};
use crate::catalog::stream::Cache;
use crate::catalog::{SegmentRef, write_index};
use crate::digest::Digest;
use crate::format::{PARTS_PER_LINE_MAX, catalog_key};
use crate::manifest::Stored;
use crate::seal::Recipients;

/// The catalog of the new point.
#[derive(Debug)]
pub struct Catalogued {
    /// Its segments.
    pub segments: Vec<SegmentRef>,
    /// Its index.
    pub index: Stored,
    /// What the point needs of each volume.
    pub live: Live,
}

/// The parent's catalog, as far as it may be used again.
#[derive(Default)]
pub struct OldCatalog {
    /// Its index, where it may be used as a whole.
    pub index: Option<Stored>,
    /// Segments that may be used.
    pub segments: Vec<SegmentRef>,
}

/// The thread's state.
pub struct Cataloger {
    naming: Naming,
    recipients: Recipients,
    volumes: Arc<Volumes>,
    table: FrameTable,
    flow: Flow,
    uploads: Sender<Upload>,
    cache: Cache,
    old: OldCatalog,
    reusable: HashMap<Digest, SegmentRef>,
    checkpoints: Checkpoints,
    draft: Draft,
    last: RawPath,
    segments: Vec<SegmentRef>,
    live: Live,
}

/// What a cataloger needs.
pub struct Setup {
    /// Names of volumes.
    pub naming: Naming,
    /// Who may open the catalog.
    pub recipients: Recipients,
    /// Keys of old volumes.
    pub volumes: Arc<Volumes>,
    /// Places of frames.
    pub table: FrameTable,
    /// Shared waits.
    pub flow: Flow,
    /// Segments to send.
    pub uploads: Sender<Upload>,
    /// Where segments are kept for the next run.
    pub cache: Cache,
    /// The parent's catalog.
    pub old: OldCatalog,
    /// Writes checkpoints.
    pub checkpoints: Checkpoints,
}

impl Cataloger {
    /// Over what it needs.
    pub fn new(setup: Setup) -> Self {
        let Setup { naming, recipients, volumes, table, flow, uploads, cache, old, checkpoints } = setup;
        let reusable = old.segments.iter().map(|segment| (segment.plain_sha256, segment.clone())).collect();
        let (draft, last, live) = (Draft::default(), RawPath::default(), Live::default());
        let segments = Vec::new();
        Self {
            naming,
            recipients,
            volumes,
            table,
            flow,
            uploads,
            cache,
            old,
            reusable,
            checkpoints,
            draft,
            last,
            segments,
            live,
        }
    }

    /// Runs until the producer is done.
    pub fn run(mut self, items: &Receiver<Item>) -> Result<Catalogued, BackupError> {
        for item in items {
            self.item(item)?;
        }
        if self.flow.is_stopped() {
            return Err(Stopped.into());
        }
        self.flush()?;
        let index = self.index()?;
        Ok(Catalogued { segments: self.segments, index, live: self.live })
    }

    fn item(&mut self, item: Item) -> Result<(), BackupError> {
        let Item { mut entry, place, parts } = item;
        if let Some(place) = place {
            let at = self.at(place)?;
            if let (Place::New { .. }, Some(sha256)) = (place, entry.sha256) {
                let key = content_key(sha256, entry.meta.extents.as_deref());
                self.checkpoint(Part { sha256: key, bytes: entry.meta.size, at: at.clone() })?;
            }
            entry.at = Some(at);
        }
        if let Some(at) = &entry.at {
            self.live.add(at);
        }
        self.last = entry.path.clone();
        self.line(&Line::Entry(Box::new(entry)))?;
        self.parts(parts)
    }

    fn parts(&mut self, parts: Parts) -> Result<(), BackupError> {
        let mut line = Vec::new();
        match parts {
            Parts::None => {}
            Parts::Old(mut parts) => parts.try_each(|part| self.part(part.clone(), &mut line))?,
            Parts::New(mut parts) => parts.try_each(|part| {
                let NewPart { sha256, bytes, place } = *part;
                let part = Part { sha256, bytes, at: self.at(place)? };
                if let Place::New { .. } = place {
                    self.checkpoint(part.clone())?;
                }
                self.part(part, &mut line)
            })?,
        }
        if line.is_empty() { Ok(()) } else { self.line(&Line::Parts(line)) }
    }

    fn part(&mut self, part: Part, line: &mut Vec<Part>) -> Result<(), BackupError> {
        self.live.add(&part.at);
        line.push(part);
        if line.len() < PARTS_PER_LINE_MAX { Ok(()) } else { self.line(&Line::Parts(std::mem::take(line))) }
    }

    fn line(&mut self, line: &Line) -> Result<(), BackupError> {
        if self.draft.is_full(line) {
            self.flush()?;
        }
        self.draft.push(line);
        Ok(())
    }

    /// The place of a member in its volume, once its frame has one.
    fn at(&self, place: Place) -> Result<At, BackupError> {
        match place {
            Place::Old { volume, member, frame, frame_bytes, offset, bytes } => Ok(At {
                volume: self.volumes.key(volume).ok_or(BackupError::Died)?.to_owned(),
                member,
                frame,
                frame_bytes: frame_bytes.into(),
                offset: offset.into(),
                bytes: bytes.into(),
            }),
            Place::New { frame, member, offset, bytes } => {
                self.flow.wait_placed(frame)?;
                let frame = self.table.get(frame).map_err(BackupError::State)?;
                Ok(At {
                    volume: self.naming.key(frame.volume),
                    member: frame.member + member,
                    frame: frame.at,
                    frame_bytes: frame.bytes,
                    offset: offset.into(),
                    bytes: bytes.into(),
                })
            }
        }
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        let draft = std::mem::replace(&mut self.draft, Draft::after(self.last.clone()));
        if draft.is_empty() {
            return Ok(());
        }
        let plain_sha256 = draft.plain_sha256();
        let known = self.reusable.get(&plain_sha256).filter(|known| known.first == draft.first());
        let segment = if let Some(known) = known {
            known.clone()
        } else {
            let Stored { bytes, sha256 } = self.store(draft.seal(&self.recipients)?)?;
            SegmentRef { sha256, bytes, entries: draft.entries(), plain_sha256, first: draft.first() }
        };
        self.segments.push(segment);
        Ok(())
    }

    fn index(&mut self) -> Result<Stored, BackupError> {
        match self.old.index {
            Some(stored) if self.old.segments == self.segments => Ok(stored),
            _ => self.store(seal_lines(&self.recipients, &write_index(&self.segments))?),
        }
    }

    fn store(&self, sealed: Vec<u8>) -> Result<Stored, BackupError> {
        let stored = Stored::of(&sealed);
        self.cache.put(stored.sha256, &sealed);
        let upload = Upload { key: catalog_key(&stored.sha256.hex()), bytes: Bytes::from(sealed), what: What::Catalog };
        self.uploads.blocking_send(upload).map_err(|_| Stopped)?;
        Ok(stored)
    }

    fn checkpoint(&mut self, part: Part) -> Result<(), BackupError> {
        for upload in self.checkpoints.add(part, &self.recipients)? {
            self.uploads.blocking_send(upload).map_err(|_| Stopped)?;
        }
        Ok(())
    }
}
