//! The points of a repository: every manifest found, checked one by one and as a chain.
//!
//! Promises that a point it gives is signed with the pinned key and stands where it belongs, and that
//! what is missing from the chain becomes a finding. One bad manifest never hides the others.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;

use dualsync_archive_store::contract::ObjectInfo;
use dualsync_model::event::Finding;
use dualsync_model::id::{PointId, SourceName};
use dualsync_model::job::Anchor;
use dualsync_model::time::Timestamp;

use crate::digest::Digest;
use crate::events::Events;
use crate::format::{
    MANIFEST_BYTES_MAX, MANIFEST_NAME, POINTS, REFS_BYTES_MAX, REFS_NAME, SIGNATURE_NAME, parse_point_key,
};
use crate::hidden::open_below;
use crate::kept::Kept;
use crate::manifest::{Manifest, ManifestError};
use crate::marks::Marks;
use crate::objects::{ObjectError, Objects};
use crate::refs::{Ref, RefsError, parse_refs};
use crate::repo::Repository;
use crate::shadow;

/// Manifests fetched at once.
const FETCHES: usize = 8;

/// One copy.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What it says.
    pub manifest: Manifest,
    /// Key of the manifest.
    pub key: String,
    /// Its number and the digest of its stored bytes.
    pub anchor: Anchor,
    /// When the store received the manifest, as a listing said; only where it was found by one.
    pub received_at: Option<Timestamp>,
}

/// All copies found, in ascending order of their numbers, and what is wrong.
#[derive(Debug, Default)]
pub struct Points {
    /// Good ones.
    pub copies: Vec<Copy>,
    /// Everything else.
    pub findings: Vec<Finding>,
}

/// Why a wanted point cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// It is not there, or not in a form that can be trusted.
    #[error("there is no good copy of {point} in this repository{}", because(findings))]
    NoCopy {
        /// The point.
        point: PointId,
        /// What was found under its name.
        findings: Vec<Finding>,
    },
    /// An object of it cannot be had.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Its list of objects is not readable.
    #[error("the list of objects of {point} is not readable")]
    Refs {
        /// The point.
        point: PointId,
        /// Why not.
        #[source]
        source: RefsError,
    },
}

fn because(findings: &[Finding]) -> String {
    findings.first().map(|finding| format!(": {}", finding.problem)).unwrap_or_default()
}

/// What was found under the key of a manifest.
pub enum Opened {
    /// A copy.
    Good(Box<Copy>),
    /// Something that is not accepted.
    Bad {
        /// The word of the finding.
        kind: &'static str,
        /// A sentence.
        problem: String,
    },
}

/// Keys of all manifests in a listing of `points/`.
pub fn manifest_keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let is_manifest = |key: &&str| parse_point_key(key).is_some_and(|(_, _, name)| name == MANIFEST_NAME);
    keys.into_iter().filter(is_manifest).map(str::to_owned).collect()
}

impl Points {
    /// Every point of the repository. Only a store that fails is an error.
    pub async fn load(repository: &Repository) -> Result<Self, ObjectError> {
        let listed = repository.objects.list_deep(POINTS).await?;
        let listing = listed.shown;
        let keys = manifest_keys(listing.iter().map(|info| info.key.as_str()));
        let mut points = Self::default();
        let sizes = &sizes(&listing);
        let mut fetches = futures::stream::iter(&keys)
            .map(|key| async move { (key, open_listed(repository, key, sizes).await) })
            .buffered(FETCHES);
        while let Some((key, opened)) = fetches.next().await {
            match opened? {
                Opened::Good(copy) => points.copies.push(*copy),
                Opened::Bad { kind, problem } => {
                    points.findings.push(finding(&repository.target, key, kind, problem));
                }
            }
        }
        let received: BTreeMap<_, _> = listing.iter().map(|info| (info.key.as_str(), info.modified)).collect();
        for copy in &mut points.copies {
            copy.received_at = copy.received_at.or_else(|| received.get(copy.key.as_str()).copied());
        }
        points.copies.sort_by(|a, b| order(a).cmp(&order(b)));
        points.add_hidden(repository, listed.hidden).await?;
        let broken = chain_findings(&points.copies, &repository.target, &points.findings);
        points.findings.extend(broken);
        for key in repository.objects.take_shadowed() {
            points.findings.push(finding(&repository.target, &key, shadow::KIND, shadow::READ.to_owned()));
        }
        Ok(points)
    }

    /// Passes over what is missing because who may sign has deleted it: the newest manifest knows such a point
    /// until the next one is made. A point that is only announced and already gone stays a finding.
    pub async fn forgive_deleted(&mut self, repository: &Repository, events: &Events) -> Result<Marks, ObjectError> {
        let missing = self.findings.iter().filter(|finding| finding.kind == "missing").map(|one| one.object.as_str());
        let manifests = self.copies.iter().map(|copy| copy.key.as_str());
        let marks = Marks::load(repository, manifests.chain(missing), events).await?;
        self.findings.retain(|finding| finding.kind != "missing" || !marks.is_deleting(&finding.object));
        Ok(marks)
    }

    /// The newest copy of `source`.
    pub fn newest_of(&self, source: &SourceName) -> Option<&Copy> {
        self.copies.iter().rfind(|copy| copy.manifest.source() == source)
    }

    /// The newest copy of all.
    pub fn newest(&self) -> Option<&Copy> {
        self.copies.last()
    }

    /// The copy of `point`; of several, the newest.
    pub fn copy(&self, point: &PointId) -> Result<&Copy, PointError> {
        self.copies.iter().rfind(|copy| copy.manifest.point == *point).ok_or_else(|| PointError::NoCopy {
            point: point.clone(),
            findings: self.findings.iter().filter(|finding| finding.points.contains(point)).cloned().collect(),
        })
    }
}

impl Copy {
    /// The copy of `point` alone, of several the newest: a listing and two requests, however many points there
    /// are. Whether the chain around it is whole is the business of [`Points::load`].
    pub async fn find(repository: &Repository, point: &PointId) -> Result<Self, PointError> {
        Self::find_kept(repository, point, &Kept::default()).await
    }

    /// The same; the manifest may be one that this host keeps.
    pub async fn find_kept(repository: &Repository, point: &PointId, kept: &Kept) -> Result<Self, PointError> {
        let prefix = format!("{POINTS}{}/{}-", point.source(), point.time().compact());
        let listing = repository.objects.list(&prefix).await?;
        let (copies, mut findings) = Self::among(repository, &listing, kept).await?;
        let mut newest = newest_of(copies);
        if newest.is_none() {
            // Whoever asks for it by name gets it from below a delete marker, too.
            let hidden = repository.objects.list_hidden(&prefix).await?;
            let (copies, more) = Self::among(repository, &hidden, kept).await?;
            newest = newest_of(copies);
            findings.extend(more);
        }
        newest.ok_or_else(|| PointError::NoCopy { point: point.clone(), findings })
    }

    /// The copies whose manifests are listed, and what is wrong with the others.
    async fn among(
        repository: &Repository,
        listing: &[ObjectInfo],
        kept: &Kept,
    ) -> Result<(Vec<Self>, Vec<Finding>), PointError> {
        let mut copies = Vec::new();
        let mut findings = Vec::new();
        for key in manifest_keys(listing.iter().map(|info| info.key.as_str())) {
            let sizes = sizes(listing);
            if let Some(copy) = kept.copy(repository, &key, &sizes) {
                copies.push(copy);
                continue;
            }
            match open_listed_to(repository, &key, &sizes, kept).await? {
                Opened::Good(copy) => copies.push(*copy),
                Opened::Bad { kind, problem } => {
                    findings.push(finding(&repository.target, &key, kind, problem));
                }
            }
        }
        Ok((copies, findings))
    }

    /// Every object this point needs, after its digest was checked against the manifest.
    pub async fn refs(&self, objects: &Objects) -> Result<Vec<Ref>, PointError> {
        self.refs_kept(objects, &Kept::default()).await
    }

    /// The same; the list may be one that this host keeps.
    pub async fn refs_kept(&self, objects: &Objects, kept: &Kept) -> Result<Vec<Ref>, PointError> {
        let point = || self.manifest.point.clone();
        let key = self.manifest.object_key(REFS_NAME).unwrap_or_default();
        let stored = self.manifest.objects.refs;
        if stored.bytes > REFS_BYTES_MAX {
            return Err(ObjectError::Length { key, found: stored.bytes, wanted: REFS_BYTES_MAX }.into());
        }
        let bytes = kept.get_exact(objects, &key, stored).await?;
        parse_refs(&bytes).map_err(|source| PointError::Refs { point: point(), source })
    }
}

/// By number; where two runs of different sources drew the same, by digest.
pub(crate) fn order(copy: &Copy) -> (u64, &str) {
    (copy.anchor.sequence, &copy.anchor.sha256)
}

fn newest_of(copies: Vec<Copy>) -> Option<Copy> {
    copies.into_iter().max_by(|a, b| order(a).cmp(&order(b)))
}

/// Length of each object in a listing.
pub fn sizes(listing: &[ObjectInfo]) -> BTreeMap<&str, u64> {
    listing.iter().map(|info| (info.key.as_str(), info.size)).collect()
}

/// Opens one manifest of a listing. What is listed as longer than it may be is not fetched: who can write
/// to the bucket must not decide how much memory this takes.
pub async fn open_listed(
    repository: &Repository,
    key: &str,
    sizes: &BTreeMap<&str, u64>,
) -> Result<Opened, ObjectError> {
    open_listed_to(repository, key, sizes, &Kept::default()).await
}

/// The same; what is good is kept.
async fn open_listed_to(
    repository: &Repository,
    key: &str,
    sizes: &BTreeMap<&str, u64>,
    kept: &Kept,
) -> Result<Opened, ObjectError> {
    let signature = key.replace(MANIFEST_NAME, SIGNATURE_NAME);
    for object in [key, &signature] {
        let found = sizes.get(object).copied().unwrap_or(0);
        if found > MANIFEST_BYTES_MAX {
            let error = ObjectError::Length { key: object.to_owned(), found, wanted: MANIFEST_BYTES_MAX };
            let bad = Opened::Bad { kind: "digest", problem: error.to_string() };
            return Ok(open_below(repository, key, kept).await?.map_or(bad, |copy| Opened::Good(Box::new(copy))));
        }
    }
    open_to(repository, key, kept).await
}

/// Opens one manifest: two requests, one where its own signature is enough, and more where an older version has to be looked for. Only a store that fails is an error.
pub async fn open(repository: &Repository, key: &str) -> Result<Opened, ObjectError> {
    open_to(repository, key, &Kept::default()).await
}

async fn open_to(repository: &Repository, key: &str, kept: &Kept) -> Result<Opened, ObjectError> {
    let opened = open_on_top(repository, key, kept).await?;
    // One of another version is signed: it is the right one.
    let may_be_below = matches!(opened, Opened::Bad { kind, .. } if kind != "unknown_version");
    let below = if may_be_below { open_below(repository, key, kept).await? } else { None };
    Ok(below.map_or(opened, |copy| Opened::Good(Box::new(copy))))
}

async fn open_on_top(repository: &Repository, key: &str, kept: &Kept) -> Result<Opened, ObjectError> {
    let bytes = match fetch(&repository.objects, key).await? {
        Ok(bytes) => bytes,
        Err(bad) => return Ok(bad),
    };
    if kept.spares()
        && let Ok(manifest) = Manifest::open_alone(key, &bytes, &repository.public, repository.id())
    {
        return Ok(good(key, manifest, &bytes, None, kept));
    }
    let signature = match fetch(&repository.objects, &key.replace(MANIFEST_NAME, SIGNATURE_NAME)).await? {
        Ok(signature) => signature,
        Err(bad) => return Ok(bad),
    };
    Ok(accept(repository, key, &bytes, &signature, kept))
}

/// Whether these bytes are the manifest that belongs under this key; what is good is kept.
pub fn accept(repository: &Repository, key: &str, bytes: &[u8], signature: &[u8], kept: &Kept) -> Opened {
    let signature = String::from_utf8_lossy(signature);
    match Manifest::open(key, bytes, &signature, &repository.public, repository.id()) {
        Ok(manifest) => good(key, manifest, bytes, Some(signature.as_bytes()), kept),
        Err(error) => {
            let kind = match error {
                ManifestError::Version { .. } => "unknown_version",
                ManifestError::Signature { .. } | ManifestError::Moved { .. } => "forged",
                ManifestError::Json { .. } | ManifestError::Format { .. } => "unreadable",
            };
            Opened::Bad { kind, problem: with_causes(&error) }
        }
    }
}

fn good(key: &str, mut manifest: Manifest, bytes: &[u8], signature: Option<&[u8]>, kept: &Kept) -> Opened {
    // Whoever reads many has no use for it.
    manifest.index = manifest.index.filter(|_| kept.spares());
    let anchor = Anchor { sequence: manifest.sequence, sha256: Digest::of(bytes).hex() };
    kept.keep(key, bytes, signature);
    Opened::Good(Box::new(Copy { manifest, key: key.to_owned(), anchor, received_at: None }))
}

async fn fetch(objects: &Objects, key: &str) -> Result<Result<bytes::Bytes, Opened>, ObjectError> {
    match objects.get(key, MANIFEST_BYTES_MAX).await {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(error) => match error.finding() {
            Some(kind) => Ok(Err(Opened::Bad { kind, problem: error.to_string() })),
            None => Err(error),
        },
    }
}

/// What the newest manifest knows of the others, against what is there.
fn chain_findings(copies: &[Copy], target: &str, known: &[Finding]) -> Vec<Finding> {
    let Some(newest) = copies.last() else { return Vec::new() };
    let by_folder: BTreeMap<_, _> =
        copies.iter().map(|copy| ((copy.manifest.source(), copy.manifest.folder.as_str()), copy)).collect();
    let reported: BTreeSet<_> = known.iter().map(|finding| finding.object.as_str()).collect();
    let mut findings = Vec::new();
    for line in &newest.manifest.ledger {
        let key = format!("{POINTS}{}/{}/{MANIFEST_NAME}", line.point.source(), line.folder);
        match by_folder.get(&(line.point.source(), line.folder.as_str())) {
            Some(copy) if copy.anchor == line.anchor => {}
            Some(_) => findings.push(finding(
                target,
                &key,
                "chain",
                "its manifest is not the one the newest manifest knows".into(),
            )),
            None if reported.contains(key.as_str()) => {}
            None => findings.push(finding(
                target,
                &key,
                "missing",
                "the newest manifest lists this point, and it is not there".into(),
            )),
        }
    }
    for copy in copies {
        let in_ledger = newest.manifest.ledger.iter().any(|line| line.anchor == copy.anchor);
        let dropped = newest.manifest.dropped.iter().any(|drop| drop.line.anchor == copy.anchor);
        if dropped {
            let problem = "a point that was dropped is there again: an old object was put back";
            findings.push(finding(target, &copy.key, "rollback", problem.into()));
        } else if !in_ledger && copy.anchor.sequence < newest.anchor.sequence {
            let problem = "the newest manifest does not know this older point";
            findings.push(finding(target, &copy.key, "chain", problem.into()));
        }
    }
    findings
}

/// A finding about the object `key`.
pub fn finding(target: &str, key: &str, kind: &str, problem: String) -> Finding {
    let points =
        parse_point_key(key).map(|(source, folder, _)| PointId::new(source, folder.time())).into_iter().collect();
    Finding {
        target: target.to_owned(),
        object: key.to_owned(),
        kind: kind.to_owned(),
        problem,
        points,
        paths: Vec::new(),
    }
}

/// An error with all its causes, in one sentence.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
