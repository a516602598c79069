//! Fills frames with members.
//!
//! Small members share a frame until it holds enough; a big one has its own. A member that turns out to
//! be stored already is taken out again before anyone has seen it.

use std::sync::mpsc::SyncSender;

use crate::backup::BackupError;
use crate::backup::flow::{Flow, Permit, Stopped};
use crate::backup::frames::RawFrame;
use crate::backup::place::Place;
use crate::buffers::Buffer;
use crate::format::{FRAME_BYTES_ALONE, FRAME_BYTES_TARGET};
use crate::tree::meta::Meta;
use crate::volume::member::{Body, pad, write_header};

/// The frame being filled, and the way on.
pub struct Filler {
    frames: SyncSender<RawFrame>,
    flow: Flow,
    frame: Option<Frame>,
    number: u64,
}

struct Frame {
    tar: Buffer,
    members: u32,
    permit: Permit,
}

/// A member that is being written; it must be kept or dropped before the next begins.
pub struct Draft {
    start: usize,
    data_at: usize,
}

impl Filler {
    /// Gives frames to `frames`.
    pub fn new(frames: SyncSender<RawFrame>, flow: Flow) -> Self {
        Self { frames, flow, frame: None, number: 0 }
    }

    /// Number of the frame that the next small member goes into.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Begins a member and makes room for its data, as zeros.
    pub fn begin(&mut self, path: &[u8], meta: &Meta, body: Body<'_>, data_bytes: u64) -> Result<Draft, BackupError> {
        let data = usize::try_from(data_bytes).map_err(|_| BackupError::Died)?;
        let room = data + header_room(path, meta);
        if self.frame.as_ref().is_some_and(|frame| frame.tar.len() + room > FRAME_BYTES_TARGET + FRAME_BYTES_ALONE) {
            self.close()?;
        }
        if room >= FRAME_BYTES_ALONE {
            self.close()?;
        }
        if self.frame.is_none() {
            let capacity = room.max(FRAME_BYTES_TARGET + FRAME_BYTES_ALONE);
            let permit = self.flow.take_frame(capacity)?;
            self.frame = Some(Frame { tar: self.flow.buffer(capacity), members: 0, permit });
        }
        let frame = self.frame.as_mut().expect("made just above");
        let start = frame.tar.len();
        let announced = write_header(&mut frame.tar, path, meta, body);
        debug_assert_eq!(announced, data_bytes, "what is announced is what is written");
        let data_at = frame.tar.len();
        frame.tar.resize(data_at + data, 0);
        Ok(Draft { start, data_at })
    }

    /// The data of the member, to be filled.
    pub fn data(&mut self, draft: &Draft) -> &mut [u8] {
        self.frame.as_mut().map_or(&mut [], |frame| &mut frame.tar[draft.data_at..])
    }

    /// Keeps the member.
    pub fn keep(&mut self, draft: &Draft) -> Result<Place, BackupError> {
        let number = self.number;
        let frame = self.frame.as_mut().ok_or(BackupError::Died)?;
        let data_bytes = frame.tar.len() - draft.data_at;
        pad(&mut frame.tar, data_bytes as u64);
        let short = |length: usize| u32::try_from(length).map_err(|_| BackupError::Died);
        let place = Place::New {
            frame: number,
            member: frame.members,
            offset: short(draft.start)?,
            bytes: short(frame.tar.len() - draft.start)?,
        };
        frame.members += 1;
        if frame.tar.len() >= FRAME_BYTES_TARGET || frame.tar.len() - draft.start >= FRAME_BYTES_ALONE {
            self.close()?;
        }
        Ok(place)
    }

    /// Takes the member out again.
    pub fn take_out(&mut self, draft: &Draft) {
        if let Some(frame) = &mut self.frame {
            frame.tar.truncate(draft.start);
        }
    }

    /// Hands on the frame, if anything is in it.
    pub fn close(&mut self) -> Result<(), BackupError> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        if frame.members == 0 {
            return Ok(());
        }
        let raw = RawFrame { number: self.number, tar: frame.tar, members: frame.members, permit: frame.permit };
        self.number += 1;
        self.frames.send(raw).map_err(|_| BackupError::from(Stopped))
    }
}

/// A generous guess of what stands before the data.
fn header_room(path: &[u8], meta: &Meta) -> usize {
    let xattrs: usize = meta.xattrs.iter().flatten().map(|xattr| xattr.name.len() + xattr.value.len() + 64).sum();
    let link = meta.link_target.as_ref().map_or(0, |target| target.as_bytes().len());
    let map = meta.extents.as_ref().map_or(0, |extents| 42 * (extents.len() + 2));
    4096 + 2 * path.len() + link + xattrs + map
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::catalog::entry::tests::entry;
    use crate::volume::content::data;

    fn filler() -> (Filler, Receiver<RawFrame>) {
        let (sender, receiver) = sync_channel(8);
        (Filler::new(sender, Flow::default()), receiver)
    }

    fn write(filler: &mut Filler, content: &[u8]) -> Place {
        let meta = entry("f").meta;
        let draft = filler.begin(b"f", &meta, Body::Data(content.len() as u64), content.len() as u64).unwrap();
        filler.data(&draft).copy_from_slice(content);
        filler.keep(&draft).unwrap()
    }

    fn read(frames: &[RawFrame], place: Place) -> Vec<u8> {
        let Place::New { frame, offset, bytes, .. } = place else { panic!("{place:?}") };
        let tar = &frames.iter().find(|raw| raw.number == frame).unwrap().tar;
        data("v", &tar[offset as usize..(offset + bytes) as usize]).unwrap().to_vec()
    }

    #[test]
    fn members_are_found_again_in_shared_and_own_frames() {
        let (mut filler, receiver) = filler();
        let contents: Vec<Vec<u8>> =
            [10, 600, FRAME_BYTES_ALONE, 5, FRAME_BYTES_TARGET, 7].iter().map(|length| vec![b'x'; *length]).collect();
        let places: Vec<_> = contents.iter().map(|content| write(&mut filler, content)).collect();
        filler.close().unwrap();
        let frames: Vec<_> = receiver.try_iter().collect();
        assert_eq!(frames.iter().map(|frame| frame.members).collect::<Vec<_>>(), [2, 1, 1, 1, 1]);
        assert_eq!(frames.iter().map(|frame| frame.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        for (content, place) in contents.iter().zip(places) {
            assert_eq!(&read(&frames, place), content);
        }
    }

    #[test]
    fn a_member_that_is_taken_out_leaves_no_trace() {
        let (mut filler, receiver) = filler();
        let meta = entry("f").meta;
        write(&mut filler, b"kept");
        let draft = filler.begin(b"gone", &meta, Body::Data(4), 4).unwrap();
        filler.take_out(&draft);
        let last = write(&mut filler, b"last");
        let alone = filler.begin(b"big", &meta, Body::Data(2 << 20), 2 << 20).unwrap();
        filler.take_out(&alone);
        filler.close().unwrap();
        let frames: Vec<_> = receiver.try_iter().collect();
        assert_eq!((frames.len(), frames[0].members), (1, 2));
        assert_eq!(read(&frames, last), b"last");
    }
}
