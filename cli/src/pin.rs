//! Pins a target's public key in the configuration file: one line more, everything else as it was typed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// The key could not be pinned; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The table of the target is written in a way that a line cannot be added to.
    #[error("{} has no line [targets.{target}] to pin the public key under", path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
        /// The target.
        target: String,
    },
    /// The file could not be replaced.
    #[error("{} could not be replaced", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `signing_public = "PUBLIC"` below `[targets.TARGET]` of the file at `path`.
pub fn pin(path: &Path, target: &str, public: &str) -> Result<(), PinError> {
    // A configuration behind a link stays behind it.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let failed = |source| PinError::Io { path: path.clone(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let edited = insert(&text, target, public)
        .ok_or_else(|| PinError::NoTable { path: path.clone(), target: target.to_owned() })?;
    replace(path, &edited).map_err(failed)
}

/// The text with the line, or `None` where there is no table of that name.
fn insert(text: &str, target: &str, public: &str) -> Option<String> {
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let head = lines.iter().position(|line| is_head_of(line, target))?;
    let table = &lines[head + 1..];
    let end = table.iter().position(|line| line.trim_start().starts_with('[')).unwrap_or(table.len());
    let after = |key: &str| {
        let names = |line: &&str| line.trim_start_matches([' ', '\t', '#']).starts_with(key);
        table[..end].iter().position(names).map(|found| head + 1 + found)
    };
    // Beside its like: below an example of itself, else below the secret half, else right at the top.
    let at = after("signing_public").or_else(|| after("signing_key")).unwrap_or(head);
    let mut edited: String = lines[..=at].concat();
    if !edited.ends_with('\n') {
        edited.push('\n');
    }
    edited.extend(["signing_public = \"", public, "\"\n"]);
    edited.extend(lines[at + 1..].iter().copied());
    Some(edited)
}

/// Where the lines of `[targets.TARGET]` begin and end, its head not among them.
pub fn table_of(text: &str, target: &str) -> Option<(usize, usize)> {
    let mut lines = text.split_inclusive('\n');
    let mut start = 0;
    loop {
        let line = lines.next()?;
        start += line.len();
        if is_head_of(line, target) {
            break;
        }
    }
    let body: usize = lines.take_while(|line| !line.trim_start().starts_with('[')).map(str::len).sum();
    Some((start, start + body))
}

/// Whether the line is `[targets.NAME]`, however it is spaced, quoted or commented.
fn is_head_of(line: &str, target: &str) -> bool {
    let Some(inside) = line.trim_start().strip_prefix('[') else { return false };
    let Some((inside, rest)) = inside.split_once(']') else { return false };
    let rest = rest.trim_start();
    if inside.starts_with('[') || !(rest.is_empty() || rest.starts_with('#')) {
        return false;
    }
    let Some((table, name)) = inside.split_once('.') else { return false };
    table.trim() == "targets" && name.trim().trim_matches(['"', '\'']) == target
}

/// Writes beside with the same owner and mode, syncs, renames: a crash leaves the old or the new file.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let old = path.metadata()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = write_beside(&beside, &old, text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_beside(beside: &Path, old: &std::fs::Metadata, text: &str) -> io::Result<()> {
    let mut stream = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    fchown(&stream, Some(old.uid()), Some(old.gid()))?;
    stream.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
    stream.write_all(text.as_bytes())?;
    stream.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\nhost = 'a'\n\n[targets.frankfurt]  # block\nkey = 'x'\n\n[ targets . \"paris\" ]\nsigning_key = 'y' # keep\nidentity = 'z'\n\n[[source]]\nname = 'web'\n";

    #[test]
    fn the_line_goes_below_the_secret_half_and_nothing_else_changes() {
        let edited = insert(TEXT, "paris", "RWx").unwrap();
        assert_eq!(edited.replace("signing_public = \"RWx\"\n", ""), TEXT);
        assert!(edited.contains("signing_key = 'y' # keep\nsigning_public = \"RWx\"\nidentity"), "{edited}");
    }

    #[test]
    fn an_example_in_a_comment_is_where_the_line_belongs() {
        let text = TEXT.replace("identity = 'z'\n", "identity = 'z'\n# signing_public = \"RW...\"\n");
        let edited = insert(&text, "paris", "RWx").unwrap();
        assert!(edited.contains("# signing_public = \"RW...\"\nsigning_public = \"RWx\"\n\n[[source]]"), "{edited}");
    }

    #[test]
    fn a_table_without_a_newline_at_its_end_gets_one() {
        assert_eq!(insert("[targets.a]", "a", "R").unwrap(), "[targets.a]\nsigning_public = \"R\"\n");
    }

    #[test]
    fn another_table_is_never_taken() {
        for text in [
            "[targets.parish]\n",
            "[[targets.paris]]\n",
            "[target.paris]\n",
            "targets.paris = {}\n",
            "# [targets.paris]\n",
        ] {
            assert_eq!(insert(text, "paris", "R"), None, "{text}");
        }
        let edited = insert("[targets.a]\n[targets.b]\nsigning_key = 1\n", "a", "R").unwrap();
        assert!(edited.starts_with("[targets.a]\nsigning_public"), "{edited}");
    }

    #[test]
    fn the_file_keeps_its_mode_and_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.toml"), folder.path().join("link.toml"));
        std::fs::write(&real, TEXT).unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        pin(&link, "paris", "RWx").unwrap();
        assert!(link.is_symlink());
        assert!(std::fs::read_to_string(&real).unwrap().contains("RWx"));
        assert_eq!(real.metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
        assert!(matches!(pin(&link, "rome", "RWx"), Err(PinError::NoTable { .. })));
    }
}
