//! Points made by hand, for tests of everything that reads: any entry, any content, any cut into frames
//! and volumes, honest or not.

use std::sync::Arc;

use bytes::Bytes;

use dualsync_archive_store::contract::{Key, Store};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::fact::EntryKind;
use dualsync_model::id::PointId;
use dualsync_model::path::RawPath;

use crate::catalog::entry::{At, Entry, Line, Part};
use crate::catalog::segment::{Draft, seal_lines};
use crate::catalog::{SegmentRef, write_index};
use crate::codec::Codec;
use crate::digest::Digest;
use crate::format::{Folder, REFS_NAME, SIGNATURE_NAME, SUMS_NAME, VERSION, catalog_key, part_path, volume_key};
use crate::manifest::Stored;
use crate::manifest::tests::{manifest, secret};
use crate::objects::Objects;
use crate::refs::{Ref, write_refs, write_sums};
use crate::repo::{Description, README, RECOVER, Repository, Unlocked};
use crate::seal::{Identity, Recipients, Sealer};
use crate::tree::layout;
use crate::tree::meta::Meta;
use crate::volume::member::{Body, pad, write_header};

/// A point that is being made.
pub(crate) struct Sample {
    identity: Identity,
    store: Arc<MemoryStore>,
    volumes: Vec<Vec<u8>>,
    frame: Vec<u8>,
    members: u32,
    pending: Vec<(Slot, At)>,
    entries: Vec<(Entry, Vec<Part>)>,
    segment_entries: usize,
    splits_parts: bool,
}

enum Slot {
    Entry(usize),
    Part(usize, Part),
}

/// A point that was made, and the store it is in.
pub(crate) struct Made {
    pub(crate) repository: Unlocked,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) point: PointId,
}

/// Plain metadata of a kind.
pub(crate) fn meta(kind: EntryKind, size: u64) -> Meta {
    let mut meta = crate::catalog::entry::tests::entry("x").meta;
    (meta.kind, meta.size) = (kind, size);
    (meta.uid, meta.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if kind == EntryKind::Directory {
        meta.mode = 0o755;
    }
    meta
}

impl Sample {
    pub(crate) fn new() -> Self {
        let time = manifest().point.time();
        Self {
            identity: Identity::generate(),
            store: Arc::new(MemoryStore::new(time)),
            volumes: vec![Vec::new()],
            frame: Vec::new(),
            members: 0,
            pending: Vec::new(),
            entries: Vec::new(),
            segment_entries: usize::MAX,
            splits_parts: false,
        }
    }

    /// Cuts the catalog after so many entries.
    pub(crate) fn segments_of(mut self, entries: usize) -> Self {
        self.segment_entries = entries;
        self
    }

    /// Begins a segment of the catalog between each entry and its parts.
    pub(crate) fn splits_parts(mut self) -> Self {
        self.splits_parts = true;
        self
    }

    /// Adds an entry without content.
    pub(crate) fn entry(&mut self, path: &str, meta: Meta) -> &mut Entry {
        self.raw(RawPath::new(path), meta)
    }

    /// The same for a name of any bytes.
    pub(crate) fn raw(&mut self, path: RawPath, meta: Meta) -> &mut Entry {
        let mut entry = crate::catalog::entry::tests::entry("x");
        (entry.path, entry.meta, entry.at, entry.sha256) = (path, meta, None, None);
        self.entries.push((entry, Vec::new()));
        &mut self.entries.last_mut().unwrap().0
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, meta(EntryKind::Directory, 0));
    }

    /// Adds a file of one member.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> &mut Entry {
        let meta = meta(EntryKind::File, content.len() as u64);
        self.content(RawPath::new(path), meta, content)
    }

    /// Adds a file of one member whose data, without its holes, is `data`.
    pub(crate) fn content(&mut self, path: RawPath, meta: Meta, data: &[u8]) -> &mut Entry {
        let sha256 = layout::digest(&meta, data).unwrap();
        let body = meta.extents.as_ref().map_or(Body::Data(data.len() as u64), |extents| Body::Sparse(extents));
        let at = self.member(path.as_bytes(), &meta, body, data);
        self.pending.push((Slot::Entry(self.entries.len()), at));
        let entry = self.raw(path, meta);
        entry.sha256 = Some(sha256);
        entry
    }

    /// Adds a file in parts.
    pub(crate) fn parted(&mut self, path: &str, meta: Meta, parts: &[&[u8]]) {
        let sha256 = layout::digest(&meta, &parts.concat()).unwrap();
        let entry = self.entry(path, meta);
        (entry.sha256, entry.parts) = (Some(sha256), parts.len() as u64);
        for part in parts {
            self.part(part);
        }
    }

    /// Adds a part to the last entry.
    pub(crate) fn part(&mut self, data: &[u8]) {
        let sha256 = Digest::of(data);
        let meta = meta(EntryKind::File, data.len() as u64);
        let at = self.member(part_path(&sha256.hex()).as_bytes(), &meta, Body::Data(data.len() as u64), data);
        let part = Part { sha256, bytes: data.len() as u64, at: at.clone() };
        self.pending.push((Slot::Part(self.entries.len() - 1, part), at));
    }

    fn member(&mut self, path: &[u8], meta: &Meta, body: Body<'_>, data: &[u8]) -> At {
        let offset = self.frame.len() as u64;
        write_header(&mut self.frame, path, meta, body);
        self.frame.extend_from_slice(data);
        pad(&mut self.frame, data.len() as u64);
        self.members += 1;
        let bytes = self.frame.len() as u64 - offset;
        At { volume: String::new(), member: self.members - 1, frame: 0, frame_bytes: 0, offset, bytes }
    }

    /// Ends the frame.
    pub(crate) fn frame(&mut self) {
        let packed = "zstd:3".parse::<Codec>().unwrap().pack(&std::mem::take(&mut self.frame)).unwrap();
        let key = number_key(self.volumes.len() - 1);
        let volume = self.volumes.last_mut().unwrap();
        for (slot, mut at) in self.pending.drain(..) {
            at.volume.clone_from(&key);
            (at.frame, at.frame_bytes) = (volume.len() as u64, packed.len() as u64);
            match slot {
                Slot::Entry(index) => self.entries[index].0.at = Some(at),
                Slot::Part(index, part) => self.entries[index].1.push(Part { at, ..part }),
            }
        }
        volume.extend_from_slice(&packed);
    }

    /// Ends the volume.
    pub(crate) fn volume(&mut self) {
        self.frame();
        self.volumes.push(Vec::new());
        self.members = 0;
    }

    /// Stores everything and signs the manifest.
    pub(crate) fn finish(self) -> Made {
        self.finish_with(|entries| entries.sort_by(|a, b| a.0.path.cmp(&b.0.path)))
    }

    /// The same, after the catalog was changed.
    pub(crate) fn finish_with(mut self, change: impl FnOnce(&mut Vec<(Entry, Vec<Part>)>)) -> Made {
        self.frame();
        change(&mut self.entries);
        let recipients = Recipients::new(&self.identity, &[]).unwrap();
        let mut refs = Vec::new();
        for (number, plain) in self.volumes.iter().enumerate() {
            let mut sealer = Sealer::new(&recipients, Vec::new()).unwrap();
            sealer.write(plain).unwrap();
            refs.push(self.put(&number_key(number), sealer.finish().unwrap()));
        }
        let mut segments = Vec::new();
        for draft in self.drafts() {
            let stored = draft.seal(&recipients).unwrap();
            let reference = self.put(&catalog_key(&Digest::of(&stored).hex()), stored);
            segments.push(SegmentRef {
                sha256: reference.sha256,
                bytes: reference.bytes,
                entries: draft.entries(),
                plain_sha256: draft.plain_sha256(),
                first: draft.first(),
            });
            refs.push(reference);
        }
        let index = seal_lines(&recipients, &write_index(&segments)).unwrap();
        refs.push(self.put(&catalog_key(&Digest::of(&index).hex()), index.clone()));
        refs.sort_by(|a, b| a.key.cmp(&b.key));
        self.sign(Stored::of(&index), &refs, recipients)
    }

    fn drafts(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for entries in self.entries.chunks(self.segment_entries.min(self.entries.len())) {
            let mut draft = Draft::default();
            for (entry, parts) in entries {
                draft.push(&Line::Entry(Box::new(entry.clone())));
                if self.splits_parts && !parts.is_empty() {
                    drafts.push(std::mem::replace(&mut draft, Draft::after(entry.path.clone())));
                }
                for parts in parts.chunks(2) {
                    draft.push(&Line::Parts(parts.to_vec()));
                }
            }
            drafts.push(draft);
        }
        drafts
    }

    fn sign(self, catalog: Stored, refs: &[Ref], recipients: Recipients) -> Made {
        let mut manifest = manifest();
        let description = Description {
            format: crate::format::FORMAT.into(),
            version: VERSION,
            id: manifest.repository.clone(),
            created_at: manifest.point.time(),
            recipient: self.identity.recipient().to_string(),
            signing_public: secret().public().to_text(),
            readme: Digest::of(README),
            recover: Digest::of(RECOVER),
        };
        let repo = crate::record::write(crate::format::REPO_KEY, &description, &secret());
        let list = write_refs(refs);
        let sums = write_sums(refs.iter().map(|one| (one.key.as_str(), one.sha256))).into_bytes();
        (manifest.sequence, manifest.previous) = (1, None);
        manifest.objects.catalog = catalog;
        manifest.objects.refs = Stored::of(&list);
        manifest.objects.sums = Stored::of(&sums);
        manifest.objects.readme = Digest::of(README);
        manifest.objects.recover = Digest::of(RECOVER);
        manifest.objects.repo = Digest::of(&repo);
        let bytes = manifest.to_bytes();
        let signature = secret().sign(&bytes, &manifest.comment());
        let key = |name| manifest.object_key(name).unwrap();
        self.put(crate::format::README_KEY, README.to_vec());
        self.put(crate::format::RECOVER_KEY, RECOVER.to_vec());
        self.put(crate::format::REPO_KEY, repo.clone());
        self.put(&key(REFS_NAME), list);
        self.put(&key(SUMS_NAME), sums);
        self.put(&key(SIGNATURE_NAME), signature.into_bytes());
        self.put(&manifest.key().unwrap(), bytes);
        let repository = Repository {
            objects: Objects::new(Arc::<MemoryStore>::clone(&self.store)),
            description,
            description_sha256: Digest::of(&repo),
            public: secret().public(),
            target: "paris".into(),
        };
        let content = recipients.clone();
        let repository = Unlocked { repository, identity: self.identity, recipients, content };
        Made { repository, store: self.store, point: manifest.point }
    }

    fn put(&self, key: &str, bytes: Vec<u8>) -> Ref {
        let (sha256, length) = (Digest::of(&bytes), bytes.len() as u64);
        self.store.replace(key.parse().unwrap(), Bytes::from(bytes));
        Ref { key: key.to_owned(), bytes: length, sha256, live_bytes: length, tar_bytes: None }
    }
}

fn number_key(number: usize) -> String {
    let point = manifest().point;
    let folder = Folder::new(point.time(), [1; 8]);
    volume_key(point.source(), &folder, u32::try_from(number).unwrap(), ".zst")
}

impl Made {
    /// The first key that begins and ends like this.
    pub(crate) fn key(&self, begin: &str, end: &str) -> Key {
        let keys = self.store.keys();
        keys.into_iter().find(|key| key.as_str().starts_with(begin) && key.as_str().ends_with(end)).unwrap()
    }

    /// Inverts one byte in the middle.
    pub(crate) fn flip(&self, key: &Key) {
        let mut bytes = self.store.peek(key).unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.store.replace(key.clone(), bytes.into());
    }

    /// Cuts off the second half.
    pub(crate) fn truncate(&self, key: &Key) {
        let bytes = self.store.peek(key).unwrap();
        self.store.replace(key.clone(), bytes.slice(..bytes.len() / 2));
    }

    /// Sees the same objects through another store, counted anew.
    pub(crate) fn through(&self, store: Arc<dyn Store>) -> Unlocked {
        let Unlocked { repository, identity, recipients, content } = &self.repository;
        let repository = Repository { objects: Objects::new(store), ..repository.clone() };
        let (identity, recipients, content) = (identity.clone(), recipients.clone(), content.clone());
        Unlocked { repository, identity, recipients, content }
    }
}
