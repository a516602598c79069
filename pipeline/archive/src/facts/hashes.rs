//! Hashes content as it arrives and holds it against what the writer noted.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::catalog::entry::Entry;
use crate::contents::{PartedFile, ReadError, Sink, Wanted};
use crate::damage::Damage;
use crate::digest::Digest;
use crate::events::Events;
use crate::objects::Objects;
use crate::points::with_causes;
use crate::sort::{SortError, Sorted, Sorter};
use crate::tree::layout::{self, Layout, LayoutError};
use crate::volume::reader::VolumeError;

/// Memory for sorting outcomes.
const SORT_BYTES_MAX: usize = 8 << 20;

/// What came out for one file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// As it was noted.
    Hashed { sha256: Digest },
    /// Not as it was noted, or not to be had.
    Wrong { sha256: Option<Digest>, object: String, problem: String },
}

/// The sink of `facts`.
pub(super) struct Hashes {
    outcomes: Mutex<Collected>,
    objects: Objects,
    events: Events,
    damage: Arc<Damage>,
}

struct Collected {
    sorter: Sorter,
    failed: Option<SortError>,
}

impl Hashes {
    pub(super) fn new(state: &Path, objects: Objects, events: Events, damage: Arc<Damage>) -> Self {
        let sorter = Sorter::new(state, SORT_BYTES_MAX);
        Self { outcomes: Mutex::new(Collected { sorter, failed: None }), objects, events, damage }
    }

    /// Outcomes by the ordinals of their files. The sink takes nothing after that.
    pub(super) fn finish(&self) -> Result<Sorted, ReadError> {
        let mut collected = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = collected.failed.take() {
            return Err(error.into());
        }
        let sorter = std::mem::replace(&mut collected.sorter, Sorter::new(Path::new(""), SORT_BYTES_MAX));
        Ok(sorter.finish()?)
    }

    fn put(&self, file: &Wanted, outcome: &Outcome) {
        let record = serde_json::to_vec(outcome).expect("plain data into memory cannot fail");
        let mut collected = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if collected.failed.is_none()
            && let Err(error) = collected.sorter.push(&file.ordinal.to_be_bytes(), &record)
        {
            collected.failed = Some(error);
        }
        let progress = self.events.progress();
        progress.items_done.fetch_add(1, Ordering::Relaxed);
        progress.bytes_done.fetch_add(file.entry.meta.size, Ordering::Relaxed);
        progress.transferred_bytes.store(self.objects.fetched_bytes(), Ordering::Relaxed);
    }

    /// Holds a computed digest against the noted one.
    fn judge(&self, file: &Wanted, found: Result<Digest, LayoutError>, object: &str) {
        let problem = match found {
            Ok(sha256) if file.entry.sha256 == Some(sha256) => {
                return self.put(file, &Outcome::Hashed { sha256 });
            }
            Ok(_) => "the content has another SHA-256 than the writer noted".to_owned(),
            Err(error) => error.to_string(),
        };
        self.damage.note(object, "digest", &problem, Some(&file.entry.path));
        self.put(file, &Outcome::Wrong { sha256: found.ok(), object: object.to_owned(), problem });
    }

    fn lose(&self, file: &Wanted, error: &VolumeError) {
        self.damage.note_volume(error, Some(&file.entry.path));
        let (object, problem) = (error.key().to_owned(), with_causes(error));
        self.put(file, &Outcome::Wrong { sha256: None, object, problem });
    }
}

impl Sink for Hashes {
    fn member(&self, files: &[Wanted], data: Result<&[u8], &VolumeError>) {
        let mut known: Option<(&Entry, Result<Digest, LayoutError>)> = None;
        for file in files {
            match data {
                Ok(data) => {
                    let meta = &file.entry.meta;
                    let alike = known
                        .as_ref()
                        .filter(|(other, _)| (other.meta.size, &other.meta.extents) == (meta.size, &meta.extents));
                    let found = alike.map_or_else(|| layout::digest(meta, data), |(_, found)| *found);
                    known = Some((&file.entry, found));
                    let object = file.entry.at.as_ref().map_or("", |at| at.volume.as_str());
                    self.judge(file, found, object);
                }
                Err(error) => self.lose(file, error),
            }
        }
    }

    fn begin(self: Arc<Self>, file: Wanted) -> Box<dyn PartedFile> {
        let layout = Layout::new(&file.entry.meta);
        Box::new(Parted { hashes: self, file, layout: Ok(layout), lost: None })
    }
}

/// A file in parts.
struct Parted {
    hashes: Arc<Hashes>,
    file: Wanted,
    layout: Result<Layout, LayoutError>,
    /// The first object that is wrong, and what is wrong with it.
    lost: Option<(String, String)>,
}

impl PartedFile for Parted {
    fn part(&mut self, data: Result<&[u8], &VolumeError>) {
        match data {
            Err(error) => {
                self.hashes.damage.note_volume(error, Some(&self.file.entry.path));
                self.lost.get_or_insert_with(|| (error.key().to_owned(), with_causes(error)));
            }
            Ok(mut data) if self.lost.is_none() => {
                if let Ok(layout) = &mut self.layout
                    && let Err(error) = take(layout, &mut data)
                {
                    self.layout = Err(error);
                }
            }
            Ok(_) => {}
        }
    }

    fn end(self: Box<Self>) {
        let Self { hashes, file, layout, lost } = *self;
        match lost {
            Some((object, problem)) => hashes.put(&file, &Outcome::Wrong { sha256: None, object, problem }),
            None => hashes.judge(&file, layout.and_then(Layout::finish), "the parts of the file"),
        }
    }
}

fn take(layout: &mut Layout, data: &mut &[u8]) -> Result<(), LayoutError> {
    while layout.place(data)?.is_some() {}
    Ok(())
}
