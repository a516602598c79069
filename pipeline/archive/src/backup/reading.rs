//! Reads one file into members, or finds that its content is stored already.
//!
//! The member keeps the length its header says, whatever the file does meanwhile; what was missing or
//! changed is said in the entry. Big files are cut by content, so that an insertion near the
//! beginning moves no border behind it.

use std::io::Read as _;

use dualsync_model::path::RawPath;

use crate::backup::BackupError;
use crate::backup::index::content_key;
use crate::backup::item::{NewPart, Parts};
use crate::backup::place::Place;
use crate::backup::produce::{Producer, state_of};
use crate::catalog::entry::{At, State};
use crate::catalog::stream::Grouped;
use crate::digest::Digest;
use crate::format::{WHOLE_FILE_BYTES_MAX, part_path};
use crate::spool::Spool;
use crate::tree::content::Content as Source;
use crate::tree::layout::{Layout, digest};
use crate::tree::meta::Meta;
use crate::volume::member::Body;

/// The content of an entry.
pub struct Content {
    /// Its digest.
    pub sha256: Option<Digest>,
    /// Its place in the parent's catalog.
    pub at: Option<At>,
    /// Its place, found by this run.
    pub place: Option<Place>,
    /// Its parts.
    pub parts: Parts,
    /// What was seen.
    pub state: State,
}

impl Content {
    /// None.
    pub fn missing() -> Self {
        Self { sha256: None, at: None, place: None, parts: Parts::None, state: State::Good }
    }
}

impl Producer {
    /// Reads a file. `old` is the parent's content under this name, if it may be used.
    pub(super) fn read(
        &mut self,
        path: &RawPath,
        meta: &Meta,
        source: Source,
        old: Option<Grouped>,
    ) -> Result<Content, BackupError> {
        let is_big = source.data_bytes() > WHOLE_FILE_BYTES_MAX;
        if is_big { self.read_parts(path, meta, source, old) } else { self.read_whole(path, meta, source, old) }
    }

    fn read_whole(
        &mut self,
        path: &RawPath,
        meta: &Meta,
        mut source: Source,
        old: Option<Grouped>,
    ) -> Result<Content, BackupError> {
        let data_bytes = source.data_bytes();
        let body = match &meta.extents {
            Some(extents) => Body::Sparse(extents),
            None => Body::Data(data_bytes),
        };
        let draft = self.filler.begin(path.as_bytes(), meta, body, data_bytes)?;
        let data = self.filler.data(&draft);
        source.read_exact(data).map_err(BackupError::Source)?;
        let sha256 = digest(meta, data).map_err(BackupError::Layout)?;
        let state = source.finish().map_or_else(|problem| state_of(&problem), |()| State::Good);
        let content = Content { sha256: Some(sha256), state, ..Content::missing() };
        let key = content_key(sha256, meta.extents.as_deref());
        if let Some(old) = old {
            self.compare(path, meta, sha256, &old.entry);
            let old_key = old.entry.sha256.map(|sha256| content_key(sha256, old.entry.meta.extents.as_deref()));
            if old_key == Some(key) && old.entry.at.is_some() {
                self.filler.take_out(&draft);
                return Ok(Content { at: old.entry.at, ..content });
            }
        }
        // Files of nothing are members of their own: they cost a header, and `tar -x` makes them.
        if data_bytes > 0
            && let Some(place) = self.stored(key)?
        {
            self.filler.take_out(&draft);
            return Ok(Content { place: Some(place), ..content });
        }
        let place = self.filler.keep(&draft)?;
        if data_bytes > 0 {
            self.index.insert(key, place)?;
        }
        Ok(Content { place: Some(place), ..content })
    }

    fn read_parts(
        &mut self,
        path: &RawPath,
        meta: &Meta,
        mut source: Source,
        old: Option<Grouped>,
    ) -> Result<Content, BackupError> {
        let mut layout = Layout::new(meta);
        let mut parts = Spool::new(&self.spill);
        let mut cutter = std::mem::take(&mut self.cutter);
        cutter.begin();
        while let Some(data) = cutter.next(&mut source).map_err(BackupError::Source)? {
            let mut rest = data;
            while layout.place(&mut rest).map_err(BackupError::Layout)?.is_some() {}
            parts.push(self.part(meta, data)?)?;
        }
        self.cutter = cutter;
        let sha256 = layout.finish().map_err(BackupError::Layout)?;
        let state = source.finish().map_or_else(|problem| state_of(&problem), |()| State::Good);
        let mut content = Content { sha256: Some(sha256), state, ..Content::missing() };
        content.parts = match old {
            Some(old) => {
                self.compare(path, meta, sha256, &old.entry);
                let is_same = old.entry.sha256 == Some(sha256) && old.entry.meta.extents == meta.extents;
                if is_same && !old.parts.is_empty() { Parts::Old(old.parts) } else { Parts::New(parts) }
            }
            None => Parts::New(parts),
        };
        Ok(content)
    }

    fn part(&mut self, meta: &Meta, data: &[u8]) -> Result<NewPart, BackupError> {
        let (sha256, bytes) = (Digest::of(data), data.len() as u64);
        if let Some(place) = self.stored(sha256)? {
            return Ok(NewPart { sha256, bytes, place });
        }
        let path = part_path(&sha256.hex());
        let draft = self.filler.begin(path.as_bytes(), &part_meta(meta, bytes), Body::Data(bytes), bytes)?;
        self.filler.data(&draft).copy_from_slice(data);
        let place = self.filler.keep(&draft)?;
        self.index.insert(sha256, place)?;
        Ok(NewPart { sha256, bytes, place })
    }
}

/// Metadata of the member of a part: nothing that is told of the file, but a time that tools accept.
fn part_meta(file: &Meta, bytes: u64) -> Meta {
    Meta { size: bytes, mode: 0o600, uid: 0, gid: 0, xattrs: None, extents: None, ..file.clone() }
}
