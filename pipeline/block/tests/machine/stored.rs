//! An image file in the place of a stored image, with blocks that can be damaged and counted.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use dualsync_block::view::{Block, BlockSource, Damage, Unavailable};

/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 128 * 1024;

/// What a test may change and look at while the image is read.
#[derive(Debug, Default)]
pub struct Faults {
    /// Objects by the block that is damaged in them.
    pub damaged: Mutex<BTreeMap<u64, String>>,
    /// Blocks that the store gives no answer for.
    pub silent: Mutex<Range<u64>>,
    /// Blocks that never come.
    pub stalled: Mutex<Range<u64>>,
    /// What was fetched.
    pub fetched: Mutex<Vec<Range<u64>>>,
}

/// An image file as a stored image.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    size_bytes: u64,
    faults: std::sync::Arc<Faults>,
}

impl ImageFile {
    /// Opens `path`.
    pub fn open(path: &Path, faults: std::sync::Arc<Faults>) -> Self {
        let file = File::open(path).expect("the image is there");
        let size_bytes = file.metadata().expect("an opened file").len();
        Self { file, size_bytes, faults }
    }

    fn block(&self, block: u64) -> Block {
        if let Some(object) = self.faults.damaged.lock().expect("no panic inside").get(&block) {
            let (object, problem) = (object.clone(), "its bytes do not have the digest they should have".to_owned());
            return Block::Damaged(Damage { object, kind: "digest", problem });
        }
        let length = (self.size_bytes - block * BLOCK_BYTES).min(BLOCK_BYTES);
        let mut bytes = vec![0; usize::try_from(length).expect("a block")];
        self.file.read_exact_at(&mut bytes, block * BLOCK_BYTES).expect("the image has this block");
        if bytes.iter().all(|byte| *byte == 0) { Block::Zero } else { Block::Data(bytes.into()) }
    }
}

impl BlockSource for ImageFile {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn block_bytes(&self) -> u64 {
        BLOCK_BYTES
    }

    async fn read_blocks(&self, blocks: Range<u64>) -> Result<Vec<Block>, Unavailable> {
        let silent = self.faults.silent.lock().expect("no panic inside").clone();
        if blocks.clone().any(|block| silent.contains(&block)) {
            return Err(Unavailable { block: blocks.start, object: "packs/x".into(), problem: "timed out".into() });
        }
        let stalled = self.faults.stalled.lock().expect("no panic inside").clone();
        if blocks.clone().any(|block| stalled.contains(&block)) {
            eprintln!("stalled");
            std::future::pending::<()>().await;
        }
        self.faults.fetched.lock().expect("no panic inside").push(blocks.clone());
        Ok(blocks.map(|block| self.block(block)).collect())
    }
}
