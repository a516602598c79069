//! Two facts of one path, field by field: what differs, and what could not be compared.

use dualsync_model::fact::{EntryKind, Fact};

use crate::difference::Aspect;
use crate::links::{LinkAnswer, Links};
use crate::side::Side;
use crate::witness::{OneSided, Witness};

/// A field in which two facts differ, not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The field.
    pub kind: Aspect,
    /// The block side's value.
    pub block: String,
    /// The archive side's value.
    pub archive: String,
}

/// Compares the facts of entries one after the other; remembers hard-link groups.
#[derive(Default)]
pub(crate) struct Comparer {
    links: Links,
}

impl Comparer {
    /// Everything in which the two differ; what agreed or could not be compared goes to `witness`.
    ///
    /// Entries of different kinds differ in that alone: their other fields mean different things.
    pub(crate) fn compare(&mut self, block: &Fact, archive: &Fact, witness: &mut Witness) -> Vec<Mismatch> {
        if block.kind != archive.kind {
            return vec![mismatch(Aspect::Kind, word(block.kind), word(archive.kind))];
        }
        let mut found = Vec::new();
        let mut check = |kind, left: String, right: String| {
            if left != right {
                found.push(mismatch(kind, left, right));
            }
        };
        if matches!(block.kind, EntryKind::File | EntryKind::Symlink) {
            check(Aspect::Size, block.size.to_string(), archive.size.to_string());
        }
        let (left, right) = times(block, archive, witness);
        check(Aspect::Mtime, left, right);
        check(Aspect::Mode, format!("{:04o}", block.mode), format!("{:04o}", archive.mode));
        check(Aspect::Owner, format!("{}:{}", block.uid, block.gid), format!("{}:{}", archive.uid, archive.gid));
        match block.kind {
            EntryKind::File => {
                found.extend(content(block, archive, witness));
                found.extend(self.hard_link(block, archive, witness));
            }
            EntryKind::Symlink => {
                let value = |fact: &Fact| fact.link_target.as_ref().map(ToString::to_string);
                let same = block.link_target == archive.link_target;
                found.extend(optional(Aspect::LinkTarget, value(block), value(archive), same, &mut witness.targets));
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                let value = |fact: &Fact| fact.device.map(|(major, minor)| format!("{major}:{minor}"));
                let same = block.device == archive.device;
                found.extend(optional(Aspect::Device, value(block), value(archive), same, &mut witness.targets));
            }
            EntryKind::Directory | EntryKind::Fifo | EntryKind::Socket => {}
        }
        let (left, right) = (block.xattrs.clone(), archive.xattrs.clone());
        let same = left == right;
        found.extend(optional(Aspect::Xattrs, left, right, same, &mut witness.xattrs));
        found
    }

    fn hard_link(&mut self, block: &Fact, archive: &Fact, witness: &mut Witness) -> Option<Mismatch> {
        match self.links.check(block.hard_link, archive.hard_link) {
            LinkAnswer::Agrees => None,
            LinkAnswer::Unchecked => {
                witness.links_unchecked += 1;
                None
            }
            LinkAnswer::Contradicts => {
                let value = |fact: &Fact| fact.hard_link.map_or("not linked".to_owned(), |id| format!("group {id}"));
                Some(mismatch(Aspect::HardLink, value(block), value(archive)))
            }
        }
    }
}

fn mismatch(kind: Aspect, block: impl Into<String>, archive: impl Into<String>) -> Mismatch {
    Mismatch { kind, block: block.into(), archive: archive.into() }
}

/// Times as text, cut to the second where one side knows no more.
fn times(block: &Fact, archive: &Fact, witness: &mut Witness) -> (String, String) {
    if block.mtime_whole_seconds || archive.mtime_whole_seconds {
        witness.times_to_the_second += 1;
        return (block.mtime.whole_second().to_string(), archive.mtime.whole_second().to_string());
    }
    (block.mtime.to_string(), archive.mtime.to_string())
}

fn content(block: &Fact, archive: &Fact, witness: &mut Witness) -> Option<Mismatch> {
    let same = block.sha256 == archive.sha256;
    if same && block.size == archive.size && block.sha256.is_some() {
        witness.content_files += 1;
        witness.content_bytes = witness.content_bytes.saturating_add(block.size);
    }
    optional(Aspect::Content, block.sha256.clone(), archive.sha256.clone(), same, &mut witness.content)
}

/// Compares values that a side may not have: what not both have is counted, not compared.
fn optional(
    kind: Aspect,
    block: Option<String>,
    archive: Option<String>,
    same: bool,
    one_sided: &mut OneSided,
) -> Option<Mismatch> {
    match (block, archive) {
        (Some(block), Some(archive)) => (!same).then(|| mismatch(kind, block, archive)),
        (Some(_), None) => none_after(|| one_sided.add(Some(Side::Block))),
        (None, Some(_)) => none_after(|| one_sided.add(Some(Side::Archive))),
        (None, None) => none_after(|| one_sided.add(None)),
    }
}

fn none_after(count: impl FnOnce()) -> Option<Mismatch> {
    count();
    None
}

/// The kind as JSON calls it.
pub(crate) const fn word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice => "char_device",
        EntryKind::BlockDevice => "block_device",
        EntryKind::Socket => "socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{directory, file};
    use dualsync_model::path::RawPath;
    use dualsync_model::time::Timestamp;

    fn compare(block: &Fact, archive: &Fact) -> (Vec<Aspect>, Witness) {
        let mut witness = Witness::default();
        let found = Comparer::default().compare(block, archive, &mut witness);
        (found.into_iter().map(|mismatch| mismatch.kind).collect(), witness)
    }

    fn link(target: Option<&str>) -> Fact {
        Fact { kind: EntryKind::Symlink, sha256: None, link_target: target.map(RawPath::new), ..file("l", "x") }
    }

    fn node(device: Option<(u32, u32)>) -> Fact {
        Fact { kind: EntryKind::CharDevice, size: 0, sha256: None, device, ..file("n", "") }
    }

    #[test]
    fn every_field_is_compared() {
        let base = file("a", "x");
        let changed = |change: fn(&mut Fact)| {
            let mut fact = base.clone();
            change(&mut fact);
            compare(&base, &fact).0
        };
        assert_eq!(changed(|_| {}), []);
        assert_eq!(changed(|fact| fact.kind = EntryKind::Fifo), [Aspect::Kind]);
        assert_eq!(changed(|fact| fact.size += 1), [Aspect::Size]);
        assert_eq!(changed(|fact| fact.mtime = Timestamp::new(-5, 1).unwrap()), [Aspect::Mtime]);
        assert_eq!(changed(|fact| fact.mode ^= 0o4000), [Aspect::Mode]);
        assert_eq!(changed(|fact| fact.uid += 1), [Aspect::Owner]);
        assert_eq!(changed(|fact| fact.gid += 1), [Aspect::Owner]);
        assert_eq!(changed(|fact| fact.xattrs = Some("ff".into())), [Aspect::Xattrs]);
        assert_eq!(changed(|fact| fact.sha256 = Some("ff".into())), [Aspect::Content]);
        assert_eq!(compare(&link(Some("x")), &link(Some("y"))).0, [Aspect::LinkTarget]);
        assert_eq!(compare(&node(Some((1, 2))), &node(Some((1, 3)))).0, [Aspect::Device]);
    }

    #[test]
    fn two_targets_that_only_print_alike_differ() {
        let raw = Fact { link_target: Some(RawPath::new(b"\xff".to_vec())), ..link(None) };
        assert_eq!(compare(&raw, &link(Some("\\xff"))).0, [Aspect::LinkTarget]);
    }

    #[test]
    fn several_fields_differ_at_once_and_a_kind_alone() {
        let other = Fact { mode: 0, uid: 9, ..file("a", "y") };
        assert_eq!(compare(&file("a", "x"), &other).0, [Aspect::Mode, Aspect::Owner, Aspect::Content]);
        assert_eq!(compare(&directory("a"), &other).0, [Aspect::Kind]);
    }

    #[test]
    fn the_size_of_a_directory_means_nothing() {
        assert_eq!(compare(&directory("a"), &Fact { size: 4096, ..directory("a") }).0, []);
    }

    #[test]
    fn whole_seconds_are_compared_to_the_second_and_counted() {
        let fine = Fact { mtime: Timestamp::new(-7, 999).unwrap(), ..file("a", "x") };
        let coarse = Fact { mtime: Timestamp::from_seconds(-7), mtime_whole_seconds: true, ..file("a", "x") };
        let (found, witness) = compare(&coarse, &fine);
        assert_eq!((found.len(), witness.times_to_the_second), (0, 1));
        assert_eq!(compare(&Fact { mtime_whole_seconds: false, ..coarse }, &fine).0, [Aspect::Mtime]);
    }

    #[test]
    fn what_not_both_witness_is_counted_and_not_called_equal() {
        let blind = Fact { sha256: None, xattrs: None, ..file("a", "x") };
        let (found, witness) = compare(&blind, &file("a", "x"));
        assert_eq!((found.len(), witness.content_files), (0, 0));
        assert_eq!((witness.content.archive_only, witness.xattrs.archive_only), (1, 1));
        let witness = compare(&file("a", "x"), &blind).1;
        assert_eq!((witness.content.block_only, witness.xattrs.block_only), (1, 1));
        let witness = compare(&blind, &blind).1;
        assert_eq!((witness.content.neither, witness.xattrs.neither), (1, 1));
        assert_eq!(compare(&link(None), &link(Some("x"))).1.targets.archive_only, 1);
        assert_eq!(compare(&node(None), &node(None)).1.targets.neither, 1);
    }

    #[test]
    fn content_counts_as_witnessed_only_when_it_is_the_same() {
        let witness = compare(&file("a", "xyz"), &file("a", "xyz")).1;
        assert_eq!((witness.content_files, witness.content_bytes), (1, 3));
        let witness = compare(&file("a", "xyz"), &file("a", "xyw")).1;
        assert_eq!((witness.content_files, witness.content_bytes, witness.content.total()), (0, 0, 0));
    }

    #[test]
    fn hard_links_are_followed_from_entry_to_entry() {
        let linked = |path, number| Fact { hard_link: number, ..file(path, "x") };
        let mut comparer = Comparer::default();
        let mut witness = Witness::default();
        assert_eq!(comparer.compare(&linked("a", Some(1)), &linked("a", Some(7)), &mut witness), []);
        let found = comparer.compare(&linked("b", Some(1)), &linked("b", None), &mut witness);
        assert_eq!(found, [mismatch(Aspect::HardLink, "group 1", "not linked")]);
    }
}
