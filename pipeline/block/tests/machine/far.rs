//! A stored image in a store so far away that every fetch ends only when others came meanwhile.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dualsync_block::view::{Block, BlockSource, Unavailable};
use tokio::sync::Notify;

/// Longer than a reader that asks for several at once needs to do so; one that does not is let go on.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is on its way.
#[derive(Debug)]
pub struct Road {
    together: usize,
    under_way: AtomicUsize,
    enough: Notify,
    /// How often as many were under way as should be.
    pub met: AtomicUsize,
}

impl Road {
    /// Each fetch waits until `together` are under way.
    pub fn new(together: usize) -> Self {
        Self { together, under_way: 0.into(), enough: Notify::new(), met: 0.into() }
    }

    async fn wait(&self) {
        let mut enough = std::pin::pin!(self.enough.notified());
        enough.as_mut().enable();
        if self.under_way.fetch_add(1, Ordering::SeqCst) + 1 >= self.together {
            self.met.fetch_add(1, Ordering::SeqCst);
            self.enough.notify_waiters();
        } else {
            let _ = tokio::time::timeout(PATIENCE, enough).await;
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `image`, far away.
#[derive(Debug)]
pub struct FarImage<S> {
    pub image: S,
    pub road: Arc<Road>,
}

impl<S: BlockSource> BlockSource for FarImage<S> {
    fn size_bytes(&self) -> u64 {
        self.image.size_bytes()
    }

    fn block_bytes(&self) -> u64 {
        self.image.block_bytes()
    }

    async fn read_blocks(&self, blocks: Range<u64>) -> Result<Vec<Block>, Unavailable> {
        self.road.wait().await;
        self.image.read_blocks(blocks).await
    }
}
