//! Which stored object is to blame for an entry that cannot be read.
//!
//! The reader knows where in the image the unreadable bytes lie when they are content; the view
//! knows which bytes of the image each damaged object spoiled. For folders and inodes, whose place
//! nobody tells, the damage met last is the one that was in the way.

use std::collections::BTreeMap;

use dualsync_model::event::Finding;
use dualsync_model::fact::FactState;
use dualsync_model::id::PointId;
use dualsync_model::path::RawPath;

use crate::view::{Damage, DamagedRange};

/// Most paths that a finding names.
const PATHS_MAX: usize = 100;

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A stored object is missing or wrong.
    Damaged(Damage),
    /// Nothing stored is wrong: the file system was like that when it was copied.
    Unreadable(String),
}

impl Verdict {
    /// The state of the entry's fact.
    pub fn state(&self) -> FactState {
        match self {
            Self::Damaged(damage) => {
                FactState::Damaged { object: damage.object.clone(), problem: damage.problem.clone() }
            }
            Self::Unreadable(problem) => FactState::Unreadable { problem: problem.clone() },
        }
    }
}

/// Collects which entries each object spoils.
#[derive(Debug, Default)]
pub struct Blame {
    hit: BTreeMap<String, Vec<RawPath>>,
}

impl Blame {
    /// Judges an entry that cannot be read, at `at` in the image when that is known.
    pub fn judge(&mut self, path: &RawPath, at: Option<u64>, problem: &str, damages: &[DamagedRange]) -> Verdict {
        let named = at.and_then(|at| damages.iter().find(|damaged| damaged.bytes.contains(&at)));
        match named.or(damages.last()) {
            Some(DamagedRange { damage, .. }) => {
                let paths = self.hit.entry(damage.object.clone()).or_default();
                if paths.len() < PATHS_MAX {
                    paths.push(path.clone());
                }
                Verdict::Damaged(damage.clone())
            }
            None => Verdict::Unreadable(problem.to_owned()),
        }
    }

    /// One finding for each damaged object, whether or not an entry is known to suffer.
    pub fn findings(&self, target: &str, point: &PointId, damages: &[DamagedRange]) -> Vec<Finding> {
        let mut objects: BTreeMap<&str, &Damage> = BTreeMap::new();
        for damaged in damages {
            objects.entry(&damaged.damage.object).or_insert(&damaged.damage);
        }
        let paths_of = |object: &str| {
            let mut paths = self.hit.get(object).cloned().unwrap_or_default();
            paths.sort();
            paths.dedup();
            paths
        };
        let finding = |(object, damage): (&str, &Damage)| Finding {
            target: target.to_owned(),
            object: object.to_owned(),
            kind: damage.kind.to_owned(),
            problem: damage.problem.clone(),
            points: vec![point.clone()],
            paths: paths_of(object),
        };
        objects.into_iter().map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(bytes: std::ops::Range<u64>, object: &str) -> DamagedRange {
        let damage = Damage { object: object.to_owned(), kind: "digest", problem: "flipped".to_owned() };
        DamagedRange { bytes, damage }
    }

    #[test]
    fn content_blames_the_object_of_its_place_and_a_folder_the_last_one_met() {
        let damages = [damaged(0..100, "packs/a"), damaged(100..200, "packs/b"), damaged(500..600, "packs/c")];
        let mut blame = Blame::default();
        let mut check = |path: &str, at, object: Option<&str>| {
            let verdict = blame.judge(&RawPath::new(path), at, "Input/output error", &damages);
            let found = if let Verdict::Damaged(damage) = verdict { Some(damage.object) } else { None };
            assert_eq!(found.as_deref(), object, "{path}");
        };
        check("in/b", Some(150), Some("packs/b"));
        check("folder", None, Some("packs/c"));
        check("elsewhere", Some(300), Some("packs/c"));
        let point = "web@20261120T020000Z".parse().unwrap();
        let findings = blame.findings("paris", &point, &damages);
        let told: Vec<_> = findings.iter().map(|it| (it.object.as_str(), it.paths.len())).collect();
        assert_eq!(told, [("packs/a", 0), ("packs/b", 1), ("packs/c", 2)]);
        assert_eq!((findings[0].target.as_str(), findings[0].kind.as_str()), ("paris", "digest"));
    }

    #[test]
    fn without_damage_the_source_was_like_that() {
        let verdict = Blame::default().judge(&RawPath::new("x"), None, "Structure needs cleaning", &[]);
        assert_eq!(verdict.state(), FactState::Unreadable { problem: "Structure needs cleaning".into() });
    }
}
