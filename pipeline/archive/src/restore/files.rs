//! Writes content that arrives into files, and lets only proven files stand.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dualsync_model::path::RawPath;

use super::report::Report;
use crate::catalog::entry::Entry;
use crate::contents::{PartedFile, Sink, Wanted};
use crate::damage::Damage;
use crate::objects::Objects;
use crate::tree::apply::{Applier, ApplyError, Staged};
use crate::tree::layout::{Layout, LayoutError};
use crate::tree::meta::Extent;
use crate::volume::reader::VolumeError;

/// The sink of a restore.
pub(super) struct Files {
    applier: Arc<Applier>,
    objects: Objects,
    report: Arc<Report>,
    damage: Arc<Damage>,
}

/// Why a file does not come to stand.
#[derive(Debug)]
enum Refused {
    Apply(ApplyError),
    Wrong(&'static str),
}

impl From<ApplyError> for Refused {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

impl From<LayoutError> for Refused {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::TooMuch => Self::Wrong("it holds more than the file"),
            LayoutError::TooLittle => Self::Wrong("it holds less than the file"),
        }
    }
}

impl Files {
    pub(super) fn new(applier: Arc<Applier>, objects: Objects, report: Arc<Report>, damage: Arc<Damage>) -> Self {
        Self { applier, objects, report, damage }
    }

    fn end(&self, entry: &Entry, outcome: Result<(), Refused>) {
        match outcome {
            Ok(()) => {}
            Err(Refused::Apply(error)) => self.report.failed(&entry.path, error),
            Err(Refused::Wrong(problem)) => {
                let volume = entry.at.as_ref().map_or("the parts of the file", |at| at.volume.as_str());
                self.lose(volume, problem, &entry.path);
            }
        }
        self.count(entry);
    }

    fn lose(&self, object: &str, problem: &str, path: &RawPath) {
        self.report.lost_entry();
        self.damage.note(object, "digest", problem, Some(path));
    }

    fn count(&self, entry: &Entry) {
        let progress = self.report.events().progress();
        progress.items_done.fetch_add(1, Ordering::Relaxed);
        progress.bytes_done.fetch_add(entry.meta.size, Ordering::Relaxed);
        progress.transferred_bytes.store(self.objects.fetched_bytes(), Ordering::Relaxed);
    }
}

impl Sink for Files {
    fn member(&self, files: &[Wanted], data: Result<&[u8], &VolumeError>) {
        for Wanted { entry, .. } in files {
            match data {
                _ if self.report.is_over() => return,
                Ok(data) => {
                    let outcome = Draft::begin(&self.applier, entry).and_then(|mut draft| {
                        draft.write(data)?;
                        draft.finish(entry)
                    });
                    self.end(entry, outcome);
                }
                Err(error) => {
                    self.report.lost_entry();
                    self.damage.note_volume(error, Some(&entry.path));
                    self.count(entry);
                }
            }
        }
    }

    fn begin(self: Arc<Self>, file: Wanted) -> Box<dyn PartedFile> {
        let draft = Draft::begin_parted(&self.applier, &file.entry);
        Box::new(Parted { files: self, entry: file.entry, draft, damaged: false })
    }

    fn is_over(&self) -> bool {
        self.report.is_over()
    }
}

/// A file that is being written.
struct Draft {
    staged: Staged,
    layout: Layout,
}

impl Draft {
    fn begin(applier: &Arc<Applier>, entry: &Entry) -> Result<Self, Refused> {
        let staged = applier.begin_file(&entry.path, entry.meta.size)?;
        Ok(Self { staged, layout: Layout::new(&entry.meta) })
    }

    /// What was fetched of a file in parts outlives this restore; not of one with holes, which would have to be proved, too.
    fn begin_parted(applier: &Arc<Applier>, entry: &Entry) -> Result<Self, Refused> {
        let is_dense = matches!(*entry.meta.data(), [Extent { offset: 0, length }] if length == entry.meta.size);
        let Some(content) = entry.sha256.filter(|_| is_dense) else { return Self::begin(applier, entry) };
        let staged = applier.begin_parted(&entry.path, entry.meta.size, content)?;
        Ok(Self { staged, layout: Layout::new(&entry.meta) })
    }

    fn write(&mut self, mut data: &[u8]) -> Result<(), Refused> {
        while let Some((offset, stretch)) = self.layout.place(&mut data)? {
            self.staged.write_at(stretch, offset)?;
        }
        Ok(())
    }

    fn finish(self, entry: &Entry) -> Result<(), Refused> {
        let digest = self.layout.finish()?;
        if entry.sha256 != Some(digest) {
            return Err(Refused::Wrong("its content has another SHA-256 than the catalog says"));
        }
        Ok(self.staged.finish(&entry.meta)?)
    }
}

/// A file in parts that is being written.
struct Parted {
    files: Arc<Files>,
    entry: Entry,
    draft: Result<Draft, Refused>,
    damaged: bool,
}

impl PartedFile for Parted {
    fn begun(&self) -> Option<File> {
        self.draft.as_ref().ok()?.staged.begun()
    }

    fn part(&mut self, data: Result<&[u8], &VolumeError>) {
        match (data, &mut self.draft) {
            (Err(error), _) => {
                self.damaged = true;
                self.files.damage.note_volume(error, Some(&self.entry.path));
            }
            (Ok(data), Ok(draft)) if !self.damaged => {
                if let Err(refused) = draft.write(data) {
                    self.draft = Err(refused);
                }
            }
            _ => {}
        }
    }

    fn end(self: Box<Self>) {
        let Self { files, entry, draft, damaged } = *self;
        if damaged {
            files.report.lost_entry();
            files.count(&entry);
        } else {
            files.end(&entry, draft.and_then(|draft| draft.finish(&entry)));
        }
    }
}
