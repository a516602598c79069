//! `list`: one `point` line for each good manifest, one `finding` for each that is not.

use dualsync_model::event::{CopyState, Event, Point, PointMark, Summary};
use dualsync_model::id::SourceName;
use dualsync_model::job::ListTask;

use crate::events::Events;
use crate::failure::Fault;
use crate::format::{HEARTBEAT_S, RUNS};
use crate::marks::{Group, Marks};
use crate::objects::Clock;
use crate::points::{Copy, Points};
use crate::program::summary;
use crate::repo::Repository;
use crate::runs::{Purpose, living};

/// A restore whose last heartbeat is older than two of them is taken for one that was cut off, seconds.
const RESTORE_AGE_MAX_S: i64 = 2 * HEARTBEAT_S.cast_signed();

/// Runs the task. Findings do not fail it: a list with holes is still the list.
pub async fn list(repository: &Repository, task: &ListTask, events: &Events) -> Result<Summary, Fault> {
    let mut points = Points::load(repository).await?;
    let marks = points.forgive_deleted(repository, events).await?;
    let seen = Seen::look(repository, marks, events).await?;
    let wanted = |source: &SourceName| task.source.as_ref().is_none_or(|only| only == source);
    let copies = points.copies.iter().filter(|copy| wanted(copy.manifest.source()));
    let mut count = 0;
    for copy in copies {
        events.emit(&Event::Point(Box::new(seen.point(copy))));
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

/// What is known of the copies besides their manifests.
struct Seen {
    clock: Clock,
    marks: Marks,
    /// Manifests that a restore reads now.
    read: Vec<String>,
}

impl Seen {
    async fn look(repository: &Repository, marks: Marks, events: &Events) -> Result<Self, Fault> {
        let runs = repository.objects.list(RUNS).await?;
        let clock = repository.objects.clock();
        let living = living(repository, &runs, RESTORE_AGE_MAX_S, clock, events).await?;
        let restores = living.into_iter().filter(|run| run.beat.purpose == Purpose::Restore);
        let read = restores.filter_map(|run| run.beat.parent).collect();
        Ok(Self { clock, marks, read })
    }

    /// The line of one copy. That somebody restores it counts for more than that it is going to go: it tells
    /// a person who reads this to leave it alone.
    fn point(&self, copy: &Copy) -> Point {
        let manifest = &copy.manifest;
        let mark = self.marks.standing(&copy.key, self.clock).and_then(|group| self.mark(group));
        let state = match mark {
            _ if self.read.contains(&copy.key) => CopyState::Restoring,
            Some(_) => CopyState::Deleting,
            None => CopyState::Available,
        };
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
            stored_at: copy.received_at.filter(|_| self.clock.is_stores),
            live_bytes: manifest.stats.live_bytes,
            mark,
        }
    }

    fn mark(&self, group: &Group) -> Option<PointMark> {
        let mark = group.standing()?;
        let since = group.since(self.clock)?;
        Some(PointMark { since, reason: mark.reason.clone(), asked: mark.asked, deleting: group.is_deleting() })
    }
}
