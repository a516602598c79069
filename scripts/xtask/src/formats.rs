//! A format document and its `format.rs` change together: the document carries the code's digest.
//!
//! The digest proves nothing about the text; it makes whoever changes a constant open the document.

use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

const PAIRS: [(&str, &str); 2] = [
    ("docs/format-block.md", "pipeline/block/src/format.rs"),
    ("docs/format-archive.md", "pipeline/archive/src/format.rs"),
];

const LABEL: &str = "SHA-256 of format.rs: ";

pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for (document, code) in PAIRS {
        let text = read(root, document)?;
        match recorded(&text) {
            Some(known) if known == digest(&read(root, code)?) => {}
            Some(_) => complaints
                .push(format!("{code} changed: bring {document} up to date, then run cargo xtask tidy --write")),
            None => complaints.push(format!("{document} has no line '{LABEL}...'")),
        }
    }
    Ok(complaints)
}

pub fn write(root: &Path) -> Result<()> {
    for (document, code) in PAIRS {
        let text = read(root, document)?;
        let Some(known) = recorded(&text) else { bail!("{document} has no line '{LABEL}...'") };
        // The label stands before it, and maybe a mark of code between the two.
        let new = text.replace(known, &digest(&read(root, code)?));
        std::fs::write(root.join(document), new).with_context(|| format!("cannot write {document}"))?;
    }
    Ok(())
}

fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
}

fn recorded(document: &str) -> Option<&str> {
    document.lines().find_map(|line| line.split_once(LABEL)).map(|(_, digest)| digest.trim_matches(['`', ' ']))
}

fn digest(code: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(code).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_in_a_document_is_found_and_refreshed() {
        let root = std::env::temp_dir().join(format!("tidy-formats-{}", std::process::id()));
        for (document, code) in PAIRS {
            for path in [document, code] {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("text\n{LABEL}`0123`\n")).unwrap();
            }
        }
        assert_eq!(check(&root).unwrap().len(), 2);
        write(&root).unwrap();
        assert_eq!(check(&root).unwrap(), Vec::<String>::new());
        std::fs::remove_dir_all(root).unwrap();
    }
}
