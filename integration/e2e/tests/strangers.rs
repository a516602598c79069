//! The two writers, as they are shipped, share no TLS engine, no cipher and no compression.

use std::process::Command;

use dualsync_e2e::programs::{Programs, Ran};

/// Texts that a program carries when it links the library.
const ONLY_BLOCK: &[&str] = &["aws-lc", "rustls-0.", "blake3-", "libdeflate", "aws-sdk-s3"];
const ONLY_ARCHIVE: &[&str] = &["libssl.so", "opendal", "age-0.12", "zstd-safe", "astral-tokio-tar", "fastcdc"];

fn contains(program: &[u8], word: &str) -> bool {
    program.windows(word.len()).any(|window| window == word.as_bytes())
}

#[test]
fn neither_writer_links_what_the_other_trusts() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::install(directory.path());
    let read = |name: &str| std::fs::read(programs.path(name)).unwrap();
    let (block, archive, command) = (read("dualsync-block"), read("dualsync-archive"), read("dualsync"));
    for word in ONLY_BLOCK {
        assert!(contains(&block, word), "{word} should be in the block writer: this test looks for the wrong text");
        assert!(!contains(&archive, word), "{word} is in the archive writer");
        assert!(!contains(&command, word), "{word} is in the command");
    }
    for word in ONLY_ARCHIVE {
        assert!(contains(&archive, word), "{word} should be in the archive writer: this test looks for the wrong text");
        assert!(!contains(&block, word), "{word} is in the block writer");
        assert!(!contains(&command, word), "{word} is in the command");
    }
}

#[test]
fn shared_libraries_of_the_writers_are_the_system_only() {
    let directory = tempfile::tempdir().unwrap();
    let programs = Programs::install(directory.path());
    let libraries = |name: &str| -> Vec<String> {
        let listed = Ran::of(Command::new("ldd").arg(programs.path(name))).exits(0).stdout;
        listed.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let archive = libraries("dualsync-archive");
    let shared: Vec<_> = libraries("dualsync-block").into_iter().filter(|library| archive.contains(library)).collect();
    for library in &shared {
        let system =
            ["linux-vdso", "libgcc_s", "libm.", "libc.", "ld-linux", "/lib64/ld-linux", "libpthread", "libdl", "librt"];
        assert!(system.iter().any(|name| library.starts_with(name)), "both link {library}");
    }
}
