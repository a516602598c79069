//! A listing: keys to digests, and which of those a point names are not among them.

use std::collections::HashSet;

use criterion::{Criterion, Throughput};
use dualsync_block::digest::Sha256;
use dualsync_block::names;

/// Packs of a repository of about 3 TiB.
const PACKS: u32 = 100_000;

/// Every run lists all packs once.
pub fn bench(criterion: &mut Criterion) {
    let digests: Vec<Sha256> = (0..PACKS).map(|number| Sha256::of(&number.to_le_bytes())).collect();
    let keys: Vec<_> = digests.iter().map(names::pack).collect();
    let parse = || keys.iter().filter_map(|key| names::parse_digest(names::PACKS, key.as_str())).collect();
    let known: HashSet<Sha256> = parse();
    let mut group = criterion.benchmark_group("names of packs");
    group.throughput(Throughput::Elements(PACKS.into()));
    group.bench_function("write", |bencher| bencher.iter(|| digests.iter().map(names::pack).collect::<Vec<_>>()));
    group.bench_function("read into a set", |bencher| bencher.iter(parse));
    group.bench_function("look up", |bencher| {
        bencher.iter(|| digests.iter().filter(|digest| known.contains(*digest)).count());
    });
}
