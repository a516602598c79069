//! The rules by which the archive path left entries out, read again from its manifest.
//!
//! How a glob is read stands in `docs/worker-protocol.md`, "Globs"; the writer reads the same page.
//! Should the two ever disagree, verify shows it as holes in the walk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dualsync_model::path::RawPath;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A rule that is no glob.
#[derive(Debug, thiserror::Error)]
#[error("the exclude rule '{rule}' of the archive copy is no glob")]
pub struct ExcludeError {
    /// The rule.
    pub rule: String,
    /// What is wrong with it.
    pub source: globset::Error,
}

/// The rules of one copy.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    globs: GlobSet,
}

impl Exclude {
    /// Reads the rules.
    pub fn new<R: AsRef<str>>(rules: impl IntoIterator<Item = R>) -> Result<Self, ExcludeError> {
        let mut globs = GlobSetBuilder::new();
        let mut last = String::new();
        for rule in rules {
            rule.as_ref().clone_into(&mut last);
            let glob = GlobBuilder::new(&last).literal_separator(true).build();
            globs.add(glob.map_err(|source| ExcludeError { rule: last.clone(), source })?);
        }
        let globs = globs.build().map_err(|source| ExcludeError { rule: last, source })?;
        Ok(Self { globs })
    }

    /// Whether `path`, or a folder it lies in, matches a rule.
    pub fn covers(&self, path: &RawPath) -> bool {
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([bytes.len()]).any(|end| self.globs.is_match(Path::new(OsStr::from_bytes(&bytes[..end]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, covered: &[&str], kept: &[&str]) {
        let exclude = Exclude::new([rule]).unwrap();
        for path in covered {
            assert!(exclude.covers(&RawPath::new(*path)), "{rule} must cover {path}");
        }
        for path in kept {
            assert!(!exclude.covers(&RawPath::new(*path)), "{rule} must not cover {path}");
        }
    }

    #[test]
    fn globs_are_relative_to_the_tree_and_cover_what_lies_below() {
        check("cache/**", &["cache/a", "cache/a/b"], &["cache", "var/cache/a", "cached"]);
        check("cache", &["cache", "cache/a/b"], &["var/cache"]);
        check("**/*.tmp", &["a.tmp", "b/c.tmp", "b/d.tmp/e"], &["tmp", "a.tmpx"]);
        check("*.tmp", &["a.tmp"], &["b/c.tmp"]);
        check(r"\*.tmp", &["*.tmp"], &["a.tmp"]);
        check("v{ar,mp}/log?", &["var/log1"], &["var/log", "var/log12"]);
    }

    #[test]
    fn names_that_are_not_utf_8_match_too() {
        assert!(Exclude::new(["a/*"]).unwrap().covers(&RawPath::new(b"a/\xff".to_vec())));
    }

    #[test]
    fn no_rules_cover_nothing_and_a_bad_rule_is_named() {
        assert!(!Exclude::default().covers(&RawPath::new("a")));
        assert!(!Exclude::new([""; 0]).unwrap().covers(&RawPath::default()));
        let error = Exclude::new(["fine", "bad["]).unwrap_err();
        assert!(error.to_string().contains("'bad['"), "{error}");
    }
}
