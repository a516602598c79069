//! The ledger of the next manifest: every point alive, and what left since the newest one.
//!
//! A point leaves the ledger only when a deleter that holds the key said so in a mark. One that is
//! merely gone stays in it, so that every later listing still names the loss.

use std::collections::BTreeMap;

use crate::digest::Sha256;
use crate::manifest::{Drop, LedgerLine};
use crate::marks::Marks;
use crate::points::Census;
use crate::repository::Repository;

/// Ledger and drops of the manifest that follows `census`.
pub async fn next(repository: &Repository, census: &Census, marks: &Marks) -> (Vec<LedgerLine>, Vec<Drop>) {
    let mut lines: BTreeMap<(u64, Sha256), LedgerLine> = BTreeMap::new();
    let mut drops = Vec::new();
    for head in &census.heads {
        lines.insert((head.sequence, head.name.sha256), head.ledger_line());
    }
    let remembered = census.newest().map(|head| head.description.ledger.as_slice()).unwrap_or_default();
    for line in
        remembered.iter().filter(|line| !lines.contains_key(&(line.sequence, line.sha256))).cloned().collect::<Vec<_>>()
    {
        // A mark that cannot be read now is none: the next manifest records the drop.
        match marks.deletion(repository, &line.sha256).await.unwrap_or(None) {
            Some(reason) => drops.push(Drop { point: line.point, sha256: line.sha256, reason }),
            None => drop(lines.insert((line.sequence, line.sha256), line)),
        }
    }
    (lines.into_values().collect(), drops)
}
