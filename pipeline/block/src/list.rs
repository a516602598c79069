//! `list`: one line a copy, one finding a manifest that is not what it should be, and the chain.
//!
//! It reads manifests, the marks on them, and signs of life. What the newest manifest says of the others
//! is compared with what is there: a point in its ledger that is gone, and an older one that is not in
//! it, are findings. A point that was deleted has a proved mark, or is in no ledger any more, so it is neither.

use std::collections::HashSet;

use dualsync_model::event::{CopyState, Event, Point, PointMark};
use dualsync_model::id::SourceName;
use dualsync_model::job::Anchor;

use crate::digest::Sha256;
use crate::events::Events;
use crate::heartbeat::{Work, living};
use crate::history::{chain_findings, lost};
use crate::marks::Marks;
use crate::names;
use crate::points::{Census, Head};
use crate::repository::Repository;
use crate::shadow;
use crate::trouble::Trouble;

/// A reader that gave no sign of life for so long has ended: it gives one each hour.
const READING_S: u64 = 2 * 3600;

/// What `list` counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Copies told.
    pub points: u64,
    /// Findings told of what is missing or wrong.
    pub findings: u64,
}

/// Prints the copies, of one source or of all.
pub async fn list(repository: &Repository, source: Option<&SourceName>, events: &Events) -> Result<Listed, Trouble> {
    events.progress().phase("listing");
    let census = Census::take(repository).await?;
    let marks = Marks::list(repository).await?;
    let read = being_read(repository).await?;
    let wanted = |name: &SourceName| source.is_none_or(|source| source == name);
    let mut listed = Listed::default();
    for head in census.heads.iter().filter(|head| wanted(&head.name.source)) {
        let mut point = point(head, repository.store().has_clock());
        point.mark = mark_on(repository, &marks, &head.name.sha256).await?;
        point.state = match point.mark {
            Some(_) => CopyState::Deleting,
            None if read.contains(&head.name.sha256) => CopyState::Restoring,
            None => CopyState::Available,
        };
        events.say(&Event::Point(Box::new(point)));
        listed.points += 1;
    }
    let lost = lost(repository, &census, &marks).await?;
    for finding in census.findings.iter().cloned().chain(chain_findings(repository.target(), &census, &lost)) {
        // The point is there and whole: that somebody hid it is told, and the listing is not short of it.
        listed.findings += u64::from(finding.kind != shadow::KIND);
        events.say(&Event::Finding(finding));
    }
    Ok(listed)
}

/// Manifests of the points that somebody reads.
async fn being_read(repository: &Repository) -> Result<HashSet<Sha256>, Trouble> {
    let listed = repository.store().list(names::RUNS, None).await?;
    let living = living(repository, &listed, READING_S).await?;
    Ok(living.into_iter().filter(|heartbeat| heartbeat.work == Work::Restore).filter_map(|beat| beat.parent).collect())
}

/// The oldest proved mark on a manifest, as far as it still announces something.
async fn mark_on(repository: &Repository, marks: &Marks, manifest: &Sha256) -> Result<Option<PointMark>, Trouble> {
    let proved = marks.proved(repository, manifest).await?;
    let has_clock = repository.store().has_clock();
    let standing = proved.into_iter().filter(|mark| mark.stands(repository));
    let oldest = standing.min_by_key(|mark| (!mark.deleting, mark.since(has_clock)));
    Ok(oldest.map(|mark| PointMark {
        since: mark.since(has_clock),
        reason: mark.note.reason,
        asked: mark.note.asked,
        deleting: mark.deleting,
    }))
}

fn point(head: &Head, has_clock: bool) -> Point {
    let description = &head.description;
    Point {
        point: description.point.clone(),
        business_date: description.business_date,
        class: description.class,
        created_at: description.snapshot.taken_at,
        snapshot_id: description.snapshot.id.clone(),
        snapshot_method: description.snapshot.method.clone(),
        frozen: description.snapshot.frozen,
        size_bytes: description.source_bytes,
        stored_bytes: head.stored_bytes,
        added_bytes: description.stats.added_bytes + head.size,
        duration_s: description.stats.duration_s,
        anchor: Anchor { sequence: head.sequence, sha256: head.name.sha256.to_string() },
        other: description.other.clone(),
        manifest: head.key.to_string(),
        state: CopyState::Available,
        incomplete_entries: 0,
        exclude: description.exclude.clone(),
        note: description.note.clone(),
        expires: description.expires,
        // File times of a directory prove nothing: a copied one has new ones.
        stored_at: has_clock.then_some(head.modified),
        live_bytes: Some(head.live_bytes),
        mark: None,
    }
}
