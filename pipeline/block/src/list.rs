//! `list`: one line a copy, one finding a manifest that is not what it should be, and the chain.
//!
//! It reads manifests only. What the newest manifest says of the others is compared with what is
//! there: a point in its ledger that is gone, and an older one that is not in it, are findings. A point
//! that left by the rule is in the drops of the manifest after it and in no ledger, so it is neither.

use std::collections::{HashMap, HashSet};

use dualsync_model::event::{CopyState, Event, Finding, Point};
use dualsync_model::id::SourceName;
use dualsync_model::job::Anchor;

use crate::digest::Sha256;
use crate::events::Events;
use crate::marks::Marks;
use crate::names;
use crate::points::{Census, Head};
use crate::repository::Repository;
use crate::trouble::Trouble;

/// What `list` counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Copies told.
    pub points: u64,
    /// Findings told.
    pub findings: u64,
}

/// Prints the copies, of one source or of all.
pub async fn list(repository: &Repository, source: Option<&SourceName>, events: &Events) -> Result<Listed, Trouble> {
    events.progress().phase("listing");
    let census = Census::take(repository).await?;
    let marks = Marks::list(repository).await?;
    let wanted = |name: &SourceName| source.is_none_or(|source| source == name);
    let mut listed = Listed::default();
    for head in census.heads.iter().filter(|head| wanted(&head.name.source)) {
        events.say(&Event::Point(Box::new(point(head, marks.is_marked(&head.name.sha256)))));
        listed.points += 1;
    }
    for finding in census.findings.iter().cloned().chain(chain_findings(repository.target(), &census)) {
        events.say(&Event::Finding(finding));
        listed.findings += 1;
    }
    Ok(listed)
}

fn point(head: &Head, marked: bool) -> Point {
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
        state: if marked { CopyState::Deleting } else { CopyState::Available },
        incomplete_entries: 0,
        exclude: description.exclude.clone(),
        note: description.note.clone(),
        expires: description.expires,
        stored_at: None,
        live_bytes: None,
        mark: None,
    }
}

/// What the newest manifest's ledger and drops say against the listing.
pub fn chain_findings(target: &str, census: &Census) -> Vec<Finding> {
    let Some(newest) = census.newest() else { return Vec::new() };
    let present: HashSet<Sha256> = census
        .listed
        .iter()
        .filter_map(|object| names::parse_manifest(object.key.as_str()))
        .map(|name| name.sha256)
        .collect();
    let ledger: HashMap<Sha256, _> = newest.description.ledger.iter().map(|line| (line.sha256, line)).collect();
    let finding = |object: String, problem: &str, points| Finding {
        target: target.to_owned(),
        object,
        kind: "chain".to_owned(),
        problem: problem.to_owned(),
        points,
        paths: Vec::new(),
    };
    let mut findings = Vec::new();
    for line in &newest.description.ledger {
        if !present.contains(&line.sha256) {
            let problem = "the newest manifest says that this point is alive, and its manifest is gone";
            findings.push(finding(line.manifest.clone(), problem, vec![line.point.clone()]));
        }
    }
    for head in &census.heads {
        // Made beside the newest one, it may have the same number and not be in its ledger.
        if head.sequence < newest.sequence && !ledger.contains_key(&head.name.sha256) {
            let problem = "the newest manifest does not know this older point: it was put back, or made beside it";
            findings.push(finding(head.key.to_string(), problem, vec![head.description.point.clone()]));
        }
    }
    findings
}
