//! Damage met during a restore: blocks by object, told as findings with ranges.

use std::collections::{BTreeMap, BTreeSet};

use dualsync_model::event::Finding;
use dualsync_model::id::PointId;

use crate::fetch::{ObjectError, sentence};
use crate::image::BlockIndex;

/// Ranges named in one finding; more are counted.
const RANGES_MAX: usize = 20;

/// What could not be restored.
#[derive(Debug, Default)]
pub struct Damage {
    objects: BTreeMap<String, Lost>,
    blocks: BTreeSet<u64>,
}

#[derive(Debug)]
struct Lost {
    kind: &'static str,
    problem: String,
    blocks: BTreeSet<u64>,
}

impl Damage {
    /// `block` is lost to this error.
    pub fn add(&mut self, block: BlockIndex, error: &ObjectError) {
        self.blocks.insert(block.0);
        self.objects
            .entry(error.object.to_string())
            .or_insert_with(|| Lost { kind: error.kind(), problem: sentence(&error.problem), blocks: BTreeSet::new() })
            .blocks
            .insert(block.0);
    }

    /// How many blocks.
    pub fn count(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Whether `block` is lost.
    pub fn holds(&self, block: BlockIndex) -> bool {
        self.blocks.contains(&block.0)
    }

    /// One finding an object.
    pub fn findings(&self, target: &str, point: &PointId) -> Vec<Finding> {
        let finding = |(object, lost): (&String, &Lost)| Finding {
            target: target.to_owned(),
            object: object.clone(),
            kind: lost.kind.to_owned(),
            problem: format!("{}; lost blocks: {}", lost.problem, ranges(&lost.blocks)),
            points: vec![point.clone()],
            paths: Vec::new(),
        };
        self.objects.iter().map(finding).collect()
    }
}

/// `3-7, 9` for people.
fn ranges(blocks: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for block in blocks {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *block => *end = *block,
            _ => ranges.push((*block, *block)),
        }
    }
    let more = ranges.len().saturating_sub(RANGES_MAX);
    let text = |(start, end): &(u64, u64)| if start == end { start.to_string() } else { format!("{start}-{end}") };
    let mut texts: Vec<String> = ranges.iter().take(RANGES_MAX).map(text).collect();
    if more > 0 {
        texts.push(format!("and {more} ranges more"));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;
    use crate::seal::OpenError;

    #[test]
    fn blocks_are_told_as_ranges_by_object() {
        let mut damage = Damage::default();
        for block in [9, 3, 4, 5] {
            damage.add(BlockIndex(block), &ObjectError::new(names::fixed("packs/aa"), OpenError::Forged(1)));
        }
        damage.add(BlockIndex(70), &ObjectError::new(names::fixed("maps/bb"), OpenError::Truncated));
        assert_eq!(damage.count(), 5);
        assert!(damage.holds(BlockIndex(70)) && !damage.holds(BlockIndex(6)));
        let findings = damage.findings("frankfurt", &"web@20261120T020000Z".parse().unwrap());
        assert_eq!(findings.len(), 2);
        assert_eq!((findings[0].object.as_str(), findings[0].kind.as_str()), ("maps/bb", "truncated"));
        assert!(findings[1].problem.ends_with("lost blocks: 3-5, 9"), "{}", findings[1].problem);
    }

    #[test]
    fn a_long_list_is_cut() {
        let blocks: BTreeSet<u64> = (0..100).map(|n| n * 2).collect();
        let text = ranges(&blocks);
        assert!(text.starts_with("0, 2, 4") && text.ends_with("and 80 ranges more"), "{text}");
    }
}
