//! The catalog: lines to and from bytes, and a segment to and from its stored form.

use criterion::{Criterion, Throughput};
use dualsync_archive::catalog::entry::Line;
use dualsync_archive::catalog::segment::{Draft, Lines};
use dualsync_archive::seal::{Identity, Recipients};

use crate::sample::entry;

/// Entries of a segment of usual length.
const ENTRIES: u32 = 16_000;

/// Every entry of a point is read and written once a night, changed or not.
pub fn bench(criterion: &mut Criterion) {
    let lines: Vec<Line> = (0..ENTRIES).map(|number| Line::Entry(Box::new(entry(number)))).collect();
    let mut text = Vec::new();
    for line in &lines {
        line.write(&mut text);
    }
    let mut group = criterion.benchmark_group("catalog");
    group.throughput(Throughput::Elements(ENTRIES.into()));
    let mut out = Vec::with_capacity(text.len());
    group.bench_function("write lines", |bencher| {
        bencher.iter(|| {
            out.clear();
            for line in &lines {
                line.write(&mut out);
            }
        });
    });
    group.bench_function("parse lines", |bencher| {
        bencher.iter(|| text.split(|byte| *byte == b'\n').filter_map(|line| Line::parse(line).ok()).count());
    });
    let identity = Identity::generate();
    let recipients = Recipients::new(&identity, &[]).expect("one recipient");
    let seal = || {
        let mut draft = Draft::default();
        for line in &lines {
            draft.push(line);
        }
        draft.seal(&recipients).expect("into memory")
    };
    group.bench_function("write a segment", |bencher| bencher.iter(seal));
    let stored = seal();
    group.bench_function("read a segment", |bencher| {
        bencher.iter(|| {
            let lines = Lines::open(&identity, stored.clone()).expect("it was sealed just above");
            lines.inspect(|line| assert!(line.is_ok(), "it was written just above")).count()
        });
    });
}
