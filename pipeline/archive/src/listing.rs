//! Reads the catalog of a point from its first line to its last, or the part of it that is asked for.
//!
//! Some segments are fetched ahead; lines come one at a time and in order. A segment that is missing or
//! wrong becomes a finding and costs its own entries only. Promises that the paths it gives ascend:
//! who writes facts or merges relies on it.

use std::sync::Arc;

use futures::StreamExt as _;

use dualsync_model::path::RawPath;

use crate::catalog::entry::{Line, LineError};
use crate::catalog::segment::{Lines, SegmentError, open_lines};
use crate::catalog::{IndexError, SegmentRef, parse_index};
use crate::damage::Damage;
use crate::format::{SEGMENT_STORED_BYTES_MAX, catalog_key};
use crate::kept::Kept;
use crate::manifest::Stored;
use crate::objects::{ObjectError, Objects};
use crate::points::{Copy, with_causes};
use crate::repo::Unlocked;
use crate::seal::{Identity, SealError};

/// Segments fetched ahead.
const AHEAD: usize = 3;

/// An index of 5 million segments is not plausible; nothing longer is unpacked.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// Why a catalog cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The index, or the store.
    #[error("cannot read the catalog")]
    Object(#[from] ObjectError),
    /// The index does not open.
    #[error("cannot open the catalog's index {key}")]
    Open {
        /// The index.
        key: String,
        /// Why not.
        source: SegmentError,
    },
    /// The index opens and is nonsense.
    #[error("the catalog's index {key} is not readable")]
    Index {
        /// The index.
        key: String,
        /// Why not.
        source: IndexError,
    },
}

impl ListingError {
    /// Whether the stored index is at fault, and not the store or the key: object, word, sentence.
    pub fn finding(&self) -> Option<(&str, &'static str)> {
        match self {
            Self::Object(error) => match error {
                ObjectError::Missing { key } | ObjectError::Length { key, .. } | ObjectError::Digest { key, .. } => {
                    Some((key, error.finding()?))
                }
                ObjectError::Store(_) | ObjectError::Key(_) => None,
            },
            Self::Open { source: SegmentError::Seal(SealError::WrongKey), .. } => None,
            Self::Open { key, .. } | Self::Index { key, .. } => Some((key, "unreadable")),
        }
    }
}

/// The catalog of one copy, its index in memory.
pub struct Listing {
    objects: Objects,
    kept: Arc<Kept>,
    identity: Identity,
    segments: Vec<SegmentRef>,
}

impl Listing {
    /// Fetches and opens the index.
    pub async fn open(repository: &Unlocked, copy: &Copy) -> Result<Self, ListingError> {
        Self::open_kept(repository, copy, Arc::default()).await
    }

    /// The same; index and segments may be those that this host keeps.
    pub async fn open_kept(repository: &Unlocked, copy: &Copy, kept: Arc<Kept>) -> Result<Self, ListingError> {
        let stored = copy.manifest.objects.catalog;
        let key = catalog_key(&stored.sha256.hex());
        let bytes = match copy.manifest.index().filter(|_| kept.spares()) {
            Some(bytes) => bytes,
            None => kept.get_exact(&repository.objects, &key, stored).await?,
        };
        let plain = open_lines(&repository.identity, &bytes, INDEX_BYTES_MAX)
            .map_err(|source| ListingError::Open { key: key.clone(), source })?;
        let segments = parse_index(&plain).map_err(|source| ListingError::Index { key, source })?;
        Ok(Self { objects: repository.objects.clone(), kept, identity: repository.identity.clone(), segments })
    }

    /// Entries in all.
    pub fn entries(&self) -> u64 {
        self.segments.iter().map(|segment| segment.entries).sum()
    }

    /// Keys of the segments, in their order.
    pub fn keys(&self) -> Vec<String> {
        self.segments.iter().map(SegmentRef::key).collect()
    }

    /// Keeps the segments that can hold entries at or below one of `roots`; the root of the tree keeps all.
    #[must_use]
    pub fn narrowed(mut self, roots: &[RawPath]) -> Self {
        let nexts: Vec<_> = self.segments.iter().skip(1).map(|next| next.first.clone()).collect();
        let mut index = 0;
        self.segments.retain(|segment| {
            let next = nexts.get(index);
            index += 1;
            roots.iter().any(|root| may_hold(segment, next, root))
        });
        self
    }

    /// Gives every line to `take`, in order; an error of `take` ends the reading. A segment that cannot be
    /// read is noted in `damage`.
    pub async fn read<E: From<ListingError>>(
        &self,
        damage: &Damage,
        mut take: impl FnMut(Line) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut fetched = futures::stream::iter(&self.segments)
            .map(|segment| async move {
                let stored = Stored { bytes: segment.bytes, sha256: segment.sha256 };
                (segment, self.kept.get_exact(&self.objects, &segment.key(), stored).await)
            })
            .buffered(AHEAD);
        let mut order = Order { last: None, is_known: false };
        while let Some((segment, bytes)) = fetched.next().await {
            order.enter(segment);
            let problem = match bytes {
                Ok(bytes) => match self.lines(bytes.into(), &mut order, &mut take)? {
                    Some(error) => ("unreadable", with_causes(&error)),
                    None => continue,
                },
                Err(error) => match error.finding() {
                    Some(kind) => (kind, error.to_string()),
                    None => return Err(ListingError::Object(error).into()),
                },
            };
            order.is_known = false;
            let (kind, reason) = problem;
            let problem = format!("{reason}: {} entries from '{}' on are unknown", segment.entries, segment.first);
            damage.note(&segment.key(), kind, &problem, Some(&segment.first));
        }
        Ok(())
    }

    /// The lines of one segment; gives back what is wrong with it.
    fn lines<E>(
        &self,
        bytes: Vec<u8>,
        order: &mut Order,
        take: &mut impl FnMut(Line) -> Result<(), E>,
    ) -> Result<Option<SegmentError>, E> {
        if bytes.len() as u64 > SEGMENT_STORED_BYTES_MAX {
            return Ok(Some(LineError::Bounds("more bytes than a segment may have").into()));
        }
        let lines = match Lines::open(&self.identity, bytes) {
            Ok(lines) => lines,
            Err(error) => return Ok(Some(error)),
        };
        for line in lines {
            match line.and_then(|line| order.accept(&line).map(|is_known| is_known.then_some(line))) {
                Ok(Some(line)) => take(line)?,
                Ok(None) => {}
                Err(error) => return Ok(Some(error)),
            }
        }
        Ok(None)
    }
}

/// Where a reading stands.
struct Order {
    last: Option<RawPath>,
    /// Whether the entry that parts would belong to was read: after a lost segment it was not, and its parts
    /// must not be taken for those of the entry before.
    is_known: bool,
}

impl Order {
    /// Parts that lead a segment belong to the entry that the index names; where segments were left out
    /// before it, that is not the entry that was read last.
    fn enter(&mut self, segment: &SegmentRef) {
        self.is_known &= self.last.as_ref() == Some(&segment.first);
    }

    /// Whether the line belongs to an entry that is known; an error when it is out of order.
    fn accept(&mut self, line: &Line) -> Result<bool, SegmentError> {
        if let Line::Entry(entry) = line {
            if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
                return Err(LineError::Bounds("a path out of order").into());
            }
            self.last = Some(entry.path.clone());
            self.is_known = true;
        }
        Ok(self.is_known)
    }
}

/// Whether a segment, which ends where `next` begins, can hold entries at or below `root`.
fn may_hold(segment: &SegmentRef, next: Option<&RawPath>, root: &RawPath) -> bool {
    let begins_below = is_at_or_below(&segment.first, root);
    begins_below || (segment.first < *root && next.is_none_or(|next| next > root || is_at_or_below(next, root)))
}

/// Whether `path` is `root` or lies below it.
pub fn is_at_or_below(path: &RawPath, root: &RawPath) -> bool {
    if root.is_root() {
        return true;
    }
    path.as_bytes().strip_prefix(root.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn segment(first: &str) -> SegmentRef {
        let digest = Digest::of(first.as_bytes());
        SegmentRef { sha256: digest, bytes: 1, entries: 1, plain_sha256: digest, first: RawPath::new(first) }
    }

    #[test]
    fn only_segments_that_can_hold_a_path_are_kept() {
        let firsts = ["", "etc/init", "usr", "usr/share", "usr/share", "var"];
        let check = |root: &str, wanted: &[usize]| {
            let held = |index: &usize| {
                let next = firsts.get(index + 1).map(|next| RawPath::new(*next));
                may_hold(&segment(firsts[*index]), next.as_ref(), &RawPath::new(root))
            };
            let found: Vec<usize> = (0..firsts.len()).filter(held).collect();
            assert_eq!(found, wanted, "{root:?}");
        };
        check("", &[0, 1, 2, 3, 4, 5]);
        check("bin", &[0]);
        check("etc", &[0, 1]);
        check("etc/init", &[0, 1]);
        check("etc/init.d/x", &[1]);
        check("usr/share", &[2, 3, 4]);
        check("usr/share/doc", &[4]);
        check("zzz", &[5]);
    }

    #[test]
    fn a_neighbour_with_a_longer_name_is_not_below() {
        let check = |path, root, below| assert_eq!(is_at_or_below(&RawPath::new(path), &RawPath::new(root)), below);
        check("a/b", "a", true);
        check("a", "a", true);
        check("a", "", true);
        check("a.b", "a", false);
        check("a", "a/b", false);
    }
}
