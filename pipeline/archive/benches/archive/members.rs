//! Small files as tar members, in both directions.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use dualsync_archive::catalog::entry::Entry;
use dualsync_archive::volume::content::data;
use dualsync_archive::volume::member::{Body, pad, write_header};

use crate::sample::{Sample, entry};

/// Members of a frame.
const MEMBERS: u32 = 500;

/// Members of 4,000 bytes, as entries a second.
pub fn bench(criterion: &mut Criterion, samples: &[Sample; 4]) {
    let files: Vec<_> = (0..MEMBERS).map(entry).zip(samples[1].bytes.chunks(4000)).collect();
    let mut group = criterion.benchmark_group("member");
    group.throughput(Throughput::Elements(MEMBERS.into()));
    let mut tar = Vec::new();
    group.bench_function("write", |bencher| {
        bencher.iter(|| {
            tar.clear();
            for (entry, content) in &files {
                append(&mut tar, entry, content);
            }
            black_box(&tar).len()
        });
    });
    let members: Vec<Vec<u8>> = files
        .iter()
        .map(|(entry, content)| {
            let mut member = Vec::new();
            append(&mut member, entry, content);
            member
        })
        .collect();
    group.bench_function("read", |bencher| {
        bencher.iter(|| members.iter().map(|tar| data("volume", tar).map_or(0, <[u8]>::len)).sum::<usize>());
    });
}

/// The whole member of a file.
pub fn append(tar: &mut Vec<u8>, entry: &Entry, content: &[u8]) {
    write_header(tar, entry.path.as_bytes(), &entry.meta, Body::Data(content.len() as u64));
    tar.extend_from_slice(content);
    pad(tar, content.len() as u64);
}
