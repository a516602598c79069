//! What the threads of a backup share: memory that is handed out, frames that are placed, and the first error.
//!
//! Every wait of the pipeline that is not a channel is here, behind one lock, and ends when any stage
//! fails: so a failure anywhere stops all, and none waits for what never comes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::backup::BackupError;
use crate::buffers::{Buffer, Buffers};

/// Bytes of unpacked frames on their way. Packed, they take as much again until they are in their
/// volume. One that is bigger counts as all of it, so it can always be had, and is then alone.
const FRAME_BYTES: usize = 24 << 20;
/// Sealed volumes in memory: one that is filled, and those on their way to the store.
const VOLUMES: usize = 3;

/// Shared by all stages; cheap to clone.
#[derive(Clone, Default)]
pub struct Flow(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    buffers: Buffers,
}

#[derive(Default)]
struct State {
    frame_bytes: usize,
    volumes: usize,
    placed: u64,
    stopped: bool,
    error: Option<BackupError>,
}

/// The pipeline has stopped; why is said by [`Flow::error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Memory that is given back when this is dropped.
pub struct Permit {
    flow: Flow,
    frame_bytes: usize,
    volumes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.flow.lock();
        state.frame_bytes -= self.frame_bytes;
        state.volumes -= self.volumes;
        drop(state);
        self.flow.0.changed.notify_all();
    }
}

impl Flow {
    /// Waits for memory for a frame.
    pub fn take_frame(&self, bytes: usize) -> Result<Permit, Stopped> {
        let bytes = bytes.min(FRAME_BYTES);
        self.wait(|state| state.frame_bytes + bytes <= FRAME_BYTES)?.frame_bytes += bytes;
        Ok(Permit { flow: self.clone(), frame_bytes: bytes, volumes: 0 })
    }

    /// A buffer of `bytes` for a frame or a volume that has its memory.
    pub fn buffer(&self, bytes: usize) -> Buffer {
        self.0.buffers.take(bytes)
    }

    /// Waits for memory for a volume.
    pub fn take_volume(&self) -> Result<Permit, Stopped> {
        self.wait(|state| state.volumes < VOLUMES)?.volumes += 1;
        Ok(Permit { flow: self.clone(), frame_bytes: 0, volumes: 1 })
    }

    /// Says that so many frames have their place.
    pub fn placed(&self, frames: u64) {
        self.lock().placed = frames;
        self.0.changed.notify_all();
    }

    /// Waits until frame `number` has its place.
    pub fn wait_placed(&self, number: u64) -> Result<(), Stopped> {
        self.wait(|state| state.placed > number).map(drop)
    }

    /// Stops everything; the first error is kept.
    pub fn fail(&self, error: BackupError) {
        let mut state = self.lock();
        state.stopped = true;
        state.error.get_or_insert(error);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Whether a stage has failed.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// The first error.
    pub fn error(&self) -> Option<BackupError> {
        self.lock().error.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, ready: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Stopped> {
        let waiting = |state: &mut State| !state.stopped && !ready(state);
        let state = self.0.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        if state.stopped { Err(Stopped) } else { Ok(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_with_its_permit() {
        let flow = Flow::default();
        let whole = flow.take_frame(usize::MAX).unwrap();
        let waiting = std::thread::spawn({
            let flow = flow.clone();
            move || flow.take_frame(1).map(drop)
        });
        drop(whole);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    }

    #[test]
    fn a_failure_ends_every_wait_and_the_first_error_stays() {
        let flow = Flow::default();
        let permits: Vec<_> = (0..VOLUMES).map(|_| flow.take_volume().unwrap()).collect();
        let waits: Vec<std::thread::JoinHandle<Result<(), Stopped>>> = vec![
            std::thread::spawn({
                let flow = flow.clone();
                move || flow.take_volume().map(drop)
            }),
            std::thread::spawn({
                let flow = flow.clone();
                move || flow.wait_placed(0)
            }),
        ];
        flow.fail(BackupError::Aborted);
        flow.fail(BackupError::Died);
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Err(Stopped));
        }
        assert!(flow.is_stopped() && matches!(flow.error(), Some(BackupError::Aborted)));
        drop(permits);
    }
}
