//! What is wrong with a configuration, in words that lead to the line.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One mistake or several, each with its place.
    #[error("{}", listed(.0))]
    Wrong(Vec<Problem>),
    /// The words are right and the policy forbids what they say.
    #[error("{}", listed(.0))]
    Policy(Vec<Problem>),
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was typed.
    pub place: Place,
    /// The key, like `targets.paris.country`; empty for the file as a whole.
    pub key: String,
    /// What was expected and what was found.
    pub message: String,
}

/// Where a value was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, from 1.
    Line {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.place, self.message)
        } else {
            write!(f, "{}: {}: {}", self.place, self.key, self.message)
        }
    }
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A mistake whose place is not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) key: String,
    pub(crate) message: String,
}

impl Mistake {
    pub(crate) fn new(key: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { key: key.into(), message: message.to_string() }
    }

    /// What serde or the `config` crate said, with the key taken out and an unknown one corrected.
    pub(crate) fn from_library(error: &config::ConfigError) -> Self {
        match error {
            config::ConfigError::Type { unexpected, expected, key, .. } => {
                Self::new(dotted(key.as_ref()), format!("expected {expected}, found {unexpected}"))
            }
            config::ConfigError::At { error, key, .. } => {
                let inner = Self::from_library(error);
                Self::new(join(&dotted(key.as_ref()), &inner.key), inner.message)
            }
            config::ConfigError::Message(message) => Self::from_serde(message),
            other => Self::new("", other),
        }
    }

    /// serde has no structured error: "unknown field `x`, expected one of `a`, `b`" is its fixed wording.
    fn from_serde(message: &str) -> Self {
        let Some(rest) = message.strip_prefix("unknown field `") else {
            return Self::new("", message);
        };
        let mut names = rest.split('`');
        let found = names.next().unwrap_or_default();
        let known: Vec<_> = names.skip(1).step_by(2).collect();
        let message = match nearest(found, &known) {
            Some(name) => format!("unknown key, did you mean \"{name}\"?"),
            None => format!("unknown key, expected one of {}", known.join(", ")),
        };
        Self::new(found, message)
    }
}

/// The `config` crate writes `source[1]name` where its own language has `source[1].name`.
fn dotted(key: Option<&String>) -> String {
    let mut parts = key.map(String::as_str).unwrap_or_default().split_inclusive(']');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |key, part| join(&key, part.trim_start_matches('.')))
}

/// A key below another.
pub(crate) fn join(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        ("", key) | (key, "") => key.to_owned(),
        (outer, inner) if inner.starts_with('[') => format!("{outer}{inner}"),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}

/// The known word that `found` most likely was meant to be: at most a third of its letters differ.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance_max = (found.chars().count() / 3).max(1);
    let (distance, name) = known.iter().map(|name| (distance(found, name), *name)).min()?;
    (distance <= distance_max).then_some(name)
}

/// Letters to insert, delete, change or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_that_leads_to_the_key() {
        let place = Place::Line { file: PathBuf::from("dualsync.toml"), line: 14 };
        let problem = Problem { place, key: "targets.paris.country".to_owned(), message: "expected x".to_owned() };
        assert_eq!(problem.to_string(), "dualsync.toml:14: targets.paris.country: expected x");
        let whole = Problem { key: String::new(), ..problem.clone() };
        assert_eq!(whole.to_string(), "dualsync.toml:14: expected x");
        let both = ConfigError::Wrong(vec![problem, whole]).to_string();
        assert_eq!(both.lines().count(), 2);
    }

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let known = ["country", "credentials", "key", "kind"];
        let check = |found: &str, expected| assert_eq!(nearest(found, &known), expected, "{found}");
        check("contry", Some("country"));
        check("coutnry", Some("country"));
        check("kye", Some("key"));
        check("land", None);
        check("", None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn keys_join_with_dots_and_without_before_a_bracket() {
        let check = |outer: &str, inner: &str, expected: &str| assert_eq!(join(outer, inner), expected);
        check("", "host", "host");
        check("targets.paris", "", "targets.paris");
        check("targets.paris", "country", "targets.paris.country");
        check("source", "[0].name", "source[0].name");
    }

    #[test]
    fn the_dot_that_the_library_leaves_out_is_put_back() {
        for text in ["source[1]retention.daily", "source[1].retention.daily"] {
            assert_eq!(dotted(Some(&text.to_owned())), "source[1].retention.daily");
        }
        assert_eq!(dotted(Some(&"a[0][1]b".to_owned())), "a[0][1].b");
        assert_eq!(dotted(Some(&"host".to_owned())), "host");
        assert_eq!(dotted(None), "");
    }
}
