//! What the manifests say of each other, against what is there: lost points, replayed ones, rollback.
//!
//! A point leaves the ledger of the newest manifest only by a deletion that a holder of the key
//! announced. So a manifest that is merely gone is *lost* and stays named; one that is not in the ledger was
//! put back. A host remembers the newest manifest that it saw, and a store that does not know it is older.

use std::collections::HashSet;

use dualsync_model::event::Finding;
use dualsync_model::job::Anchor;

use crate::digest::Sha256;
use crate::fetch::ObjectError;
use crate::manifest::LedgerLine;
use crate::marks::Marks;
use crate::names;
use crate::points::{Census, Head};
use crate::repository::Repository;

/// Points of the newest ledger whose manifests are gone, and no proved mark says that they were deleted.
///
/// The marks of each are listed anew: `marks` may be older than a deletion that went on meanwhile.
pub async fn lost(repository: &Repository, census: &Census, marks: &Marks) -> Result<Vec<LedgerLine>, ObjectError> {
    let Some(newest) = census.newest() else { return Ok(Vec::new()) };
    let present = present(census);
    let mut lost = Vec::new();
    for line in newest.description.ledger.iter().filter(|line| !present.contains(&line.sha256)) {
        if marks.deletion(repository, &line.sha256).await?.is_some() {
            continue;
        }
        let again = Marks::list_of(repository, &line.sha256).await;
        let again = again.map_err(|error| ObjectError::new(names::fixed("marks"), error))?;
        if again.deletion(repository, &line.sha256).await?.is_none() {
            lost.push(line.clone());
        }
    }
    Ok(lost)
}

fn present(census: &Census) -> HashSet<Sha256> {
    let names = census.listed.iter().filter_map(|object| names::parse_manifest(object.key.as_str()));
    names.map(|name| name.sha256).collect()
}

/// What is wrong with the chain: points that are lost, and older ones that the newest manifest does not know.
pub fn chain_findings(target: &str, census: &Census, lost: &[LedgerLine]) -> Vec<Finding> {
    let Some(newest) = census.newest() else { return Vec::new() };
    let finding = |object: String, problem: &str, points| Finding {
        target: target.to_owned(),
        object,
        kind: "chain".to_owned(),
        problem: problem.to_owned(),
        points,
        paths: Vec::new(),
    };
    let gone = lost.iter().map(|line| {
        let problem = "the newest manifest says that this point is alive, and its manifest is gone";
        finding(line.manifest.clone(), problem, vec![line.point.clone()])
    });
    let ledger: HashSet<Sha256> = newest.description.ledger.iter().map(|line| line.sha256).collect();
    // Made beside the newest one, a point may have the same number and not be in its ledger.
    let is_strange = |head: &&Head| head.sequence < newest.sequence && !ledger.contains(&head.name.sha256);
    let replayed = census.heads.iter().filter(is_strange).map(|head| {
        let problem = "the newest manifest does not know this older point: it was put back, or made beside it";
        finding(head.key.to_string(), problem, vec![head.description.point.clone()])
    });
    gone.chain(replayed).collect()
}

/// What to say when the store is older than the host remembers, or another history: a sequence that
/// has grown proves nothing, since another host may have gone on from a store that was set back.
///
/// What the host remembers may have been deleted, whole sources are: a proved mark says so.
pub async fn rollback(
    repository: &Repository,
    census: &Census,
    marks: &Marks,
    remembered: Option<&Anchor>,
) -> Result<Option<Finding>, ObjectError> {
    let Some(remembered) = remembered else { return Ok(None) };
    let newest = census.newest();
    let sequence = newest.map_or(0, |head| head.sequence);
    if sequence >= remembered.sequence && census.heads.iter().any(|head| knows(head, remembered)) {
        return Ok(None);
    }
    if let Ok(sha256) = remembered.sha256.parse()
        && marks.deletion(repository, &sha256).await?.is_some()
    {
        return Ok(None);
    }
    Ok(Some(Finding {
        target: repository.target().to_owned(),
        object: newest.map_or_else(|| names::POINTS.to_owned(), |head| head.key.to_string()),
        kind: "rollback".to_owned(),
        problem: format!(
            "the store's newest manifest has sequence {sequence}; sequence {} ({}), which this host remembers, is not in its history",
            remembered.sequence, remembered.sha256
        ),
        points: Vec::new(),
        paths: Vec::new(),
    }))
}

fn knows(head: &Head, remembered: &Anchor) -> bool {
    let is_it = |sha256: &Sha256| sha256.to_string() == remembered.sha256;
    let said = &head.description;
    is_it(&head.name.sha256)
        || head.predecessor.as_ref().is_some_and(is_it)
        || said.ledger.iter().any(|line| is_it(&line.sha256))
        || said.drops.iter().any(|left| is_it(&left.sha256))
}
