//! Which entries a restore takes, and which folders it need not even look into.
//!
//! A glob that matches a folder takes all below it. `*` and `?` stay within a name, `**` does not.
//! Where a glob begins with plain names, these are looked up one by one instead of reading their
//! folders: one file out of a large tree must cost a few requests.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dualsync_model::path::RawPath;
use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::InsideError;
use super::walk::Wanted;

/// The globs of a restore.
#[derive(Debug)]
pub(super) struct Selection {
    /// Absent: everything is taken.
    whole: Option<GlobSet>,
    steps: Vec<Vec<Step>>,
}

/// One name of a glob.
#[derive(Debug)]
enum Step {
    /// A plain name.
    Name(Vec<u8>),
    /// A pattern within one name.
    Pattern(GlobMatcher),
    /// From here on anything may match.
    Anything,
}

impl Selection {
    /// Takes globs relative to the tree; none of them takes everything.
    pub(super) fn new(globs: &[String]) -> Result<Self, InsideError> {
        if globs.is_empty() {
            return Ok(Self { whole: None, steps: Vec::new() });
        }
        let mut whole = GlobSetBuilder::new();
        let mut steps = Vec::new();
        for glob in globs {
            let plain = glob.trim_start_matches("./").trim_matches('/');
            let refused = |source| InsideError::Glob { glob: glob.clone(), source };
            whole.add(GlobBuilder::new(plain).literal_separator(true).build().map_err(refused)?);
            steps.push(steps_of(plain).map_err(refused)?);
        }
        let whole = whole.build().map_err(|source| InsideError::Glob { glob: globs.join(" "), source })?;
        Ok(Self { whole: Some(whole), steps })
    }

    /// Whether everything is taken.
    pub(super) fn is_everything(&self) -> bool {
        self.whole.is_none()
    }

    /// Whether `path`, or a folder above it, matches.
    pub(super) fn takes(&self, path: &RawPath) -> bool {
        let Some(globs) = &self.whole else { return true };
        let bytes = path.as_bytes();
        let borders = (0..bytes.len()).filter(|at| bytes[*at] == b'/').chain([bytes.len()]);
        borders.into_iter().any(|at| globs.is_match(as_path(&bytes[..at])))
    }

    /// What to look at in `folder`; `None` when nothing in it can match.
    pub(super) fn wanted(&self, folder: &RawPath) -> Option<Wanted> {
        if self.takes(folder) {
            return Some(Wanted::All);
        }
        let mut names = Vec::new();
        for steps in &self.steps {
            match next_step(steps, folder) {
                None => {}
                Some(Step::Name(name)) => names.push(name.clone()),
                Some(Step::Pattern(_) | Step::Anything) => return Some(Wanted::All),
            }
        }
        names.sort_unstable();
        names.dedup();
        (!names.is_empty()).then_some(Wanted::Only(names))
    }
}

fn steps_of(glob: &str) -> Result<Vec<Step>, globset::Error> {
    let mut steps = Vec::new();
    for part in glob.split('/') {
        // Braces may hold slashes, and a class may hold one: from there on the parts are no names.
        if part.contains("**") || part.contains(['{', '}', '[', '\\']) {
            steps.push(Step::Anything);
            break;
        }
        let is_pattern = part.contains(['*', '?', ']']);
        steps.push(if is_pattern {
            Step::Pattern(GlobBuilder::new(part).literal_separator(true).build()?.compile_matcher())
        } else {
            Step::Name(part.as_bytes().to_vec())
        });
    }
    Ok(steps)
}

/// The step that names in `folder` have to take, when the folder itself fits so far.
fn next_step<'a>(steps: &'a [Step], folder: &RawPath) -> Option<&'a Step> {
    let names = folder.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let mut steps = steps.iter();
    for name in names {
        match steps.next()? {
            Step::Name(step) if step == name => {}
            Step::Pattern(pattern) if pattern.is_match(as_path(name)) => {}
            Step::Name(_) | Step::Pattern(_) => return None,
            anything @ Step::Anything => return Some(anything),
        }
    }
    steps.next()
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(globs: &[&str]) -> Selection {
        Selection::new(&globs.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn globs_take_what_they_match_and_all_below_it() {
        let check = |globs: &[&str], path: &[u8], expected: bool| {
            assert_eq!(selection(globs).takes(&RawPath::new(path)), expected, "{globs:?} {path:?}");
        };
        check(&[], b"", true);
        check(&["etc/passwd"], b"etc/passwd", true);
        check(&["/etc/passwd"], b"etc/passwd", true);
        check(&["etc"], b"etc/ssh/sshd_config", true);
        check(&["etc/"], b"etc/ssh", true);
        check(&["etc/*"], b"etc", false);
        check(&["etc/*.conf"], b"etc/a.conf", true);
        check(&["*.conf"], b"etc/a.conf", false);
        check(&["**/*.conf"], b"etc/deep/a.conf", true);
        check(&["etc/{a,b/c}"], b"etc/b/c/d", true);
        check(&["caf*"], b"caf\xe9", true);
        check(&["b", "a"], b"a", true);
    }

    #[test]
    fn folders_that_cannot_hold_a_match_are_not_read() {
        let check = |globs: &[&str], folder: &str, expected: Option<&[&str]>| {
            let found = selection(globs).wanted(&RawPath::new(folder));
            let names: Option<Vec<String>> = found.map(|wanted| match wanted {
                Wanted::All => vec!["ALL".to_owned()],
                Wanted::Only(names) => names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect(),
            });
            let expected = expected.map(|names| names.iter().map(ToString::to_string).collect());
            assert_eq!(names, expected, "{globs:?} {folder}");
        };
        check(&["etc/ssh/key", "etc/passwd"], "", Some(&["etc"]));
        check(&["etc/ssh/key", "etc/passwd"], "etc", Some(&["passwd", "ssh"]));
        check(&["etc/ssh/key"], "usr", None);
        check(&["etc/ssh/key"], "etc/ssh/key", Some(&["ALL"]));
        check(&["home/*/mail"], "home", Some(&["ALL"]));
        check(&["home/*/mail"], "home/ada", Some(&["mail"]));
        check(&["**/x"], "any/where", Some(&["ALL"]));
        check(&["a/{b,c/d}"], "a", Some(&["ALL"]));
        check(&["a/{b,c/d}"], "b", None);
    }

    #[test]
    fn every_taken_path_is_reached_through_wanted_folders() {
        let globs = ["a/b", "x/**/z", "m/*/n", "p/{q,r/s}", "t/[uv]"];
        for path in ["a/b/c", "x/1/2/z", "m/k/n/o", "p/r/s", "t/u"] {
            let selection = selection(&globs);
            assert!(selection.takes(&RawPath::new(path)));
            let parts: Vec<_> = path.split('/').collect();
            for depth in 0..parts.len() {
                let reached = match selection.wanted(&RawPath::new(parts[..depth].join("/"))) {
                    Some(Wanted::All) => true,
                    Some(Wanted::Only(names)) => names.contains(&parts[depth].as_bytes().to_vec()),
                    None => false,
                };
                assert!(reached, "{path} at {depth}");
            }
        }
    }

    #[test]
    fn a_broken_glob_is_named() {
        let error = Selection::new(&["a[".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("a["), "{error}");
    }
}
