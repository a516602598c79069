//! What is written to the view, kept beside the stored image and thrown away with it.
//!
//! A file system whose journal was not empty is mounted with replay, so that the facts are those
//! of what would boot. The replay writes; its pages go to an unnamed file, at most
//! [`OVERLAY_BYTES_MAX`] of them, and are read in the place of the image's. The stored image is
//! never written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::cache::{CachedImage, ReadError};
use super::sort::unnamed_file;
use super::source::BlockSource;

/// Most bytes that may be written to a view: more than the largest journal that mke2fs and
/// mkfs.xfs make, less than what a hostile image could ask for.
pub const OVERLAY_BYTES_MAX: u64 = 3 << 30;

const PAGE: u64 = 4096;

/// Why the view cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The image below.
    #[error(transparent)]
    Image(#[from] ReadError),
    /// The file of written pages.
    #[error("cannot keep written pages in '{folder}'")]
    File {
        /// Where the file is.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More was written than may be.
    #[error("more than {OVERLAY_BYTES_MAX} bytes were written to the view")]
    Full,
}

/// A stored image with written pages over it.
#[derive(Debug)]
pub struct Overlay<S> {
    image: Arc<CachedImage<S>>,
    folder: PathBuf,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    file: Option<File>,
    /// Page of the image, and its place in the file.
    pages: BTreeMap<u64, u64>,
}

impl<S: BlockSource> Overlay<S> {
    /// Nothing is written yet; the file is made in `folder` with the first write.
    pub fn new(image: Arc<CachedImage<S>>, folder: &Path) -> Self {
        Self { image, folder: folder.to_owned(), written: Mutex::default() }
    }

    /// The image below.
    pub fn image(&self) -> &Arc<CachedImage<S>> {
        &self.image
    }

    /// Bytes of the view.
    pub fn size_bytes(&self) -> u64 {
        self.image.size_bytes()
    }

    /// The bytes from `offset` on, at most `length`, fewer at the end of the image.
    pub async fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, OverlayError> {
        let end = offset.saturating_add(length).min(self.size_bytes());
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(0)];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        let written = self.written.lock().await;
        if written.pages.range(offset / PAGE..end.div_ceil(PAGE)).next().is_none() {
            drop(written);
            self.image.read(offset, &mut bytes).await?;
        } else {
            self.read_mixed(&written, offset, &mut bytes).await?;
        }
        Ok(bytes)
    }

    /// Page by page, so that a written page is read even where the image below is damaged.
    async fn read_mixed(&self, written: &Written, offset: u64, bytes: &mut [u8]) -> Result<(), OverlayError> {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = usize::try_from(PAGE - at % PAGE).unwrap_or(0).min(rest.len());
            let (part, tail) = rest.split_at_mut(count);
            match (written.pages.get(&(at / PAGE)), &written.file) {
                (Some(place), Some(file)) => {
                    file.read_exact_at(part, place + at % PAGE).map_err(|source| self.file_error(source))?;
                }
                _ => self.image.read(at, part).await?,
            }
            at += count as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Keeps `bytes` over the image from `offset` on. All or, after an error, perhaps a part is
    /// kept: a mount that gets an error gives up.
    pub async fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), OverlayError> {
        let length = bytes.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size_bytes()) {
            return Err(ReadError::Range { offset, length }.into());
        }
        let mut written = self.written.lock().await;
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let from = usize::try_from(at % PAGE).unwrap_or(0);
            let page_bytes = usize::try_from(PAGE.min(self.size_bytes() - at / PAGE * PAGE)).unwrap_or(0);
            let (part, tail) = rest.split_at((page_bytes - from).min(rest.len()));
            let mut page = vec![0; page_bytes];
            if part.len() < page_bytes {
                self.read_mixed(&written, at / PAGE * PAGE, &mut page).await?;
            }
            page[from..from + part.len()].copy_from_slice(part);
            self.keep(&mut written, at / PAGE, &page)?;
            at += part.len() as u64;
            rest = tail;
        }
        Ok(())
    }

    fn keep(&self, written: &mut Written, page: u64, bytes: &[u8]) -> Result<(), OverlayError> {
        if written.file.is_none() {
            written.file = Some(unnamed_file(&self.folder).map_err(|source| self.file_error(source))?);
        }
        let next = written.pages.len() as u64 * PAGE;
        let place = match written.pages.get(&page) {
            Some(place) => *place,
            None if next >= OVERLAY_BYTES_MAX => return Err(OverlayError::Full),
            None => next,
        };
        if let Some(file) = &written.file {
            file.write_all_at(bytes, place).map_err(|source| self.file_error(source))?;
        }
        written.pages.insert(page, place);
        Ok(())
    }

    fn file_error(&self, source: io::Error) -> OverlayError {
        OverlayError::File { folder: self.folder.clone(), source }
    }
}

#[cfg(test)]
mod tests;
