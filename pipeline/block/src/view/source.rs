//! What a view needs of a stored image: its size, and blocks that were opened and checked.
//!
//! The border between the view and the copy: a [`StoredImage`] stands behind it in the program, an
//! image file with faults in tests.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use crate::image::{BlockIndex, ImageError, StoredImage};

/// One block of the image, as the store gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Zeros: never written, a hole, or free space.
    Zero,
    /// Its bytes, opened and checked. Only the last block of an image is shorter than the others.
    Data(Arc<[u8]>),
    /// It cannot be had: an object is missing or wrong.
    Damaged(Damage),
}

/// What is wrong with which stored object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Damage {
    /// The object's key, relative to the prefix.
    pub object: String,
    /// A fixed word of [`dualsync_model::event::Finding::kind`].
    pub kind: &'static str,
    /// A sentence.
    pub problem: String,
}

/// The store gives no answer, which says nothing about what is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store gives no answer for block {block} of the image, in '{object}': {problem}")]
pub struct Unavailable {
    /// The block that was asked for.
    pub block: u64,
    /// The object it lies in.
    pub object: String,
    /// What the store said.
    pub problem: String,
}

/// A stored image.
pub trait BlockSource: Send + Sync + 'static {
    /// Bytes of the image.
    fn size_bytes(&self) -> u64;

    /// Bytes of a block, a power of two.
    fn block_bytes(&self) -> u64;

    /// Fetches, opens and checks blocks that lie in the image. After `Ok` there is one answer for
    /// each, in order; blocks stored together are fetched together. Calling it again fetches again.
    fn read_blocks(&self, blocks: Range<u64>) -> impl Future<Output = Result<Vec<Block>, Unavailable>> + Send;
}

impl BlockSource for StoredImage {
    fn size_bytes(&self) -> u64 {
        Self::size_bytes(self)
    }

    fn block_bytes(&self) -> u64 {
        Self::block_bytes(self) as u64
    }

    async fn read_blocks(&self, blocks: Range<u64>) -> Result<Vec<Block>, Unavailable> {
        let indexes: Vec<_> = blocks.clone().map(BlockIndex).collect();
        let mut answers = self.read_run(&indexes).await.map_err(|error| unavailable(&error))?;
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| sort_out(answer)).collect()
    }
}

/// Damage belongs to its block; a store that is silent fails the whole read.
fn sort_out(answer: Result<Option<Arc<[u8]>>, ImageError>) -> Result<Block, Unavailable> {
    match answer {
        Ok(None) => Ok(Block::Zero),
        Ok(Some(bytes)) => Ok(Block::Data(bytes)),
        Err(error) if error.is_damage => {
            Ok(Block::Damaged(Damage { object: error.object, kind: error.kind, problem: error.problem }))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

fn unavailable(error: &ImageError) -> Unavailable {
    Unavailable { block: error.block.0, object: error.object.clone(), problem: error.problem.clone() }
}
