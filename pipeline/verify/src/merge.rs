//! Two ordered streams as one: what both list, what one lists, and what nobody can tell.

use std::cmp::Ordering;
use std::error::Error;

use dualsync_model::event::Event;
use dualsync_model::fact::Fact;

use crate::side::{Both, Side};
use crate::stream::{SideRead, Stream};

/// One path of the point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Both sides list it.
    Both(Box<Both<Fact>>),
    /// One side lists it, and the other was heard not to.
    One(Side, Box<Fact>),
    /// One side lists it, and the other had ended early: it may have it or not.
    Unheard(Side, Box<Fact>),
}

/// The merge; memory holds one fact of each side.
pub struct Merge<B, A> {
    block: Stream<B>,
    archive: Stream<A>,
    /// The next fact of each side; filled before each step.
    next: Both<Option<Fact>>,
}

impl<B, A, E, F> Merge<B, A>
where
    B: Iterator<Item = Result<Event, E>>,
    A: Iterator<Item = Result<Event, F>>,
    E: Error,
    F: Error,
{
    /// Merges the lines of both sides.
    pub fn new(block: B, archive: A) -> Self {
        Self { block: Stream::new(block), archive: Stream::new(archive), next: Both::default() }
    }

    /// What each side said, once the steps have been pulled.
    pub fn into_reads(self) -> Both<SideRead> {
        Both { block: self.block.into_read(), archive: self.archive.into_read() }
    }

    /// The other side has nothing before `fact`: it has moved past it, or has ended.
    fn one(&self, side: Side, fact: Fact) -> Step {
        let past = self.next.get(side.other()).is_some();
        let complete = match side.other() {
            Side::Block => self.block.is_complete(),
            Side::Archive => self.archive.is_complete(),
        };
        if past || complete { Step::One(side, Box::new(fact)) } else { Step::Unheard(side, Box::new(fact)) }
    }
}

impl<B, A, E, F> Iterator for Merge<B, A>
where
    B: Iterator<Item = Result<Event, E>>,
    A: Iterator<Item = Result<Event, F>>,
    E: Error,
    F: Error,
{
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        // An ended stream answers None again, so asking it twice is harmless.
        let block = self.next.block.take().or_else(|| self.block.next());
        let archive = self.next.archive.take().or_else(|| self.archive.next());
        let order = match (&block, &archive) {
            (Some(block), Some(archive)) => block.path.cmp(&archive.path),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        if order == Ordering::Less {
            self.next.archive = archive;
            return block.map(|fact| self.one(Side::Block, fact));
        }
        if order == Ordering::Greater {
            self.next.block = block;
            return archive.map(|fact| self.one(Side::Archive, fact));
        }
        Some(Step::Both(Box::new(Both { block: block?, archive: archive? })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::samples::{Lines, file, lines};
    use proptest::prelude::*;

    fn listing(paths: &[&str], complete: bool) -> Lines {
        let mut lines = lines(paths.iter().map(|path| file(path, "x")));
        if !complete {
            lines.pop();
        }
        lines
    }

    /// Each step as a word: `=a` both, `<a` block only, `>a` archive only, `?<a` unheard.
    fn steps(block: Lines, archive: Lines) -> Vec<String> {
        let sign = |side| if side == Side::Block { '<' } else { '>' };
        Merge::new(block.into_iter(), archive.into_iter())
            .map(|step| match step {
                Step::Both(facts) => format!("={}", facts.block.path),
                Step::One(side, fact) => format!("{}{}", sign(side), fact.path),
                Step::Unheard(side, fact) => format!("?{}{}", sign(side), fact.path),
            })
            .collect()
    }

    #[test]
    fn both_one_and_the_other() {
        let got = steps(listing(&["", "a", "c", "d"], true), listing(&["", "b", "c"], true));
        assert_eq!(got, ["=.", "<a", ">b", "=c", "<d"]);
    }

    #[test]
    fn what_the_other_side_never_reached_is_unheard_not_missing() {
        let got = steps(listing(&["", "b"], false), listing(&["", "a", "c"], true));
        assert_eq!(got, ["=.", ">a", "<b", "?>c"]);
        assert_eq!(steps(listing(&[], false), listing(&["", "a"], true)), ["?>.", "?>a"]);
        assert_eq!(steps(listing(&[""], false), listing(&[], false)), ["?<."]);
    }

    #[test]
    fn an_order_fault_ends_that_side_only() {
        let mut merge = Merge::new(
            listing(&["", "b", "a", "c"], true).into_iter(),
            listing(&["", "a", "b", "c"], true).into_iter(),
        );
        let count = merge.by_ref().count();
        let reads = merge.into_reads();
        assert_eq!((count, reads.block.entries, reads.archive.entries), (4, 2, 4));
        assert_eq!(reads.archive.end, crate::stream::End::Complete);
        assert_ne!(reads.block.end, crate::stream::End::Complete);
    }

    proptest! {
        #[test]
        fn it_says_what_a_sorted_map_says(
            block in proptest::collection::btree_set("[abc.-]{1,2}(/[abc.-]{1,2}){0,2}", 0..30),
            archive in proptest::collection::btree_set("[abc.-]{1,2}(/[abc.-]{1,2}){0,2}", 0..30),
        ) {
            let mut model: BTreeMap<dualsync_model::path::RawPath, (bool, bool)> = BTreeMap::new();
            for path in &block { model.entry(dualsync_model::path::RawPath::new(path.as_bytes())).or_default().0 = true; }
            for path in &archive { model.entry(dualsync_model::path::RawPath::new(path.as_bytes())).or_default().1 = true; }
            let sorted = |of_block: bool| -> Vec<String> {
                model.iter().filter(|(_, (b, a))| if of_block { *b } else { *a }).map(|(path, _)| path.to_string()).collect()
            };
            let listed = |paths: Vec<String>| listing(&paths.iter().map(String::as_str).collect::<Vec<_>>(), true);
            let expected: Vec<String> = model
                .iter()
                .map(|(path, sides)| match sides {
                    (true, true) => format!("={path}"),
                    (true, false) => format!("<{path}"),
                    _ => format!(">{path}"),
                })
                .collect();
            prop_assert_eq!(steps(listed(sorted(true)), listed(sorted(false))), expected);
        }
    }
}
