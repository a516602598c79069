//! Each stage alone, block after block.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use dualsync_block::backup::worker::is_zero;
use dualsync_block::codec::{Compression, Compressor, Inflater};
use dualsync_block::digest::{Blake3, Sha256};
use dualsync_block::format::{Codec, ObjectKind};
use dualsync_block::seal::{ObjectOpener, ObjectSealer, Scratch};

use crate::keys;
use crate::sample::{BLOCK_BYTES, Sample};

/// All stages; what does not depend on the data is shown on libraries alone.
pub fn bench(criterion: &mut Criterion, samples: &[Sample; 4]) {
    let [libraries, _, noise, zeros] = samples;
    each_block(criterion, "is_zero", [zeros], |block| {
        black_box(is_zero(black_box(block)));
    });
    each_block(criterion, "blake3", [libraries], |block| {
        black_box(Blake3::of(block));
    });
    each_block(criterion, "sha256", [libraries], |block| {
        black_box(Sha256::of(block));
    });
    compress(criterion, samples);
    inflate(criterion, samples);
    seal(criterion, noise);
    open(criterion, noise);
}

fn each_block<'a>(
    criterion: &mut Criterion,
    stage: &str,
    samples: impl IntoIterator<Item = &'a Sample>,
    mut run: impl FnMut(&[u8]),
) {
    let mut group = criterion.benchmark_group(stage);
    for sample in samples {
        group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
        group.bench_function(sample.name, |bencher| {
            bencher.iter(|| sample.bytes.chunks(BLOCK_BYTES).for_each(&mut run));
        });
    }
}

/// Noise shows what the probe costs, which leaves it raw.
fn compress(criterion: &mut Criterion, samples: &[Sample; 4]) {
    for (stage, compression) in [("deflate:1", Compression::Fast), ("deflate:3", Compression::Better)] {
        let mut compressor = Compressor::new(compression);
        each_block(criterion, stage, samples, |block| {
            black_box(compressor.compress(block));
        });
    }
}

fn inflate(criterion: &mut Criterion, samples: &[Sample; 4]) {
    let mut compressor = Compressor::new(Compression::Fast);
    let (mut inflater, mut plain) = (Inflater::default(), Vec::new());
    let mut group = criterion.benchmark_group("inflate");
    for sample in samples {
        let mut bodies: Vec<(Codec, Vec<u8>)> = Vec::new();
        for block in sample.bytes.chunks(BLOCK_BYTES) {
            let (codec, body) = compressor.compress(block);
            bodies.push((codec, body.to_vec()));
        }
        group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
        group.bench_function(sample.name, |bencher| {
            bencher.iter(|| {
                for (codec, body) in &bodies {
                    inflater.inflate(*codec, body, BLOCK_BYTES, &mut plain).expect("it was compressed just above");
                }
            });
        });
    }
}

fn seal(criterion: &mut Criterion, noise: &Sample) {
    let mut out = Vec::with_capacity(2 * BLOCK_BYTES);
    let mut sealer = new_sealer();
    each_block(criterion, "seal", [noise], |block| {
        out.clear();
        sealer.record(Codec::Raw, number(block.len()), block, &mut out);
    });
}

/// Of raw records, so that nothing is inflated.
fn open(criterion: &mut Criterion, noise: &Sample) {
    let mut sealer = new_sealer();
    let opener = ObjectOpener::new(&keys(), ObjectKind::Pack, sealer.header(), Vec::new()).expect("our own header");
    let records: Vec<Vec<u8>> = noise
        .bytes
        .chunks(BLOCK_BYTES)
        .map(|block| {
            let mut record = Vec::new();
            sealer.record(Codec::Raw, number(block.len()), block, &mut record);
            record
        })
        .collect();
    let (mut scratch, mut plain) = (Scratch::default(), Vec::new());
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Bytes(noise.bytes.len() as u64));
    group.bench_function(noise.name, |bencher| {
        bencher.iter(|| {
            for record in &records {
                opener.open(record, BLOCK_BYTES, &mut scratch, &mut plain).expect("it was sealed just above");
            }
        });
    });
}

fn new_sealer() -> ObjectSealer {
    ObjectSealer::create(&keys(), ObjectKind::Pack, Vec::new()).expect("the system has random bytes")
}

fn number(length: usize) -> u32 {
    u32::try_from(length).expect("blocks are short")
}
