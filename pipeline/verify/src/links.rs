//! Hard links: the same files are one file on both sides.
//!
//! Each side numbers its inodes as it likes, so the numbers must map one to one. An entry that
//! only one side calls linked counts as a group of its own on the other: two such entries of one
//! group contradict each other, a single one (its other names were left out) does not.

use std::collections::HashMap;

use crate::side::Both;

/// Groups that are remembered, on each side: about 100 MiB at most.
const GROUPS_MAX: usize = 1_000_000;

/// What is known of the groups so far.
#[derive(Default)]
pub(crate) struct Links {
    /// To each number of one side what the other side called the same file; `None`: not linked.
    mates: Both<HashMap<u64, Option<u64>>>,
}

/// What one entry says about the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkAnswer {
    /// It fits.
    Agrees,
    /// It contradicts an earlier entry.
    Contradicts,
    /// There were too many groups to remember this one.
    Unchecked,
}

impl Links {
    /// Holds the numbers of one entry against all before it.
    pub(crate) fn check(&mut self, block: Option<u64>, archive: Option<u64>) -> LinkAnswer {
        let forward = block.map(|number| note(&mut self.mates.block, number, archive));
        let backward = archive.map(|number| note(&mut self.mates.archive, number, block));
        let answers = [forward, backward];
        if answers.contains(&Some(LinkAnswer::Contradicts)) {
            LinkAnswer::Contradicts
        } else if answers.contains(&Some(LinkAnswer::Unchecked)) {
            LinkAnswer::Unchecked
        } else {
            LinkAnswer::Agrees
        }
    }
}

fn note(mates: &mut HashMap<u64, Option<u64>>, number: u64, mate: Option<u64>) -> LinkAnswer {
    if let Some(known) = mates.get(&number) {
        // Not linked, twice: the other side has two files where this one has one.
        return if *known == mate && mate.is_some() { LinkAnswer::Agrees } else { LinkAnswer::Contradicts };
    }
    if mates.len() == GROUPS_MAX {
        return LinkAnswer::Unchecked;
    }
    mates.insert(number, mate);
    LinkAnswer::Agrees
}

#[cfg(test)]
mod tests {
    use super::*;

    /// True for each entry that agrees with those before it.
    fn check(entries: &[(Option<u64>, Option<u64>)]) -> Vec<bool> {
        let mut links = Links::default();
        entries.iter().map(|(block, archive)| links.check(*block, *archive) == LinkAnswer::Agrees).collect()
    }

    #[test]
    fn numbers_may_differ_but_must_map_one_to_one() {
        assert_eq!(check(&[(Some(1), Some(9)), (Some(2), Some(8)), (Some(1), Some(9))]), [true; 3]);
        assert_eq!(check(&[(Some(1), Some(9)), (Some(1), Some(8))]), [true, false]);
        assert_eq!(check(&[(Some(1), Some(9)), (Some(2), Some(9))]), [true, false]);
    }

    #[test]
    fn a_group_of_one_is_as_good_as_no_group() {
        assert_eq!(check(&[(Some(1), None), (None, Some(1)), (None, None)]), [true; 3]);
    }

    #[test]
    fn one_file_here_and_two_there_contradict() {
        assert_eq!(check(&[(Some(1), None), (Some(1), None)]), [true, false]);
        assert_eq!(check(&[(None, Some(1)), (None, Some(1))]), [true, false]);
        assert_eq!(check(&[(Some(1), None), (Some(1), Some(4))]), [true, false]);
    }

    #[test]
    fn too_many_groups_are_said_not_to_be_checked() {
        let mut links = Links::default();
        for number in 0..GROUPS_MAX as u64 {
            assert_eq!(links.check(Some(number), None), LinkAnswer::Agrees);
        }
        assert_eq!(links.check(Some(u64::MAX), Some(1)), LinkAnswer::Unchecked);
        assert_eq!(links.check(Some(3), Some(5)), LinkAnswer::Contradicts, "those remembered are still checked");
    }
}
