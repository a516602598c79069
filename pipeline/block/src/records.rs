//! Reading blocks out of packs: neighbours by one ranged request, each opened and checked alone.
//!
//! A record that cannot be opened takes nothing else with it, and a pack that ends early still
//! gives what lies before its end. What comes back is proved by BLAKE3, so a request never has to
//! fetch a whole pack.

use bytes::Bytes;

use crate::fetch::ObjectError;
use crate::format::ObjectKind;
use crate::image::BlockIndex;
use crate::names;
use crate::pack::open_block;
use crate::page::StoredBlock;
use crate::repository::Repository;
use crate::seal::{ObjectOpener, OpenError, Scratch};
use crate::shadow;

/// A block and where it is stored.
pub type Wanted = (BlockIndex, StoredBlock);

/// How records are put together into requests.
#[derive(Clone, Copy, Debug)]
pub struct Coalesce {
    /// One request brings at most this many bytes, unless one record is longer.
    pub run_bytes_max: u64,
    /// Unwanted bytes that are fetched along rather than asked around.
    pub gap_bytes_max: u64,
}

/// Cuts records into runs that one request each fetches: first by pack, then by offset.
pub fn runs(mut wanted: Vec<Wanted>, coalesce: Coalesce) -> Vec<Vec<Wanted>> {
    wanted.sort_by_key(|(_, stored)| (stored.pack.sha256, stored.place.offset));
    let mut out: Vec<Vec<Wanted>> = Vec::new();
    for next in wanted {
        match out.last_mut() {
            Some(run) if joins(run, &next, coalesce) => run.push(next),
            _ => out.push(vec![next]),
        }
    }
    out
}

fn joins(run: &[Wanted], (_, next): &Wanted, coalesce: Coalesce) -> bool {
    let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else { return false };
    let gap = u64::from(next.place.offset).saturating_sub(end_of(last));
    let bytes = end_of(next).saturating_sub(u64::from(first.place.offset));
    first.pack == next.pack && gap <= coalesce.gap_bytes_max && bytes <= coalesce.run_bytes_max
}

fn end_of(stored: &StoredBlock) -> u64 {
    u64::from(stored.place.offset) + u64::from(stored.place.length)
}

/// Fetches one run of one pack and hands each block to `take`, or what is wrong with it. The buffer is free for the next
/// block afterwards: whoever keeps the bytes may put another in its place.
///
/// # Errors
/// Only when the store does not answer: a damaged pack is told block by block.
pub async fn fetch_run(
    repository: &Repository,
    run: &[Wanted],
    block_bytes_max: usize,
    mut take: impl FnMut(BlockIndex, Result<&mut Vec<u8>, ObjectError>) + Send,
) -> Result<(), ObjectError> {
    let Some((_, first)) = run.first() else { return Ok(()) };
    let key = names::pack(&first.pack.sha256);
    let start = u64::from(first.place.offset);
    let end = run.iter().map(|(_, stored)| end_of(stored)).max().unwrap_or(start);
    let bytes = match repository.get_range(&key, start, end - start).await {
        Ok(bytes) => Some(bytes),
        Err(error) if error.is_damage() => {
            tracing::debug!(%key, "a run of records is asked for one by one");
            None
        }
        Err(error) => return Err(error),
    };
    let mut openers = ObjectOpener::from_salt(repository.keys(), ObjectKind::Pack, first.pack.salt);
    let (mut scratch, mut plain) = (Scratch::default(), Vec::new());
    let mut older: Option<Option<Bytes>> = None;
    for (block, stored) in run {
        let (offset, length) = (u64::from(stored.place.offset), u64::from(stored.place.length));
        let sealed = match &bytes {
            Some(bytes) => Ok(cut(bytes, offset - start, length)),
            // The pack ends early or is gone: each record speaks for itself.
            None => repository.get_range(&key, offset, length).await,
        };
        let sealed = match sealed {
            Err(error) if !error.is_damage() => return Err(error),
            other => other,
        };
        let mut open = |sealed: Bytes| {
            open_by_any(&mut openers, |opener| {
                open_block(opener, &sealed, stored.hash, block_bytes_max, &mut scratch, &mut plain)
            })
            .map_err(|problem| ObjectError::new(key.clone(), problem))
        };
        let mut result = sealed.and_then(&mut open);
        if result.is_err() {
            if older.is_none() {
                older = Some(shadow::good_version(repository.store(), &key, &first.pack.sha256).await);
            }
            if let Some(Some(pack)) = &older {
                result = open(cut(pack, offset, length));
            }
        }
        take(*block, result.map(|()| &mut plain));
    }
    Ok(())
}

/// Opens with each opener until the tag fits: a page says where a block is and not with which key it was
/// sealed. The one that fits is tried first from then on, since a pack has one key.
fn open_by_any(
    openers: &mut [ObjectOpener],
    mut open: impl FnMut(&ObjectOpener) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    for at in 0..openers.len() {
        match open(&openers[at]) {
            Err(OpenError::Forged(_)) if at + 1 < openers.len() => {}
            Ok(()) => {
                openers.swap(0, at);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Err(OpenError::Truncated)
}

/// A part of `bytes`; empty when it is not all there, which then does not open.
fn cut(bytes: &Bytes, at: u64, length: u64) -> Bytes {
    let (at, length) = (usize::try_from(at).unwrap_or(usize::MAX), usize::try_from(length).unwrap_or(usize::MAX));
    match at.checked_add(length) {
        Some(end) if end <= bytes.len() => bytes.slice(at..end),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::block;

    fn wanted(list: &[(u32, u32, u32)]) -> Vec<Wanted> {
        let mut out = Vec::new();
        for (n, (pack, offset, length)) in list.iter().enumerate() {
            let mut stored = block(*pack);
            stored.place = crate::pack::Place { offset: *offset, length: *length };
            out.push((BlockIndex(n as u64), stored));
        }
        out
    }

    fn check(list: &[(u32, u32, u32)], sizes: &[usize]) {
        let runs = runs(wanted(list), Coalesce { run_bytes_max: 1000, gap_bytes_max: 50 });
        let mut found: Vec<_> = runs.iter().map(Vec::len).collect();
        found.sort_unstable();
        assert_eq!(found, sizes);
        for run in &runs {
            assert!(run.iter().all(|(_, stored)| stored.pack == run[0].1.pack));
            assert!(run.is_sorted_by_key(|(_, stored)| stored.place.offset));
        }
    }

    #[test]
    fn neighbours_share_a_request_and_strangers_do_not() {
        check(&[], &[]);
        check(&[(0, 100, 100), (0, 0, 100), (0, 200, 100)], &[3]);
        check(&[(0, 0, 100), (1, 100, 100)], &[1, 1]);
        check(&[(0, 0, 100), (0, 150, 100), (0, 301, 100)], &[1, 2]);
        check(&[(0, 0, 600), (0, 600, 400), (0, 1000, 1)], &[1, 2]);
        check(&[(0, 0, 5000)], &[1]);
    }
}
