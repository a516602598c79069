//! Copies entries of the mounted tree into a folder: the whole tree, or what globs take.
//!
//! First the walk makes folders, links and nodes; then files are read in storage order; folders
//! get their times last, the deepest first. What cannot be read or made is told, and the rest goes on.

use std::collections::HashMap;
use std::path::Path;

use dualsync_model::fact::EntryKind;
use dualsync_model::path::RawPath;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::content::{Noted, StorageOrder, Unread, open_file, read_all};
use super::entry::{Inode, Meta, Xattr, bare_fact, fact, xattrs};
use super::mount::Tree;
use super::open::{open_beneath, split};
use super::protocol::{Extract, Line};
use super::select::Selection;
use super::target::Target;
use super::walk::{Entry, Visit, Wanted, walk};
use super::witness::{Tally, broken};
use super::{InsideError, Output};
use crate::view::sort::Sorter;
use std::os::fd::AsFd;

const PIECE_BYTES: usize = 1 << 20;

/// Restores what `extract` takes.
pub(super) fn extract(tree: &Tree, extract: &Extract, state: &Path, out: &mut Output) -> Result<Line, InsideError> {
    let selection = Selection::new(&extract.paths)?;
    let target = if extract.dry_run { None } else { Some(Target::open(&extract.to, extract.overwrite)?) };
    let mut work = Extraction {
        tree,
        selection,
        target,
        keep: extract.keep,
        overwrite: extract.overwrite,
        files: StorageOrder::new(state),
        folders: Sorter::new(state),
        made: None,
        names: HashMap::new(),
        tally: Tally::default(),
        out,
    };
    walk(tree.root(), &mut work)?;
    work.finish()
}

struct Extraction<'a> {
    tree: &'a Tree,
    selection: Selection,
    /// Absent in a dry run.
    target: Option<Target>,
    keep: bool,
    overwrite: bool,
    files: StorageOrder,
    /// Folders that were made, by depth.
    folders: Sorter,
    /// The folder that is known to exist at the target.
    made: Option<RawPath>,
    /// First names of links and nodes that have several.
    names: HashMap<Inode, RawPath>,
    tally: Tally,
    out: &'a mut Output,
}

impl Visit for Extraction<'_> {
    fn wanted(&mut self, folder: &RawPath) -> Wanted {
        self.selection.wanted(folder).unwrap_or(Wanted::Only(Vec::new()))
    }

    fn entry(&mut self, entry: Entry) -> Result<bool, InsideError> {
        let Entry { path, folder, name, meta, .. } = entry;
        let taken = self.selection.takes(&path);
        let meta = match meta {
            Ok(meta) => meta,
            Err(errno) if taken => {
                let fact = bare_fact(path, &Meta::unknown(entry.hint), false);
                self.out.line(&broken(Box::new(fact), errno.into()))?;
                return Ok(false);
            }
            Err(_) => return Ok(false),
        };
        if meta.kind == EntryKind::Directory {
            if taken {
                self.take_folder(&path)?;
            }
            return Ok(taken || self.selection.wanted(&path).is_some());
        }
        if taken {
            match fact(folder, name, path, &meta, false) {
                Ok(fact) => self.take_other(fact, &meta)?,
                Err((fact, errno)) => self.out.line(&broken(fact, errno.into()))?,
            }
        }
        Ok(false)
    }

    fn unreadable(&mut self, folder: &RawPath, errno: Errno) -> Result<(), InsideError> {
        let fact = bare_fact(folder.clone(), &Meta::unknown(Some(EntryKind::Directory)), false);
        self.out.line(&broken(Box::new(fact), errno.into()))
    }
}

impl Extraction<'_> {
    fn take_folder(&mut self, path: &RawPath) -> Result<(), InsideError> {
        if self.target.is_some() && !self.make_folders(path)? {
            return Ok(());
        }
        self.tally.count(self.out)
    }

    /// Makes `path` and what is missing above it; false, and told, when it cannot.
    fn make_folders(&mut self, path: &RawPath) -> Result<bool, InsideError> {
        if self.made.as_ref() == Some(path) {
            return Ok(true);
        }
        if let Some((parent, _)) = split(path)
            && !self.make_folders(&parent)?
        {
            return Ok(false);
        }
        let Some(target) = &mut self.target else { return Ok(true) };
        match target.make_folder(path) {
            Ok(is_new) => {
                let is_whole_root = path.is_root() && self.selection.is_everything();
                if is_new || is_whole_root || ((self.overwrite || self.keep) && !path.is_root()) {
                    let depth =
                        path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count() as u64;
                    self.folders.add((u64::MAX - depth).to_be_bytes().to_vec(), path.as_bytes().to_vec())?;
                }
                self.made = Some(path.clone());
                Ok(true)
            }
            Err(errno) => self.not_restored(path, errno).map(|()| false),
        }
    }

    fn take_other(&mut self, fact: dualsync_model::fact::Fact, meta: &Meta) -> Result<(), InsideError> {
        if meta.kind == EntryKind::Socket {
            // A socket is a meeting point of programs that ran; there is nothing to bring back.
            return Ok(());
        }
        let path = fact.path.clone();
        if self.is_in_the_way(&path, meta)? {
            return Ok(());
        }
        if meta.kind == EntryKind::File {
            self.tally.planned += meta.size;
            if self.target.is_none() {
                return self.tally.count(self.out);
            }
            // A name that is there already is the one that the others are linked to.
            let kept = self.is_kept(&path, meta);
            return self.files.note(self.tree, &Noted { fact: Box::new(fact), inode: meta.inode }, kept);
        }
        if self.is_kept(&path, meta) {
            return self.tally.count(self.out);
        }
        let parent = split(&path).map(|(parent, _)| parent).unwrap_or_default();
        if self.target.is_some() && !self.make_folders(&parent)? {
            return Ok(());
        }
        let made = self.make_special(&fact, meta);
        match made {
            Ok(()) => self.tally.count(self.out),
            Err(errno) => self.not_restored(&path, errno),
        }
    }

    /// Whether something stands at `path` that must stay; it is told.
    fn is_in_the_way(&mut self, path: &RawPath, meta: &Meta) -> Result<bool, InsideError> {
        if self.overwrite || self.is_kept(path, meta) {
            return Ok(false);
        }
        let Some(target) = &mut self.target else { return Ok(false) };
        let errno = match target.find(path) {
            Ok(None) => return Ok(false),
            Ok(Some(_)) => Errno::EXIST,
            Err(errno) => errno,
        };
        self.not_restored(path, errno).map(|()| true)
    }

    /// Whether an earlier, interrupted restore made this entry. A file has its name only when it
    /// is whole and has its time, so that kind, length and time tell.
    fn is_kept(&mut self, path: &RawPath, meta: &Meta) -> bool {
        let Some(target) = self.target.as_mut().filter(|_| self.keep) else { return false };
        let looks = |it: &Meta| (it.kind, it.size, it.mtime, it.mode);
        target.find(path).is_ok_and(|found| found.is_some_and(|found| looks(&found) == looks(meta)))
    }

    fn make_special(&mut self, fact: &dualsync_model::fact::Fact, meta: &Meta) -> Result<(), Errno> {
        let attributes = self.attributes(&fact.path)?;
        let Some(target) = &mut self.target else { return Ok(()) };
        if meta.links > 1 {
            if let Some(first) = self.names.get(&meta.inode) {
                return target.link(first, &fact.path);
            }
            self.names.insert(meta.inode, fact.path.clone());
        }
        target.make_special(&fact.path, meta, fact.link_target.as_ref())?;
        target.dress(&fact.path, meta, &attributes)
    }

    /// The extended attributes of an entry of the tree.
    fn attributes(&self, path: &RawPath) -> Result<Vec<Xattr>, Errno> {
        let readable = |found| match found {
            // Listed, and not given without root.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => Ok(Vec::new()),
            other => other,
        };
        let Some((parent, name)) = split(path) else { return readable(xattrs(self.tree.root(), b".")) };
        let folder = open_beneath(self.tree.root(), &parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        readable(xattrs(folder.as_fd(), name))
    }

    fn meta(&self, path: &RawPath) -> Result<Meta, Errno> {
        let Some((parent, name)) = split(path) else { return Meta::of(self.tree.root(), b".") };
        let folder = open_beneath(self.tree.root(), &parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Meta::of(folder.as_fd(), name)
    }

    fn finish(mut self) -> Result<Line, InsideError> {
        let files = std::mem::replace(&mut self.files, StorageOrder::new(Path::new("/")));
        let folders = std::mem::replace(&mut self.folders, Sorter::new(Path::new("/")));
        self.tally.is_planned = true;
        let mut buffer = vec![0; PIECE_BYTES];
        let mut first: Option<(Inode, RawPath)> = None;
        for noted in files.finish()? {
            let noted = noted?;
            let twin = first.as_ref().filter(|(inode, _)| *inode == noted.inode).map(|(_, path)| path.clone());
            if self.restore_file(&noted, twin.as_ref(), &mut buffer)? && twin.is_none() {
                first = Some((noted.inode, noted.fact.path));
            }
        }
        for folder in folders.finish()? {
            let path = RawPath::new(folder?.1);
            let dressed = self.meta(&path).and_then(|meta| {
                let attributes = self.attributes(&path)?;
                self.target.as_mut().map_or(Ok(()), |target| target.dress(&path, &meta, &attributes))
            });
            if let Err(errno) = dressed {
                self.not_restored(&path, errno)?;
            }
        }
        let bytes = if self.target.is_some() { self.tally.bytes } else { self.tally.planned };
        Ok(Line::Done { entries: self.tally.entries, bytes })
    }

    /// True when the file is there now.
    fn restore_file(&mut self, noted: &Noted, twin: Option<&RawPath>, buffer: &mut [u8]) -> Result<bool, InsideError> {
        let path = &noted.fact.path;
        let parent = split(path).map(|(parent, _)| parent).unwrap_or_default();
        if !self.make_folders(&parent)? {
            return Ok(false);
        }
        if self.keep && self.meta(path).is_ok_and(|meta| self.is_kept(path, &meta)) {
            return self.tally.count(self.out).map(|()| true);
        }
        let outcome = match twin {
            Some(first) => match &mut self.target {
                Some(target) => target.link(first, path).map_err(Trouble::Target),
                None => Ok(()),
            },
            None => self.copy(noted, buffer)?,
        };
        match outcome {
            Ok(()) => self.tally.count(self.out).map(|()| true),
            Err(Trouble::Target(errno)) => self.not_restored(path, errno).map(|()| false),
            Err(Trouble::Source(unread)) => self.out.line(&broken(noted.fact.clone(), unread)).map(|()| false),
        }
    }

    fn copy(&mut self, noted: &Noted, buffer: &mut [u8]) -> Result<Result<(), Trouble>, InsideError> {
        let path = &noted.fact.path;
        let source = |errno: Errno| Trouble::Source(errno.into());
        let opened = self.meta(path).and_then(|meta| Ok((meta, self.attributes(path)?, open_file(self.tree, path)?)));
        let (meta, attributes, file) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Ok(Err(source(errno))),
        };
        let Some(target) = &mut self.target else { return Ok(Ok(())) };
        let begun = match target.begin_file(path) {
            Ok(begun) => begun,
            Err(errno) => return Ok(Err(Trouble::Target(errno))),
        };
        let mut refused = None;
        let read = read_all(&file, meta.size, buffer, |offset, piece| {
            if refused.is_none() {
                refused = begun.write(offset, piece).err();
            }
            self.tally.read(self.out, piece.len() as u64)
        })?;
        if let Err(unread) = read {
            return Ok(Err(Trouble::Source(unread)));
        }
        let finished = match refused {
            Some(error) => Err(error),
            None => begun.finish(&meta, &attributes, target.sets_owners()),
        };
        Ok(finished.map_err(|error| Trouble::Target(Errno::from_io_error(&error).unwrap_or(Errno::IO))))
    }

    fn not_restored(&mut self, path: &RawPath, errno: Errno) -> Result<(), InsideError> {
        let problem = match errno {
            Errno::EXIST => "it exists already".to_owned(),
            Errno::LOOP | Errno::XDEV | Errno::NOTDIR => "a link or a file stands in its way at the target".to_owned(),
            other => std::io::Error::from(other).to_string(),
        };
        self.out.line(&Line::NotRestored { path: path.clone(), problem })
    }
}

/// Why a file is not restored.
enum Trouble {
    /// It cannot be read.
    Source(Unread),
    /// It cannot be made.
    Target(Errno),
}
