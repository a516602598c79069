//! Tells every entry of the mounted tree, with the SHA-256 of what is stored.

use std::os::fd::OwnedFd;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::path::RawPath;
use dualsync_model::slice::Slice;
use rustix::io::Errno;

use super::content::{Ahead, Noted, Opened, StorageOrder, Unread, read_all};
use super::entry::{Inode, Meta, bare_fact, fact, hex};
use super::mount::Tree;
use super::protocol::{Line, MountedBy};
use super::scouts::Scouts;
use super::walk::{Entry, Visit, Wanted, walk};
use super::{InsideError, Output};

/// Bytes of a file read at once.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of content between two signs of progress.
const PROGRESS_BYTES: u64 = 32 << 20;
/// Entries between two signs of progress.
const PROGRESS_ENTRIES: u64 = 2000;

/// Walks the tree, then reads the content of the files in `slice` in storage order.
pub(super) fn witness(tree: &Tree, slice: Option<Slice>, state: &Path, out: &mut Output) -> Result<Line, InsideError> {
    let whole_seconds = tree.by() == MountedBy::Fuse2fs;
    let files = StorageOrder::new(state);
    let (files, mut tally) = Scouts::ahead_of(tree.root(), |scouts| {
        let tally = Tally::default();
        let mut witness = Witness { tree, slice, whole_seconds, files, tally, walked: 0, scouts, out: &mut *out };
        walk(tree.root(), &mut witness)?;
        Ok::<_, InsideError>((witness.files, witness.tally))
    })?;
    tally.is_planned = true;
    let mut buffer = vec![0; PIECE_BYTES];
    // Names of one inode follow each other: its content is read once.
    let mut last: Option<(Inode, Result<String, Unread>)> = None;
    for opened in Ahead::new(tree, files.finish()?) {
        let Opened { noted: Noted { mut fact, inode }, file } = opened?;
        let known = last.take().filter(|(of, _)| *of == inode);
        let content = match known {
            Some((_, content)) => content,
            None => hash(file, fact.size, &mut buffer, &mut tally, out)?,
        };
        match &content {
            Ok(sha256) => {
                fact.sha256 = Some(sha256.clone());
                tally.tell(out, &Line::Fact { fact })?;
            }
            Err(unread) => tally.tell(out, &broken(fact, *unread))?,
        }
        last = Some((inode, content));
    }
    Ok(Line::Done { entries: tally.entries, bytes: tally.bytes })
}

/// A line for an entry that could not be read.
pub(super) fn broken(fact: Box<Fact>, unread: Unread) -> Line {
    let problem = std::io::Error::from(unread.errno).to_string();
    Line::Broken { fact, at: unread.at, problem }
}

fn hash(
    file: Result<OwnedFd, Errno>,
    size: u64,
    buffer: &mut [u8],
    tally: &mut Tally,
    out: &mut Output,
) -> Result<Result<String, Unread>, InsideError> {
    let file = match file {
        Ok(file) => file,
        Err(errno) => return Ok(Err(errno.into())),
    };
    let mut context = Context::new(&SHA256);
    let read = read_all(&file, size, buffer, |_, piece| {
        context.update(piece);
        tally.read(out, piece.len() as u64)
    })?;
    Ok(read.map(|()| hex(context.finish().as_ref())))
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub entries: u64,
    pub bytes: u64,
    /// Bytes of the files that were noted so far.
    pub planned: u64,
    /// Whether [`Self::planned`] is all there is.
    pub is_planned: bool,
    told_bytes: u64,
}

impl Tally {
    /// Tells a line that stands for an entry.
    pub(super) fn tell(&mut self, out: &mut Output, line: &Line) -> Result<(), InsideError> {
        out.line(line)?;
        self.count(out)
    }

    /// Counts an entry that needs no line.
    pub(super) fn count(&mut self, out: &mut Output) -> Result<(), InsideError> {
        self.entries += 1;
        if self.entries.is_multiple_of(PROGRESS_ENTRIES) { self.progress(out) } else { Ok(()) }
    }

    /// Counts content.
    pub(super) fn read(&mut self, out: &mut Output, bytes: u64) -> Result<(), InsideError> {
        self.bytes += bytes;
        if self.bytes - self.told_bytes >= PROGRESS_BYTES { self.progress(out) } else { Ok(()) }
    }

    fn progress(&mut self, out: &mut Output) -> Result<(), InsideError> {
        self.told_bytes = self.bytes;
        let total = self.is_planned.then_some(self.planned);
        out.line(&Line::Progress { entries: self.entries, bytes: self.bytes, total })?;
        out.flush()
    }
}

struct Witness<'a> {
    tree: &'a Tree,
    slice: Option<Slice>,
    whole_seconds: bool,
    files: StorageOrder,
    tally: Tally,
    walked: u64,
    scouts: &'a Scouts,
    out: &'a mut Output,
}

impl Visit for Witness<'_> {
    fn wanted(&mut self, _: &RawPath) -> Wanted {
        Wanted::All
    }

    fn entry(&mut self, entry: Entry) -> Result<bool, InsideError> {
        let Entry { path, folder, name, meta, hint } = entry;
        self.walked += 1;
        self.scouts.follow(self.walked);
        let meta = match meta {
            Ok(meta) => meta,
            Err(errno) => {
                self.tally.tell(self.out, &broken(unknown(path, hint), errno.into()))?;
                return Ok(false);
            }
        };
        let mut fact = match fact(folder, name, path, &meta, self.whole_seconds) {
            Ok(fact) => fact,
            Err((fact, errno)) => {
                self.tally.tell(self.out, &broken(fact, errno.into()))?;
                return Ok(true);
            }
        };
        if fact.kind == EntryKind::File {
            if self.slice.is_none_or(|slice| slice.contains(fact.path.as_bytes())) {
                self.tally.planned += fact.size;
                let noted = Noted { fact: Box::new(fact), inode: meta.inode };
                self.files.note(self.tree, &noted, false)?;
                return Ok(false);
            }
            fact.state = FactState::Skipped;
        }
        self.tally.tell(self.out, &Line::Fact { fact: Box::new(fact) })?;
        Ok(true)
    }

    fn unreadable(&mut self, folder: &RawPath, errno: Errno) -> Result<(), InsideError> {
        // The folder itself was told; this line replaces that one.
        let fact = unknown(folder.clone(), Some(EntryKind::Directory));
        self.out.line(&broken(fact, errno.into()))
    }
}

/// An entry of which only the name is known.
fn unknown(path: RawPath, hint: Option<EntryKind>) -> Box<Fact> {
    let mut fact = bare_fact(path, &Meta::unknown(hint), false);
    fact.device = None;
    Box::new(fact)
}
