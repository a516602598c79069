//! One point, both copies: pulls the two streams through merge, comparison and judgement.

use std::error::Error;

use dualsync_model::event::Event;
use dualsync_model::fact::{Fact, FactState};
use dualsync_model::path::RawPath;

use crate::compare::Comparer;
use crate::difference::Differences;
use crate::exclude::Exclude;
use crate::explain::{Explained, Explainer, Reason};
use crate::judge::{Judge, confession};
use crate::merge::{Merge, Step};
use crate::side::{Both, Side};
use crate::stream::{SideRead, Stream};
use crate::witness::Witness;

/// Everything that was found about one point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examined {
    /// What each side said about itself.
    pub reads: Both<SideRead>,
    /// Whether contents were compared, and not only stored objects checked.
    pub compared: bool,
    /// What both witnessed, and what one did.
    pub witness: Witness,
    /// What differs.
    pub differences: Differences,
    /// What differs for an accepted reason, in entries.
    pub explained: Explained,
}

/// Compares two copies of one moment, from the lines of two `facts` jobs.
///
/// `exclude` holds the rules of the archive copy; `frozen` says whether the source stood still.
pub fn compare<E: Error, F: Error>(
    exclude: Exclude,
    frozen: bool,
    block: impl Iterator<Item = Result<Event, E>>,
    archive: impl Iterator<Item = Result<Event, F>>,
) -> Examined {
    let mut merge = Merge::new(block, archive);
    let mut bench = Bench {
        explainer: Explainer::new(exclude, frozen),
        judge: Judge::new(frozen),
        comparer: Comparer::default(),
        found: Examined { compared: true, ..Examined::default() },
        untold: Both::default(),
    };
    for step in merge.by_ref() {
        match step {
            Step::Both(facts) => bench.both(&facts),
            Step::One(side, fact) => bench.one(side, &fact),
            Step::Unheard(side, fact) => {
                bench.confess(side, &fact);
                bench.found.witness.unheard.add(Some(side));
                bench.keep_untold(side.other(), &fact);
            }
        }
    }
    let mut reads = merge.into_reads();
    for side in Side::BOTH {
        reads.get_mut(side).blame(bench.untold.get(side));
    }
    Examined { reads, ..bench.found }
}

/// What two `check` jobs said about the stored objects of a point, contents not compared.
pub fn check_only<E: Error, F: Error>(
    block: impl Iterator<Item = Result<Event, E>>,
    archive: impl Iterator<Item = Result<Event, F>>,
) -> Examined {
    Examined {
        reads: Both { block: Stream::new(block).into_read(), archive: Stream::new(archive).into_read() },
        explained: Explained::from([(Reason::NotCompared, 1)]),
        ..Examined::default()
    }
}

/// What one side said where the other has no copy.
pub fn one_sided<E: Error>(side: Side, lines: impl Iterator<Item = Result<Event, E>>) -> Examined {
    let mut stream = Stream::new(lines);
    let mut found = Examined::default();
    for fact in stream.by_ref() {
        found.differences.extend(confession(side, &fact));
        found.witness.unheard.add(Some(side));
    }
    *found.reads.get_mut(side) = stream.into_read();
    found
}

/// So many files a finding names.
const UNTOLD_MAX: usize = 100;

/// What goes along with the merge.
struct Bench {
    explainer: Explainer,
    judge: Judge,
    comparer: Comparer,
    found: Examined,
    /// What each side did not tell of and the other did, the first [`UNTOLD_MAX`].
    untold: Both<Vec<RawPath>>,
}

impl Bench {
    fn both(&mut self, facts: &Both<Fact>) {
        self.explainer.pass(&facts.archive);
        self.judge.pass(&facts.archive);
        let block_is_sound = self.confess(Side::Block, &facts.block);
        let archive_is_sound = self.confess(Side::Archive, &facts.archive);
        // The values of a damaged entry mean nothing; that it is damaged has been said.
        if facts.iter().any(|(_, fact)| matches!(fact.state, FactState::Damaged { .. })) {
            return;
        }
        let mismatches = self.comparer.compare(&facts.block, &facts.archive, &mut self.found.witness);
        if mismatches.is_empty() {
            self.found.witness.entries += u64::from(block_is_sound && archive_is_sound);
        } else if let Some(reason) = self.explainer.differing(&facts.block, &facts.archive) {
            self.explain(reason);
        } else {
            for mismatch in mismatches {
                self.found.differences.add(self.judge.mismatch(facts, mismatch));
            }
        }
    }

    fn one(&mut self, side: Side, fact: &Fact) {
        if side == Side::Archive {
            self.explainer.pass(fact);
            self.judge.pass(fact);
        }
        self.confess(side, fact);
        match self.explainer.missing(side, fact) {
            Some(reason) => self.explain(reason),
            None => self.found.differences.add(self.judge.missing(side, fact)),
        }
        self.keep_untold(side.other(), fact);
    }

    /// `side` did not tell of this entry: where damage is the reason, it is one of those that are hit.
    fn keep_untold(&mut self, side: Side, fact: &Fact) {
        let untold = self.untold.get_mut(side);
        let is_owed = !fact.path.is_root() && self.explainer.missing(side.other(), fact).is_none();
        if is_owed && untold.len() < UNTOLD_MAX {
            untold.push(fact.path.clone());
        }
    }

    /// False when the side knows something against its own copy.
    fn confess(&mut self, side: Side, fact: &Fact) -> bool {
        let confession = confession(side, fact);
        let sound = confession.is_none();
        self.found.differences.extend(confession);
        sound
    }

    fn explain(&mut self, reason: Reason) {
        *self.found.explained.entry(reason).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::{Aspect, Culprit};
    use crate::samples::{directory, file, lines};
    use dualsync_model::event::{Failure, Finding};
    use dualsync_model::fact::EntryKind;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn run(frozen: bool, block: Vec<Fact>, archive: Vec<Fact>) -> Examined {
        let exclude = Exclude::new(["cache"]).unwrap();
        compare(exclude, frozen, lines(block).into_iter(), lines(archive).into_iter())
    }

    fn damaged(path: &str) -> Fact {
        let state = FactState::Damaged { object: "volumes/1".into(), problem: "missing".into() };
        Fact { sha256: None, state, ..file(path, "x") }
    }

    #[test]
    fn equal_copies_are_witnessed_entry_by_entry() {
        let tree = || vec![directory(""), file("a", "x"), file("b", "yy")];
        let found = run(true, tree(), tree());
        assert_eq!((found.witness.entries, found.witness.content_files, found.witness.content_bytes), (3, 2, 3));
        assert_eq!((found.differences.total, found.explained.len()), (0, 0));
    }

    #[test]
    fn the_damaged_side_is_the_culprit_and_its_values_are_not_compared() {
        let broken = Fact { mode: 0, ..damaged("a") };
        let found = run(true, vec![directory(""), file("a", "x")], vec![directory(""), broken]);
        assert_eq!((found.differences.total, found.witness.entries), (1, 1));
        assert_eq!(found.differences.first[0].culprit, Culprit::Archive);
    }

    #[test]
    fn a_damaged_entry_that_the_other_side_lacks_is_both() {
        let found = run(true, vec![directory(""), damaged("a")], vec![directory("")]);
        assert_eq!((found.differences.of_kind(Aspect::Damaged), found.differences.of_kind(Aspect::Missing)), (1, 1));
    }

    #[test]
    fn explained_entries_are_counted_once_each_and_not_as_witnessed() {
        let socket = Fact { kind: EntryKind::Socket, sha256: None, ..file("s", "") };
        let block = vec![directory(""), directory("cache"), file("cache/x", "x"), socket];
        let found = run(true, block, vec![directory("")]);
        assert_eq!(found.explained, Explained::from([(Reason::Excluded, 2), (Reason::Socket, 1)]));
        assert_eq!((found.differences.total, found.witness.entries), (0, 1));

        let changed = FactState::Changed { problem: "grew".into() };
        let moved = Fact { mode: 0, uid: 7, state: changed, ..file("a", "y") };
        let found = run(false, vec![file("a", "x")], vec![moved.clone()]);
        assert_eq!((found.explained[&Reason::ChangedWhileRead], found.differences.total), (1, 0));
        assert_eq!(run(true, vec![file("a", "x")], vec![moved]).differences.total, 3);
    }

    #[test]
    fn a_mount_point_explains_itself_and_what_it_hides() {
        let hidden = vec![directory(""), directory("srv"), file("srv/old", "x")];
        let mount = Fact { mode: 0o700, state: FactState::MountPoint, ..directory("srv") };
        let found = run(true, hidden, vec![directory(""), mount]);
        assert_eq!(found.explained, Explained::from([(Reason::MountPoint, 2)]));
    }

    #[test]
    fn an_unreadable_entry_is_a_difference_even_where_the_rest_agrees() {
        let state = FactState::Unreadable { problem: "EIO".into() };
        let found = run(true, vec![file("a", "x")], vec![Fact { sha256: None, state, ..file("a", "x") }]);
        assert_eq!((found.differences.total, found.witness.entries, found.witness.content.block_only), (1, 0, 1));
    }

    #[test]
    fn entries_the_other_side_never_reached_are_unheard() {
        let mut cut = lines(vec![directory(""), file("a", "x")]);
        cut.pop();
        let whole = lines(vec![directory(""), file("a", "x"), file("b", "x"), damaged("c")]);
        let found = compare(Exclude::default(), true, cut.into_iter(), whole.into_iter());
        assert_eq!((found.witness.entries, found.witness.unheard.archive_only), (2, 2));
        assert_eq!(found.differences.by_kind.keys().collect::<Vec<_>>(), [&Aspect::Damaged]);
    }

    #[test]
    fn damage_that_hides_a_whole_copy_hits_what_the_other_one_tells() {
        let point: dualsync_model::id::PointId = "web@20261120T020000Z".parse().unwrap();
        let about = |object: &str, paths: &[&str], points: &[dualsync_model::id::PointId]| {
            let paths = paths.iter().map(|path| RawPath::new(*path)).collect();
            Finding { paths, points: points.to_vec(), ..crate::samples::finding(object, "missing") }
        };
        let said = |code: &str| -> crate::samples::Lines {
            let named = about("packs/1", &["x"], std::slice::from_ref(&point));
            let findings = [about("maps/1", &[], std::slice::from_ref(&point)), named, about("README.txt", &[], &[])];
            let failure = Failure { exit_code: 21, code: code.into(), message: "no".into(), hint: None };
            let end = [Ok(Event::Error(failure))];
            findings.map(|found| Ok(Event::Finding(found))).into_iter().chain(end).collect()
        };
        let tree = || lines(vec![directory(""), file("a", "x"), file("b", "x"), directory("cache")]);
        let hits = |code: &str| {
            let found = compare(Exclude::new(["cache"]).unwrap(), true, tree().into_iter(), said(code).into_iter());
            let paths = |finding: &Finding| finding.paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            found.reads.archive.findings.iter().map(paths).collect::<Vec<_>>()
        };
        assert_eq!(hits("damaged"), ["a b", "x", ""]);
        assert_eq!(hits("store"), ["", "x", ""]);
    }

    #[test]
    fn a_side_alone_still_tells_what_it_knows_against_itself() {
        let found = one_sided(Side::Archive, lines(vec![directory(""), damaged("a")]).into_iter());
        assert_eq!((found.differences.total, found.witness.unheard.archive_only), (1, 2));
        assert_eq!(found.reads.block.end, crate::stream::End::Absent);
        assert!(!found.compared);
    }

    /// What a naive comparison of two maps counts: agreeing, differing, only in one.
    fn naive(block: &BTreeMap<RawPath, Fact>, archive: &BTreeMap<RawPath, Fact>) -> (u64, u64, u64) {
        let (mut same, mut different, mut alone) = (0, 0, 0);
        for path in block.keys().chain(archive.keys()).collect::<BTreeSet<_>>() {
            match (block.get(path), archive.get(path)) {
                (Some(left), Some(right)) if left == right => same += 1,
                (Some(_), Some(_)) => different += 1,
                _ => alone += 1,
            }
        }
        (same, different, alone)
    }

    /// A tree as paths with a mode and a content each.
    fn tree() -> impl Strategy<Value = BTreeMap<RawPath, Fact>> {
        let entry = ("[ab.-]{1,2}(/[ab.-]{1,2}){0,2}", 0_u32..2, "[xy]");
        proptest::collection::vec(entry, 1..25).prop_map(|entries| {
            let facts = entries.into_iter().map(|(path, mode, content)| Fact { mode, ..file(&path, &content) });
            facts.map(|fact| (fact.path.clone(), fact)).collect()
        })
    }

    proptest! {
        #[test]
        fn it_counts_what_a_naive_comparison_counts(block in tree(), archive in tree(), cut in 0_usize..40) {
            let found = run(true, block.values().cloned().collect(), archive.values().cloned().collect());
            let (same, different, alone) = naive(&block, &archive);
            prop_assert_eq!(found.witness.entries, same);
            prop_assert_eq!(found.differences.of_kind(Aspect::Missing), alone);
            let paths: BTreeSet<_> = found.differences.first.iter().map(|difference| &difference.path).collect();
            prop_assert_eq!(paths.len() as u64, different + alone);
            prop_assert!(found.differences.first.is_sorted_by_key(|difference| difference.path.clone()));

            // A stream cut anywhere before its summary is no basis for agreement, and invents no missing entry.
            let whole: Vec<Fact> = archive.values().cloned().collect();
            let mut short = lines(whole.clone());
            short.truncate(cut.min(whole.len()));
            let found = compare(Exclude::default(), true, lines(whole).into_iter(), short.into_iter());
            prop_assert_eq!(crate::verdict::Verdict::of(&found), crate::verdict::Verdict::OneSideMissing);
            prop_assert_eq!(found.differences.total, 0);
            prop_assert_eq!(found.witness.entries + found.witness.unheard.block_only, archive.len() as u64);
        }
    }
}
