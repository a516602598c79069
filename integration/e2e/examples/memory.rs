//! Peak memory of each program on a 64 GiB file system with 300,000 files, uploads in flight to two
//! Garage servers: GNU time measures each program from outside, and none may pass 256 MiB.
//!
//! Started by `scripts/memory`; needs root (loop device), garage, GNU time and 4 GiB of disk.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use dualsync_e2e::garage::Garage;
use dualsync_e2e::image::{Mounted, sh, text};
use dualsync_e2e::site::{Site, Source};
use dualsync_e2e::tree::random_bytes;

const LIMIT_KIB: u64 = 256 << 10;
const FILES: usize = 300_000;
/// So many of them lie in one directory.
const IN_ONE: usize = 100_000;

fn main() -> ExitCode {
    let site = Site::new();
    let (de, fr) = (Garage::start(&site.path("garage-de")), Garage::start(&site.path("garage-fr")));
    println!("making a 64 GiB ext4 image with {FILES} files");
    let mounted = Mounted::make(site.directory.path(), "data", "ext4", 64 << 10, &["-E", "lazy_itable_init=1"]);
    fill(&mounted.tree);
    site.configure_s3(
        &de,
        &fr,
        &Source {
            device: mounted.device.clone(),
            tree: mounted.tree.clone(),
            lines: "snapshot = \"freeze\"\n[limits]\nfreeze = \"20m\"\n".into(),
        },
    );
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let log = site.path("peaks");
    for program in ["dualsync-block", "dualsync-archive"] {
        let script = format!("exec /usr/bin/time -q -a -o {} -f \"%M {program} $1\" \"$real\" \"$@\"", text(&log));
        site.programs.replace(program, &script);
    }
    for step in [&["run"][..], &["run"], &["verify", "--latest", "--full"]] {
        println!("dualsync {}", step.join(" "));
        let _ = site.dualsync(step).exits(0);
    }
    for (from, to) in [("block", "restored.img"), ("archive", "restored")] {
        println!("dualsync restore --from {from}");
        let to = site.path(to);
        let _ = site.dualsync(&["restore", "web@latest", "--from", from, "--to", text(&to), "--yes"]).exits(0);
    }
    let directory = |tree: &Path| fs::read_dir(tree.join("many")).unwrap().count();
    assert_eq!(directory(&site.path("restored")), IN_ONE);
    sh("diff", &["--recursive", "--exclude=lost+found", text(&mounted.tree), text(&site.path("restored"))]);
    report(&fs::read_to_string(log).unwrap())
}

/// 300,000 small files, a third in one directory and the others in directories of 1,000, and 1 GiB that does not
/// compress.
fn fill(tree: &Path) {
    fs::create_dir(tree.join("many")).unwrap();
    for file in 0..IN_ONE {
        fs::write(tree.join(format!("many/entry-{file:06}")), format!("{file}\n")).unwrap();
    }
    for directory in 0..(FILES - IN_ONE) / 1000 {
        let inside = tree.join(format!("d{directory:03}"));
        fs::create_dir(&inside).unwrap();
        for file in 0..1000 {
            fs::write(inside.join(format!("file-{file:04}")), format!("{directory} {file}\n")).unwrap();
        }
    }
    let noise = random_bytes(64 << 20);
    for file in 0..16_u8 {
        let bytes: Vec<_> = noise.iter().map(|byte| byte ^ file.wrapping_mul(37)).collect();
        fs::write(tree.join(format!("noise-{file}")), bytes).unwrap();
    }
}

fn report(peaks: &str) -> ExitCode {
    let mut worst = 0;
    println!("\npeak MiB  program");
    for line in peaks.lines() {
        let (peak, what) = line.split_once(' ').unwrap();
        let peak: u64 = peak.parse().unwrap();
        println!("{:>8}  {what}", peak >> 10);
        worst = worst.max(peak);
    }
    assert!(worst > 0, "nothing was measured");
    if worst > LIMIT_KIB {
        println!("a program passed {} MiB", LIMIT_KIB >> 10);
        return ExitCode::FAILURE;
    }
    println!("every program stayed under {} MiB", LIMIT_KIB >> 10);
    ExitCode::SUCCESS
}
