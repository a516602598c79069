//! Checkpoints: what a run that may never end has sent.
//!
//! `runs/<source>/<run>/checkpoint-<n>` names everything that is durable by now and where each content
//! lies: a later run uses it as an additional parent, by content, and never as a point.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use dualsync_model::id::{RunId, SourceName};

use crate::backup::BackupError;
use crate::backup::upload::{SentObjects, Upload, What};
use crate::catalog::entry::{Line, Part};
use crate::catalog::segment::seal_lines;
use crate::format::{
    CHECKPOINT_VOLUMES, FORMAT, PARTS_PER_LINE_MAX, RUNS, SEGMENT_BYTES_TARGET, VERSION, VOLUMES, catalog_key,
};
use crate::manifest::Stored;
use crate::minisign::SecretKey;
use crate::record;
use crate::refs::Ref;
use crate::seal::Recipients;

/// A checkpoint of version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Id of the repository.
    pub repository: String,
    /// Volumes that are durable.
    pub volumes: Vec<Ref>,
    /// Sealed lists of what they hold, packed like catalog segments: lines of parts, whose `sha256` is the
    /// key of the content in [`crate::backup::index`].
    pub contents: Vec<Stored>,
}

/// Key of checkpoint `number`.
pub fn checkpoint_key(source: &SourceName, run: &RunId, number: u64) -> String {
    format!("{RUNS}{source}/{run}/checkpoint-{number}")
}

/// Collects contents for checkpoints.
pub struct Checkpoints {
    source: SourceName,
    run: RunId,
    repository: String,
    secret: Arc<SecretKey>,
    number: u64,
    volumes: u64,
    volume: String,
    plain: Vec<u8>,
    line: Vec<Part>,
    contents: Vec<Stored>,
}

impl Checkpoints {
    /// For a run, signed with its key.
    pub fn new(source: SourceName, run: RunId, repository: String, secret: Arc<SecretKey>) -> Self {
        let (plain, line, contents) = (Vec::new(), Vec::new(), Vec::new());
        Self { source, run, repository, secret, number: 0, volumes: 0, volume: String::new(), plain, line, contents }
    }

    /// Notes a content of this run, which come in the order of their volumes but for repetitions; gives the
    /// objects to send, when it is time.
    pub fn add(&mut self, part: Part, recipients: &Recipients) -> Result<Vec<Upload>, BackupError> {
        let mut uploads = Vec::new();
        if is_later(&part.at.volume, &self.volume) {
            // Everything in volumes before this one has been handed to the uploader by now.
            self.volumes += u64::from(!self.volume.is_empty());
            self.volume.clone_from(&part.at.volume);
            if self.volumes >= CHECKPOINT_VOLUMES {
                uploads.extend(self.seal(recipients)?);
                uploads.push(self.record());
                self.volumes = 0;
            }
        }
        self.line.push(part);
        if self.line.len() == PARTS_PER_LINE_MAX {
            self.end_line();
        }
        if self.plain.len() >= SEGMENT_BYTES_TARGET {
            uploads.extend(self.seal(recipients)?);
        }
        Ok(uploads)
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            Line::Parts(std::mem::take(&mut self.line)).write(&mut self.plain);
        }
    }

    fn seal(&mut self, recipients: &Recipients) -> Result<Option<Upload>, BackupError> {
        self.end_line();
        if self.plain.is_empty() {
            return Ok(None);
        }
        let sealed = seal_lines(recipients, &std::mem::take(&mut self.plain))?;
        let stored = Stored::of(&sealed);
        self.contents.push(stored);
        Ok(Some(Upload { key: catalog_key(&stored.sha256.hex()), bytes: Bytes::from(sealed), what: What::Catalog }))
    }

    /// The record is only built once everything before it is durable: it tells sizes and digests.
    fn record(&mut self) -> Upload {
        let key = checkpoint_key(&self.source, &self.run, self.number);
        self.number += 1;
        let (record_key, repository, secret) = (key.clone(), self.repository.clone(), self.secret.clone());
        let contents = self.contents.clone();
        let build = move |sent: &SentObjects| {
            let record = Checkpoint {
                format: FORMAT.to_owned(),
                version: VERSION,
                repository,
                volumes: sent_volumes(sent).into_values().collect(),
                contents,
            };
            Bytes::from(record::write(&record_key, &record, &secret))
        };
        Upload { key, bytes: Bytes::new(), what: What::Checkpoint(Box::new(build)) }
    }
}

/// Whether a volume of this run comes after another. Its number has five digits or more: a longer key has
/// the higher one.
fn is_later(key: &str, than: &str) -> bool {
    (key.len(), key) > (than.len(), than)
}

/// The volumes among what was sent.
pub fn sent_volumes(sent: &SentObjects) -> BTreeMap<String, Ref> {
    let volumes = sent.iter().filter(|(key, _)| key.starts_with(VOLUMES));
    volumes
        .map(|(key, sent)| {
            let Stored { bytes, sha256 } = sent.stored;
            (key.clone(), Ref { key: key.clone(), bytes, sha256, live_bytes: bytes, tar_bytes: sent.tar_bytes })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::entry::At;
    use crate::digest::Digest;
    use crate::format::{Folder, volume_key};
    use crate::manifest::tests::{manifest, secret};
    use crate::seal::Identity;

    #[test]
    fn checkpoints_go_on_when_numbers_of_volumes_get_longer() {
        let source: SourceName = "web".parse().unwrap();
        let folder = Folder::new(manifest().point.time(), [1; 8]);
        let recipients = Recipients::new(&Identity::generate(), &[]).unwrap();
        let run = RunId::from_random([1; 8]);
        let mut checkpoints = Checkpoints::new(source.clone(), run, "00".repeat(16), Arc::new(secret()));
        let mut sent = Vec::new();
        for number in 99_990..100_000 + u32::try_from(CHECKPOINT_VOLUMES).unwrap() {
            let volume = volume_key(&source, &folder, number, ".zst");
            let at = At { volume, member: 0, frame: 0, frame_bytes: 1, offset: 0, bytes: 1 };
            sent.extend(checkpoints.add(Part { sha256: Digest::of(b"x"), bytes: 1, at }, &recipients).unwrap());
        }
        assert_eq!(sent.iter().filter(|upload| upload.key.ends_with("/checkpoint-0")).count(), 1);
    }
}
