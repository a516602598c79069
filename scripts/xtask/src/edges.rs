//! Who may know whom: the edges between our own crates, in every section of every manifest.

use std::collections::BTreeMap;

use crate::workspace::Package;

/// `crate: what it may name`. Test-only edges that are allowed besides stand in [`ALLOWED_IN_TESTS`].
const ALLOWED: &[(&str, &[&str])] = &[
    ("dualsync-model", &[]),
    ("dualsync-rules", &["dualsync-model"]),
    ("dualsync-config", &["dualsync-model", "dualsync-rules"]),
    ("dualsync-presets", &[]),
    ("dualsync-snapshot", &["dualsync-model"]),
    ("dualsync-verify", &["dualsync-model"]),
    ("dualsync-block-store", &["dualsync-model"]),
    ("dualsync-archive-store", &["dualsync-model"]),
    ("dualsync-block", &["dualsync-model", "dualsync-block-store"]),
    ("dualsync-archive", &["dualsync-model", "dualsync-archive-store"]),
    (
        "dualsync",
        &[
            "dualsync-model",
            "dualsync-rules",
            "dualsync-config",
            "dualsync-presets",
            "dualsync-snapshot",
            "dualsync-verify",
        ],
    ),
    ("dualsync-e2e", &["dualsync-model"]),
    ("xtask", &[]),
];

const ALLOWED_IN_TESTS: &[(&str, &[&str])] = &[
    ("dualsync-presets", &["dualsync-config"]),
    ("dualsync-block-store", &["dualsync-e2e"]),
    ("dualsync-archive-store", &["dualsync-e2e"]),
];

/// The only crates from outside that [`dualsync-model`] and the rules may name: no effects.
const PURE: &[&str] = &["serde", "thiserror"];

pub fn check(packages: &[Package]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let in_tests: BTreeMap<_, _> = ALLOWED_IN_TESTS.iter().copied().collect();
    let mut complaints = Vec::new();
    for package in packages {
        let Some(may) = allowed.get(package.name.as_str()) else {
            complaints.push(format!(
                "{}: a new crate; say in edges.rs whom it may know, and in ARCHITECTURE.md what it is",
                package.name
            ));
            continue;
        };
        let may_in_tests = in_tests.get(package.name.as_str()).copied().unwrap_or_default();
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let known = may.contains(&name) || (dependency.dev && may_in_tests.contains(&name));
            if allowed.contains_key(name) && !known {
                complaints.push(format!("{} names {name}: ARCHITECTURE.md has no such edge", package.name));
            }
            let pure = matches!(package.name.as_str(), "dualsync-model" | "dualsync-rules");
            if pure && !dependency.dev && !known && !PURE.contains(&name) {
                complaints.push(format!("{} names {name}: it has no effects, so it needs no such crate", package.name));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn complaints(package: &str, dependency: &str, dev: bool) -> Vec<String> {
        let dependencies = vec![Dependency { name: dependency.to_owned(), dev }];
        check(&[Package { name: package.to_owned(), dependencies }])
    }

    #[test]
    fn an_edge_between_the_paths_is_named_in_every_section() {
        for (package, dependency) in [
            ("dualsync-block", "dualsync-archive"),
            ("dualsync-archive", "dualsync-block"),
            ("dualsync-block-store", "dualsync-archive-store"),
            ("dualsync-archive", "dualsync-block-store"),
            ("dualsync", "dualsync-block"),
            ("dualsync-verify", "dualsync-archive"),
        ] {
            assert_eq!(complaints(package, dependency, false).len(), 1, "{package} {dependency}");
            assert_eq!(complaints(package, dependency, true).len(), 1, "{package} {dependency} in tests");
        }
    }

    #[test]
    fn the_planned_edges_pass() {
        assert!(complaints("dualsync-block", "dualsync-block-store", false).is_empty());
        assert!(complaints("dualsync-presets", "dualsync-config", true).is_empty());
        assert!(complaints("dualsync-archive", "opendal", false).is_empty());
    }

    #[test]
    fn rules_without_effects_name_no_crate_with_effects() {
        assert_eq!(complaints("dualsync-rules", "jiff", false).len(), 1);
        assert!(complaints("dualsync-rules", "proptest", true).is_empty());
    }

    #[test]
    fn a_crate_nobody_planned_is_named() {
        assert_eq!(complaints("dualsync-common", "serde", false).len(), 1);
    }
}
