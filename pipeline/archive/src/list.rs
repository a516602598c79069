//! `list`: one `point` line for each good manifest, one `finding` for each that is not.

use dualsync_model::event::{CopyState, Event, Point, Summary};
use dualsync_model::id::SourceName;
use dualsync_model::job::ListTask;

use crate::events::Events;
use crate::failure::Fault;
use crate::marks::Marks;
use crate::points::{Copy, Points};
use crate::program::summary;
use crate::repo::Repository;

/// Runs the task. Findings do not fail it: a list with holes is still the list.
pub async fn list(repository: &Repository, task: &ListTask, events: &Events) -> Result<Summary, Fault> {
    let points = Points::load(repository).await?;
    let marks = Marks::load(repository, points.copies.iter().map(|copy| copy.key.as_str()), events).await?;
    let wanted = |source: &SourceName| task.source.as_ref().is_none_or(|only| only == source);
    let copies = points.copies.iter().filter(|copy| wanted(copy.manifest.source()));
    let mut count = 0;
    for copy in copies {
        let state = if marks.is_proved(&copy.key) { CopyState::Deleting } else { CopyState::Available };
        events.emit(&Event::Point(Box::new(point(copy, state))));
        count += 1;
    }
    let incomplete = points.findings.len() as u64;
    for finding in points.findings {
        let other_source = !finding.points.is_empty() && !finding.points.iter().any(|point| wanted(point.source()));
        if !other_source {
            events.finding(finding);
        }
    }
    Ok(Summary { items: count, incomplete, ..summary(&repository.objects) })
}

/// The line of one copy.
fn point(copy: &Copy, state: CopyState) -> Point {
    let manifest = &copy.manifest;
    Point {
        point: manifest.point.clone(),
        business_date: manifest.business_date,
        class: manifest.class,
        created_at: manifest.snapshot.taken_at,
        snapshot_id: manifest.snapshot.id.clone(),
        snapshot_method: manifest.snapshot.method.clone(),
        frozen: manifest.snapshot.frozen,
        size_bytes: manifest.stats.size_bytes,
        stored_bytes: manifest.stats.stored_bytes,
        added_bytes: manifest.stats.added_bytes,
        duration_s: manifest.stats.duration_s,
        anchor: copy.anchor.clone(),
        other: manifest.other.clone(),
        manifest: copy.key.clone(),
        state,
        incomplete_entries: manifest.stats.incomplete_entries,
        exclude: manifest.exclude.clone(),
        note: manifest.note.clone(),
        expires: manifest.expires,
        stored_at: None,
        live_bytes: None,
        mark: None,
    }
}
