//! What two folder targets hold, object by object, as `find` shows it: nothing may stay that nobody needs.
//!
//! An archive store says in clear which objects each point needs, so there nothing is taken on trust. A block store says
//! it in sealed manifests: there the counts of the program are compared with the files, and the files with a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::programs::Ran;

/// The objects of a folder target, with their lengths in bytes.
///
/// # Panics
/// When `find` fails.
pub fn objects(folder: &Path) -> BTreeMap<String, u64> {
    let listed = Ran::of(Command::new("find").arg(folder).args(["-type", "f", "-printf", "%s %P\n"]));
    let object = |line: &str| {
        let (bytes, name) = line.split_once(' ').unwrap();
        (name.to_owned(), bytes.parse().unwrap())
    };
    listed.stdout.lines().map(object).collect()
}

/// How many objects lie in each of a store's folders; what lies beside them counts for "".
pub fn kinds(objects: &BTreeMap<String, u64>) -> BTreeMap<&str, u64> {
    let mut kinds = BTreeMap::new();
    for name in objects.keys() {
        *kinds.entry(name.split_once('/').map_or("", |(folder, _)| folder)).or_default() += 1;
    }
    kinds
}

/// Every object of an archive target is one that a point needs, or of a kind that is no data.
///
/// # Panics
/// When there is one that nobody needs, or one is missing.
pub fn archive_holds_what_its_points_need(folder: &Path) {
    let there = objects(folder);
    let is_data = |name: &&String| ["volumes/", "catalogs/", "points/"].iter().any(|kind| name.starts_with(kind));
    let there: BTreeSet<&String> = there.keys().filter(is_data).collect();
    let mut needed = BTreeSet::new();
    for manifest in there.iter().filter(|name| name.ends_with("/manifest.json")) {
        let point = manifest.trim_end_matches("manifest.json");
        let files = ["manifest.json", "manifest.json.minisig", "refs.jsonl", "SHA256SUMS"];
        needed.extend(files.map(|file| format!("{point}{file}")));
        let refs = fs::read_to_string(folder.join(format!("{point}refs.jsonl"))).unwrap();
        let key = |line: &str| serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned();
        needed.extend(refs.lines().map(key));
    }
    assert_eq!(there, needed.iter().collect(), "what is there, and what the points need");
}

/// A block target has no more objects and bytes than its `copies`, of `list --json`, need.
///
/// # Panics
/// When it has.
pub fn block_holds_no_more_than_its_points_need(folder: &Path, copies: &[&Value]) {
    let there = objects(folder);
    let kinds = kinds(&there);
    assert_eq!(kinds["points"], copies.len() as u64, "{kinds:?}");
    // Each night sends a pack and a map or two, and what half of a pack is still needed of stays.
    assert!(kinds["packs"] + kinds["maps"] <= 4 * copies.len() as u64, "{kinds:?} for {} points", copies.len());
    let data = |name: &&String| name.starts_with("packs/") || name.starts_with("maps/") || name.starts_with("points/");
    let bytes: u64 = there.keys().filter(data).map(|name| there[name]).sum();
    let needed: u64 = copies.iter().map(|copy| copy["stored_bytes"].as_u64().unwrap()).sum();
    assert!(bytes <= needed, "{bytes} bytes are there, and all points together need {needed}");
}

/// Of `reports` reports both stores keep each file, and what prune leaves for a month is not older than that.
///
/// # Panics
/// When something is missing or stays.
pub fn the_rest_is_evidence_and_a_month_of_traces(folder: &Path, files_of_report: u64, reports: u64) {
    let there = objects(folder);
    let kinds = kinds(&there);
    assert_eq!(kinds.get("evidence").copied().unwrap_or_default(), files_of_report * reports, "{kinds:?}");
    // A night has a run and at most three readers; some ten objects leave, each with a mark and its companion.
    for (kind, most) in [("runs", 35 * 4), ("marks", 35 * 24), ("keys", 1), ("", 3)] {
        assert!(kinds.get(kind).copied().unwrap_or_default() <= most, "{kind}: {kinds:?}");
    }
    let known = ["", "packs", "maps", "volumes", "catalogs", "points", "evidence", "runs", "marks", "keys"];
    assert!(kinds.keys().all(|kind| known.contains(kind)), "{kinds:?}");
}
