//! A whole pack: made as a worker makes it, proved as it is before a manifest may name it, read as by a restore.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use dualsync_block::codec::{Compression, Compressor};
use dualsync_block::digest::Blake3;
use dualsync_block::format::ObjectKind;
use dualsync_block::pack::{PackWriter, SealedPack, open_block, verify};
use dualsync_block::seal::{ObjectOpener, Scratch};

use crate::keys;
use crate::sample::{BLOCK_BYTES, Sample};

/// Packs of one sample each.
pub fn bench(criterion: &mut Criterion, samples: &[Sample; 4]) {
    let keys = keys();
    for sample in samples {
        let mut group = criterion.benchmark_group("pack");
        group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
        let (mut compressor, mut scratch) = (Compressor::new(Compression::Fast), Scratch::default());
        let mut buffer = Vec::with_capacity(2 * sample.bytes.len());
        group.bench_function(format!("hash, compress, seal/{}", sample.name), |bencher| {
            bencher.iter(|| black_box(fill(&mut buffer, &sample.bytes, &mut compressor).sha256));
        });
        let pack = fill(&mut buffer, &sample.bytes, &mut compressor);
        group.bench_function(format!("verify/{}", sample.name), |bencher| {
            bencher.iter(|| verify(&keys, &pack, &mut scratch).expect("it was sealed just above"));
        });
        let mut plain = Vec::new();
        group.bench_function(format!("open, inflate, hash/{}", sample.name), |bencher| {
            bencher.iter(|| {
                let opener = ObjectOpener::from_salt(&keys, ObjectKind::Pack, pack.salt).pop().expect("one key");
                for entry in &pack.entries {
                    let record = &pack.buffer[entry.place.offset as usize..][..entry.place.length as usize];
                    open_block(&opener, record, entry.hash, BLOCK_BYTES, &mut scratch, &mut plain)
                        .expect("it was sealed just above");
                }
            });
        });
    }
}

fn fill<'b>(buffer: &'b mut Vec<u8>, plain: &[u8], compressor: &mut Compressor) -> SealedPack<&'b mut Vec<u8>> {
    let mut pack = PackWriter::create(&keys(), buffer).expect("the system has random bytes");
    for block in plain.chunks(BLOCK_BYTES) {
        pack.push(Blake3::of(block), block, compressor);
    }
    pack.finish()
}
