//! The map: pages to and from bytes, what changed between two of them, and the table of all pages of a point.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use dualsync_block::digest::{Blake3, Sha256};
use dualsync_block::format::page::BLOCKS;
use dualsync_block::maps::MapWriter;
use dualsync_block::pack::Place;
use dualsync_block::page::{PackRef, Page, PageIndex, StoredBlock, decode};
use dualsync_block::pagetable::{Location, PageRef, PageTable, TableReader};

use crate::keys;

/// Packs that a page names after some months.
const PACKS: u32 = 20;
/// Blocks that change in a page in a night.
const CHANGED: u32 = 20;
/// Pages of a volume of 1 TiB in blocks of 128 KiB.
const PAGES: u32 = 8192;

/// Pages, then the table.
pub fn bench(criterion: &mut Criterion) {
    pages(criterion);
    objects(criterion);
    table(criterion);
}

fn pages(criterion: &mut Criterion) {
    let (old, new) = (page(0), changed());
    let digest = Blake3::of(&old.encode());
    let delta = new.delta_from(&old, digest).expect("few blocks changed");
    let bytes = [old.encode(), delta.encode()];
    let mut group = criterion.benchmark_group("page, in blocks");
    group.throughput(Throughput::Elements(BLOCKS as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&old).encode()));
    group.bench_function("decode", |bencher| bencher.iter(|| decode(&bytes[0])));
    group.bench_function("compare", |bencher| bencher.iter(|| black_box(&new).delta_from(&old, digest)));
    group.bench_function("delta encode", |bencher| bencher.iter(|| black_box(&delta).encode()));
    group.bench_function("delta decode", |bencher| bencher.iter(|| decode(&bytes[1])));
    group.bench_function("delta apply", |bencher| bencher.iter(|| delta.apply(&old)));
}

/// An object as it is stored after a night that changed all its pages.
fn objects(criterion: &mut Criterion) {
    let plain: Vec<_> = (0..64).map(|index| page(index).encode()).collect();
    let keys = keys();
    let mut group = criterion.benchmark_group("map object");
    group.throughput(Throughput::Bytes(plain.iter().map(Vec::len).sum::<usize>() as u64));
    group.bench_function("seal", |bencher| {
        bencher.iter(|| {
            let mut writer = MapWriter::default();
            (0..).zip(&plain).for_each(|(index, bytes)| writer.push(PageIndex(index), None, bytes.clone()));
            writer.seal(&keys)
        });
    });
}

fn table(criterion: &mut Criterion) {
    let mut table = PageTable::default();
    for number in 0..PAGES {
        let full = location(number);
        table.push(if number % 2 == 0 {
            PageRef::Full(full)
        } else {
            PageRef::Delta { full, delta: location(number + PAGES) }
        });
    }
    let records = table.encode_records();
    let names: Vec<Sha256> = table.live_objects().into_iter().map(|(object, _)| object).collect();
    let mut group = criterion.benchmark_group("page table, in pages");
    group.throughput(Throughput::Elements(PAGES.into()));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&table).encode_records()));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let mut reader = TableReader::new(names.clone());
            for record in &records {
                reader.record(record).expect("it was encoded just above");
            }
            reader.finish()
        });
    });
    group.bench_function("live objects", |bencher| bencher.iter(|| black_box(&table).live_objects()));
}

fn page(index: u32) -> Page {
    let blocks = u32::try_from(BLOCKS).expect("a page counts to 1,024");
    let mut page = Page::zero(PageIndex(index.into()), BLOCKS);
    for position in 0..blocks {
        page.set(position as usize, Some(block(index * blocks + position)));
    }
    page
}

fn changed() -> Page {
    let mut page = page(0);
    for number in 0..CHANGED {
        page.set(number as usize * 50, Some(block(1_000_000 + number)));
    }
    page
}

fn block(number: u32) -> StoredBlock {
    let sha256 = Sha256::of(&(number % PACKS).to_le_bytes());
    StoredBlock {
        hash: Blake3::of(&number.to_le_bytes()),
        pack: PackRef { sha256, salt: sha256.0 },
        place: Place { offset: 80 + number, length: 60_000 + number % 4096 },
    }
}

fn location(number: u32) -> Location {
    let (digest, object) = (Blake3::of(&number.to_le_bytes()), Sha256::of(&(number / 300).to_le_bytes()));
    Location { digest, object, offset: 80 + number % 300 * 40_000, length: 40_000 }
}
