//! Where a new point stands: which points are alive, which is the newest, and which the source builds on.
//!
//! Reads few manifests, whatever their number: the newest one's ledger vouches for the others. What
//! this host wrote last is kept in the cache, so that a usual night needs a listing only. The cache is
//! proved by size and digest, and never asked about what is not listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use dualsync_archive_store::contract::ObjectInfo;
use serde::{Deserialize, Serialize};

use dualsync_model::id::SourceName;
use dualsync_model::job::Anchor;

use crate::backup::BackupError;
use crate::catalog::stream::Cache;
use crate::digest::Digest;
use crate::events::Events;
use crate::format::{Folder, MANIFEST_NAME, POINTS, SIGNATURE_NAME, parse_point_key, point_key};
use crate::hidden::hidden_copies;
use crate::manifest::{Drop, LedgerLine, Manifest, Stored};
use crate::marks::{Marks, object_digest};
use crate::objects::Clock;
use crate::points::{Copy, Opened, open, open_listed, sizes, with_causes};
use crate::repo::Repository;
use crate::shadow::Listed;

/// All points alive, and the newest.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Every point that is listed and vouched for, by folder key.
    pub alive: BTreeMap<String, LedgerLine>,
    /// The one with the highest number.
    pub newest: Option<Copy>,
    /// Points that the newest manifest lists and that are not there any more, and those that it calls
    /// dropped and that are there again.
    pub dropped: Vec<Drop>,
}

/// What this host remembers of its last manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Key of the manifest.
    pub key: String,
    /// Its size and digest.
    pub manifest: Stored,
    /// Its signature's; absent where the one inside was enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Stored>,
}

impl Memory {
    /// Reads it; `None` when there is none or it is not readable.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes it. A failure costs a few requests the next night.
    pub fn write(&self, path: &Path) {
        let temporary: PathBuf = path.with_extension("new");
        let text = serde_json::to_vec(self).expect("plain data into memory cannot fail");
        let written = fs::File::create(&temporary)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "cannot remember the last manifest");
        }
    }
}

impl Chain {
    /// Out of a listing of `points/`.
    pub async fn load(
        repository: &Repository,
        listed: &Listed,
        marks: &mut Marks,
        memory: Option<(&Memory, &Cache)>,
        events: &Events,
    ) -> Result<Self, BackupError> {
        let listing = &listed.shown;
        let mut unread = unread_folders(listing);
        let mut there: BTreeSet<String> = unread.iter().map(|(_, key)| key.clone()).collect();
        let sizes = sizes(listing);
        let mut chain = Self::default();
        // The newest names come first: their ledgers make most of the others known.
        while let Some((_, key)) = unread.pop() {
            if chain.alive.contains_key(&key) {
                continue;
            }
            let remembered = memory.and_then(|(memory, cache)| remembered(repository, &key, &sizes, memory, cache));
            let copy = match remembered {
                Some(copy) => copy,
                None => match open_listed(repository, &key, &sizes).await.map_err(BackupError::Object)? {
                    Opened::Good(copy) => *copy,
                    Opened::Bad { kind, problem } => {
                        events.warn(kind, format!("{key} is not used: {problem}"), None);
                        continue;
                    }
                },
            };
            chain.add(copy, &there);
        }
        chain.add_hidden(repository, listed, &mut there).await?;
        let gone: Vec<_> = chain.gone(&there).map(|line| object_digest(&line_key(line))).collect();
        if !gone.is_empty() {
            let is_on_gone = |digest: &str, _| gone.iter().any(|one| one == digest);
            marks.prove(repository, is_on_gone, events).await.map_err(BackupError::Object)?;
        }
        chain.find_dropped(&there, marks);
        chain.refuse_returned(&there, events);
        Ok(chain)
    }

    /// Adds the points that delete markers hide: the next manifest must not call them dropped.
    async fn add_hidden(
        &mut self,
        repository: &Repository,
        listed: &Listed,
        there: &mut BTreeSet<String>,
    ) -> Result<(), BackupError> {
        let received = |copy: &Copy| {
            let shown = listed.shown.iter().find(|info| info.key.as_str() == copy.key);
            copy.received_at.or_else(|| shown.map(|info| info.modified))
        };
        let newest = self.newest.as_ref().map(|copy| (copy, received(copy)));
        let (copies, _) = hidden_copies(repository, &listed.hidden, newest).await.map_err(BackupError::Object)?;
        there.extend(copies.iter().map(|copy| copy.key.clone()));
        for copy in copies {
            self.add(copy, there);
        }
        Ok(())
    }

    fn add(&mut self, copy: Copy, listed: &BTreeSet<String>) {
        for line in copy.manifest.ledger.iter().chain([&ledger_line(&copy)]) {
            let key = line_key(line);
            if listed.contains(&key) {
                self.alive.insert(key, line.clone());
            }
        }
        let order = |copy: &Copy| (copy.anchor.sequence, copy.anchor.sha256.clone());
        if self.newest.as_ref().is_none_or(|newest| order(newest) < order(&copy)) {
            self.newest = Some(copy);
        }
    }

    /// Points that the newest manifest knows and that are not there.
    fn gone<'a>(&'a self, listed: &'a BTreeSet<String>) -> impl Iterator<Item = &'a LedgerLine> {
        let ledger = self.newest.iter().flat_map(|newest| &newest.manifest.ledger);
        ledger.filter(|line| !listed.contains(&line_key(line)))
    }

    fn find_dropped(&mut self, listed: &BTreeSet<String>, marks: &Marks) {
        self.dropped = self
            .gone(listed)
            .map(|line| {
                let reason = if marks.is_proved(&line_key(line)) { "marked" } else { "absent" };
                Drop { line: line.clone(), reason: reason.to_owned() }
            })
            .collect();
    }

    /// A dropped point that is there again was put back by somebody. It is not taken for alive, and stays
    /// on the list of the dropped for as long as it lies there: else the next manifest would vouch for it.
    fn refuse_returned(&mut self, listed: &BTreeSet<String>, events: &Events) {
        let Some(newest) = &self.newest else { return };
        for drop in newest.manifest.dropped.iter().filter(|drop| listed.contains(&line_key(&drop.line))) {
            let key = line_key(&drop.line);
            let message = format!("{key} is not used: it was dropped, and is there again: an old object was put back");
            events.warn("rollback", message, None);
            self.alive.remove(&key);
            self.dropped.push(drop.clone());
        }
    }

    /// The number that a new manifest gets: never one that the host remembers as used.
    pub fn next_sequence(&self, remembered: Option<&Anchor>) -> u64 {
        let newest = self.newest.as_ref().map_or(0, |copy| copy.anchor.sequence);
        newest.max(remembered.map_or(0, |anchor| anchor.sequence)) + 1
    }

    /// Whether the store is older than what the host remembers.
    pub fn is_rolled_back(&self, remembered: &Anchor) -> bool {
        let known = self.alive.values().any(|line| line.anchor == *remembered);
        let newest = self.newest.as_ref().map_or(0, |copy| copy.anchor.sequence);
        // The remembered point may have been pruned since, but not without a newer one.
        !known && newest <= remembered.sequence
    }

    /// The newest point of `source` that is not marked by who may sign: else a stranger's mark would have
    /// everything stored again. One whose mark was taken back late counts as marked.
    pub fn parent_line(&self, source: &SourceName, marks: &Marks, clock: Clock, grace: i64) -> Option<&LedgerLine> {
        let is_marked = |key: &str| marks.is_proved(key) || marks.is_undone_late(key, clock, grace);
        let own = self.alive.iter().filter(|(key, line)| line.point.source() == source && !is_marked(key));
        own.map(|(_, line)| line).max_by_key(|line| line.anchor.sequence)
    }

    /// Reads the manifest of a line, which must have the digest that the ledger knows.
    pub async fn copy(
        &self,
        repository: &Repository,
        line: &LedgerLine,
        events: &Events,
    ) -> Result<Option<Copy>, BackupError> {
        if let Some(newest) = self.newest.as_ref().filter(|newest| newest.anchor == line.anchor) {
            return Ok(Some(newest.clone()));
        }
        let key = line_key(line);
        match open(repository, &key).await.map_err(BackupError::Object)? {
            Opened::Good(copy) if copy.anchor == line.anchor => Ok(Some(*copy)),
            Opened::Good(_) => {
                events.warn(
                    "chain",
                    format!("{key} is not used: it is not the manifest that the newest one knows"),
                    None,
                );
                Ok(None)
            }
            Opened::Bad { kind, problem } => {
                events.warn(kind, format!("{key} is not used: {problem}"), None);
                Ok(None)
            }
        }
    }
}

/// The ledger line of a copy.
pub fn ledger_line(copy: &Copy) -> LedgerLine {
    LedgerLine {
        point: copy.manifest.point.clone(),
        folder: copy.manifest.folder.clone(),
        business_date: copy.manifest.business_date,
        anchor: copy.anchor.clone(),
    }
}

/// Key of the manifest of a line.
pub fn line_key(line: &LedgerLine) -> String {
    format!("{POINTS}{}/{}/{MANIFEST_NAME}", line.point.source(), line.folder)
}

/// Folders with a manifest, in ascending order of time, with the manifest's key.
fn unread_folders(listing: &[ObjectInfo]) -> Vec<(Folder, String)> {
    let manifests = listing.iter().filter_map(|info| {
        let (source, folder, name) = parse_point_key(info.key.as_str())?;
        (name == MANIFEST_NAME).then(|| (folder.clone(), point_key(&source, &folder, MANIFEST_NAME)))
    });
    let mut folders: Vec<_> = manifests.collect();
    folders.sort();
    folders
}

/// Length of each object in a listing.
pub type Sizes<'a> = BTreeMap<&'a str, u64>;

/// The manifest that this host remembers, if it is the one that is listed.
pub fn remembered(
    repository: &Repository,
    key: &str,
    sizes: &Sizes<'_>,
    memory: &Memory,
    cache: &Cache,
) -> Option<Copy> {
    let is_listed = |key: &str, stored: Stored| sizes.get(key) == Some(&stored.bytes);
    if memory.key != key || !is_listed(key, memory.manifest) {
        return None;
    }
    let bytes = cache.get(memory.manifest)?;
    let opened = match memory.signature {
        Some(stored) if !is_listed(&key.replace(MANIFEST_NAME, SIGNATURE_NAME), stored) => return None,
        Some(stored) => {
            let signature = String::from_utf8(cache.get(stored)?).ok()?;
            Manifest::open(key, &bytes, &signature, &repository.public, repository.id())
        }
        None => Manifest::open_alone(key, &bytes, &repository.public, repository.id()),
    };
    match opened {
        Ok(manifest) => {
            let anchor = Anchor { sequence: manifest.sequence, sha256: Digest::of(&bytes).hex() };
            Some(Copy { manifest, key: key.to_owned(), anchor, received_at: None })
        }
        Err(error) => {
            tracing::warn!(error = with_causes(&error), "the remembered manifest is not used");
            None
        }
    }
}
