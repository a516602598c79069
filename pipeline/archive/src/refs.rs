//! `refs.jsonl` and `SHA256SUMS`: which stored objects a point needs, and which it added.
//!
//! Both are in clear, so that who holds no key can prove a point complete and every object of it
//! intact. They tell sizes and digests of what is stored, and nothing of what is in it. The signed
//! manifest carries their digests.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::format::{CATALOGS, VOLUME_BYTES_MAX, VOLUMES};

/// One line of `refs.jsonl`: an object the point needs, old or new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ref {
    /// Its key, relative to the prefix.
    pub key: String,
    /// Stored bytes.
    pub bytes: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
    /// How many of them this point needs: all of a segment, the share of its members of a volume.
    pub live_bytes: u64,
    /// Of a volume: bytes of tar it unpacks to, which is what shares are measured in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tar_bytes: Option<u64>,
}

/// A list that no writer of this format makes.
#[derive(Debug, thiserror::Error)]
pub enum RefsError {
    /// Not the JSON of a line.
    #[error("line {line} of refs.jsonl is not readable")]
    Json {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A value outside its bounds.
    #[error("line {line} of refs.jsonl has {what}")]
    Bounds {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// Reads `refs.jsonl`; keys come in ascending order, each once.
pub fn parse_refs(text: &[u8]) -> Result<Vec<Ref>, RefsError> {
    let mut refs: Vec<Ref> = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let line_number = at + 1;
        let bounds = |what| RefsError::Bounds { line: line_number, what };
        let next: Ref = serde_json::from_slice(line).map_err(|source| RefsError::Json { line: line_number, source })?;
        if !next.key.starts_with(VOLUMES) && !next.key.starts_with(CATALOGS) {
            return Err(bounds("a key outside volumes/ and catalogs/"));
        }
        if next.key.split('/').any(|part| part.is_empty() || part == "..") {
            return Err(bounds("a key with empty or climbing parts"));
        }
        if next.bytes > VOLUME_BYTES_MAX || next.live_bytes > next.bytes {
            return Err(bounds("sizes out of bounds"));
        }
        if refs.last().is_some_and(|last| last.key >= next.key) {
            return Err(bounds("a key out of order"));
        }
        refs.push(next);
    }
    Ok(refs)
}

/// Writes `refs.jsonl`.
pub fn write_refs(refs: &[Ref]) -> Vec<u8> {
    let mut out = Vec::new();
    for one in refs {
        serde_json::to_writer(&mut out, one).expect("plain data into memory cannot fail");
        out.push(b'\n');
    }
    out
}

/// Writes `SHA256SUMS`, for `sha256sum -c` in the root of the repository.
pub fn write_sums<'a>(objects: impl IntoIterator<Item = (&'a str, Digest)>) -> String {
    let mut lines: Vec<_> = objects.into_iter().map(|(key, sha256)| format!("{sha256}  {key}\n")).collect();
    lines.sort_unstable_by(|a, b| a[64..].cmp(&b[64..]));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(number: u32) -> Ref {
        Ref {
            key: format!("volumes/web/x/{number:05}.tar.zst.age"),
            bytes: 100,
            sha256: Digest::of(&number.to_le_bytes()),
            live_bytes: 60,
            tar_bytes: Some(1000),
        }
    }

    #[test]
    fn a_list_reads_back() {
        let refs = vec![volume(1), volume(2)];
        assert_eq!(parse_refs(&write_refs(&refs)).unwrap(), refs);
        assert_eq!(parse_refs(b"").unwrap(), []);
    }

    #[test]
    fn lists_that_lie_are_refused() {
        let check = |change: fn(&mut Vec<Ref>)| {
            let mut refs = vec![volume(1), volume(2)];
            change(&mut refs);
            assert!(parse_refs(&write_refs(&refs)).is_err());
        };
        check(|refs| refs.swap(0, 1));
        check(|refs| refs[1] = refs[0].clone());
        check(|refs| refs[0].key = "repo.json".into());
        check(|refs| refs[0].key = "volumes/../../etc/passwd".into());
        check(|refs| refs[0].live_bytes = 101);
        check(|refs| refs[0].bytes = u64::MAX);
        assert!(parse_refs(b"{}\n").is_err());
    }

    #[test]
    fn sums_are_in_the_form_of_coreutils() {
        let sums = write_sums([("volumes/b", Digest::of(b"b")), ("volumes/a", Digest::of(b"a"))]);
        let lines: Vec<_> = sums.lines().collect();
        assert_eq!(lines[0], format!("{}  volumes/a", Digest::of(b"a")));
        assert_eq!(lines[1], format!("{}  volumes/b", Digest::of(b"b")));
    }
}
