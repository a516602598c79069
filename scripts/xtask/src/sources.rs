//! Rules over the text of the sources: who prints, who asks the clock, what no test may do, and
//! what must not stand in a public repository.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::cargo;

/// One forbidden text: where it is looked for, what, and why.
struct Rule {
    /// The file's path is passed in; true where the rule holds.
    applies: fn(&str) -> bool,
    words: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        applies: |path| is_product(path) && !is_entry(path) && path != "cli/src/output.rs",
        words: &["println!(", "print!(", "eprintln!(", "eprint!(", "dbg!("],
        why: "only the main.rs files and cli/src/output.rs print",
    },
    Rule {
        applies: |path| path.starts_with("policies/rules/src/") || path.starts_with("pipeline/model/src/"),
        words: &["SystemTime", "Instant::now", "std::fs", "TcpStream", "UdpSocket", "std::env"],
        why: "rules and model have no clock, no disk, no network: now comes in as an argument",
    },
    Rule {
        applies: |path| is_rust(path) && is_test(path),
        words: &["thread::sleep", "time::sleep"],
        why: "a test waits for an event, never for time to pass",
    },
    Rule {
        applies: is_rust,
        words: &["#[ignore", "assert!(true)", "todo!(", "unimplemented!(", "#[allow(", "#![allow("],
        why: "no skipped test, no stub, and #[expect(lint, reason)] in place of allow",
    },
    Rule {
        applies: |path| path.starts_with("pipeline/block/") || path.starts_with("targets/block-store/"),
        words: &["dualsync_archive", "dualsync-archive"],
        why: "the block path does not know the archive path",
    },
    Rule {
        applies: |path| path.starts_with("pipeline/archive/") || path.starts_with("targets/archive-store/"),
        words: &["dualsync_block", "dualsync-block"],
        why: "the archive path does not know the block path",
    },
];

/// File names that say nothing about what is inside.
const DRAWERS: &[&str] = &["utils.rs", "util.rs", "helpers.rs", "common.rs", "misc.rs", "types.rs"];

pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in files(root)? {
        let Some(name) = path.to_str() else { continue };
        if DRAWERS.iter().any(|drawer| path.file_name().is_some_and(|file| file == *drawer)) {
            complaints.push(format!("{name}: a drawer; name the file after what is in it"));
        }
        if name.starts_with("scripts/xtask/") || !is_rust(name) && !name.ends_with("Cargo.toml") {
            continue;
        }
        let text = std::fs::read_to_string(root.join(&path)).with_context(|| format!("cannot read {name}"))?;
        complaints.extend(check_text(name, &text));
    }
    Ok(complaints)
}

fn check_text(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    // A module of tests in a file of its own says so at its top.
    let test_only = text.lines().any(|line| line == "#![cfg(test)]");
    for rule in RULES.iter().filter(|rule| (rule.applies)(path) && !(test_only && rule.why.contains("print"))) {
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            if code == "#[cfg(test)]" && rule.why.contains("print") {
                break;
            }
            if code.contains("#![allow(") && code.contains("reason = ") {
                continue;
            }
            for word in rule.words.iter().filter(|word| code.contains(**word)) {
                complaints.push(format!("{path}:{}: '{word}': {}", number + 1, rule.why));
            }
        }
    }
    complaints
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// Code that ends up in a program people run.
fn is_product(path: &str) -> bool {
    is_rust(path) && !is_test(path) && !path.starts_with("integration/e2e/")
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/") || path.contains("/examples/")
}

fn is_entry(path: &str) -> bool {
    path.ends_with("/main.rs")
}

/// Files that git tracks or would add.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot start git")?;
    if output.status.success() {
        let list = String::from_utf8_lossy(&output.stdout);
        return Ok(list.lines().map(PathBuf::from).filter(|path| root.join(path).is_file()).collect());
    }
    // Not a checkout (an unpacked release): what cargo would package is the tree.
    let list = cargo(root, &["package", "--workspace", "--list", "--allow-dirty"])?;
    Ok(list.lines().map(PathBuf::from).filter(|path| root.join(path).is_file()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_what_it_forbids_and_nothing_else() {
        let check =
            |path: &str, line: &str, broken: usize| assert_eq!(check_text(path, line).len(), broken, "{path}: {line}");
        check("pipeline/verify/src/merge.rs", "println!(\"x\");", 1);
        check("pipeline/verify/src/merge.rs", "// println!(\"x\");", 0);
        check("pipeline/verify/src/merge.rs", "#[cfg(test)]\nprintln!(\"x\");", 0);
        check("cli/src/output.rs", "println!(\"x\");", 0);
        check("pipeline/block/src/main.rs", "println!(\"x\");", 0);
        check("policies/rules/src/retention.rs", "let now = SystemTime::now();", 1);
        check("pipeline/archive/tests/faults.rs", "std::thread::sleep(second);", 1);
        check("pipeline/archive/src/pack.rs", "std::thread::sleep(second);", 0);
        check("pipeline/archive/src/pack.rs", "use dualsync_block::seal;", 1);
        check("pipeline/block/Cargo.toml", "dualsync-archive = \"1\"", 1);
        check("cli/src/args.rs", "#[ignore = \"later\"]", 1);
        check("cli/src/args.rs", "#[allow(dead_code)]", 1);
        check("cli/tests/fake.rs", "#![allow(dead_code, reason = \"each test uses a part\")]", 0);
        check("cli/src/nasty.rs", "#![cfg(test)]\neprint!(\"skipped\");", 0);
    }
}
