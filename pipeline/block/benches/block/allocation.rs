//! The bitmaps of an ext4 file system, which are read before and after each backup.

use std::cell::LazyCell;
use std::process::Command;

use criterion::{Criterion, Throughput};
use dualsync_block::device::Source;
use dualsync_block::ext4::Allocation;
use tempfile::NamedTempFile;

use crate::sample::BLOCK_BYTES;

/// Bytes of the file system; a quarter of its blocks is in use, by its inodes.
const FILE_SYSTEM_BYTES: u64 = 4 << 30;

/// Superblock, descriptors and all bitmaps, checksums proved.
pub fn bench(criterion: &mut Criterion) {
    // Made only where it is among what is measured.
    let image = LazyCell::new(image);
    let mut group = criterion.benchmark_group("allocation, in file-system blocks");
    group.throughput(Throughput::Elements(FILE_SYSTEM_BYTES / 4096));
    group.bench_function("read", |bencher| {
        let source = Source::open(image.path(), false).expect("it was made just above");
        bencher.iter(|| Allocation::read(&source, BLOCK_BYTES as u64).expect("a file system that nobody writes to"));
    });
}

fn image() -> NamedTempFile {
    let image = NamedTempFile::new().expect("a temporary file");
    image.as_file().set_len(FILE_SYSTEM_BYTES).expect("a sparse file");
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-i", "1024", "-E", "lazy_itable_init=1"])
        .arg(image.path())
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .status();
    assert!(made.is_ok_and(|status| status.success()), "mke2fs makes no file system: install e2fsprogs");
    image
}
