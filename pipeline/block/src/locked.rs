//! What is known to be locked, kept in the state folder: a night without changes asks for nothing.
//!
//! `locks.txt` begins with the place, so that what is known of one bucket is not believed of another. Each line names the mode
//! and the versions whose locks were seen: the oldest, which nobody can put something below, and the newest.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use dualsync_block_store::contract::Key;
use dualsync_model::job::LockMode;
use dualsync_model::time::Timestamp;

use crate::repository::Repository;
use crate::stack::Stack;

/// The first line, before the place.
const HEAD: &str = "dualsync locks 2, ";

/// In the place of an id where the store does not list versions: what a plain read finds.
const LATEST: &str = "*";

/// The ids of the versions that were locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    oldest: String,
    newest: String,
}

impl Ids {
    /// Those of a stack that has a version.
    pub fn of(stack: &Stack) -> Option<Self> {
        Some(Self { oldest: stack.oldest()?.id.clone(), newest: stack.newest()?.id.clone() })
    }

    /// Whatever lies on top.
    pub fn latest() -> Self {
        Self { oldest: LATEST.to_owned(), newest: LATEST.to_owned() }
    }

    /// One each, `None` for whatever lies on top.
    pub fn each(&self) -> impl Iterator<Item = Option<&str>> {
        let newest = Some(self.newest.as_str()).filter(|newest| *newest != self.oldest);
        [Some(self.oldest.as_str()), newest].into_iter().flatten().map(|id| Some(id).filter(|id| *id != LATEST))
    }

    /// Ids go into a line between spaces.
    fn are_words(&self) -> bool {
        let is_word = |id: &str| !id.is_empty() && !id.contains(|one: char| one.is_whitespace() || one.is_control());
        is_word(&self.oldest) && is_word(&self.newest)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    until: Timestamp,
    mode: LockMode,
    ids: Ids,
}

impl Held {
    fn line(&self, key: &Key) -> String {
        let mode = if self.mode == LockMode::Compliance { "compliance" } else { "governance" };
        format!("{} {mode} {} {} {key}\n", self.until.seconds(), self.ids.oldest, self.ids.newest)
    }

    fn parse(line: &str) -> Option<(Key, Self)> {
        let mut words = line.splitn(5, ' ');
        let until = Timestamp::from_seconds(words.next()?.parse().ok()?);
        let mode = match words.next()? {
            "compliance" => LockMode::Compliance,
            "governance" => LockMode::Governance,
            _ => return None,
        };
        let ids = Ids { oldest: words.next()?.to_owned(), newest: words.next()?.to_owned() };
        Some((Key::new(words.next()?).ok()?, Self { until, mode, ids }))
    }
}

/// Until when objects are known to be locked.
#[derive(Debug)]
pub struct Known {
    path: PathBuf,
    place: String,
    /// The mode that is asked for.
    mode: LockMode,
    held: BTreeMap<Key, Held>,
}

impl Known {
    /// What was kept; nothing when it is lost, of another place or not what was written. Losing it costs requests.
    pub fn load(repository: &Repository, mode: LockMode) -> Self {
        Self::read(repository.cache().beside("locks.txt"), repository.store().describe(), mode)
    }

    fn read(path: PathBuf, place: String, mode: LockMode) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let is_of_place = lines.next().and_then(|first| first.strip_prefix(HEAD)) == Some(place.as_str());
        let held = if is_of_place { lines.filter_map(Held::parse).collect() } else { BTreeMap::new() };
        Self { path, place, mode, held }
    }

    /// Whether the object is known to be locked until then, as strictly as asked for. `stack` is what lies there now, where that
    /// is known: a version that was not seen is not known to be locked.
    pub fn covers(&self, key: &Key, until: Timestamp, stack: Option<&Stack>) -> bool {
        let is_same = |held: &Held| stack.is_none_or(|stack| Ids::of(stack).as_ref() == Some(&held.ids));
        let is_strict = |held: &Held| held.mode == LockMode::Compliance || self.mode == LockMode::Governance;
        self.held.get(key).is_some_and(|held| held.until >= until && is_strict(held) && is_same(held))
    }

    /// These versions are locked until then, as the store said.
    pub fn add(&mut self, key: Key, until: Timestamp, ids: Ids) {
        let mode = self.mode;
        self.held.insert(key, Held { until, mode, ids });
    }

    /// Keeps what has not ended. A folder that cannot be written is no error.
    pub fn save(&mut self, now: Timestamp) {
        self.held.retain(|_, held| held.until > now && held.ids.are_words());
        let mut text = format!("{HEAD}{}\n", self.place);
        text.extend(self.held.iter().map(|(key, held)| held.line(key)));
        let temporary = self.path.with_extension("tmp");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            tracing::debug!(path = %self.path.display(), %error, "locks are not remembered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dualsync_block_store::contract::Version;

    fn stack(ids: &[&str]) -> Stack {
        let key: Key = "packs/a".parse().unwrap();
        let version = |(at, id): (usize, &&str)| Version {
            key: key.clone(),
            id: (*id).to_owned(),
            size: 1,
            modified: Timestamp::from_seconds(10 - i64::try_from(at).unwrap()),
            is_marker: false,
            is_latest: at == 0,
        };
        let listed = ids.iter().enumerate().map(version).collect();
        crate::stack::Stacks::of(listed).get(&key).unwrap().clone()
    }

    #[test]
    fn what_is_known_holds_for_its_place_its_mode_and_its_versions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks.txt");
        let (governance, compliance) = (LockMode::Governance, LockMode::Compliance);
        let read = |place: &str, mode| Known::read(path.clone(), place.to_owned(), mode);
        let (key, until): (Key, _) = ("packs/a".parse().unwrap(), Timestamp::from_seconds(100));
        let mut known = read("bucket b", governance);
        known.add(key.clone(), until, Ids::of(&stack(&["new", "old"])).unwrap());
        known.add("packs/strange".parse().unwrap(), until, Ids::of(&stack(&["an id"])).unwrap());
        known.add("packs/over".parse().unwrap(), Timestamp::from_seconds(5), Ids::latest());
        known.save(Timestamp::from_seconds(50));
        let known = read("bucket b", governance);
        assert_eq!(known.held.len(), 1, "what has ended, and what is no word, is not kept");
        assert!(known.covers(&key, until, None) && known.covers(&key, until, Some(&stack(&["new", "old"]))));
        assert!(!known.covers(&key, until.plus_seconds(1), None));
        for other in [&["new", "older"][..], &["newer", "old"], &["old"]] {
            assert!(!known.covers(&key, until, Some(&stack(other))), "{other:?}");
        }
        assert!(!read("bucket b", compliance).covers(&key, until, None), "governance is no compliance");
        assert!(!read("bucket c", governance).covers(&key, until, None), "another place");
        let mut strict = read("bucket b", compliance);
        strict.add(key.clone(), until, Ids::latest());
        strict.save(Timestamp::default());
        assert!(read("bucket b", governance).covers(&key, until, None));
        for damaged in ["", "100 packs/a\n", "dualsync locks 2, bucket b\nx\n9 strict a a packs/a\n9 compliance a\n"] {
            fs::write(&path, damaged).unwrap();
            assert!(read("bucket b", governance).held.is_empty(), "{damaged:?}");
        }
    }

    #[test]
    fn the_oldest_and_the_newest_version_are_locked_once_each() {
        let each = |ids: &Ids| ids.each().map(|id| id.map(str::to_owned)).collect::<Vec<_>>();
        let some = |id: &str| Some(id.to_owned());
        assert_eq!(each(&Ids::of(&stack(&["new", "middle", "old"])).unwrap()), [some("old"), some("new")]);
        assert_eq!(each(&Ids::of(&stack(&["only"])).unwrap()), [some("only")]);
        assert_eq!(each(&Ids::latest()), [None]);
    }
}
