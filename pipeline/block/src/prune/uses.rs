//! Which manifests name an object, and how much of it each uses: all that a deleter knows of content.

use std::collections::{HashMap, HashSet};

use dualsync_block_store::contract::Key;

use crate::digest::Sha256;
use crate::manifest::Manifest;
use crate::names;

/// Who names what.
#[derive(Debug, Default)]
pub struct Uses {
    manifests: Vec<Sha256>,
    /// By object: a position in `manifests`, and the bytes in use.
    by_object: HashMap<Sha256, Vec<(u32, u32)>>,
    /// The map objects among them.
    maps: HashSet<Sha256>,
    /// Every digest in the ledger of any manifest.
    remembered: HashSet<Sha256>,
}

impl Uses {
    /// Adds what a manifest names; one that is known already adds nothing.
    pub fn add(&mut self, sha256: Sha256, manifest: &Manifest) {
        if self.manifests.contains(&sha256) {
            return;
        }
        let position = u32::try_from(self.manifests.len()).expect("a listing of manifests fits in memory");
        self.manifests.push(sha256);
        for reference in manifest.clear.maps.iter().chain(&manifest.clear.packs) {
            self.by_object.entry(reference.sha256).or_default().push((position, reference.live));
        }
        self.maps.extend(manifest.clear.maps.iter().map(|reference| reference.sha256));
        self.remembered.extend(manifest.description.ledger.iter().map(|line| line.sha256));
    }

    /// Every pack and map object that a manifest names, whether it is there or not.
    pub fn objects(&self) -> impl Iterator<Item = &Sha256> {
        self.by_object.keys()
    }

    /// Where an object lies that a manifest names.
    pub fn key_of(&self, object: &Sha256) -> Key {
        if self.maps.contains(object) { names::map(object) } else { names::pack(object) }
    }

    /// Whether a manifest that `counts` names the object.
    pub fn is_named(&self, object: &Sha256, mut counts: impl FnMut(&Sha256) -> bool) -> bool {
        self.of(object).any(|(manifest, _)| counts(manifest))
    }

    /// The manifests that name the object.
    pub fn manifests_of(&self, object: &Sha256) -> impl Iterator<Item = &Sha256> {
        self.of(object).map(|(manifest, _)| manifest)
    }

    /// The most bytes of the object that one manifest that `counts` uses: a lower bound of what all of them use.
    pub fn live_bytes(&self, object: &Sha256, mut counts: impl FnMut(&Sha256) -> bool) -> u64 {
        self.of(object).filter(|(manifest, _)| counts(manifest)).map(|(_, live)| u64::from(live)).max().unwrap_or(0)
    }

    /// Whether a ledger still names this manifest as alive.
    pub fn is_remembered(&self, manifest: &Sha256) -> bool {
        self.remembered.contains(manifest)
    }

    fn of(&self, object: &Sha256) -> impl Iterator<Item = (&Sha256, u32)> {
        let uses = self.by_object.get(object).map(Vec::as_slice).unwrap_or_default();
        uses.iter().filter_map(|(position, live)| Some((self.manifests.get(*position as usize)?, *live)))
    }
}
