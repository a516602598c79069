//! One segment of a catalog, in both directions.
//!
//! Reading goes line by line, so that memory holds the stored bytes and one line, whatever the
//! segment unpacks to. Writing cuts at borders that the paths themselves choose: an entry that is
//! added or removed moves no border but its own neighbours', and the segments around it stay
//! byte for byte what they were.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use sha2::{Digest as _, Sha256};

use dualsync_model::path::RawPath;

use crate::catalog::entry::{Line, LineError};
use crate::codec::{Codec, zstd_reader};
use crate::digest::Digest;
use crate::format::{
    LINE_BYTES_MAX, SEGMENT_BORDER, SEGMENT_BYTES_MAX, SEGMENT_BYTES_TARGET, SEGMENT_ENTRIES_MAX, SEGMENT_ENTRIES_MIN,
};
use crate::seal::{Identity, Recipients, SealError, Sealer};

/// Why a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Not sealed as it should be.
    #[error("cannot open the segment")]
    Seal(#[from] SealError),
    /// Not packed as it should be.
    #[error("cannot unpack the segment")]
    Unpack(#[source] io::Error),
    /// A line is not a line.
    #[error(transparent)]
    Line(#[from] LineError),
}

/// The lines of a segment, from its stored bytes.
pub struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    left: u64,
    hash: Sha256,
}

impl Lines {
    /// Opens the segment.
    pub fn open(identity: &Identity, stored: Vec<u8>) -> Result<Self, SegmentError> {
        let opened = identity.open(Cursor::new(stored))?;
        let plain = zstd_reader(opened).map_err(SegmentError::Unpack)?;
        let reader = BufReader::new(Box::new(plain) as Box<dyn Read + Send>);
        Ok(Self { reader, line: Vec::new(), left: SEGMENT_BYTES_MAX, hash: Sha256::new() })
    }

    /// The digest of all lines so far.
    pub fn plain_sha256(&self) -> Digest {
        Digest::finish(self.hash.clone())
    }

    fn read_line(&mut self) -> Result<bool, SegmentError> {
        self.line.clear();
        let limit = self.left.min(LINE_BYTES_MAX as u64 + 1);
        let read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.line).map_err(SegmentError::Unpack)?;
        self.left -= read as u64;
        self.hash.update(&self.line);
        match self.line.last() {
            None if self.left == 0 => Err(LineError::Bounds("more lines than a segment may hold").into()),
            None => Ok(false),
            Some(b'\n') => {
                self.line.pop();
                Ok(true)
            }
            Some(_) => Err(LineError::Bounds("no end, or is too long").into()),
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Line, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read_line() {
            Ok(true) => Some(Line::parse(&self.line).map_err(SegmentError::from)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Collects lines until a segment is full.
#[derive(Default)]
pub struct Draft {
    plain: Vec<u8>,
    entries: u32,
    first: Option<RawPath>,
    border: bool,
}

impl Draft {
    /// A draft whose first lines may be parts of the entry `path`.
    pub fn after(path: RawPath) -> Self {
        Self { first: Some(path), ..Self::default() }
    }

    /// Appends a line. The caller asks [`Self::is_full`] before each.
    pub fn push(&mut self, line: &Line) {
        // Parts that lead a segment keep the path of their entry: who looks for it must come here.
        let leads = self.plain.is_empty();
        line.write(&mut self.plain);
        if let Line::Entry(entry) = line {
            if leads {
                self.first = Some(entry.path.clone());
            }
            self.entries += 1;
            self.border = is_border(&entry.path);
        }
    }

    /// Whether `next` belongs into the next segment.
    pub fn is_full(&self, next: &Line) -> bool {
        if self.plain.len() >= SEGMENT_BYTES_TARGET {
            return true;
        }
        matches!(next, Line::Entry(_))
            && (self.entries >= SEGMENT_ENTRIES_MAX || (self.border && self.entries >= SEGMENT_ENTRIES_MIN))
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        u64::from(self.entries)
    }

    /// The path that the index notes: of the entry that the first line is, or belongs to.
    pub fn first(&self) -> RawPath {
        self.first.clone().unwrap_or_default()
    }

    /// Digest of the lines.
    pub fn plain_sha256(&self) -> Digest {
        Digest::of(&self.plain)
    }

    /// The stored form.
    pub fn seal(&self, recipients: &Recipients) -> Result<Vec<u8>, SegmentError> {
        seal_lines(recipients, &self.plain)
    }
}

/// Packs and seals lines, of a segment or of an index.
pub fn seal_lines(recipients: &Recipients, plain: &[u8]) -> Result<Vec<u8>, SegmentError> {
    let packed = Codec::CATALOG.pack(plain).map_err(SegmentError::Unpack)?;
    let mut sealer = Sealer::new(recipients, Vec::with_capacity(packed.len() + 4096))?;
    sealer.write(&packed)?;
    Ok(sealer.finish()?)
}

/// Opens what [`seal_lines`] wrote; for indexes, which are small.
pub fn open_lines(identity: &Identity, stored: &[u8], plain_bytes_max: u64) -> Result<Vec<u8>, SegmentError> {
    let opened = identity.open(stored)?;
    let mut plain = Vec::new();
    zstd_reader(opened)
        .and_then(|reader| reader.take(plain_bytes_max + 1).read_to_end(&mut plain))
        .map_err(SegmentError::Unpack)?;
    if plain.len() as u64 > plain_bytes_max {
        return Err(LineError::Bounds("more lines than it may hold").into());
    }
    Ok(plain)
}

/// Whether a segment ends after the entry `path`: the first 8 bytes of its SHA-256, little-endian.
fn is_border(path: &RawPath) -> bool {
    let digest = Digest::of(path.as_bytes());
    let (head, _) = digest.0.split_first_chunk::<8>().expect("a digest has 32 bytes");
    u64::from_le_bytes(*head).is_multiple_of(SEGMENT_BORDER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::entry::tests::entry;

    fn drafts(paths: impl Iterator<Item = String>) -> Vec<Draft> {
        let mut drafts = vec![Draft::default()];
        for path in paths {
            let line = Line::Entry(Box::new(entry(&path)));
            if drafts.last().unwrap().is_full(&line) {
                drafts.push(Draft::default());
            }
            drafts.last_mut().unwrap().push(&line);
        }
        drafts
    }

    #[test]
    fn a_segment_reads_back_line_by_line() {
        let identity = Identity::generate();
        let recipients = Recipients::new(&identity, &[]).unwrap();
        let draft = drafts((0..3).map(|n| format!("f{n}"))).remove(0);
        let mut lines = Lines::open(&identity, draft.seal(&recipients).unwrap()).unwrap();
        let read: Vec<_> = lines.by_ref().map(Result::unwrap).collect();
        assert_eq!(read, ["f0", "f1", "f2"].map(|path| Line::Entry(Box::new(entry(path)))));
        assert_eq!(lines.plain_sha256(), draft.plain_sha256());
        assert_eq!(draft.first(), RawPath::new("f0"));
    }

    #[test]
    fn one_new_entry_changes_one_segment_or_two() {
        let before = drafts((0..60_000).map(|n| format!("d{:03}/f{n:06}", n / 500)));
        let after = drafts((0..60_000).map(|n| format!("d{:03}/f{n:06}", n / 500)).flat_map(|path| {
            let extra = path.ends_with("f030000").then(|| format!("{path}x"));
            std::iter::once(path).chain(extra)
        }));
        assert!(before.len() >= 3, "{}", before.len());
        let digests =
            |drafts: &[Draft]| drafts.iter().map(Draft::plain_sha256).collect::<std::collections::HashSet<_>>();
        let changed = digests(&after).difference(&digests(&before)).count();
        assert!((1..=2).contains(&changed), "{changed}");
    }

    #[test]
    fn borders_are_part_of_the_format() {
        let borders: Vec<_> = (0..200_000).filter(|n| is_border(&RawPath::new(format!("f{n}")))).collect();
        assert_eq!(borders, BORDERS);
    }

    /// Written down when format 1 was fixed: other borders would only cost sharing, but silently.
    const BORDERS: [u32; 8] = [7_293, 24_557, 38_258, 62_076, 81_396, 121_392, 121_410, 169_876];

    #[test]
    fn damage_and_bombs_are_errors() {
        let identity = Identity::generate();
        let recipients = Recipients::new(&identity, &[]).unwrap();
        let stored = seal_lines(&recipients, &vec![b'x'; LINE_BYTES_MAX + 10]).unwrap();
        assert!(Lines::open(&identity, stored).unwrap().next().unwrap().is_err());
        let stored = seal_lines(&recipients, &vec![b'\n'; usize::try_from(SEGMENT_BYTES_MAX).unwrap() + 1]).unwrap();
        let mut lines = Lines::open(&identity, stored.clone()).unwrap();
        let mut last = lines.read_line();
        while matches!(last, Ok(true)) {
            last = lines.read_line();
        }
        assert!(last.is_err());
        assert!(open_lines(&identity, &stored, SEGMENT_BYTES_MAX).is_err());
        let mut flipped = drafts(["a".to_owned()].into_iter())[0].seal(&recipients).unwrap();
        let middle = flipped.len() - 20;
        flipped[middle] ^= 1;
        assert!(Lines::open(&identity, flipped).unwrap().next().unwrap().is_err());
    }
}
