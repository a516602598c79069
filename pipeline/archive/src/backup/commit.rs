//! The end of a backup: the lists of the point, then its signature, then its manifest.
//!
//! Order, and why each step is safe:
//! 1. everything the point needs is durable (the pipeline); then `refs.jsonl` and `SHA256SUMS`, which
//!    name it. Cut off here, nothing names them, and no reader looks at a folder without a manifest.
//! 2. The commit came, so the snapshot was still valid after the last read.
//! 3. The turn to commit is taken, and where another source has committed meanwhile, the chain is read again.
//! 4. Marks are listed. What the point names and what is marked for more than half of the grace may be
//!    gone soon: then there is no point. The deleter waits for the whole grace and lists manifests after
//!    it; the manifest is put, retries and all, within a quarter of it after this listing. So either it
//!    sees the manifest, or this run has seen the mark.
//! 5. The signature, and only now: a run that the marks end leaves none, with which somebody who guesses
//!    the manifest could make the point himself. Then the manifest: with it the point exists.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use dualsync_archive_store::contract::Receipt;
use dualsync_model::job::{Anchor, BackupTask};

use crate::backup::BackupError;
use crate::backup::chain::{Chain, Memory};
use crate::backup::live::share;
use crate::backup::pipeline::Done;
use crate::backup::state::State;
use crate::backup::upload::SentObjects;
use crate::deadline::{Deadline, boot_seconds};
use crate::events::Events;
use crate::format::{
    FORMAT, Folder, INDEX_INSIDE_BYTES_MAX, MANIFEST_BYTES_MAX, MANIFEST_NAME, POINTS, REFS_BYTES_MAX, REFS_NAME,
    SIGNATURE_NAME, SUMS_NAME, TOMBSTONE_S, VERSION, catalog_key, parse_volume_key, point_key,
};
use crate::manifest::{Content, Manifest, Objects as ObjectDigests, SnapshotInfo, Stats, Stored};
use crate::marks::Marks;
use crate::minisign::SecretKey;
use crate::points::Copy;
use crate::refs::{Ref, write_refs, write_sums};
use crate::repo::Repository;

/// A point of which only signature and manifest are missing.
pub struct Prepared {
    refs: Vec<Ref>,
    refs_stored: Stored,
    refs_bytes: Bytes,
    sums_stored: Stored,
    catalog: Stored,
    segments: HashSet<crate::digest::Digest>,
    stats: Stats,
}

impl Prepared {
    /// Puts the lists of the point.
    pub async fn put(
        repository: &Repository,
        task: &BackupTask,
        folder: &Folder,
        done: Done,
    ) -> Result<Self, BackupError> {
        let refs = refs(&done)?;
        let refs_bytes = Bytes::from(write_refs(&refs));
        fits(REFS_NAME, &refs_bytes, REFS_BYTES_MAX, "divide the source")?;
        let key = |name| point_key(task.point.source(), folder, name);
        let refs_stored = repository.objects.put_proved(&key(REFS_NAME), refs_bytes.clone()).await?;
        let named: HashSet<&str> = refs.iter().map(|one| one.key.as_str()).collect();
        let refs_key = key(REFS_NAME);
        let added = done.sent.iter().filter(|(key, _)| named.contains(key.as_str()));
        let added = added.map(|(key, sent)| (key.as_str(), sent.stored.sha256));
        let sums = write_sums(added.chain([(refs_key.as_str(), refs_stored.sha256)]));
        // Not read back: it repeats what the other lists say, and a restore does without it.
        let sums_stored = repository.objects.put(&key(SUMS_NAME), Bytes::from(sums)).await?;
        let counts = done.counts;
        let stats = Stats {
            entries: counts.entries,
            files: counts.files,
            size_bytes: counts.size_bytes,
            read_bytes: counts.read_bytes,
            stored_bytes: refs.iter().map(|one| one.bytes).sum(),
            live_bytes: Some(refs.iter().map(|one| one.live_bytes).sum()),
            added_bytes: added_bytes(&done.sent),
            repacked_bytes: counts.repacked_bytes,
            incomplete_entries: counts.incomplete,
            duration_s: 0,
        };
        let segments = done.catalog.segments.iter().map(|segment| segment.sha256).collect();
        Ok(Self { refs, refs_stored, refs_bytes, sums_stored, catalog: done.catalog.index, segments, stats })
    }
}

impl Prepared {
    /// The nights whose volumes the point needs.
    fn folders(&self) -> BTreeSet<String> {
        let folder = |one: &Ref| Some(parse_volume_key(&one.key)?.1.as_str().to_owned());
        self.refs.iter().filter_map(folder).collect()
    }
}

/// What no reader would take is not put: the point would be there, and could not be opened.
fn fits(what: &'static str, bytes: &[u8], bytes_max: u64, advice: &'static str) -> Result<(), BackupError> {
    let bytes = bytes.len() as u64;
    if bytes > bytes_max { Err(BackupError::TooBig { what, bytes, bytes_max, advice }) } else { Ok(()) }
}

fn added_bytes(sent: &SentObjects) -> u64 {
    sent.values().map(|sent| sent.stored.bytes).sum()
}

/// Every object the point needs. What is new was sent by this run; what is old stands in the parent's list
/// or in a checkpoint. A name that is nowhere would be a point that cannot be restored.
fn refs(done: &Done) -> Result<Vec<Ref>, BackupError> {
    let mut refs = BTreeMap::new();
    let mut add = |key: String, live_tar: Option<u64>| -> Result<(), BackupError> {
        let mut one = match (done.sent.get(&key), done.stored.get(&key)) {
            (Some(sent), _) => Ref {
                key: key.clone(),
                bytes: sent.stored.bytes,
                sha256: sent.stored.sha256,
                live_bytes: 0,
                tar_bytes: sent.tar_bytes,
            },
            (None, Some(stored)) => stored.clone(),
            (None, None) => return Err(BackupError::Unlisted { key }),
        };
        one.live_bytes = match (live_tar, one.tar_bytes) {
            (Some(live), Some(total)) => share(one.bytes, live, total),
            _ => one.bytes,
        };
        refs.insert(key, one);
        Ok(())
    };
    for (key, live_tar) in done.catalog.live.volumes() {
        add(key.to_owned(), Some(live_tar))?;
    }
    for segment in &done.catalog.segments {
        add(segment.key(), None)?;
    }
    add(catalog_key(&done.catalog.index.sha256.hex()), None)?;
    Ok(refs.into_values().collect())
}

/// What a commit works with.
pub struct Committer<'a> {
    /// Where to.
    pub repository: &'a Repository,
    /// Signs.
    pub secret: &'a SecretKey,
    /// Local files.
    pub state: &'a State,
    /// What was asked.
    pub task: &'a BackupTask,
    /// Folder of the point.
    pub folder: &'a Folder,
    /// Who can open all of the point.
    pub recipients: &'a [String],
    /// Who can open the volumes of this run.
    pub sealed_to: &'a [String],
    /// Who can open the volumes of older nights, as the parent says.
    pub content: &'a [Content],
    /// Warnings.
    pub events: &'a Events,
}

/// When the run began.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    /// By the boot-time clock, seconds.
    pub boot: i64,
}

impl Committer<'_> {
    /// Commits. After `Ok` the point exists and is durable.
    pub async fn commit(&self, prepared: Prepared, chain: Chain, began: Began) -> Result<Copy, BackupError> {
        let _turn = self.state.commit_turn().await?;
        let chain = self.newest_chain(chain).await?;
        let manifest = self.manifest(&prepared, &chain, began);
        let grace = i64::try_from(self.task.grace_s).unwrap_or(i64::MAX);
        if boot_seconds() - began.boot > TOMBSTONE_S - grace {
            return Err(BackupError::TooLong);
        }
        let bytes = Bytes::from(manifest.to_signed(self.secret));
        fits(MANIFEST_NAME, &bytes, MANIFEST_BYTES_MAX, "the repository holds too many points, begin a new one")?;
        let signature = Bytes::from(self.secret.sign(&bytes, &manifest.comment()));
        let key = |name| point_key(self.task.point.source(), self.folder, name);
        let objects = &self.repository.objects;
        // A listing that is older than this is as good as none: better no point tonight than one with a hole.
        let deadline = Deadline::after(grace / 4);
        self.check_marks(&prepared, grace).await?;
        let signature_stored = deadline.keep(objects.put_proved(&key(SIGNATURE_NAME), signature.clone())).await??;
        let (stored, receipt) = deadline.keep(objects.put_seen(&key(MANIFEST_NAME), bytes.clone())).await??;
        if receipt == Receipt::Taken {
            objects.get_exact(&key(MANIFEST_NAME), stored).await?;
        }
        self.remember(&prepared, (stored, &bytes), (signature_stored, &signature));
        let anchor = Anchor { sequence: manifest.sequence, sha256: stored.sha256.hex() };
        Ok(Copy { manifest, key: key(MANIFEST_NAME), anchor, received_at: None })
    }

    /// The chain as it is now. Only this host writes to the repository, and it remembers its last
    /// manifest, so nothing is asked when that is still the one this run began with.
    async fn newest_chain(&self, chain: Chain) -> Result<Chain, BackupError> {
        let memory = self.state.memory();
        let known = chain.newest.as_ref().map(|copy| copy.key.as_str());
        if memory.as_ref().is_none_or(|memory| Some(memory.key.as_str()) == known) {
            return Ok(chain);
        }
        let listed = self.repository.objects.list_deep(POINTS).await?;
        let keys = listed.shown.iter().chain(&listed.hidden).map(|info| info.key.as_str());
        let mut marks = Marks::load(self.repository, keys, self.events).await?;
        Chain::load(self.repository, &listed, &mut marks, None, self.events).await
    }

    /// Lists the marks, and refuses what is marked for more than half of the grace. The lists of the point are
    /// looked at like everything else: until there is a manifest they are objects that nobody names.
    async fn check_marks(&self, prepared: &Prepared, grace: i64) -> Result<(), BackupError> {
        let key = |name| point_key(self.task.point.source(), self.folder, name);
        let lists = [key(REFS_NAME), key(SUMS_NAME)];
        let needed = || prepared.refs.iter().map(|one| &one.key).chain(&lists);
        // A store with a clock tells ages by itself; without one the records have to be read.
        let clock = self.repository.objects.clock();
        let read: Vec<_> = if clock.is_stores { Vec::new() } else { needed().map(String::as_str).collect() };
        let marks = Marks::load(self.repository, read, self.events).await?;
        let clock = self.repository.objects.clock();
        match needed().find(|key| marks.age_for_run(key, clock).is_some_and(|age| age > grace / 2)) {
            Some(key) => Err(BackupError::Marked { key: key.clone() }),
            None => Ok(()),
        }
    }

    fn manifest(&self, prepared: &Prepared, chain: &Chain, began: Began) -> Manifest {
        let (task, description) = (self.task, &self.repository.description);
        let duration_s = u64::try_from(boot_seconds() - began.boot).unwrap_or(0);
        Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            repository: self.repository.id().to_owned(),
            point: task.point.clone(),
            folder: self.folder.as_str().to_owned(),
            sequence: chain.next_sequence(task.remembered.as_ref()),
            previous: chain.newest.as_ref().map(|copy| copy.anchor.clone()),
            ledger: chain.alive.values().cloned().collect(),
            dropped: chain.dropped.clone(),
            other: task.other.clone(),
            run: task.run.clone(),
            business_date: task.business_date,
            class: task.class,
            note: task.note.clone(),
            expires: task.expires,
            recipients: self.recipients.to_vec(),
            content: Content::of(&prepared.folders(), self.folder.as_str(), self.sealed_to, self.content),
            snapshot: SnapshotInfo {
                id: task.snapshot.id.clone(),
                method: task.snapshot.method.clone(),
                frozen: task.snapshot.frozen,
                taken_at: task.snapshot.taken_at,
            },
            exclude: task.exclude.clone(),
            objects: ObjectDigests {
                catalog: prepared.catalog,
                refs: prepared.refs_stored,
                sums: prepared.sums_stored,
                readme: description.readme,
                recover: description.recover,
                repo: self.repository.description_sha256,
            },
            stats: Stats { duration_s, ..prepared.stats },
            index: self.short_index(prepared.catalog),
        }
    }

    /// The index of the catalog, where it is short and was not lost from the cache: it saves a reader a request.
    fn short_index(&self, stored: Stored) -> Option<String> {
        let is_short = stored.bytes <= INDEX_INSIDE_BYTES_MAX;
        is_short.then(|| self.state.cache.get(stored)).flatten().map(|bytes| STANDARD.encode(bytes))
    }

    /// Keeps what the next run will want. The point exists already, so nothing here can fail it.
    fn remember(&self, prepared: &Prepared, manifest: (Stored, &[u8]), signature: (Stored, &[u8])) {
        let cache = &self.state.cache;
        let key = point_key(self.task.point.source(), self.folder, MANIFEST_NAME);
        for (stored, bytes) in [manifest, signature, (prepared.refs_stored, &prepared.refs_bytes[..])] {
            cache.put(stored.sha256, bytes);
        }
        self.state.remember(&Memory { key, manifest: manifest.0, signature: Some(signature.0) });
        let mut wanted = prepared.segments.clone();
        wanted.extend([prepared.catalog, prepared.refs_stored, manifest.0, signature.0].map(|stored| stored.sha256));
        cache.keep_only(&wanted);
        self.state.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_reader_takes_is_not_put() {
        assert!(fits("manifest.json", &[0; 16], 16, "").is_ok());
        let error = fits("manifest.json", &[0; 17], 16, "begin a new one").unwrap_err();
        assert!(error.to_string().contains("17 bytes"), "{error}");
    }
}
