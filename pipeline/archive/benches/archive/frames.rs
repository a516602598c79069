//! Frames and volumes: packed and sealed, unsealed and unpacked, and the whole way of a file's bytes.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use dualsync_archive::catalog::entry::Entry;
use dualsync_archive::codec::{Codec, Packing, Unpacker};
use dualsync_archive::digest::Digest;
use dualsync_archive::format::{FRAME_BYTES_MAX, FRAME_BYTES_TARGET};
use dualsync_archive::seal::{Header, Identity, Recipients, Sealer};
use dualsync_archive::tree::meta::Meta;

use crate::members::append;
use crate::sample::{SAMPLE_BYTES, Sample, entry};

/// Bytes of each file on the whole way.
const FILE_BYTES: usize = 64 << 10;
/// So that a buffer is never copied while it grows: a sample, its headers and its tags.
const CAPACITY: usize = SAMPLE_BYTES + (1 << 20);

/// The stages, then all of them.
pub fn bench(criterion: &mut Criterion, samples: &[Sample; 4]) {
    let zstd_3: Codec = "zstd:3".parse().expect("what jobs use");
    pack(criterion, samples, zstd_3);
    seal(criterion, &samples[2]);
    volume(criterion, samples, zstd_3);
}

fn pack(criterion: &mut Criterion, samples: &[Sample; 4], zstd_3: Codec) {
    let codecs = [("zstd:1", "zstd:1".parse().expect("what jobs may use")), ("zstd:3", zstd_3)];
    for (stage, codec) in codecs {
        let mut group = criterion.benchmark_group(stage);
        for sample in samples {
            group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
            let (mut compressor, mut packed) = (codec.packer(), Vec::new());
            group.bench_function(sample.name, |bencher| {
                bencher.iter(|| {
                    frames(&sample.bytes).for_each(|frame| compressor.pack(frame, &mut packed).expect("into memory"));
                    black_box(&packed).len()
                });
            });
        }
    }
    let mut group = criterion.benchmark_group("unpack");
    for sample in samples {
        let frames: Vec<_> = frames(&sample.bytes).map(|frame| packed(zstd_3, frame)).collect();
        group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
        let (mut unpacker, mut plain) = (Unpacker::default(), Vec::new());
        group.bench_function(sample.name, |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    let outcome = unpacker.unpack(Packing::Zstd, frame, FRAME_BYTES_MAX, &mut plain);
                    outcome.expect("it was packed by the same");
                }
                black_box(&plain).len()
            });
        });
    }
}

/// age alone; the range is of one frame, as a restore of one file asks for it.
fn seal(criterion: &mut Criterion, noise: &Sample) {
    let identity = Identity::generate();
    let recipients = Recipients::new(&identity, &[]).expect("one recipient");
    let mut group = criterion.benchmark_group("age");
    group.throughput(Throughput::Bytes(noise.bytes.len() as u64));
    group.bench_function("seal", |bencher| bencher.iter(|| sealed(&recipients, frames(&noise.bytes))));
    let stored = sealed(&recipients, frames(&noise.bytes));
    group.bench_function("open", |bencher| {
        bencher.iter(|| identity.open_all(&stored, u64::MAX).expect("it was sealed just above"));
    });
    let frame = 3 * FRAME_BYTES_TARGET as u64 / 2..5 * FRAME_BYTES_TARGET as u64 / 2;
    let header = Header::parse(&stored).expect("age has a header");
    let at = header.stored_range(&frame, stored.len() as u64);
    let length = |number: u64| usize::try_from(number).expect("it is in memory");
    let window = &stored[length(at.start)..length(at.end)];
    group.throughput(Throughput::Bytes(FRAME_BYTES_TARGET as u64));
    group.bench_function("open a range", |bencher| {
        let mut opened = Vec::new();
        bencher.iter(|| {
            identity.open_range(&header, window, frame.clone(), &mut opened).expect("it was sealed just above");
        });
    });
}

fn volume(criterion: &mut Criterion, samples: &[Sample; 4], codec: Codec) {
    let identity = Identity::generate();
    let recipients = Recipients::new(&identity, &[]).expect("one recipient");
    let file = Entry { meta: Meta { size: FILE_BYTES as u64, ..entry(0).meta }, ..entry(0) };
    for sample in samples {
        let mut group = criterion.benchmark_group("volume");
        group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
        let (mut compressor, mut frame) = (codec.packer(), Vec::new());
        let mut tar = Vec::with_capacity(FRAME_BYTES_TARGET + 2 * FILE_BYTES);
        group.bench_function(format!("digest, tar, zstd, age/{}", sample.name), |bencher| {
            bencher.iter(|| {
                let mut sealer = Sealer::new(&recipients, Vec::with_capacity(CAPACITY)).expect("one recipient");
                tar.clear();
                for content in sample.bytes.chunks(FILE_BYTES) {
                    black_box(Digest::of(content));
                    append(&mut tar, &file, content);
                    if tar.len() >= FRAME_BYTES_TARGET {
                        compressor.pack(&tar, &mut frame).expect("into memory");
                        sealer.write(&frame).expect("into memory");
                        tar.clear();
                    }
                }
                compressor.pack(&tar, &mut frame).expect("into memory");
                sealer.write(&frame).expect("into memory");
                sealer.finish().expect("into memory")
            });
        });
        let stored = sealed(&recipients, frames(&sample.bytes).map(|frame| packed(codec, frame)));
        group.bench_function(format!("age, zstd, digest/{}", sample.name), |bencher| {
            bencher.iter(|| {
                let frames = identity.open_all(&stored, u64::MAX).expect("it was sealed just above");
                Digest::of(&unpacked(codec, &frames))
            });
        });
    }
}

fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(FRAME_BYTES_TARGET)
}

fn packed(codec: Codec, plain: &[u8]) -> Vec<u8> {
    codec.pack(plain).expect("into memory")
}

fn unpacked(codec: Codec, packed: &[u8]) -> Vec<u8> {
    codec.packing().unpack(packed, FRAME_BYTES_MAX).expect("it was packed by the same")
}

fn sealed<B: AsRef<[u8]>>(recipients: &Recipients, frames: impl Iterator<Item = B>) -> Vec<u8> {
    let mut sealer = Sealer::new(recipients, Vec::with_capacity(CAPACITY)).expect("one recipient");
    frames.for_each(|frame| sealer.write(frame.as_ref()).expect("into memory"));
    sealer.finish().expect("into memory")
}
