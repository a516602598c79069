//! The first pass: what changed, what will be read, which old volumes are not worth keeping.
//!
//! Reads no content and no attributes. It glances at every entry once, so that progress has a total, that everything the
//! parent stored can be found by content, and that a volume of which too little is still needed is
//! left behind: what the point needs of it is read from the source again, the worst volumes first,
//! up to a limit a night. So old objects die by themselves, and no run ever downloads data.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use dualsync_model::fact::EntryKind;
use dualsync_model::job::Resend;
use dualsync_model::slice::Slice;
use dualsync_model::time::Timestamp;

use crate::backup::BackupError;
use crate::backup::index::{Index, content_key};
use crate::backup::join::Visit;
use crate::backup::live::Live;
use crate::backup::place::Volumes;
use crate::catalog::entry::{At, Entry, Part, State};
use crate::catalog::stream::Grouped;
use crate::format::{RACY_S, REREAD_SLICES};
use crate::sort::Sorter;
use crate::tree::meta::Meta;
use crate::tree::walk::Walked;

/// How tonight's entries are compared with the parent's.
#[derive(Clone, Debug)]
pub struct Rules {
    /// When the parent's snapshot was taken.
    pub parent_taken_at: Option<Timestamp>,
    /// The slice of unchanged files that is read again all the same.
    pub reread: Option<Slice>,
}

impl Rules {
    /// For the run with this number.
    pub fn new(parent_taken_at: Option<Timestamp>, sequence: u64) -> Self {
        let index = u32::try_from(sequence % u64::from(REREAD_SLICES)).unwrap_or(0) + 1;
        Self { parent_taken_at, reread: Slice::new(index, REREAD_SLICES) }
    }

    /// Whether the parent's content of this file can be taken without reading it.
    pub fn is_unchanged(&self, meta: &Meta, old: &Entry) -> bool {
        same_file(meta, &old.meta) && self.trusts(old)
    }

    /// Whether all that the parent notes of this entry can be taken without looking closer than stat does.
    pub fn stands(&self, meta: &Meta, old: &Entry) -> bool {
        meta.stands_as(&old.meta) && self.trusts(old)
    }

    /// Whether what the parent notes of an entry can be believed of one that stat calls the same.
    fn trusts(&self, old: &Entry) -> bool {
        old.state == State::Good
            && !self.is_racy(&old.meta)
            && !self.reread.is_some_and(|slice| slice.contains(old.path.as_bytes()))
    }

    /// A file written within the clock's step of the last snapshot may have been written again right
    /// after it, with the same times: it is read again.
    pub fn is_racy(&self, meta: &Meta) -> bool {
        let Some(taken_at) = self.parent_taken_at else { return true };
        let near = |time: Timestamp| time.seconds_since(taken_at).abs() <= RACY_S;
        near(meta.mtime) || meta.ctime.seconds_since(taken_at) >= -RACY_S
    }
}

/// Whether stat tells that it is the same file with the same content.
pub fn same_file(new: &Meta, old: &Meta) -> bool {
    let identity = |meta: &Meta| (meta.kind, meta.size, meta.mtime, meta.ctime, meta.inode, meta.file_system);
    new.kind == EntryKind::File && identity(new) == identity(old)
}

/// Whether the old content will probably be used again, judged before it is read. A file with new rights
/// keeps its content, and a big one most of its parts. Where this is wrong, a
/// volume is used with less than its share for one night: the next one knows better. The other
/// mistake would send whole volumes again because of a chmod.
fn may_keep_content(new: &Meta, old: &Grouped) -> bool {
    let content = |meta: &Meta| (meta.kind, meta.size, meta.mtime);
    let is_file = new.kind == EntryKind::File && old.entry.meta.kind == EntryKind::File;
    new.stands_as(&old.entry.meta) || (is_file && (content(new) == content(&old.entry.meta) || !old.parts.is_empty()))
}

/// What the first pass found out.
pub struct Plan {
    /// Where old content lies.
    pub index: Index,
    /// Numbers of old volumes.
    pub volumes: Volumes,
    /// Volumes that the new point must not use.
    pub left_behind: HashSet<String>,
    /// Entries in all.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// The first pass.
pub struct Planner {
    sorter: Sorter,
    volumes: Volumes,
    live: Live,
    entries: u64,
    bytes: u64,
}

impl Planner {
    /// Spills into `folder`.
    pub fn new(folder: &Path) -> Self {
        let (volumes, live) = (Volumes::default(), Live::default());
        Self { sorter: Index::sorter(folder), volumes, live, entries: 0, bytes: 0 }
    }

    /// Content that a run before sent without finishing its point.
    pub fn add_stored(&mut self, part: &Part) -> Result<(), BackupError> {
        self.note(part.sha256, &part.at)
    }

    /// The end of the pass. `tar_bytes` are the old volumes with what they hold, `unusable` those that are
    /// about to be deleted; `resend` says which of the others are left behind.
    pub fn finish(
        self,
        folder: &Path,
        tar_bytes: &BTreeMap<String, u64>,
        unusable: HashSet<String>,
        resend: Resend,
    ) -> Result<Plan, BackupError> {
        let mut left_behind = unusable;
        left_behind.extend(mostly_dead(&self.live, tar_bytes, resend));
        Ok(Plan {
            index: Index::new(folder, self.sorter)?,
            volumes: self.volumes,
            left_behind,
            entries: self.entries,
            bytes: self.bytes,
        })
    }

    fn note(&mut self, key: crate::digest::Digest, at: &At) -> Result<(), BackupError> {
        match self.volumes.place(at) {
            Some(place) => Ok(Index::collect(&mut self.sorter, key, place)?),
            None => Ok(()),
        }
    }

    fn note_old(&mut self, old: &mut Grouped, is_used: bool) -> Result<(), BackupError> {
        let entry = &old.entry;
        if let (Some(sha256), Some(at), EntryKind::File) = (entry.sha256, &entry.at, entry.meta.kind)
            && entry.meta.size > 0
        {
            self.note(content_key(sha256, entry.meta.extents.as_deref()), at)?;
        }
        if is_used && let Some(at) = &entry.at {
            self.live.add(at);
        }
        old.parts.try_each(|part| {
            if is_used {
                self.live.add(&part.at);
            }
            self.note(part.sha256, &part.at)
        })
    }
}

impl Visit for Planner {
    fn entry(&mut self, walked: Walked, old: Option<Grouped>) -> Result<(), BackupError> {
        self.entries += 1;
        let meta = walked.meta.as_ref().ok();
        self.bytes += meta.filter(|meta| meta.kind == EntryKind::File).map_or(0, |meta| meta.size);
        let Some(mut old) = old else { return Ok(()) };
        let is_used = meta.is_some_and(|meta| may_keep_content(meta, &old));
        self.note_old(&mut old, is_used)
    }

    fn gone(&mut self, mut old: Grouped) -> Result<(), BackupError> {
        self.note_old(&mut old, false)
    }
}

/// Volumes of which less than their share is needed, the worst first, until more than allowed would be sent again.
fn mostly_dead(live: &Live, tar_bytes: &BTreeMap<String, u64>, resend: Resend) -> Vec<String> {
    let mut dead: Vec<_> = live
        .volumes()
        .filter_map(|(key, live)| {
            let total = tar_bytes.get(key).copied().unwrap_or(0);
            let percent = live.saturating_mul(100).checked_div(total)?;
            (percent < u64::from(resend.sparse_percent)).then_some((percent, live, key))
        })
        .collect();
    dead.sort_unstable();
    let mut sum = 0_u64;
    dead.into_iter()
        .take_while(|(_, live, _)| {
            sum = sum.saturating_add(*live);
            sum <= resend.bytes_max
        })
        .map(|(_, _, key)| key.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::entry::tests::entry;

    fn live(volumes: &[(&str, u64)]) -> Live {
        let mut live = Live::default();
        for (key, bytes) in volumes {
            live.add(&At { volume: (*key).into(), member: 0, frame: 0, frame_bytes: 1, offset: 0, bytes: *bytes });
        }
        live
    }

    #[test]
    fn mostly_dead_volumes_are_left_behind_worst_first_up_to_the_limit() {
        let live = live(&[("a", 49), ("b", 50), ("c", 10), ("d", 30)]);
        let total: BTreeMap<String, u64> = ["a", "b", "c", "d"].map(|key| (key.to_owned(), 100)).into();
        let check = |sparse_percent, bytes_max, expected: &[&str]| {
            assert_eq!(mostly_dead(&live, &total, Resend { sparse_percent, bytes_max }), expected);
        };
        check(50, u64::MAX, &["c", "d", "a"]);
        check(50, 45, &["c", "d"]);
        check(50, 9, &[]);
        check(30, u64::MAX, &["c"]);
        check(0, u64::MAX, &[]);
        check(90, u64::MAX, &["c", "d", "a", "b"]);
    }

    fn rules() -> Rules {
        Rules { parent_taken_at: Some(Timestamp::from_seconds(1_000)), reread: None }
    }

    #[test]
    fn a_file_is_unchanged_only_when_everything_stat_tells_is() {
        let old = entry("f");
        assert!(rules().is_unchanged(&old.meta, &old));
        let check = |change: fn(&mut Meta)| {
            let mut meta = old.meta.clone();
            change(&mut meta);
            assert!(!rules().is_unchanged(&meta, &old), "{meta:?}");
        };
        check(|meta| meta.size += 1);
        check(|meta| meta.mtime = Timestamp::new(1, 1).unwrap());
        check(|meta| meta.ctime = Timestamp::new(2, 1).unwrap());
        check(|meta| meta.inode += 1);
        check(|meta| meta.file_system += 1);
        check(|meta| meta.kind = EntryKind::Symlink);
    }

    #[test]
    fn an_entry_stands_only_when_stat_tells_of_no_change_at_all() {
        let old = entry("f");
        let glance = || Meta { xattrs: None, link_target: None, extents: None, ..old.meta.clone() };
        assert!(rules().stands(&glance(), &old));
        for change in [
            (|meta| meta.ctime = Timestamp::new(2, 1).unwrap()) as fn(&mut Meta),
            |meta| meta.mode ^= 1,
            |meta| meta.uid += 1,
            |meta| meta.gid += 1,
            |meta| meta.links += 1,
            |meta| meta.size += 1,
            |meta| meta.inode += 1,
            |meta| meta.file_system += 1,
            |meta| meta.device = Some((1, 2)),
        ] {
            let mut meta = glance();
            change(&mut meta);
            assert!(!rules().stands(&meta, &old), "{meta:?}");
        }
        let bad = Entry { state: State::Changed { problem: "grew".into() }, ..old.clone() };
        let mut racy = old.clone();
        racy.meta.ctime = Timestamp::from_seconds(1_000);
        assert!(!rules().stands(&bad.meta.clone(), &bad) && !rules().stands(&racy.meta.clone(), &racy));
    }

    #[test]
    fn content_is_given_up_only_when_it_probably_changed() {
        let folder = tempfile::tempdir().unwrap();
        let old = |parts: u64| {
            let mut spool = crate::spool::Spool::new(folder.path());
            let at = entry("f").at.unwrap();
            let part = Part { sha256: crate::digest::Digest::of(b"p"), bytes: 1, at };
            (0..parts).for_each(|_| spool.push(part.clone()).unwrap());
            Grouped { entry: entry("f"), parts: spool }
        };
        let mut chmod = entry("f").meta;
        (chmod.mode, chmod.ctime) = (0o600, Timestamp::from_seconds(77));
        let mut written = entry("f").meta;
        (written.size, written.mtime) = (4, Timestamp::from_seconds(77));
        assert!(may_keep_content(&chmod, &old(0)));
        assert!(!may_keep_content(&written, &old(0)));
        assert!(may_keep_content(&written, &old(1)), "most parts of a big file stay");
        written.kind = EntryKind::Directory;
        assert!(!may_keep_content(&written, &old(1)));
    }

    #[test]
    fn racy_incomplete_and_due_files_are_read_again() {
        let racy = |ctime| {
            let mut old = entry("f");
            old.meta.ctime = Timestamp::from_seconds(ctime);
            !rules().is_unchanged(&old.meta.clone(), &old)
        };
        assert_eq!([996, 997, 1_000, 5_000].map(racy), [false, true, true, true]);
        let mut old = entry("f");
        old.state = State::Changed { problem: "grew".into() };
        assert!(!rules().is_unchanged(&old.meta.clone(), &old));
        let old = entry("f");
        let due = (0..u64::from(REREAD_SLICES)).filter(|sequence| {
            let rules = Rules::new(Some(Timestamp::from_seconds(1_000)), *sequence);
            !rules.is_unchanged(&old.meta, &old)
        });
        assert_eq!(due.count(), 1, "once in a round of nights");
    }
}
