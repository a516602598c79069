//! Content alone: its digest, and the borders at which big files are cut.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use dualsync_archive::backup::cutter::Cutter;
use dualsync_archive::digest::Digest;

use crate::sample::Sample;

/// Digest and cut; zeros, which have no borders, are left out of the cut.
pub fn bench(criterion: &mut Criterion, samples: &[Sample; 4]) {
    let [libraries, text, noise, _] = samples;
    let mut group = criterion.benchmark_group("digest");
    group.throughput(Throughput::Bytes(libraries.bytes.len() as u64));
    group.bench_function("libraries", |bencher| bencher.iter(|| Digest::of(black_box(&libraries.bytes))));
    group.finish();
    let file = [&libraries.bytes[..], &text.bytes, &noise.bytes].concat();
    let mut group = criterion.benchmark_group("cut");
    group.throughput(Throughput::Bytes(file.len() as u64));
    let mut cutter = Cutter::default();
    group.bench_function("one big file", |bencher| {
        bencher.iter(|| {
            cutter.begin();
            let mut source = &file[..];
            while let Some(part) = cutter.next(&mut source).expect("memory is readable") {
                black_box(part.len());
            }
        });
    });
}
