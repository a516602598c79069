//! The one thread that writes to the target what others unpacked.
//!
//! A file system lets one writer at a time into a file, and threads that wait for its lock spin: where each wrote what
//! it had unpacked, a quarter of a restore's CPU time went into that. Blocks are handed over several at a time,
//! since waking a thread for each costs as much. What waits is bounded: [`WAITING`] batches, each of
//! [`BATCH_BYTES`] or of one block.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::events::Progress;
use crate::restore::RestoreError;
use crate::restore::sink::{Sink, SinkError};

/// A batch is handed over when it holds so much.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait to be written.
const WAITING: usize = 6;

/// Blocks, each with the offset where it goes.
type Batch = Vec<(u64, Vec<u8>)>;

/// Memory of blocks that are written, to be used again.
type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// The writer ended before its time; [`Writer::finish`] knows why.
#[derive(Debug)]
pub struct Ended;

/// The thread.
pub struct Writer {
    batches: SyncSender<Batch>,
    spare: Spare,
    writing: JoinHandle<Result<(), SinkError>>,
}

impl Writer {
    /// Starts it; `progress` counts what is written.
    pub fn start(sink: Arc<Sink>, progress: Arc<Progress>) -> Self {
        let (batches, to_write) = sync_channel(WAITING);
        let spare = Spare::default();
        let written = Arc::clone(&spare);
        let writing = spawn_blocking(move || write(&to_write, &sink, &progress, &written));
        Self { batches, spare, writing }
    }

    /// A way to it.
    pub fn outbox(&self) -> Outbox {
        Outbox { batches: self.batches.clone(), spare: Arc::clone(&self.spare), batch: Batch::new(), bytes: 0 }
    }

    /// Waits until everything that was handed over is written. Every [`Outbox`] has to be gone.
    ///
    /// # Errors
    /// The first block that the target did not take; nothing was written after it.
    pub async fn finish(self) -> Result<(), RestoreError> {
        drop(self.batches);
        Ok(self.writing.await??)
    }
}

/// Gathers blocks of one thread.
pub struct Outbox {
    batches: SyncSender<Batch>,
    spare: Spare,
    batch: Batch,
    bytes: usize,
}

impl Outbox {
    /// Takes the bytes of `block`, which gets the memory of another one; waits while the target is slower.
    pub fn put(&mut self, offset: u64, block: &mut Vec<u8>) -> Result<(), Ended> {
        let other = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        self.bytes += block.len();
        self.batch.push((offset, std::mem::replace(block, other)));
        if self.bytes < BATCH_BYTES { Ok(()) } else { self.send() }
    }

    /// Hands over what was gathered.
    pub fn send(&mut self) -> Result<(), Ended> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { self.batches.send(batch).map_err(|_| Ended) }
    }
}

fn write(
    batches: &Receiver<Batch>,
    sink: &Sink,
    progress: &Progress,
    spare: &Mutex<Vec<Vec<u8>>>,
) -> Result<(), SinkError> {
    for batch in batches {
        for (offset, bytes) in &batch {
            sink.write(*offset, bytes)?;
            progress.add(bytes.len() as u64, 1);
        }
        spare.lock().unwrap_or_else(PoisonError::into_inner).extend(batch.into_iter().map(|(_, bytes)| bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dualsync_model::job::Shape;

    const BLOCK: usize = 128 << 10;

    fn sink(folder: &tempfile::TempDir) -> Arc<Sink> {
        let size_bytes = 100 * BLOCK as u64;
        Arc::new(Sink::open(&folder.path().join("image"), Shape::Image, size_bytes, false, false).unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn blocks_of_several_threads_come_to_stand_each_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let progress = Arc::<Progress>::default();
        let writer = Writer::start(sink(&folder), Arc::clone(&progress));
        let threads = (0..3).map(|thread| {
            let mut outbox = writer.outbox();
            spawn_blocking(move || {
                let mut block = Vec::new();
                for index in (thread..100_u8).step_by(3) {
                    block.clear();
                    block.resize(BLOCK, index + 1);
                    outbox.put(u64::from(index) * BLOCK as u64, &mut block).unwrap();
                }
                outbox.send().unwrap();
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.await.unwrap();
        }
        let in_use = writer.spare.clone();
        writer.finish().await.unwrap();
        let image = std::fs::read(folder.path().join("image")).unwrap();
        assert!(image.chunks(BLOCK).zip(1..).all(|(block, index)| block.iter().all(|byte| *byte == index)));
        assert_eq!((progress.status().items_done, progress.status().bytes_done), (100, 100 * BLOCK as u64));
        let in_use = in_use.lock().unwrap().len();
        assert!(in_use <= (WAITING + 1 + 3) * BATCH_BYTES / BLOCK, "{in_use} blocks of memory for 100");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_first_failure_ends_it_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::start(sink(&folder), Arc::default());
        let mut outbox = writer.outbox();
        // pwrite(2) takes no such offset.
        outbox.put(u64::MAX, &mut vec![1; BATCH_BYTES]).unwrap();
        let mut handed = 0;
        while outbox.put(0, &mut vec![2; BATCH_BYTES]).is_ok() {
            handed += 1;
            assert!(handed <= WAITING, "nobody takes them");
        }
        drop(outbox);
        assert!(matches!(writer.finish().await, Err(RestoreError::Sink(SinkError::Io { operation: "write", .. }))));
        assert_eq!(std::fs::read(folder.path().join("image")).unwrap()[0], 0, "nothing is written after it");
    }
}
