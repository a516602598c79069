//! A difference between the two copies, and a bounded list of them.

use std::collections::BTreeMap;

use dualsync_model::path::{PathField, RawPath};
use serde::{Serialize, Serializer};

/// Most differences that are kept; all are counted.
pub const DIFFERENCES_MAX: usize = 10_000;

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// One copy lists the entry, the other does not.
    Missing,
    /// What the entry is.
    Kind,
    /// Length of a file or link target.
    Size,
    /// Time of the last change of content.
    Mtime,
    /// Permission bits.
    Mode,
    /// Owner and group.
    Owner,
    /// Target of a symbolic link.
    LinkTarget,
    /// Numbers of a device node.
    Device,
    /// Which names are one file.
    HardLink,
    /// Extended attributes, ACLs and capabilities among them.
    Xattrs,
    /// Bytes of a file.
    Content,
    /// A stored copy contradicts its own writer's note or cannot be read.
    Damaged,
    /// The source could not be read when one copy was made, so that copy has no content.
    Unreadable,
}

/// Who is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Culprit {
    /// The block copy.
    Block,
    /// The archive copy.
    Archive,
    /// The source gave different answers to the two writers.
    Source,
    /// Both copies are what their writers noted, and they differ.
    Unknown,
}

/// One difference; `path` or `path_b64` in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where.
    #[serde(flatten, serialize_with = "as_field")]
    pub path: RawPath,
    /// What.
    pub kind: Aspect,
    /// The block copy's value; absent where it has none.
    pub block: Option<String>,
    /// The archive copy's value; absent where it has none.
    pub archive: Option<String>,
    /// Who is wrong.
    pub culprit: Culprit,
    /// Why that is thought.
    pub reason: String,
}

fn as_field<S: Serializer>(path: &RawPath, serializer: S) -> Result<S::Ok, S::Error> {
    PathField::from(path).serialize(serializer)
}

/// Differences as they are found: the first ones, and the counts of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// All of them.
    pub total: u64,
    /// All of them, by what differs.
    pub by_kind: BTreeMap<Aspect, u64>,
    /// All of them, by who is wrong.
    pub by_culprit: BTreeMap<Culprit, u64>,
    /// The first [`DIFFERENCES_MAX`], in the order of paths.
    #[serde(skip)]
    pub first: Vec<Difference>,
}

impl Differences {
    /// Adds one.
    pub(crate) fn add(&mut self, difference: Difference) {
        self.total += 1;
        *self.by_kind.entry(difference.kind).or_default() += 1;
        *self.by_culprit.entry(difference.culprit).or_default() += 1;
        if self.first.len() < DIFFERENCES_MAX {
            self.first.push(difference);
        }
    }

    /// All of them in one line, by what differs, without names.
    pub fn counts(&self) -> String {
        let kinds = self.by_kind.iter().map(|(kind, count)| format!("{count} {}", words(kind)));
        let culprits = self.by_culprit.iter().map(|(culprit, count)| format!("{count} {}", words(culprit)));
        let (kinds, culprits): (Vec<_>, Vec<_>) = (kinds.collect(), culprits.collect());
        format!("{} (wrong: {})", kinds.join(", "), culprits.join(", "))
    }

    /// How many are of `kind`.
    pub fn of_kind(&self, kind: Aspect) -> u64 {
        self.by_kind.get(&kind).copied().unwrap_or(0)
    }
}

/// The word that JSON has for it, with blanks.
pub(crate) fn words(word: &impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{word:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push(' ');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

impl Extend<Difference> for Differences {
    fn extend<I: IntoIterator<Item = Difference>>(&mut self, differences: I) {
        for difference in differences {
            self.add(difference);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(path: &[u8]) -> Difference {
        Difference {
            path: RawPath::new(path),
            kind: Aspect::Mode,
            block: Some("0644".into()),
            archive: None,
            culprit: Culprit::Unknown,
            reason: "why".into(),
        }
    }

    #[test]
    fn the_json_is_the_documented_one() {
        let json = serde_json::to_string(&difference(b"a")).unwrap();
        let expected = r#"{"path":"a","kind":"mode","block":"0644","archive":null,"culprit":"unknown","reason":"why"}"#;
        assert_eq!(json, expected);
        assert!(serde_json::to_string(&difference(b"\xff")).unwrap().starts_with(r#"{"path_b64":"/w==","#));
    }

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let mut list = Differences::default();
        for _ in 0..DIFFERENCES_MAX + 3 {
            list.add(difference(b"a"));
        }
        assert_eq!((list.total, list.first.len()), (DIFFERENCES_MAX as u64 + 3, DIFFERENCES_MAX));
        assert_eq!((list.of_kind(Aspect::Mode), list.of_kind(Aspect::Size)), (list.total, 0));
        assert_eq!(list.by_culprit[&Culprit::Unknown], list.total);
    }
}
