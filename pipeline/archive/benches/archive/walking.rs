//! A walk of a tree whose metadata is in the kernel's cache.

use std::cell::LazyCell;
use std::fs;

use criterion::{Criterion, Throughput};
use dualsync_archive::tree::walk::Walk;

const FOLDERS: u32 = 100;
const FILES: u32 = 100;

/// Ten thousand small files.
pub fn bench(criterion: &mut Criterion) {
    // Made only where the walk is among what is measured.
    let tree = LazyCell::new(tree);
    let spill = tempfile::tempdir().expect("a temporary folder");
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements((FOLDERS * FILES).into()));
    group.bench_function("ten thousand files", |bencher| {
        bencher.iter(|| {
            let walk = Walk::new(tree.path(), spill.path(), |_| false).expect("a folder of our own");
            walk.inspect(|walked| assert!(walked.is_ok(), "nobody else touches it")).count()
        });
    });
}

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().expect("a temporary folder");
    for folder in 0..FOLDERS {
        let folder = tree.path().join(format!("customer-{folder:04}"));
        fs::create_dir(&folder).expect("a folder of our own");
        for file in 0..FILES {
            fs::write(folder.join(format!("image-{file:02}.jpg")), b"x").expect("a small file");
        }
    }
    tree
}
