//! Collects what is found damaged while a job goes on, by object, with the files it hits.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use dualsync_model::event::Finding;
use dualsync_model::id::PointId;
use dualsync_model::path::RawPath;

use crate::points::with_causes;
use crate::volume::reader::VolumeError;

/// Files named in one finding.
const PATHS_MAX: usize = 100;

/// The damage of one point.
#[derive(Debug)]
pub struct Damage {
    target: String,
    point: PointId,
    objects: Mutex<BTreeMap<String, Hit>>,
}

#[derive(Debug)]
struct Hit {
    kind: &'static str,
    problem: String,
    paths: Vec<RawPath>,
    files: u64,
}

impl Damage {
    /// None yet.
    pub fn new(target: &str, point: &PointId) -> Self {
        Self { target: target.to_owned(), point: point.clone(), objects: Mutex::default() }
    }

    /// `object` is wrong, and `path` is hit by it. One problem of an object is told, and always the same of several: two
    /// readers may meet it in either order. What is wrong with the whole (`digest`, `missing`, `truncated`) comes before
    /// what is `unreadable` in it.
    pub fn note(&self, object: &str, kind: &'static str, problem: &str, path: Option<&RawPath>) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = objects.entry(object.to_owned()).or_insert_with(|| Hit {
            kind,
            problem: problem.to_owned(),
            paths: Vec::new(),
            files: 0,
        });
        if (kind, problem) < (hit.kind, hit.problem.as_str()) {
            (hit.kind, hit.problem) = (kind, problem.to_owned());
        }
        if let Some(path) = path {
            hit.files += 1;
            if hit.paths.len() < PATHS_MAX && !hit.paths.contains(path) {
                hit.paths.push(path.clone());
            }
        }
    }

    /// A volume is wrong.
    pub fn note_volume(&self, error: &VolumeError, path: Option<&RawPath>) {
        self.note(error.key(), error.finding().unwrap_or("unreadable"), &with_causes(error), path);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// One finding for each object, by key.
    pub fn findings(&self) -> Vec<Finding> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let finding = |(object, hit): (&String, &Hit)| {
            let mut paths = hit.paths.clone();
            paths.sort();
            let more = hit.files.saturating_sub(paths.len() as u64);
            let more = if more == 0 { String::new() } else { format!(" (hits {} files)", hit.files) };
            Finding {
                target: self.target.clone(),
                object: object.clone(),
                kind: hit.kind.to_owned(),
                problem: format!("{}{more}", hit.problem),
                points: vec![self.point.clone()],
                paths,
            }
        };
        objects.iter().map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_finding_with_the_files_it_hits() {
        let damage = Damage::new("paris", &"web@20261120T020000Z".parse().unwrap());
        assert!(damage.is_empty());
        for n in (0..150).rev() {
            damage.note("volumes/a", "missing", "is missing", Some(&RawPath::new(format!("{n:03}"))));
        }
        damage.note("volumes/b", "digest", "flipped", None);
        let findings = damage.findings();
        assert_eq!(findings.len(), 2);
        assert_eq!((findings[0].paths.len(), findings[0].problem.as_str()), (100, "is missing (hits 150 files)"));
        assert!(findings[0].paths.is_sorted());
        assert_eq!((findings[1].kind.as_str(), findings[1].paths.len()), ("digest", 0));
    }
}
