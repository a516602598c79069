//! The whole way of a block, as a thread of a backup goes it: read, compare, hash, compress, seal, read back.
//!
//! The source is a file in memory, a quarter of its data each sample. Behind each mebibyte of data is a hole, as far as which
//! the kernel looks for one page by page.

use std::fs::File;
use std::io::sink;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use criterion::{Criterion, Throughput};
use dualsync_block::backup::worker::{Change, PageJob, Report, Shared, work};
use dualsync_block::codec::Compression;
use dualsync_block::device::Source;
use dualsync_block::events::Events;
use dualsync_block::page::{PackRef, Page, PageIndex, StoredBlock};
use dualsync_block::pool::BufferPool;
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::sync::mpsc::channel;

use crate::keys;
use crate::sample::{BLOCK_BYTES, Sample};

/// Data between two holes.
const STRETCH_BYTES: usize = 1 << 20;

/// A first backup, and one in which nothing changed.
pub fn bench(criterion: &mut Criterion, samples: &[Sample; 4]) {
    let (file, bytes) = sparse_file(samples);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let source = Source::open(Path::new(&path), false).expect("it was made just above");
    let blocks = source.size_bytes().div_ceil(BLOCK_BYTES as u64);
    let shared = Shared {
        source: Arc::new(source),
        allocation: None,
        block_bytes: BLOCK_BYTES,
        keys: keys(),
        compression: Compression::Fast,
        banned: Arc::default(),
        pool: BufferPool::new(4),
        progress: Arc::clone(Events::new(Box::new(sink())).progress()),
    };
    let empty = Page::zero(PageIndex(0), usize::try_from(blocks).expect("one page"));
    let full = settled(empty.clone(), run(&shared, empty.clone()));
    let mut group = criterion.benchmark_group("worker");
    group.throughput(Throughput::Bytes(bytes));
    for (name, old) in [("everything is new", empty), ("nothing changed", full)] {
        group.bench_function(name, |bencher| bencher.iter(|| run(&shared, old.clone()).len()));
    }
}

/// The samples, and how many bytes they are.
fn sparse_file(samples: &[Sample; 4]) -> (File, u64) {
    let file = File::from(memfd_create("source", MemfdFlags::CLOEXEC).expect("a file in memory"));
    let (mut at, mut bytes) = (0, 0);
    for stretch in samples.iter().flat_map(|sample| sample.bytes.chunks(STRETCH_BYTES)) {
        file.write_all_at(stretch, at).expect("there is memory");
        bytes += stretch.len() as u64;
        at += (stretch.len() + BLOCK_BYTES) as u64;
    }
    (file, bytes)
}

/// What a worker reports of one page.
fn run(shared: &Shared, old: Page) -> Vec<Report> {
    let (jobs, waiting) = channel(1);
    let (reports, mut told) = channel(8);
    jobs.try_send(PageJob { old, extra: None, only: None }).unwrap_or_else(|_| unreachable!("there is room for one"));
    drop(jobs);
    work(0, shared, &Mutex::new(waiting), &reports);
    std::iter::from_fn(|| told.try_recv().ok()).collect()
}

/// The page after a run that sent it into one pack.
fn settled(mut page: Page, reports: Vec<Report>) -> Page {
    let mut sent = Vec::new();
    for report in reports {
        match report {
            Report::Page(report) => sent = report.changes,
            Report::Pack(_, sealed) => {
                let pack = PackRef { sha256: sealed.sha256, salt: sealed.salt };
                for (position, change) in &sent {
                    let Change::Sent { entry, .. } = change else { continue };
                    let entry = &sealed.entries[*entry];
                    page.set(*position, Some(StoredBlock { hash: entry.hash, pack, place: entry.place }));
                }
            }
            Report::Failed(error) => panic!("{error}"),
        }
    }
    page
}
