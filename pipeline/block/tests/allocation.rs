//! Free space of real file systems: what `dumpe2fs` calls free, no more, and nothing in doubt.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[path = "machine/frozen.rs"]
mod frozen;
mod machine;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dualsync_block::device::Source;
use dualsync_block::ext4::{Allocation, Doubt};

use self::frozen::Frozen;
use self::machine::{LoopDevice, Mounted, has_loop_devices, has_programs, image, run, text};

/// Which blocks `dumpe2fs` lists as free, and the block size.
fn free_blocks(image: &Path) -> (Vec<bool>, u64) {
    let listing = run("dumpe2fs", &[text(image)]);
    let number = |label: &str| {
        let line = listing.lines().find_map(|line| line.strip_prefix(label));
        line.map(|rest| rest.trim().parse::<usize>().unwrap())
    };
    let (blocks, block_bytes) = (number("Block count:").unwrap(), number("Block size:").unwrap());
    // Ranges end with the first block of their last cluster.
    let cluster_blocks = number("Cluster size:").unwrap_or(block_bytes) / block_bytes;
    let mut free = vec![false; blocks];
    for line in listing.lines().filter_map(|line| line.trim_start().strip_prefix("Free blocks:")) {
        for range in line.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let end = (last.parse::<usize>().unwrap() + cluster_blocks).min(blocks);
            free[first.parse().unwrap()..end].fill(true);
        }
    }
    (free, block_bytes as u64)
}

/// Holds the answer for single blocks, then for pieces of 64 KiB, against the list of another tool.
fn check(image: &Path) {
    let source = Source::open(image, false).unwrap();
    let (free, block_bytes) = free_blocks(image);
    let fine = Allocation::read(&source, block_bytes).unwrap_or_else(|doubt| panic!("{}: {doubt}", image.display()));
    let mut agreed = 0_u64;
    for (block, free) in (0_u64..).zip(&free) {
        let range = block * block_bytes..(block + 1) * block_bytes;
        let said = fine.is_free(range.clone());
        assert!(!said || *free, "{}: block {block} is in use", image.display());
        agreed += u64::from(said);
    }
    let listed = free.iter().filter(|free| **free).count() as u64;
    // Blocks held back for descriptors of groups without bitmap may count as used, no others.
    assert!(agreed <= listed && listed - agreed <= listed / 20, "{}: {agreed} of {listed}", image.display());
    assert_eq!(fine.free_bytes(), agreed * block_bytes);

    let piece = 64 * 1024;
    let coarse = Allocation::read(&source, piece).unwrap();
    let per_piece = usize::try_from(piece / block_bytes).unwrap();
    for (index, blocks) in (0_u64..).zip(free.chunks(per_piece)) {
        let said = coarse.is_free(index * piece..(index + 1) * piece);
        assert!(!said || (blocks.len() == per_piece && blocks.iter().all(|free| *free)), "piece {index}");
    }
    coarse.confirm(&source).unwrap();
    let end = free.len() as u64 * block_bytes;
    assert!(!coarse.is_free(end..end + piece) && !coarse.is_free(end - piece..end + 1) && !coarse.is_free(0..0));
}

fn fill(image: &Path, mount: &Path, round: u32) {
    let device = LoopDevice::attach(image);
    let mounted = Mounted::new(device.path(), mount, "rw");
    for folder in 0..40 {
        let folder_path = mounted.path().join(format!("{round}-{folder}"));
        std::fs::create_dir(&folder_path).unwrap();
        for file in 0..25_usize {
            std::fs::write(folder_path.join(format!("f{file}")), vec![b'x'; 100 + file * 3000]).unwrap();
        }
        if folder % 3 == 0 {
            std::fs::remove_dir_all(&folder_path).unwrap();
        }
    }
}

const FEATURE_SETS: [(&str, &[&str]); 14] = [
    ("default", &["-t", "ext4"]),
    ("ext2", &["-t", "ext2"]),
    ("ext3", &["-t", "ext3"]),
    ("1k", &["-t", "ext4", "-b", "1024"]),
    ("2k-no-flex", &["-t", "ext4", "-b", "2048", "-O", "^flex_bg"]),
    ("bigalloc", &["-t", "ext4", "-O", "bigalloc", "-C", "65536"]),
    ("1k-bigalloc", &["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "16384"]),
    ("meta_bg", &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"]),
    ("1k-meta_bg-64bit", &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode,64bit", "-g", "1024"]),
    ("no-journal", &["-t", "ext4", "-O", "^has_journal"]),
    ("narrow", &["-t", "ext4", "-O", "^64bit,^metadata_csum,uninit_bg"]),
    ("no-checksum", &["-t", "ext4", "-O", "^metadata_csum,^uninit_bg"]),
    ("sparse2", &["-t", "ext4", "-O", "sparse_super2,metadata_csum_seed,orphan_file"]),
    ("lazy", &["-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=1", "-O", "inline_data,large_dir"]),
];

#[test]
fn free_blocks_are_those_that_dumpe2fs_lists_for_every_feature_set() {
    if !has_loop_devices() || !has_programs(&["mke2fs", "dumpe2fs"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in FEATURE_SETS {
        let image = image(folder.path(), name, 200, &[&["mke2fs", "-q", "-F"], options].concat());
        check(&image);
        fill(&image, &folder.path().join("mnt"), 0);
        check(&image);
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn a_grown_and_a_shrunk_file_system_are_read_right() {
    if !has_loop_devices() || !has_programs(&["mke2fs", "dumpe2fs", "resize2fs", "e2fsck"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "resized", 64, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024"]);
    fill(&image, &folder.path().join("mnt"), 0);
    for size_mib in [400, 200] {
        if size_mib == 400 {
            File::options().write(true).open(&image).unwrap().set_len(400 << 20).unwrap();
        }
        run("e2fsck", &["-fy", text(&image)]);
        run("resize2fs", &[text(&image), &format!("{size_mib}M")]);
        check(&image);
        fill(&image, &folder.path().join("mnt"), size_mib);
        check(&image);
    }
    let source = Source::open(&image, false).unwrap();
    let allocation = Allocation::read(&source, 128 * 1024).unwrap();
    assert!(!allocation.is_free(300 << 20..301 << 20), "behind a shrunk file system anything may lie");
}

#[test]
fn a_frozen_file_system_is_certain_and_a_mounted_one_is_not() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for options in [&["-t", "ext4"][..], &["-t", "ext4", "-O", "^has_journal"]] {
        let image = image(folder.path(), "disk", 64, &[&["mke2fs", "-q", "-F", "-b", "4096"], options].concat());
        let device = LoopDevice::attach(&image);
        let mounted = Mounted::new(device.path(), &folder.path().join("mnt"), "rw");
        // Written and fsynced, so it is safe in the journal, while the bitmaps on the disk may
        // still call its blocks free.
        let file = File::create(mounted.path().join("precious")).unwrap();
        file.write_all_at(&vec![b'p'; 300_000], 0).unwrap();
        file.sync_all().unwrap();

        let copy = folder.path().join("copy");
        std::fs::copy(&image, &copy).unwrap();
        for (path, is_device) in [(device.path(), true), (&*copy, false)] {
            let doubt = Allocation::read(&Source::open(path, is_device).unwrap(), 65_536).unwrap_err();
            assert!(matches!(doubt, Doubt::NotClean(_)), "{doubt}");
        }
        if options.len() == 2 {
            let _frozen = Frozen::new(&mounted);
            let source = Source::open(device.path(), true).unwrap();
            let allocation = Allocation::read(&source, 65_536).unwrap();
            assert!(allocation.free_bytes() > 30 << 20);
            allocation.confirm(&source).unwrap();
        }
    }
}

#[test]
fn a_change_between_reading_and_confirming_is_noticed() {
    if !has_programs(&["mke2fs", "debugfs"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 32, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    let source = Source::open(&image, false).unwrap();
    let allocation = Allocation::read(&source, 65_536).unwrap();
    allocation.confirm(&source).unwrap();
    run("debugfs", &["-w", "-R", "write /proc/version version", text(&image)]);
    assert!(matches!(allocation.confirm(&source), Err(Doubt::Changed)));
}

#[test]
fn any_flipped_bit_in_the_records_is_a_doubt_where_there_are_checksums() {
    if !has_programs(&["mke2fs", "dumpe2fs"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 64, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024"]);
    let listing = run("dumpe2fs", &[text(&image)]);
    let at = listing.find("Block bitmap at ").expect("a bitmap") + "Block bitmap at ".len();
    let bitmap: u64 = listing[at..].split(' ').next().unwrap().parse().unwrap();
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let superblock = 1024..2048;
    let descriptors = 2048..2048 + 8 * 64;
    let bitmap = bitmap * 1024..(bitmap + 1) * 1024;
    let mut byte = [0];
    for offset in superblock.step_by(3).chain(descriptors.step_by(5)).chain(bitmap.step_by(41)) {
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
        let answer = Allocation::read(&Source::open(&image, false).unwrap(), 65_536);
        assert!(answer.is_err(), "a flipped bit at {offset} went unnoticed");
        file.write_all_at(&byte, offset).unwrap();
    }
    check(&image);
}

#[test]
fn what_is_no_ext_file_system_is_a_doubt_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let noise = |seed: u64, length: usize| -> Vec<u8> {
        let mut state = seed | 1;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(length)
        .collect()
    };
    for (seed, length) in [(1, 0), (2, 1000), (3, 2047), (4, 1 << 20)] {
        std::fs::write(&path, noise(seed, length)).unwrap();
        assert!(matches!(Allocation::read(&Source::open(&path, false).unwrap(), 65_536), Err(Doubt::NotExt)));
    }
    // With the magic and known features, every other field at random.
    for seed in 5..3000 {
        let mut bytes = noise(seed, 16 * 1024);
        bytes[1024 + 0x38..1024 + 0x3c].copy_from_slice(&[0x53, 0xef, 1, 0]);
        bytes[1024 + 0x4c..1024 + 0x50].copy_from_slice(&[1, 0, 0, 0]);
        bytes[1024 + 0x5c..1024 + 0x68].copy_from_slice(&[0; 12]);
        bytes[1024 + 0x18] = u8::try_from(seed % 8).unwrap();
        bytes[1024 + 0x19..1024 + 0x20].fill(0);
        bytes[1024 + 0x1c] = bytes[1024 + 0x18];
        if seed % 2 == 0 {
            bytes[1024 + 0x06..1024 + 0x08].fill(0);
            bytes[1024 + 0x14..1024 + 0x18].fill(0);
        }
        std::fs::write(&path, bytes).unwrap();
        assert!(Allocation::read(&Source::open(&path, false).unwrap(), 65_536).is_err(), "seed {seed}");
    }
}
