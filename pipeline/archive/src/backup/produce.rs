//! The second pass: decides for every entry where its content lies, and reads what changed.
//!
//! One thread. It hands entries on in the order of the catalog. What is unchanged is taken from the
//! parent without being read; content that is stored already, under whatever name, tonight or
//! earlier, is not stored again.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;
use dualsync_model::time::Timestamp;

use crate::backup::BackupError;
use crate::backup::cutter::Cutter;
use crate::backup::filler::Filler;
use crate::backup::flow::Stopped;
use crate::backup::index::Index;
use crate::backup::item::{Item, Parts};
use crate::backup::join::Visit;
use crate::backup::place::{Place, Volumes};
use crate::backup::plan::{Plan, Rules, same_file};
use crate::backup::reading::Content;
use crate::catalog::entry::{Entry, State};
use crate::catalog::stream::Grouped;
use crate::digest::Digest;
use crate::events::Events;
use crate::points::with_causes;
use crate::tree::content::ContentProblem;
use crate::tree::meta::Meta;
use crate::tree::walk::{Step, WalkProblem, Walked};
use crate::volume::member::{Body, align_extents};

/// Hard links whose first name is remembered; beyond, a file is read once more and found by content.
const LINKS_MAX: usize = 1 << 16;

/// What the second pass counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes of all files.
    pub size_bytes: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Bytes stored again because of the volume they lay in.
    pub repacked_bytes: u64,
    /// Entries that are not as they should be.
    pub incomplete: u64,
}

/// The second pass.
pub struct Producer {
    pub(super) rules: Rules,
    pub(super) index: Index,
    pub(super) filler: Filler,
    pub(super) cutter: Cutter,
    pub(super) spill: PathBuf,
    pub(super) counts: Counts,
    volumes: Arc<Volumes>,
    left_behind: HashSet<String>,
    items: SyncSender<Item>,
    events: Events,
    links: HashMap<u64, Linked>,
}

/// The first name of a file with several.
struct Linked {
    path: RawPath,
    meta: Meta,
    sha256: Digest,
    place: Place,
}

/// The parent's entry under the same path, as far as it helps.
enum Old {
    /// There is none, or it has no content.
    None,
    /// Its content may be used.
    Usable(Grouped),
    /// Its content lies in a volume that is left behind.
    LeftBehind(Entry),
}

impl Producer {
    /// With what the first pass found out.
    pub fn new(
        rules: Rules,
        plan: Plan,
        volumes: Arc<Volumes>,
        filler: Filler,
        items: SyncSender<Item>,
        events: Events,
        spill: PathBuf,
    ) -> Self {
        let (counts, links, cutter) = (Counts::default(), HashMap::new(), Cutter::default());
        let (index, left_behind) = (plan.index, plan.left_behind);
        Self { rules, index, filler, cutter, spill, counts, volumes, left_behind, items, events, links }
    }

    /// The end of the pass.
    pub fn finish(mut self) -> Result<Counts, BackupError> {
        self.filler.close()?;
        Ok(self.counts)
    }

    /// Learns what a glance does not tell: from the parent where stat tells of no change, else from the kernel.
    fn look_closely(&self, walked: &mut Walked, old: Option<&Grouped>) {
        if !walked.is_glance() {
            return;
        }
        match (&mut walked.meta, old) {
            (Ok(meta), Some(old)) if self.rules.stands(meta, &old.entry) => meta.complete_from(&old.entry.meta),
            _ => walked.look_closely(),
        }
    }

    fn file(&mut self, walked: &Walked, meta: Meta, old: Option<Grouped>) -> Result<Item, BackupError> {
        self.counts.files += 1;
        self.counts.size_bytes += meta.size;
        let old = match self.usable(old)? {
            Old::Usable(old) if self.rules.is_unchanged(&meta, &old.entry) => return Ok(unchanged(meta, old)),
            Old::Usable(old) => Some(old),
            Old::LeftBehind(entry) => {
                self.counts.repacked_bytes += if same_file(&meta, &entry.meta) { meta.size } else { 0 };
                None
            }
            Old::None => None,
        };
        if let Some(item) = self.linked(&walked.path, &meta)? {
            return Ok(item);
        }
        match walked.open_content() {
            Ok(content) => {
                let content = self.read(&walked.path, &meta, content, old)?;
                self.counts.read_bytes += meta.size;
                self.remember_link(&walked.path, &meta, &content);
                Ok(item(&walked.path, meta, content))
            }
            Err(problem) => {
                let state = state_of(&problem);
                Ok(item(&walked.path, meta, Content { state, ..Content::missing() }))
            }
        }
    }

    /// The parent's content of a file, unless there is none or it must not be used.
    fn usable(&self, old: Option<Grouped>) -> Result<Old, BackupError> {
        let Some(mut old) = old else { return Ok(Old::None) };
        if old.entry.meta.kind != EntryKind::File || (old.entry.at.is_none() && old.parts.is_empty()) {
            // An empty file has a member, so this one could not be read.
            return Ok(Old::None);
        }
        let mut left_behind = old.entry.at.as_ref().is_some_and(|at| self.left_behind.contains(&at.volume));
        old.parts.try_each(|part| {
            left_behind |= self.left_behind.contains(&part.at.volume);
            Ok::<_, BackupError>(())
        })?;
        Ok(if left_behind { Old::LeftBehind(old.entry) } else { Old::Usable(old) })
    }

    /// Where content with this key is stored already.
    pub(super) fn stored(&self, key: Digest) -> Result<Option<Place>, BackupError> {
        let place = self.index.get(key)?;
        Ok(place.filter(|place| match place {
            Place::New { .. } => true,
            Place::Old { volume, .. } => self.volumes.key(*volume).is_some_and(|key| !self.left_behind.contains(key)),
        }))
    }

    /// A further name of a file that was read under another one a moment ago.
    fn linked(&mut self, path: &RawPath, meta: &Meta) -> Result<Option<Item>, BackupError> {
        if meta.links < 2 {
            return Ok(None);
        }
        let Some(first) = self.links.get(&meta.inode).filter(|first| same_file(&first.meta, meta)) else {
            return Ok(None);
        };
        let (sha256, place, target) = (first.sha256, first.place, first.path.clone());
        let shares_a_frame = matches!(place, Place::New { frame, .. } if frame == self.filler.number());
        if shares_a_frame {
            // Only then it is certain to be in the same volume, where `tar -x` finds its target.
            let frame = self.filler.number();
            let draft = self.filler.begin(path.as_bytes(), meta, Body::LinkTo(target.as_bytes()), 0)?;
            // The frame may just have been full.
            if self.filler.number() == frame {
                self.filler.keep(&draft)?;
            } else {
                self.filler.take_out(&draft);
            }
        }
        let content = Content { sha256: Some(sha256), place: Some(place), ..Content::missing() };
        Ok(Some(item(path, meta.clone(), content)))
    }

    fn remember_link(&mut self, path: &RawPath, meta: &Meta, content: &Content) {
        let (Some(sha256), Some(place), State::Good) = (content.sha256, content.place, &content.state) else { return };
        if meta.links > 1 && self.links.len() < LINKS_MAX {
            let linked = Linked { path: path.clone(), meta: meta.clone(), sha256, place };
            self.links.insert(meta.inode, linked);
        }
    }

    /// Anything but a file: its metadata is all there is.
    fn plain(&mut self, walked: &Walked, meta: Meta, old: Option<Grouped>) -> Result<Item, BackupError> {
        let kept = old.filter(|old| {
            old.entry.meta == meta && old.entry.at.as_ref().is_some_and(|at| !self.left_behind.contains(&at.volume))
        });
        let mut content = Content::missing();
        if let Some(old) = kept {
            content.at = old.entry.at;
        } else if meta.kind != EntryKind::Socket {
            let draft = self.filler.begin(walked.path.as_bytes(), &meta, Body::Nothing, 0)?;
            content.place = Some(self.filler.keep(&draft)?);
        }
        Ok(item(&walked.path, meta, content))
    }

    /// Says what is wrong with an entry, in it and to the user.
    fn judge(&mut self, item: &mut Item, problems: &[WalkProblem]) {
        for problem in problems {
            if problem.step == Step::CrossInto {
                item.entry.mount_point = true;
                let message =
                    format!("another file system is mounted at {}: what is in it is not in this point", problem.path);
                self.events.warn("mount_point", message, Some(&problem.path));
            } else if item.entry.state == State::Good {
                item.entry.state = State::Unreadable { problem: with_causes(problem) };
            }
        }
        let (code, problem) = match &item.entry.state {
            State::Good => return,
            State::Changed { problem } => ("changed", problem),
            State::Unreadable { problem } => ("unreadable", problem),
        };
        self.counts.incomplete += 1;
        self.events.warn(code, format!("{}: {problem}", item.entry.path), Some(&item.entry.path));
    }

    /// Warns of a file whose content changed while everything that stat tells stayed.
    pub(super) fn compare(&self, path: &RawPath, meta: &Meta, sha256: Digest, old: &Entry) {
        let is_silent =
            same_file(meta, &old.meta) && old.state == State::Good && old.sha256.is_some_and(|old| old != sha256);
        if is_silent && !self.rules.is_racy(&old.meta) {
            let message = format!("{path} has other content than last time, though its size and times are the same");
            self.events.warn("silent_change", message, Some(path));
        }
    }

    fn send(&mut self, item: Item) -> Result<(), BackupError> {
        let progress = self.events.progress();
        progress.items_done.fetch_add(1, Ordering::Relaxed);
        if item.entry.meta.kind == EntryKind::File {
            progress.bytes_done.fetch_add(item.entry.meta.size, Ordering::Relaxed);
        }
        let item = match self.items.try_send(item) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(item)) => item,
            Err(TrySendError::Disconnected(_)) => return Err(Stopped.into()),
        };
        // The catalog may wait for a place in the very frame that is still being filled here.
        self.filler.close()?;
        self.items.send(item).map_err(|_| Stopped.into())
    }
}

impl Visit for Producer {
    fn entry(&mut self, mut walked: Walked, old: Option<Grouped>) -> Result<(), BackupError> {
        self.counts.entries += 1;
        self.look_closely(&mut walked, old.as_ref());
        if let Ok(meta) = &mut walked.meta {
            meta.extents = meta.extents.as_deref().map(|extents| align_extents(extents, meta.size));
        }
        let mut item = match &walked.meta {
            Ok(meta) if meta.kind == EntryKind::File => self.file(&walked, meta.clone(), old)?,
            Ok(meta) => self.plain(&walked, meta.clone(), old)?,
            Err(problem) => unknown(&walked.path, problem),
        };
        self.judge(&mut item, &walked.problems);
        self.send(item)
    }

    fn gone(&mut self, _: Grouped) -> Result<(), BackupError> {
        Ok(())
    }
}

fn item(path: &RawPath, meta: Meta, content: Content) -> Item {
    let (path, parts) = (path.clone(), content.parts);
    let entry = Entry {
        path,
        meta,
        sha256: content.sha256,
        at: content.at,
        parts: parts.len(),
        state: content.state,
        mount_point: false,
    };
    Item { entry, place: content.place, parts }
}

/// The parent's content under tonight's metadata. The extents are those that the data was stored in.
fn unchanged(mut meta: Meta, old: Grouped) -> Item {
    meta.extents.clone_from(&old.entry.meta.extents);
    let parts = if old.parts.is_empty() { Parts::None } else { Parts::Old(old.parts) };
    Item { entry: Entry { meta, mount_point: false, ..old.entry }, place: None, parts }
}

/// An entry of which nothing is known but its name.
fn unknown(path: &RawPath, problem: &WalkProblem) -> Item {
    let text = with_causes(problem);
    let state = if problem.is_vanished() {
        State::Changed { problem: format!("vanished before it was looked at: {text}") }
    } else {
        State::Unreadable { problem: text }
    };
    let entry =
        Entry { path: path.clone(), meta: unknown_meta(), sha256: None, at: None, parts: 0, state, mount_point: false };
    Item { entry, place: None, parts: Parts::None }
}

fn unknown_meta() -> Meta {
    Meta {
        kind: EntryKind::File,
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        inode: 0,
        links: 1,
        file_system: 0,
        device: None,
        link_target: None,
        xattrs: None,
        extents: None,
    }
}

/// How a problem with content is noted.
pub(super) fn state_of(problem: &ContentProblem) -> State {
    let text = with_causes(problem);
    if problem.is_unreadable() { State::Unreadable { problem: text } } else { State::Changed { problem: text } }
}
