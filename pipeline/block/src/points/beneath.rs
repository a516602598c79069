//! Manifests in a bucket that keeps versions: what lies under a delete marker or under junk is a point all the same.
//!
//! Where the target locks, the census lists versions instead of objects, which takes no request more. Of a name with one visible
//! version nothing changes. Of any other the oldest version that has the digest of the name is the manifest; a digest is known
//! to whoever made the point, and its MAC is proved like every other.
//!
//! A point that a deleter deleted lies under a marker, too, as long as its lock lasts. It does not come back: it is neither in the
//! ledger of the newest manifest nor newer than that, or a proved `.deleting` says so, which is kept as long as the version is.

use std::collections::HashSet;

use bytes::Bytes;
use dualsync_block_store::contract::{ErrorKind, Key, ObjectInfo};
use dualsync_model::event::Finding;
use dualsync_model::id::PointId;

use crate::digest::Sha256;
use crate::fetch::{ObjectError, Problem};
use crate::format::manifest::BYTES_MAX;
use crate::manifest::Manifest;
use crate::marks::Marks;
use crate::names::{self, ManifestName};
use crate::points::{Census, CensusError, Show, head, opened, unexpected};
use crate::repository::Repository;
use crate::shadow;
use crate::stack::{Stack, Stacks};

/// What lies below `points/`.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// What a plain listing shows.
    pub visible: Vec<ObjectInfo>,
    /// What lies under each name; empty where versions are not looked at.
    pub stacks: Stacks,
}

impl Listing {
    /// One request a thousand names, or versions. Credentials that do not list versions are asked once.
    pub async fn take(repository: &Repository) -> Result<Self, CensusError> {
        if repository.looks_under() {
            match repository.store().versions(names::POINTS).await {
                Ok(listed) => return Ok(Self::of(Stacks::of(listed))),
                Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported) => {
                    tracing::warn!(%error, "hidden manifests are not seen");
                    repository.look_under_no_more();
                }
                Err(error) => return Err(error.into()),
            }
        }
        let visible = repository.store().list(names::POINTS, None).await?;
        Ok(Self { visible, stacks: Stacks::default() })
    }

    fn of(stacks: Stacks) -> Self {
        let visible = stacks.iter().filter(|(_, stack)| !stack.is_hidden());
        let info = |(key, stack): (&Key, &Stack)| {
            let newest = stack.newest()?;
            Some(ObjectInfo { key: key.clone(), size: newest.size, modified: newest.modified })
        };
        let mut visible: Vec<_> = visible.filter_map(info).collect();
        visible.sort_by(|a, b| a.key.cmp(&b.key));
        Self { visible, stacks }
    }
}

/// A manifest under a delete marker.
struct Hidden<'a> {
    key: &'a Key,
    name: ManifestName,
    stack: &'a Stack,
}

impl Census {
    /// A name that has more than one version: the manifest is the oldest that fits.
    pub(super) async fn look_under(
        &mut self,
        repository: &Repository,
        (key, stack): (&Key, &Stack),
        show: Show<'_>,
    ) -> Result<(), CensusError> {
        let Some(name) = names::parse_manifest(key.as_str()) else {
            self.findings.push(unexpected(repository.target(), key));
            return Ok(());
        };
        let point = PointId::new(name.source.clone(), name.time);
        match read(repository, &name, key, stack).await.map_err(CensusError::Read)? {
            Ok((manifest, bytes)) => {
                if is_covered(repository, &name.sha256, &bytes, key, stack).await? {
                    self.findings.push(shadowed(repository.target(), key, &point, stack));
                }
                self.take_in(name, (key, stack), &bytes, &manifest, show);
            }
            Err(error) => self.findings.push(error.finding(repository.target(), vec![point])),
        }
        Ok(())
    }

    /// Adds the points that lie under a delete marker which no deleter put there.
    pub(super) async fn look_under_markers(
        &mut self,
        repository: &Repository,
        stacks: &Stacks,
        show: Show<'_>,
    ) -> Result<(), CensusError> {
        let hidden = stacks.iter().filter(|(_, stack)| stack.is_hidden());
        let hidden =
            hidden.filter_map(|(key, stack)| Some(Hidden { key, name: names::parse_manifest(key.as_str())?, stack }));
        let mut hidden: Vec<Hidden<'_>> = hidden.collect();
        // What comes to light may be the newest, and know others.
        loop {
            let (may_live, rest): (Vec<_>, Vec<_>) = {
                let living = self.living();
                hidden.into_iter().partition(|one| self.may_live(one, &living))
            };
            self.buried.extend(may_live.iter().map(|one| one.name.sha256));
            hidden = rest;
            if may_live.is_empty() {
                break;
            }
            for one in may_live {
                self.look_under_marker(repository, one, show).await?;
            }
        }
        self.buried.extend(hidden.iter().map(|one| one.name.sha256));
        Ok(())
    }

    /// Digests of the points that the newest manifest knows.
    fn living(&self) -> HashSet<Sha256> {
        let newest = self.newest().map(|head| head.description.ledger.as_slice()).unwrap_or_default();
        newest.iter().map(|line| line.sha256).collect()
    }

    /// Whether the newest manifest knows it, or cannot know it.
    fn may_live(&self, one: &Hidden<'_>, living: &HashSet<Sha256>) -> bool {
        let put = one.stack.oldest().map(|version| version.modified);
        living.contains(&one.name.sha256) || self.newest().is_none_or(|newest| put >= Some(newest.modified))
    }

    async fn look_under_marker(
        &mut self,
        repository: &Repository,
        one: Hidden<'_>,
        show: Show<'_>,
    ) -> Result<(), CensusError> {
        if was_deleted(repository, &one.name.sha256).await? {
            return Ok(());
        }
        let Hidden { key, name, stack } = one;
        // One that cannot be read, and is in a ledger, is told as lost.
        let Ok((manifest, bytes)) = read(repository, &name, key, stack).await.map_err(CensusError::Read)? else {
            return Ok(());
        };
        let is_known = self.living().contains(&name.sha256);
        if !is_known && self.newest().is_some_and(|newest| newest.sequence > manifest.clear.sequence) {
            return Ok(());
        }
        let point = PointId::new(name.source.clone(), name.time);
        self.buried.remove(&name.sha256);
        self.findings.push(shadowed(repository.target(), key, &point, stack));
        self.take_in(name, (key, stack), &bytes, &manifest, show);
        Ok(())
    }

    /// Adds it as what it was when it was put.
    fn take_in(
        &mut self,
        name: ManifestName,
        (key, stack): (&Key, &Stack),
        bytes: &Bytes,
        manifest: &Manifest,
        show: Show<'_>,
    ) {
        let modified = stack.oldest().map(|version| version.modified).unwrap_or_default();
        let object = ObjectInfo { key: key.clone(), size: bytes.len() as u64, modified };
        show(&name, manifest);
        self.add(head(name, &object, manifest));
        match self.listed.iter_mut().find(|listed| listed.key == object.key) {
            Some(listed) => *listed = object,
            None => self.listed.push(object),
        }
    }
}

async fn was_deleted(repository: &Repository, sha256: &Sha256) -> Result<bool, CensusError> {
    let marks = Marks::list_of(repository, sha256).await?;
    Ok(marks.deletion(repository, sha256).await.map_err(CensusError::Read)?.is_some())
}

/// The manifest that the name tells, among the versions; the inner error is what is wrong with them.
async fn read(
    repository: &Repository,
    name: &ManifestName,
    key: &Key,
    stack: &Stack,
) -> Result<Result<(Manifest, Bytes), ObjectError>, ObjectError> {
    let Some(bytes) = bytes(repository, name, key, stack).await? else {
        return Ok(Err(ObjectError::new(key.clone(), Problem::Digest)));
    };
    Ok(opened(repository, name, &bytes).map(|manifest| (manifest, bytes)))
}

/// The oldest version with the digest of the name. One that the store does not give, whatever it says, is not it: somebody who may
/// put may have sealed it by a key of his own.
async fn bytes(
    repository: &Repository,
    name: &ManifestName,
    key: &Key,
    stack: &Stack,
) -> Result<Option<Bytes>, ObjectError> {
    if let Some(bytes) = repository.cache().get(&name.sha256) {
        return Ok(Some(bytes));
    }
    for version in stack.versions().iter().rev().filter(|version| version.size <= BYTES_MAX) {
        match repository.get_version(key, &version.id).await {
            Ok(bytes) if Sha256::of(&bytes) == name.sha256 => {
                repository.cache().put(&name.sha256, &bytes);
                return Ok(Some(bytes));
            }
            Ok(_) => {}
            Err(error) if error.is_answer() => {
                tracing::debug!(%key, id = %version.id, %error, "a version is not given");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a plain read finds something else than these bytes.
async fn is_covered(
    repository: &Repository,
    sha256: &Sha256,
    bytes: &Bytes,
    key: &Key,
    stack: &Stack,
) -> Result<bool, CensusError> {
    let Some(newest) = stack.newest().filter(|_| !stack.is_hidden()) else { return Ok(true) };
    if newest.size != bytes.len() as u64 {
        return Ok(true);
    }
    match repository.get_version(key, &newest.id).await {
        Ok(bytes) => Ok(Sha256::of(&bytes) != *sha256),
        Err(error) if error.is_answer() => Ok(true),
        Err(error) => Err(CensusError::Read(error)),
    }
}

fn shadowed(target: &str, key: &Key, point: &PointId, stack: &Stack) -> Finding {
    let what = if stack.is_hidden() { "a delete marker" } else { "a newer version" };
    Finding {
        target: target.to_owned(),
        object: key.to_string(),
        kind: shadow::KIND.to_owned(),
        problem: format!("{what} hides this manifest: an older version is good and is read"),
        points: vec![point.clone()],
        paths: Vec::new(),
    }
}
