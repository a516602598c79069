//! Which copy is wrong, from what each side knows against itself.
//!
//! A copy that contradicts its own writer's note is the damaged one. Where both agree with
//! their notes and differ, the two reads of the source differed: nobody knows which was right,
//! unless the source was never frozen, in which case it is the source.

use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::path::RawPath;

use crate::compare::{Mismatch, word};
use crate::difference::{Aspect, Culprit, Difference};
use crate::side::{Both, Side};

/// Says who is wrong; to be told of each fact of the archive in order.
#[derive(Debug)]
pub(crate) struct Judge {
    frozen: bool,
    /// The last folder the archive writer could not list; what lies below comes right after it.
    unread_folder: Option<RawPath>,
}

impl Judge {
    pub(crate) const fn new(frozen: bool) -> Self {
        Self { frozen, unread_folder: None }
    }

    /// To be told of each fact, in order, before it is judged.
    pub(crate) fn pass(&mut self, fact: &Fact) {
        if fact.kind == EntryKind::Directory && matches!(fact.state, FactState::Unreadable { .. }) {
            self.unread_folder = Some(fact.path.clone());
        }
    }

    /// A field in which two facts differ that nothing explains.
    pub(crate) fn mismatch(&self, facts: &Both<Fact>, mismatch: Mismatch) -> Difference {
        let Mismatch { kind, block, archive } = mismatch;
        let changed = facts.iter().find_map(|(side, fact)| match &fact.state {
            FactState::Changed { problem } => Some((side, problem)),
            _ => None,
        });
        let (culprit, reason) = match changed {
            Some((side, problem)) => (Culprit::Source, format!("the {side} writer saw the source change: {problem}")),
            None => self.by_state(facts),
        };
        Difference { path: facts.block.path.clone(), kind, block: Some(block), archive: Some(archive), culprit, reason }
    }

    fn by_state(&self, facts: &Both<Fact>) -> (Culprit, String) {
        if !self.frozen {
            return (Culprit::Source, NOT_FROZEN.to_owned());
        }
        let unread = facts.iter().any(|(_, fact)| fact.state == FactState::Skipped);
        let reason = if unread {
            "both copies are as they were noted as far as they were read back this time: read all of them to know more"
        } else {
            "both copies are what their writers noted: the writers read different things"
        };
        (Culprit::Unknown, reason.to_owned())
    }

    /// An entry that one side was heard not to list, and nothing explains it.
    pub(crate) fn missing(&self, side: Side, fact: &Fact) -> Difference {
        let (culprit, reason) = if let Some(folder) = self.folder_of(side, fact) {
            (Culprit::Source, format!("the archive writer could not read the folder {folder}"))
        } else if !self.frozen {
            (Culprit::Source, NOT_FROZEN.to_owned())
        } else if side == Side::Block {
            (Culprit::Archive, "a hole in the walk: in the image and under no exclude rule".to_owned())
        } else {
            (Culprit::Block, "the stored image does not have it".to_owned())
        };
        let value = || Some(word(fact.kind).to_owned());
        Difference {
            path: fact.path.clone(),
            kind: Aspect::Missing,
            block: if side == Side::Block { value() } else { None },
            archive: if side == Side::Archive { value() } else { None },
            culprit,
            reason,
        }
    }

    fn folder_of(&self, side: Side, fact: &Fact) -> Option<&RawPath> {
        let folder = self.unread_folder.as_ref().filter(|_| side == Side::Block)?;
        let rest = fact.path.as_bytes().strip_prefix(folder.as_bytes())?;
        (folder.is_root() || rest.first() == Some(&b'/')).then_some(folder)
    }
}

const NOT_FROZEN: &str = "the source was not frozen and may have changed between the two reads";

/// What a side knows against its own copy of an entry, whatever the other side says.
pub(crate) fn confession(side: Side, fact: &Fact) -> Option<Difference> {
    let (kind, value, culprit, reason) = match &fact.state {
        FactState::Damaged { object, problem } => (Aspect::Damaged, object.clone(), of(side), problem.clone()),
        FactState::Unreadable { problem } => {
            let reason = format!("the {side} writer could not read the source: {problem}");
            (Aspect::Unreadable, "unreadable".to_owned(), Culprit::Source, reason)
        }
        // Good means read back; without a digest nothing was, and agreement would be empty.
        FactState::Good if fact.kind == EntryKind::File && fact.sha256.is_none() => {
            let reason = format!("the {side} program calls it good and gives no digest");
            (Aspect::Unreadable, "no digest".to_owned(), of(side), reason)
        }
        FactState::Good | FactState::Skipped | FactState::Changed { .. } | FactState::MountPoint => return None,
    };
    let value = |of: Side| (of == side).then(|| value.clone());
    Some(Difference {
        path: fact.path.clone(),
        kind,
        block: value(Side::Block),
        archive: value(Side::Archive),
        culprit,
        reason,
    })
}

const fn of(side: Side) -> Culprit {
    match side {
        Side::Block => Culprit::Block,
        Side::Archive => Culprit::Archive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{directory, file};

    fn pair(block: FactState, archive: FactState) -> Both<Fact> {
        Both { block: Fact { state: block, ..file("a", "x") }, archive: Fact { state: archive, ..file("a", "y") } }
    }

    fn culprit(frozen: bool, facts: &Both<Fact>) -> Culprit {
        let mismatch = Mismatch { kind: Aspect::Content, block: "x".into(), archive: "y".into() };
        Judge::new(frozen).mismatch(facts, mismatch).culprit
    }

    fn changed() -> FactState {
        FactState::Changed { problem: "grew".into() }
    }

    #[test]
    fn two_good_copies_that_differ_leave_the_culprit_unknown() {
        assert_eq!(culprit(true, &pair(FactState::Good, FactState::Good)), Culprit::Unknown);
        assert_eq!(culprit(true, &pair(FactState::Skipped, FactState::Good)), Culprit::Unknown);
    }

    #[test]
    fn a_source_that_moved_is_the_culprit() {
        assert_eq!(culprit(false, &pair(FactState::Good, FactState::Good)), Culprit::Source);
        assert_eq!(culprit(true, &pair(FactState::Good, changed())), Culprit::Source);
        assert_eq!(culprit(true, &pair(changed(), FactState::Good)), Culprit::Source);
    }

    #[test]
    fn a_damaged_copy_names_itself_and_its_object() {
        let state = FactState::Damaged { object: "packs/aa".into(), problem: "wrong digest".into() };
        let facts = pair(state.clone(), state);
        let block = confession(Side::Block, &facts.block).unwrap();
        assert_eq!((block.culprit, block.kind), (Culprit::Block, Aspect::Damaged));
        assert_eq!((block.block.as_deref(), block.archive.as_deref()), (Some("packs/aa"), None));
        assert_eq!(block.reason, "wrong digest");
        assert_eq!(confession(Side::Archive, &facts.archive).unwrap().culprit, Culprit::Archive);
    }

    #[test]
    fn what_the_source_refused_is_the_sources_fault() {
        let unreadable = Fact { state: FactState::Unreadable { problem: "EIO".into() }, ..file("a", "x") };
        let found = confession(Side::Archive, &unreadable).unwrap();
        assert_eq!((found.kind, found.culprit), (Aspect::Unreadable, Culprit::Source));
    }

    #[test]
    fn good_without_a_digest_is_no_witness() {
        let empty = Fact { sha256: None, ..file("a", "x") };
        assert_eq!(confession(Side::Block, &empty).unwrap().culprit, Culprit::Block);
        assert_eq!(confession(Side::Block, &Fact { state: FactState::Skipped, ..empty }), None);
        assert_eq!(confession(Side::Block, &directory("a")), None);
        assert_eq!(confession(Side::Block, &file("a", "x")), None);
    }

    #[test]
    fn a_missing_entry_is_a_hole_on_the_side_that_lacks_it() {
        let judge = Judge::new(true);
        let hole = judge.missing(Side::Block, &file("a", "x"));
        assert_eq!((hole.culprit, hole.block.as_deref(), hole.archive), (Culprit::Archive, Some("file"), None));
        assert_eq!(judge.missing(Side::Archive, &file("a", "x")).culprit, Culprit::Block);
        assert_eq!(Judge::new(false).missing(Side::Block, &file("a", "x")).culprit, Culprit::Source);
    }

    #[test]
    fn what_lies_below_a_folder_that_could_not_be_listed_is_no_hole_of_the_walk() {
        let mut judge = Judge::new(true);
        judge.pass(&Fact { state: FactState::Unreadable { problem: "EIO".into() }, ..directory("d") });
        assert_eq!(judge.missing(Side::Block, &file("d/a", "x")).culprit, Culprit::Source);
        assert_eq!(judge.missing(Side::Block, &file("da", "x")).culprit, Culprit::Archive);
        assert_eq!(judge.missing(Side::Archive, &file("d/a", "x")).culprit, Culprit::Block);
    }
}
