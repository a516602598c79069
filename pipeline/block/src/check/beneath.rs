//! What lies under an object that is gone or wrong: told, and read where `check` reads objects anyway.

use dualsync_block_store::contract::{Key, Store};
use dualsync_model::event::Finding;

use crate::names;
use crate::shadow;
use crate::stack::{Stack, Stacks};

/// The same finding, where an older version is good.
pub(super) fn hides_a_good_one(mut finding: Finding) -> Finding {
    shadow::KIND.clone_into(&mut finding.kind);
    finding.problem = format!("{}: a newer version or a delete marker hides a good one", finding.problem);
    finding
}

fn may_be_shadowed(finding: &Finding) -> bool {
    ["missing", "truncated", "digest"].contains(&finding.kind.as_str())
}

/// Reads older versions of what is gone or wrong until one has the digest of the name.
pub(super) async fn read(store: &dyn Store, findings: &mut [Finding]) {
    for finding in findings.iter_mut().filter(|finding| may_be_shadowed(finding)) {
        if let Some(sha256) = names::digest_of(&finding.object)
            && let Ok(key) = Key::new(finding.object.as_str())
            && shadow::good_version(store, &key, &sha256).await.is_some()
        {
            *finding = hides_a_good_one(finding.clone());
        }
    }
}

/// Lists older versions of what is gone or has a wrong length, and reads none: one that has the length of `size` may be good.
pub(super) async fn look<'a>(
    store: &dyn Store,
    findings: &mut [Finding],
    needed: impl Iterator<Item = &'a Key> + Clone,
    size: impl Fn(&Key) -> Option<u64>,
) {
    let key_of = |finding: &Finding| {
        let key = Key::new(finding.object.as_str()).ok().filter(|_| may_be_shadowed(finding))?;
        Some((size(&key)?, key))
    };
    let keys: Vec<Key> = findings.iter().filter_map(key_of).map(|(_, key)| key).collect();
    if keys.is_empty() || !store.keeps_versions().await.unwrap_or(false) {
        return;
    }
    let count = |folder: &str| needed.clone().filter(|key| key.as_str().starts_with(folder)).count();
    let stacks = match Stacks::list(store, keys.iter(), count).await {
        Ok(stacks) => stacks,
        Err(error) => return tracing::debug!(%error, "older versions are not known"),
    };
    for finding in findings {
        let Some((size, key)) = key_of(finding) else { continue };
        let versions = stacks.get(&key).map(Stack::versions).unwrap_or_default();
        if versions.iter().any(|version| version.size == size) {
            shadow::KIND.clone_into(&mut finding.kind);
            let older = "an older version has the length that it should have, and was not read";
            finding.problem = format!("{}: {older}", finding.problem);
        }
    }
}
