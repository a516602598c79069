//! Marks: the announcement that an object or a point will be deleted.
//!
//! A mark of the object with key K is `marks/<SHA-256 of K>-<random>`, beside it come `.deleting` when
//! the deletion begins and `.undone` when it is taken back. Each is a signed record. This version reads
//! marks and never writes them.
//!
//! Who can write to the bucket can put names there. A name alone is enough to keep away from an object,
//! which costs a stranger's victim some sending and nothing else; to pass over a point, or to take a mark
//! back, it must be signed. Only what hangs on a signature is fetched: a bucket without marks costs the listing.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::time::Timestamp;

use crate::digest::Digest;
use crate::events::Events;
use crate::format::{MARK_BYTES_MAX, MARKS, is_digest, is_hex};
use crate::objects::ObjectError;
use crate::record;
use crate::repo::Repository;

/// Marks fetched at once.
const FETCHES: usize = 8;

/// What a mark of version 1 says, signed for its own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// [`crate::format::FORMAT`].
    pub format: String,
    /// [`crate::format::VERSION`].
    pub version: u32,
    /// Id of the repository.
    pub repository: String,
    /// Key of the marked object.
    pub object: String,
}

/// The marks of a repository at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// By the digest of the marked key.
    since: BTreeMap<String, Since>,
}

/// One marked object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Since {
    /// When the oldest mark was set that holds.
    at: Timestamp,
    /// Whether one of them is signed, as far as that was asked.
    is_proved: bool,
}

/// A name under `marks/`.
struct Name<'a> {
    digest: &'a str,
    /// Digest and random part.
    id: &'a str,
    suffix: &'a str,
}

impl<'a> Name<'a> {
    /// `None` for what is no mark.
    fn parse(key: &'a str) -> Option<Self> {
        let name = key.strip_prefix(MARKS)?;
        let at = name.find('.').unwrap_or(name.len());
        let (id, suffix) = name.split_at(at);
        let (digest, random) = id.split_once('-')?;
        let is_mark =
            is_digest(digest) && random.len() == 16 && is_hex(random) && matches!(suffix, "" | ".deleting" | ".undone");
        is_mark.then_some(Self { digest, id, suffix })
    }
}

impl Marks {
    /// Lists the marks, and proves those that take a mark back or are on one of `points`, keys of manifests.
    pub async fn load<'a>(
        repository: &Repository,
        points: impl IntoIterator<Item = &'a str>,
        events: &Events,
    ) -> Result<Self, ObjectError> {
        let listing = repository.objects.list(MARKS).await?;
        if listing.is_empty() {
            return Ok(Self::default());
        }
        let points: BTreeSet<_> = points.into_iter().map(|key| Digest::of(key.as_bytes()).hex()).collect();
        let decides = |name: &Name<'_>| name.suffix == ".undone" || points.contains(name.digest);
        let decisive =
            listing.iter().filter_map(|info| Name::parse(info.key.as_str()).filter(decides).map(|name| (info, name)));
        let mut proofs = futures::stream::iter(decisive)
            .map(|(info, name)| async move { (info.key.as_str(), is_proved(repository, info, &name).await) })
            .buffered(FETCHES);
        let mut proved = BTreeSet::new();
        while let Some((key, is_proved)) = proofs.next().await {
            if is_proved? {
                proved.insert(key);
            } else {
                events.warn("forged", format!("{key} is not signed as a mark: somebody else put it there"), None);
            }
        }
        Ok(Self::of_listing(&listing, &proved))
    }

    /// Reads a listing of `marks/`, of which these keys are proved.
    fn of_listing(listing: &[ObjectInfo], proved: &BTreeSet<&str>) -> Self {
        let names: Vec<_> = listing.iter().filter_map(|info| Some((Name::parse(info.key.as_str())?, info))).collect();
        let undone: BTreeSet<_> = names
            .iter()
            .filter(|(name, info)| name.suffix == ".undone" && proved.contains(info.key.as_str()))
            .map(|(name, _)| name.id)
            .collect();
        let mut since: BTreeMap<String, Since> = BTreeMap::new();
        for (name, info) in &names {
            // Once deletion has begun, taking back comes too late.
            if name.suffix == ".undone" || (name.suffix.is_empty() && undone.contains(name.id)) {
                continue;
            }
            let is_proved = proved.contains(info.key.as_str());
            let first = since.entry(name.digest.to_owned()).or_insert(Since { at: info.modified, is_proved });
            first.at = first.at.min(info.modified);
            first.is_proved |= is_proved;
        }
        Self { since }
    }

    /// Whether the object with this key is marked, by whomever.
    pub fn is_marked(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether the point with this manifest is marked by who may sign.
    pub fn is_proved(&self, key: &str) -> bool {
        self.find(key).is_some_and(|since| since.is_proved)
    }

    /// Since when the object with this key is marked.
    pub fn since(&self, key: &str) -> Option<Timestamp> {
        Some(self.find(key)?.at)
    }

    fn find(&self, key: &str) -> Option<Since> {
        if self.since.is_empty() {
            return None;
        }
        self.since.get(&Digest::of(key.as_bytes()).hex()).copied()
    }
}

/// Whether the pinned key signed this mark. Only a store that fails is an error.
async fn is_proved(repository: &Repository, info: &ObjectInfo, name: &Name<'_>) -> Result<bool, ObjectError> {
    let key = info.key.as_str();
    if info.size > MARK_BYTES_MAX {
        return Ok(false);
    }
    let bytes = match repository.objects.get(key, MARK_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) if error.finding().is_some() => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(record::open::<Mark>(key, &bytes, &repository.public).is_ok_and(|mark| {
        mark.repository == repository.id() && Digest::of(mark.object.as_bytes()).hex() == name.digest
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::tests::Sink;
    use crate::format::{FORMAT, VERSION};
    use crate::manifest::tests::secret;

    fn listing(names: &[(&str, i64)]) -> Vec<ObjectInfo> {
        names
            .iter()
            .map(|(name, seconds)| ObjectInfo {
                key: format!("{MARKS}{name}").parse().unwrap(),
                size: 1,
                modified: Timestamp::from_seconds(*seconds),
            })
            .collect()
    }

    #[test]
    fn a_mark_holds_until_it_is_undone_and_longer_once_deletion_began() {
        let mark = format!("{}-0001020304050607", Digest::of(b"volumes/a"));
        let (undone, deleting) = (format!("{mark}.undone"), format!("{mark}.deleting"));
        let since = |names: &[(&str, i64)]| {
            let listing = listing(names);
            let proved = listing.iter().map(|info| info.key.as_str()).collect();
            Marks::of_listing(&listing, &proved).since("volumes/a")
        };
        assert_eq!(since(&[(&mark, 5)]), Some(Timestamp::from_seconds(5)));
        assert_eq!(since(&[(&mark, 5), (&undone, 6)]), None);
        assert_eq!(since(&[(&mark, 5), (&deleting, 7), (&undone, 6)]), Some(Timestamp::from_seconds(7)));
        assert_eq!(since(&[]), None);
    }

    #[test]
    fn other_objects_and_strange_names_are_not_marked() {
        let mark = format!("{}-0001020304050607", Digest::of(b"volumes/a"));
        let marks = Marks::of_listing(&listing(&[(&mark, 5), ("nonsense", 1), ("x-y", 2)]), &BTreeSet::new());
        assert!(marks.is_marked("volumes/a") && !marks.is_marked("volumes/b"));
    }

    #[tokio::test]
    async fn a_name_alone_keeps_away_and_decides_nothing() {
        let mut sample = crate::sample::Sample::new();
        sample.directory("");
        let made = sample.finish();
        let manifest = made.key("points/", "manifest.json");
        let mark = format!("{MARKS}{}-0001020304050607", Digest::of(manifest.as_str().as_bytes()));
        let record = |key: &str, object: &str| {
            let (format, repository) = (FORMAT.to_owned(), made.repository.id().to_owned());
            let mark = Mark { format, version: VERSION, repository, object: object.to_owned() };
            bytes::Bytes::from(record::write(key, &mark, &secret()))
        };
        let load = async || {
            let sink = Sink::default();
            let marks = Marks::load(&made.repository, [manifest.as_str()], &Events::new(sink.clone())).await.unwrap();
            ((marks.is_marked(manifest.as_str()), marks.is_proved(manifest.as_str())), sink.events().len())
        };
        let put = |key: &str, bytes| made.store.replace(key.parse().unwrap(), bytes);
        assert_eq!(load().await, ((false, false), 0));
        put(&mark, bytes::Bytes::new());
        assert_eq!(load().await, ((true, false), 1));
        put(&mark, record(&mark, "points/web/other"));
        assert_eq!(load().await, ((true, false), 1));
        put(&mark, record(&mark, manifest.as_str()));
        assert_eq!(load().await, ((true, true), 0));
        let undone = format!("{mark}.undone");
        put(&undone, record(&mark, manifest.as_str()));
        assert_eq!(load().await, ((true, true), 1));
        put(&undone, record(&undone, manifest.as_str()));
        assert_eq!(load().await, ((false, false), 0));
    }
}
