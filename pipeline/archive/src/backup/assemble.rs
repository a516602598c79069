//! Puts packed frames into sealed volumes, in order, and hands full ones to the store.
//!
//! One thread. A volume is sealed in memory, closed with the end of a tar archive, and given away
//! whole; only its digest and size are remembered. Frames never cross volumes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use dualsync_model::id::SourceName;
use tokio::sync::mpsc::Sender;

use crate::backup::BackupError;
use crate::backup::flow::{Flow, Permit, Stopped};
use crate::backup::frames::{FramePlace, FrameTable, PackedFrame};
use crate::backup::upload::{Upload, What};
use crate::buffers::Buffer;
use crate::codec::Codec;
use crate::format::{Folder, VOLUME_BYTES_TARGET, volume_key};
use crate::seal::{Recipients, Sealer};
use crate::volume::member::END;

/// What every volume of a run has in common.
#[derive(Clone)]
pub struct Naming {
    /// The source.
    pub source: SourceName,
    /// The point's folder.
    pub folder: Folder,
    /// How frames are packed.
    pub codec: Codec,
}

impl Naming {
    /// Key of volume `number`.
    pub fn key(&self, number: u32) -> String {
        volume_key(&self.source, &self.folder, number, self.codec.packing().suffix())
    }
}

/// The thread's state.
pub struct Assembler {
    /// Names of volumes.
    pub naming: Naming,
    /// Who may open them.
    pub recipients: Recipients,
    /// Where frames went.
    pub table: FrameTable,
    /// Full volumes.
    pub uploads: Sender<Upload>,
    /// Shared waits.
    pub flow: Flow,
    /// Size that a volume aims at, set by the measured rate.
    pub target_bytes: Arc<AtomicUsize>,
}

/// The volume being filled.
struct Open {
    sealer: Sealer<Buffer>,
    tar_bytes: u64,
    members: u32,
    permit: Permit,
}

impl Assembler {
    /// Runs until the workers are done.
    pub fn run(self, packed: &Receiver<PackedFrame>) -> Result<(), BackupError> {
        let mut early: BTreeMap<u64, PackedFrame> = BTreeMap::new();
        let (mut next, mut volume, mut open) = (0, 0, None);
        for frame in packed {
            early.insert(frame.number, frame);
            while let Some(frame) = early.remove(&next) {
                self.place(&frame, &mut volume, &mut open)?;
                // Only now is the memory of the frame given back.
                drop(frame);
                next += 1;
                self.flow.placed(next);
            }
        }
        if self.flow.is_stopped() || !early.is_empty() {
            return Err(BackupError::Stopped);
        }
        open.map_or(Ok(()), |last| self.close(last, volume))
    }

    fn place(&self, frame: &PackedFrame, volume: &mut u32, open: &mut Option<Open>) -> Result<(), BackupError> {
        let target = self.target_bytes.load(Ordering::Relaxed) as u64;
        let is_full = |open: &Open| {
            let filled = open.sealer.plain_bytes();
            // A big frame after a nearly full volume would outgrow the buffer.
            filled >= target || filled + frame.packed.len() as u64 > target.max(VOLUME_BYTES_TARGET as u64)
        };
        if let Some(full) = open.take_if(|open| is_full(open)) {
            self.close(full, *volume)?;
            *volume += 1;
        }
        let current = match open {
            Some(current) => current,
            None => open.insert(self.open()?),
        };
        let place = FramePlace {
            volume: *volume,
            member: current.members,
            at: current.sealer.plain_bytes(),
            bytes: frame.packed.len() as u64,
        };
        self.table.set(frame.number, place).map_err(BackupError::State)?;
        current.sealer.write(&frame.packed).map_err(BackupError::Seal)?;
        current.tar_bytes += frame.tar_bytes;
        current.members += frame.members;
        Ok(())
    }

    fn open(&self) -> Result<Open, BackupError> {
        let permit = self.flow.take_volume()?;
        // A buffer that never grows is never copied.
        let buffer = self.flow.buffer(VOLUME_BYTES_TARGET + (1 << 20));
        let sealer = Sealer::new(&self.recipients, buffer).map_err(BackupError::Seal)?;
        Ok(Open { sealer, tar_bytes: 0, members: 0, permit })
    }

    fn close(&self, mut open: Open, number: u32) -> Result<(), BackupError> {
        let end = self.naming.codec.pack(&END).map_err(BackupError::Pack)?;
        open.sealer.write(&end).map_err(BackupError::Seal)?;
        let sealed = open.sealer.finish().map_err(BackupError::Seal)?;
        let upload = Upload {
            key: self.naming.key(number),
            bytes: Bytes::from_owner(sealed),
            what: What::Volume { tar_bytes: open.tar_bytes, _memory: open.permit },
        };
        self.uploads.blocking_send(upload).map_err(|_| Stopped.into())
    }
}
