//! What was restored, read back from the medium on all cores, in order and in bounded memory.
//!
//! Pieces of the image are handed out in rising order, and each worker reads its own from a
//! descriptor of its own: they stay near each other, which a turning disk needs, and none spoils
//! another's read-ahead. Every block is read and compared, none is skipped for being somebody
//! else's; the first wrong block of all is the answer, whichever worker met it when.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::task::JoinSet;

use crate::device::{DeviceError, Source};
use crate::events::Progress;
use crate::image::BlockIndex;
use crate::restore::RestoreError;
use crate::restore::proof::{Expected, Proof};

/// Most workers: each has one block in memory and waits for the medium half of the time.
const WORKERS_MAX: usize = 8;
/// Bytes of data in a piece: long for a disk, short enough that no core waits long for the last one.
const PIECE_BYTES: u64 = 2 << 20;

/// What is read back.
#[derive(Clone, Debug)]
pub struct Target {
    /// An image file or a device.
    pub path: PathBuf,
    /// Whether it is a device.
    pub is_device: bool,
    /// Bytes of it that were restored.
    pub size_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
}

impl Target {
    /// Opens it, to prove blocks of it.
    pub fn proof(&self) -> Result<Proof, DeviceError> {
        let source = Source::open(&self.path, self.is_device)?;
        Ok(Proof::new(source, self.size_bytes, self.block_bytes))
    }
}

/// A reading back under way.
pub struct ReadBack {
    target: Target,
    workers_max: usize,
    progress: Arc<Progress>,
    /// Workers without a piece.
    idle: Vec<Proof>,
    looks: JoinSet<Result<(Proof, Option<BlockIndex>), DeviceError>>,
    wrong: Option<BlockIndex>,
}

impl ReadBack {
    /// Nothing is read yet.
    pub fn new(target: Target, progress: Arc<Progress>) -> Self {
        let workers_max = thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
        Self { target, workers_max, progress, idle: Vec::new(), looks: JoinSet::new(), wrong: None }
    }

    /// Has `blocks` compared, which lie behind all that came before, and waits while every worker is at work. Once a wrong
    /// block is known, what follows it is not read.
    pub async fn look(&mut self, blocks: &[Expected]) -> Result<(), RestoreError> {
        for piece in pieces(blocks, PIECE_BYTES / self.target.block_bytes.max(1)) {
            while self.looks.len() >= self.workers_max {
                self.take_back().await?;
            }
            if self.wrong.is_some() {
                return Ok(());
            }
            let mut proof = self.idle.pop().map_or_else(|| self.target.proof(), Ok)?;
            let (piece, progress, block_bytes) = (piece.to_vec(), Arc::clone(&self.progress), self.target.block_bytes);
            self.looks.spawn_blocking(move || {
                let wrong = proof.first_wrong(&piece)?;
                progress.add(piece.len() as u64 * block_bytes, piece.len() as u64);
                Ok((proof, wrong))
            });
        }
        Ok(())
    }

    /// The first block that is not what it should be, once everything was looked at.
    pub async fn finish(mut self) -> Result<Option<BlockIndex>, RestoreError> {
        while !self.looks.is_empty() {
            self.take_back().await?;
        }
        Ok(self.wrong)
    }

    async fn take_back(&mut self) -> Result<(), RestoreError> {
        if let Some(looked) = self.looks.join_next().await {
            let (proof, wrong) = looked??;
            self.idle.push(proof);
            // Pieces are handed out in order, so the first wrong block lies in one that was.
            self.wrong = self.wrong.into_iter().chain(wrong).min();
        }
        Ok(())
    }
}

/// Cuts blocks behind every `stored_max` stored ones: holes cost nothing to prove, and no piece of their own.
fn pieces(blocks: &[Expected], stored_max: u64) -> impl Iterator<Item = &[Expected]> {
    let mut stored = 0;
    blocks.split_inclusive(move |(_, hash)| {
        stored += u64::from(hash.is_some());
        let is_full = stored >= stored_max.max(1);
        if is_full {
            stored = 0;
        }
        is_full
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Blake3;
    use std::io::Write as _;

    const BLOCK: u64 = 65_536;

    fn block(seed: u64) -> Vec<u8> {
        crate::codec::tests::noise(usize::try_from(BLOCK).unwrap(), seed)
    }

    /// An image of `blocks` blocks, every fifth a hole, and what it should hold.
    fn image(blocks: u64) -> (tempfile::NamedTempFile, Vec<Expected>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(blocks * BLOCK).unwrap();
        let mut expected = Vec::new();
        for index in 0..blocks {
            let bytes = (index % 5 != 4).then(|| block(index));
            if let Some(bytes) = &bytes {
                std::os::unix::fs::FileExt::write_all_at(file.as_file(), bytes, index * BLOCK).unwrap();
            }
            expected.push((BlockIndex(index), bytes.map(|bytes| Blake3::of(&bytes))));
        }
        file.flush().unwrap();
        (file, expected)
    }

    async fn first_wrong(
        path: &std::path::Path,
        expected: &[Expected],
        at_once: usize,
    ) -> (Option<BlockIndex>, Arc<Progress>) {
        let size_bytes = expected.len() as u64 * BLOCK;
        let target = Target { path: path.to_owned(), is_device: false, size_bytes, block_bytes: BLOCK };
        let progress = Arc::new(Progress::default());
        let mut back = ReadBack::new(target, Arc::clone(&progress));
        back.workers_max = 4;
        for blocks in expected.chunks(at_once) {
            back.look(blocks).await.unwrap();
            assert!(back.looks.len() + back.idle.len() <= back.workers_max, "a worker is used again");
        }
        (back.finish().await.unwrap(), progress)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_block_is_compared_and_the_first_wrong_one_of_several_is_told() {
        let (file, expected) = image(300);
        let (wrong, progress) = first_wrong(file.path(), &expected, 128).await;
        assert_eq!(wrong, None);
        assert_eq!(progress.status().items_done, 300);
        // One byte of each block in turn, a hole among them: none is passed over.
        for index in (0..300).step_by(7).chain([4, 299]) {
            let at = index * BLOCK + index;
            let mut byte = [0];
            std::os::unix::fs::FileExt::read_exact_at(file.as_file(), &mut byte, at).unwrap();
            std::os::unix::fs::FileExt::write_all_at(file.as_file(), &[byte[0] ^ 1], at).unwrap();
            assert_eq!(first_wrong(file.path(), &expected, 128).await.0, Some(BlockIndex(index)));
            std::os::unix::fs::FileExt::write_all_at(file.as_file(), &byte, at).unwrap();
        }
        let mut other = expected.clone();
        for index in [31, 33, 70, 140, 290] {
            other[index].1 = Some(Blake3::of(b"another block"));
        }
        assert_eq!(first_wrong(file.path(), &other, 300).await.0, Some(BlockIndex(31)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_target_that_lost_its_end_is_an_error_and_not_a_proof() {
        let (file, expected) = image(120);
        let target =
            Target { path: file.path().to_owned(), is_device: false, size_bytes: 120 * BLOCK, block_bytes: BLOCK };
        let mut back = ReadBack::new(target, Arc::default());
        back.look(&expected[..40]).await.unwrap();
        file.as_file().set_len(100 * BLOCK).unwrap();
        let looked = back.look(&expected[40..]).await;
        let outcome = match looked {
            Ok(()) => back.finish().await,
            Err(error) => Err(error),
        };
        assert!(matches!(outcome, Err(RestoreError::ReadBack(_)) | Ok(Some(_))), "{outcome:?}");
    }

    #[test]
    fn a_piece_ends_behind_its_last_stored_block_and_holes_go_along() {
        let hash = Some(Blake3::of(b"x"));
        let blocks: Vec<Expected> = (0..40).map(|n| (BlockIndex(n), hash.filter(|_| n % 4 == 0))).collect();
        let cut: Vec<_> = pieces(&blocks, 3).map(|piece| (piece[0].0.0, piece.len())).collect();
        assert_eq!(cut, [(0, 9), (9, 12), (21, 12), (33, 7)]);
        assert_eq!(pieces(&blocks, 0).map(<[Expected]>::len).sum::<usize>(), 40);
        assert_eq!(pieces(&[], 3).count(), 0);
    }
}
