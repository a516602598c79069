//! The external sort, of as many records as a point of this size has entries.

use criterion::{Criterion, Throughput};
use dualsync_archive::digest::Digest;
use dualsync_archive::sort::Sorter;

/// Records that come in the order of their digests: none.
const RECORDS: u32 = 100_000;

/// Records of 32 and 48 bytes, in memory and spilled into about ten runs.
pub fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let keys: Vec<Digest> = (0..RECORDS).map(|number| Digest::of(&number.to_le_bytes())).collect();
    let mut group = criterion.benchmark_group("sort");
    group.throughput(Throughput::Elements(RECORDS.into()));
    for (name, memory_bytes_max) in [("in memory", 64 << 20), ("on disk", 1 << 20)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut sorter = Sorter::new(folder.path(), memory_bytes_max);
                for key in &keys {
                    sorter.push(&key.0, &[7; 48]).expect("the folder takes it");
                }
                let records = sorter.finish().expect("the folder gives it");
                records.inspect(|record| assert!(record.is_ok(), "the folder gives all of it")).count()
            });
        });
    }
}
