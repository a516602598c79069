//! Manifests that somebody has hidden: under a delete marker, or under a version that is none of ours.
//!
//! A point is what the pinned key has signed, on top or below. Of what lies under a marker only that counts which the newest
//! manifest still knows, or which is newer than it: what was dropped on purpose and is still locked does not come back.

use bytes::Bytes;

use dualsync_archive_store::contract::{ObjectInfo, Version};
use dualsync_model::event::Finding;
use dualsync_model::time::Timestamp;

use crate::backup::chain::line_key;
use crate::format::{MANIFEST_BYTES_MAX, MANIFEST_NAME, POINTS, SIGNATURE_NAME};
use crate::kept::Kept;
use crate::objects::ObjectError;
use crate::points::{Copy, Opened, Points, accept, finding, manifest_keys, open_listed, order, sizes};
use crate::repo::Repository;
use crate::shadow::by_key;

/// No signature is longer, bytes: four lines.
const SIGNATURE_BYTES_MAX: u64 = 4096;

/// So many versions of a signature are tried.
const SIGNATURES_MAX: usize = 64;

/// The copy whose manifest has this key, out of older versions of it and of its signature, which one listing shows.
/// `None` where nothing that is good lies below.
pub async fn open_below(repository: &Repository, key: &str, kept: &Kept) -> Result<Option<Copy>, ObjectError> {
    let objects = &repository.objects;
    let signature_key = key.replace(MANIFEST_NAME, SIGNATURE_NAME);
    let versions = objects.history(key).await?;
    let of = |key: &str| by_key(&versions).find(|all| all[0].info.key.as_str() == key).unwrap_or_default();
    let (manifests, signatures) = (of(key), of(&signature_key));
    if manifests.len() < 2 && signatures.len() < 2 {
        return Ok(None);
    }
    let mut tried: Vec<(&Version, Bytes)> = Vec::new();
    for version in not_longer(signatures, SIGNATURE_BYTES_MAX).take(SIGNATURES_MAX) {
        tried.extend(objects.get_version(version).await?.map(|bytes| (version, bytes)));
    }
    for version in not_longer(manifests, MANIFEST_BYTES_MAX) {
        let Some(bytes) = objects.get_version(version).await? else { continue };
        for (signed_by, signature) in &tried {
            let Opened::Good(copy) = accept(repository, key, &bytes, signature, kept) else { continue };
            for (used, all) in [(version, manifests), (*signed_by, signatures)] {
                if all.last().is_some_and(|top| top.id != used.id) {
                    objects.note_shadowed(used.info.key.as_str());
                }
            }
            return Ok(Some(Copy { received_at: Some(version.info.modified), ..*copy }));
        }
    }
    Ok(None)
}

fn not_longer(all: &[Version], bytes_max: u64) -> impl Iterator<Item = &Version> {
    all.iter().filter(move |version| !version.is_marker && version.info.size <= bytes_max)
}

impl Points {
    /// Adds the points that delete markers hide. A job that did not list them looks for them when some are missing.
    pub(crate) async fn add_hidden(
        &mut self,
        repository: &Repository,
        mut hidden: Vec<ObjectInfo>,
    ) -> Result<(), ObjectError> {
        let is_here = |key: &str| {
            let found = self.copies.iter().map(|copy| copy.key.as_str());
            found.chain(self.findings.iter().map(|finding| finding.object.as_str())).any(|found| found == key)
        };
        let lacks_some = |newest: &Copy| newest.manifest.ledger.iter().any(|line| !is_here(&line_key(line)));
        if !repository.objects.looks_below() && self.newest().is_some_and(lacks_some) {
            hidden = repository.objects.list_hidden(POINTS).await?;
        }
        let newest = self.newest().map(|copy| (copy, copy.received_at));
        let (copies, findings) = hidden_copies(repository, &hidden, newest).await?;
        self.copies.extend(copies);
        self.findings.extend(findings);
        self.copies.sort_by(|a, b| order(a).cmp(&order(b)));
        Ok(())
    }
}

/// The points among what delete markers hide, and what is wrong with those that should be. `newest` is the newest copy that
/// is shown, and when the store received it.
pub async fn hidden_copies(
    repository: &Repository,
    hidden: &[ObjectInfo],
    newest: Option<(&Copy, Option<Timestamp>)>,
) -> Result<(Vec<Copy>, Vec<Finding>), ObjectError> {
    let (mut copies, mut findings) = (Vec::new(), Vec::new());
    let received_at = newest.and_then(|(_, received_at)| received_at);
    let mut newest = newest.map(|(copy, _)| copy.clone());
    let sizes = sizes(hidden);
    let keys = manifest_keys(hidden.iter().map(|info| info.key.as_str()));
    let mut manifests: Vec<_> = hidden.iter().filter(|info| keys.iter().any(|key| key == info.key.as_str())).collect();
    // A newer one decides on those before it.
    manifests.sort_by_key(|info| std::cmp::Reverse(info.modified));
    for info in manifests {
        let key = info.key.as_str();
        let knows = |copy: &Copy| copy.manifest.ledger.iter().any(|line| line_key(line) == key);
        let is_known = newest.as_ref().is_some_and(knows);
        if !is_known && received_at.is_some_and(|last| info.modified < last) {
            continue;
        }
        match open_listed(repository, key, &sizes).await? {
            Opened::Good(copy) if is_point(&copy, newest.as_ref()) => {
                if newest.as_ref().is_none_or(|newest| newest.anchor.sequence < copy.anchor.sequence) {
                    newest = Some((*copy).clone());
                }
                copies.push(*copy);
            }
            Opened::Bad { kind, problem } if is_known => {
                findings.push(finding(&repository.target, key, kind, problem));
            }
            // It was let go of: what hides it hides nothing of ours.
            Opened::Good(_) => repository.objects.forget_shadowed(key),
            Opened::Bad { .. } => {}
        }
    }
    Ok((copies, findings))
}

/// Whether the newest manifest knows this copy, or is older than it.
fn is_point(copy: &Copy, newest: Option<&Copy>) -> bool {
    newest.is_none_or(|newest| {
        newest.anchor.sequence < copy.anchor.sequence
            || newest.manifest.ledger.iter().any(|line| line.anchor == copy.anchor)
    })
}
