//! Globs over paths of a tree, as `docs/worker-protocol.md` says under "Globs".
//!
//! What matches stands for itself and for everything below it. Matched on raw bytes: a name need not be
//! UTF-8 to be found by `*`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use dualsync_model::path::RawPath;

/// A set of globs; of none, nothing matches.
#[derive(Clone, Debug)]
pub struct Globs {
    set: GlobSet,
    roots: Vec<RawPath>,
}

/// A text that is no glob.
#[derive(Debug, thiserror::Error)]
#[error("'{glob}' is no glob over paths of the tree")]
pub struct GlobError {
    glob: String,
    source: globset::Error,
}

impl Globs {
    /// Reads the globs. A `/` before or after one means nothing and is passed over.
    pub fn new(globs: &[String]) -> Result<Self, GlobError> {
        let mut set = GlobSetBuilder::new();
        let wrong = |glob: &String| {
            let glob = glob.clone();
            move |source| GlobError { glob, source }
        };
        let mut roots = Vec::new();
        for glob in globs {
            let plain = glob.trim_matches('/');
            roots.push(literal_root(plain));
            let built = GlobBuilder::new(plain).literal_separator(true).backslash_escape(true).build();
            set.add(built.map_err(wrong(glob))?);
        }
        let set = set.build().map_err(|source| GlobError { glob: globs.join(" "), source })?;
        Ok(Self { set, roots })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether `path` or a directory above it matches.
    pub fn matches(&self, path: &RawPath) -> bool {
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        slashes.chain([bytes.len()]).any(|end| self.set.is_match(OsStr::from_bytes(&bytes[..end])))
    }

    /// Paths at or below which everything lies that can match, one for each glob.
    pub fn roots(&self) -> &[RawPath] {
        &self.roots
    }
}

/// The components before the first that holds a special character.
fn literal_root(glob: &str) -> RawPath {
    let is_literal = |part: &&str| !part.contains(['*', '?', '[', ']', '{', '}', '\\']);
    let literal: Vec<_> = glob.split('/').take_while(is_literal).collect();
    // A brace may reach over slashes: `{a,b/c}` has no literal component, and neither has its tail.
    RawPath::new(literal.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(globs: &[&str]) -> Globs {
        Globs::new(&globs.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_matches_stands_for_everything_below() {
        let check = |glob: &str, inside: &[&str], outside: &[&str]| {
            let globs = globs(&[glob]);
            for path in inside {
                assert!(globs.matches(&RawPath::new(*path)), "{glob} should match {path}");
            }
            for path in outside {
                assert!(!globs.matches(&RawPath::new(*path)), "{glob} should not match {path}");
            }
        };
        check("etc", &["etc", "etc/a/b"], &["", "etc.d", "usr/etc"]);
        check("/etc/", &["etc"], &["usr"]);
        check("cache/**", &["cache/a", "cache/a/b"], &["cache"]);
        check("**/*.tmp", &["a.tmp", "b/c.tmp", "b/d.tmp/e"], &["tmp"]);
        check("*.tmp", &["a.tmp"], &["b/c.tmp"]);
        check(r"\*", &["*"], &["a"]);
        check("{a,b/c}", &["a", "b/c/d"], &["b"]);
        check("**", &["", "a"], &[]);
    }

    #[test]
    fn names_that_are_no_text_are_matched() {
        assert!(globs(&["d/*"]).matches(&RawPath::new(b"d/caf\xe9".to_vec())));
        assert!(globs(&["d/caf?"]).matches(&RawPath::new(b"d/caf\xe9".to_vec())));
    }

    #[test]
    fn roots_are_the_literal_beginnings() {
        let check = |glob: &str, root: &str| assert_eq!(globs(&[glob]).roots(), [RawPath::new(root)], "{glob}");
        check("etc/passwd", "etc/passwd");
        check("/etc/*.d/x", "etc");
        check("**/x", "");
        check("a/{b,c/d}/e", "a");
        check(r"a/b\*/c", "a");
    }

    #[test]
    fn nothing_matches_no_globs_and_a_bad_one_is_named() {
        assert!(globs(&[]).is_empty() && !globs(&[]).matches(&RawPath::new("a")));
        assert_eq!(Globs::new(&["a[".into()]).unwrap_err().to_string(), "'a[' is no glob over paths of the tree");
    }
}
