//! Frames on their way: filled by the producer, packed by workers, placed in volumes.
//!
//! The workers finish in any order; the assembler puts frames into volumes in the order of their
//! numbers, and writes down where each went, for the catalog.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::backup::BackupError;
use crate::backup::flow::{Flow, Permit};
use crate::buffers::Buffer;
use crate::codec::Codec;
use crate::sort::nameless;

/// A frame of tar.
pub struct RawFrame {
    /// Its number in this run, from 0 without gaps.
    pub number: u64,
    /// Whole members.
    pub tar: Buffer,
    /// How many.
    pub members: u32,
    /// Its memory.
    pub permit: Permit,
}

/// A packed frame.
pub struct PackedFrame {
    /// Its number.
    pub number: u64,
    /// The packed bytes.
    pub packed: Buffer,
    /// Bytes of tar in it.
    pub tar_bytes: u64,
    /// Members in it.
    pub members: u32,
    /// Its memory, kept until the bytes are in their volume.
    pub permit: Permit,
}

/// A worker: packs frames until there are no more.
pub fn pack(codec: Codec, raw: &Mutex<Receiver<RawFrame>>, packed: &SyncSender<PackedFrame>, flow: &Flow) {
    let mut compressor = codec.packer();
    loop {
        let next = raw.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(frame) = next else { return };
        let tar_bytes = frame.tar.len() as u64;
        let mut bytes = flow.buffer(frame.tar.len());
        if let Err(error) = compressor.pack(&frame.tar, &mut bytes) {
            return flow.fail(BackupError::Pack(error));
        }
        drop(frame.tar);
        let done = PackedFrame {
            number: frame.number,
            packed: bytes,
            tar_bytes,
            members: frame.members,
            permit: frame.permit,
        };
        if packed.send(done).is_err() {
            return;
        }
    }
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// Number of the volume in this run.
    pub volume: u32,
    /// Number of the frame's first member in the volume.
    pub member: u32,
    /// First byte in what age unpacks.
    pub at: u64,
    /// Packed bytes.
    pub bytes: u64,
}

/// Places of all frames of this run, in a file without a name: a run may have millions.
#[derive(Clone)]
pub struct FrameTable(Arc<File>);

impl FrameTable {
    const RECORD_BYTES: usize = 24;

    /// An empty table in `folder`.
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(nameless(folder)?)))
    }

    /// Writes down where frame `number` lies.
    pub fn set(&self, number: u64, place: FramePlace) -> io::Result<()> {
        let mut record = [0; Self::RECORD_BYTES];
        record[0..4].copy_from_slice(&place.volume.to_le_bytes());
        record[4..8].copy_from_slice(&place.member.to_le_bytes());
        record[8..16].copy_from_slice(&place.at.to_le_bytes());
        record[16..24].copy_from_slice(&place.bytes.to_le_bytes());
        self.0.write_all_at(&record, number * Self::RECORD_BYTES as u64)
    }

    /// Where it lies; the caller knows that it was written.
    pub fn get(&self, number: u64) -> io::Result<FramePlace> {
        let mut record = [0; Self::RECORD_BYTES];
        self.0.read_exact_at(&mut record, number * Self::RECORD_BYTES as u64)?;
        let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
        Ok(FramePlace { volume: word(0), member: word(4), at: long(8), bytes: long(16) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn the_table_gives_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let table = FrameTable::new(folder.path()).unwrap();
        let place = |n: u64| FramePlace { volume: 1, member: 2, at: n << 33, bytes: n };
        for n in 0..100 {
            table.set(n, place(n)).unwrap();
        }
        assert_eq!(table.get(77).unwrap(), place(77));
        assert!(table.get(100).is_err());
    }

    #[test]
    fn workers_end_when_there_are_no_more_frames() {
        let (flow, codec) = (Flow::default(), "zstd:1".parse::<Codec>().unwrap());
        let (raw_in, raw_out) = sync_channel(4);
        let (packed_in, packed_out) = sync_channel(4);
        for number in 0..3 {
            let permit = flow.take_frame(100).unwrap();
            let mut tar = flow.buffer(1000);
            tar.resize(1000, 7);
            raw_in.send(RawFrame { number, tar, members: 1, permit }).unwrap();
        }
        drop(raw_in);
        pack(codec, &Mutex::new(raw_out), &packed_in, &flow);
        drop(packed_in);
        let frames: Vec<_> = packed_out.iter().collect();
        assert_eq!(frames.len(), 3);
        assert!(frames.iter().all(|frame| codec.packing().unpack(&frame.packed, 1000).unwrap() == vec![7; 1000]));
    }
}
