//! The first pass of a restore over the catalog: makes what has no content, plans what has.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;
use sha2::{Digest as _, Sha256};

use super::RestoreError;
use super::report::Report;
use crate::catalog::entry::{Entry, Line, Part, State};
use crate::contents::ReadError;
use crate::contents::plan::Plan;
use crate::digest::Digest;
use crate::globs::Globs;
use crate::listing::is_at_or_below;
use crate::sort::spool::{Spool, Spooled};
use crate::sort::{Sorted, Sorter};
use crate::tree::apply::{Applier, ApplyError, Existing};
use crate::tree::meta::Meta;

/// Memory for sorting directories and names of hard links, each.
const SORT_BYTES_MAX: usize = 4 << 20;

/// Bytes of a file compared at once.
const COMPARE_BYTES: usize = 256 << 10;

/// Tags of records of files with several names.
const NAME: u8 = b'n';
const PARTS: u8 = b'p';

/// Where the lines of parts that follow belong.
#[derive(Clone, Copy)]
enum Following {
    Nothing,
    Plan,
    Linked(u64),
}

/// The pass.
pub(super) struct Survey<'a> {
    globs: &'a Globs,
    applier: Option<Arc<Applier>>,
    resume: bool,
    report: &'a Report,
    plan: Plan,
    directories: Sorter,
    /// Names of files with several, by inode; then their parts.
    linked: Sorter,
    links: Spool,
    following: Following,
    /// Directories that are known to be there, from the root down to the last entry.
    above: Vec<RawPath>,
    root: Option<Meta>,
    entries: u64,
    bytes: u64,
}

/// What is left to do.
pub(super) struct Surveyed {
    pub(super) plan: Plan,
    pub(super) directories: Sorted,
    /// First name and further name, in pairs.
    pub(super) links: Spooled,
    pub(super) root: Option<Meta>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl<'a> Survey<'a> {
    /// Without an applier nothing is made and only counts are taken.
    pub(super) fn new(
        globs: &'a Globs,
        applier: Option<Arc<Applier>>,
        resume: bool,
        state: &Path,
        report: &'a Report,
    ) -> Result<Self, RestoreError> {
        Ok(Self {
            globs,
            applier,
            resume,
            report,
            plan: Plan::new(state)?,
            directories: Sorter::new(state, SORT_BYTES_MAX),
            linked: Sorter::new(state, SORT_BYTES_MAX),
            links: Spool::new(state).map_err(ReadError::from)?,
            following: Following::Nothing,
            above: vec![RawPath::default()],
            root: None,
            entries: 0,
            bytes: 0,
        })
    }

    /// The next line of the catalog.
    pub(super) fn take(&mut self, line: Line) -> Result<(), RestoreError> {
        match line {
            Line::Entry(entry) => {
                self.following = Following::Nothing;
                let selected = self.globs.is_empty() || self.globs.matches(&entry.path);
                if selected && !self.report.is_over() { self.entry(*entry) } else { Ok(()) }
            }
            Line::Parts(parts) => Ok(self.parts(&parts)?),
        }
    }

    fn parts(&mut self, parts: &[Part]) -> Result<(), ReadError> {
        match self.following {
            Following::Nothing => Ok(()),
            Following::Plan => self.plan.add_parts(parts),
            Following::Linked(inode) => Ok(self.linked.push(&inode.to_be_bytes(), &tagged(PARTS, &parts)?)?),
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), RestoreError> {
        self.entries += 1;
        self.bytes += if entry.meta.kind == EntryKind::File { entry.meta.size } else { 0 };
        let Some(applier) = self.applier.clone() else { return Ok(()) };
        if let Err(error) = self.make_above(&applier, &entry.path) {
            self.report.failed(&entry.path, error);
            return Ok(());
        }
        match entry.meta.kind {
            EntryKind::Directory => self.directory(&applier, entry),
            EntryKind::Socket => Ok(()),
            _ => match entry.meta.hard_link() {
                Some(inode) => {
                    self.following = Following::Linked(inode);
                    let record = tagged(NAME, &entry).map_err(ReadError::from)?;
                    Ok(self.linked.push(&inode.to_be_bytes(), &record).map_err(ReadError::from)?)
                }
                None => self.content(&applier, &entry),
            },
        }
    }

    /// Directories on the way that are not restored themselves, or were lost with a segment of the catalog:
    /// they belong to the caller, and only he may enter.
    fn make_above(&mut self, applier: &Applier, path: &RawPath) -> Result<(), ApplyError> {
        self.above.retain(|above| is_at_or_below(path, above));
        let made = self.above.last().map_or(0, |above| above.as_bytes().len());
        let bytes = path.as_bytes();
        let slashes = (made + 1..bytes.len()).filter(|at| bytes[*at] == b'/').collect::<Vec<_>>();
        for slash in slashes {
            let above = RawPath::new(&bytes[..slash]);
            applier.directory(&above)?;
            self.above.push(above);
        }
        Ok(())
    }

    fn directory(&mut self, applier: &Applier, entry: Entry) -> Result<(), RestoreError> {
        let Entry { path, meta, .. } = entry;
        let is_ours = match applier.directory(&path) {
            Ok(is_ours) => is_ours,
            Err(error) => {
                self.report.failed(&path, error);
                return Ok(());
            }
        };
        if path.is_root() {
            self.root = (applier.existing() == Existing::Replace).then_some(meta);
            return Ok(());
        }
        if is_ours {
            let depth = path.as_bytes().split(|byte| *byte == b'/').count();
            let deepest_first = u64::MAX - depth as u64;
            let record = serde_json::to_vec(&(&path, &meta)).map_err(ReadError::from)?;
            self.directories.push(&deepest_first.to_be_bytes(), &record).map_err(ReadError::from)?;
        }
        self.above.push(path);
        Ok(())
    }

    /// Anything but a directory or socket, under its first name.
    fn content(&mut self, applier: &Arc<Applier>, entry: &Entry) -> Result<(), RestoreError> {
        if entry.meta.kind != EntryKind::File {
            if !(self.resume && is_there(applier, entry)) {
                self.done(&entry.path, applier.node(&entry.path, &entry.meta));
            }
            return Ok(());
        }
        // Without a digest nothing was read: a file that vanished is not an empty one.
        let is_empty = entry.meta.data().is_empty() && entry.sha256.is_some();
        let is_stored = entry.at.is_some() || entry.parts > 0 || is_empty;
        if !is_stored {
            let (code, problem) = match &entry.state {
                State::Unreadable { problem } => ("unreadable", problem.as_str()),
                State::Changed { problem } => ("changed", problem.as_str()),
                State::Good => ("unreadable", "no content is stored"),
            };
            self.report.incomplete_entry(code, problem, &entry.path);
            return Ok(());
        }
        if let State::Changed { problem } = &entry.state {
            self.report.name("changed", problem, &entry.path);
        }
        if self.resume && is_there(applier, entry) {
            return Ok(());
        }
        if self.plan.add(self.entries, entry)? {
            self.following = Following::Plan;
        } else {
            let made = applier.begin_file(&entry.path, entry.meta.size).and_then(|staged| staged.finish(&entry.meta));
            self.done(&entry.path, made);
        }
        Ok(())
    }

    fn done(&self, path: &RawPath, result: Result<(), ApplyError>) {
        if let Err(error) = result {
            self.report.failed(path, error);
        }
    }

    /// Ends the pass: of the names of each file the first is planned, the others become links to it.
    pub(super) fn finish(mut self) -> Result<Surveyed, RestoreError> {
        let empty = Sorter::new(Path::new(""), SORT_BYTES_MAX);
        let linked = std::mem::replace(&mut self.linked, empty).finish().map_err(ReadError::from)?;
        let mut first: Option<(Vec<u8>, RawPath)> = None;
        for record in linked {
            let record = record.map_err(ReadError::from)?;
            let Some((tag, value)) = record.value.split_first() else { continue };
            if *tag == PARTS {
                let parts: Vec<Part> = serde_json::from_slice(value).map_err(ReadError::from)?;
                self.parts(&parts)?;
                continue;
            }
            let entry: Entry = serde_json::from_slice(value).map_err(ReadError::from)?;
            self.following = Following::Nothing;
            match &first {
                Some((inode, first)) if *inode == record.key => {
                    self.links.push(first.as_bytes(), entry.path.as_bytes()).map_err(ReadError::from)?;
                }
                _ => {
                    if let Some(applier) = self.applier.clone() {
                        self.content(&applier, &entry)?;
                    }
                    first = Some((record.key, entry.path));
                }
            }
        }
        Ok(Surveyed {
            plan: self.plan,
            directories: self.directories.finish().map_err(ReadError::from)?,
            links: self.links.finish().map_err(ReadError::from)?,
            root: self.root,
            entries: self.entries,
            bytes: self.bytes,
        })
    }
}

/// Makes the further names of files.
pub(super) fn link(applier: &Applier, links: Spooled, report: &Report) -> Result<(), ReadError> {
    for record in links {
        let record = record?;
        let (first, path) = (RawPath::new(record.key), RawPath::new(record.value));
        let linked = match applier.look(&first) {
            // Its content is lost, and that was told.
            Ok(None) => {
                report.lost_entry();
                continue;
            }
            // An earlier restore made both.
            Ok(Some(_)) if applier.are_one(&first, &path) => continue,
            Ok(Some(_)) => applier.link(&first, &path),
            Err(error) => Err(error),
        };
        if let Err(error) = linked {
            report.failed(&path, error);
        }
    }
    Ok(())
}

/// Gives directories what was captured, the deepest first.
pub(super) fn dress(applier: &Applier, directories: Sorted, report: &Report) -> Result<(), ReadError> {
    for record in directories {
        let (path, meta): (RawPath, Meta) = serde_json::from_slice(&record?.value)?;
        if let Err(error) = applier.dress(&path, &meta) {
            report.failed(&path, error);
        }
    }
    Ok(())
}

fn tagged(tag: u8, value: &impl serde::Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut record = vec![tag];
    serde_json::to_writer(&mut record, value)?;
    Ok(record)
}

/// Whether an earlier restore left this very entry: a file by its content, read anew, since a crash of the
/// machine can leave names without content. Owner, mode and times are set once more.
fn is_there(applier: &Applier, entry: &Entry) -> bool {
    let Ok(Some(found)) = applier.look(&entry.path) else { return false };
    let meta = &entry.meta;
    let alike = (found.kind, found.size, &found.link_target, found.device)
        == (meta.kind, meta.size, &meta.link_target, meta.device);
    let same = alike && (meta.kind != EntryKind::File || digest(applier, &entry.path) == entry.sha256);
    same && entry.sha256.is_some() == (meta.kind == EntryKind::File) && applier.dress(&entry.path, meta).is_ok()
}

fn digest(applier: &Applier, path: &RawPath) -> Option<Digest> {
    let mut file = File::from(applier.open(path).ok()?);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; COMPARE_BYTES];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(Digest::finish(hash)),
            read => hash.update(&buffer[..read]),
        }
    }
}
