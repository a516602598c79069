use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::view::source::{Block, Damage, Unavailable};

const BLOCK: u64 = 64 * 1024;
const DAMAGED: u64 = 2;

/// Blocks of their own number; one is damaged.
struct Numbered {
    size_bytes: u64,
}

impl BlockSource for Numbered {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn block_bytes(&self) -> u64 {
        BLOCK
    }

    async fn read_blocks(&self, blocks: Range<u64>) -> Result<Vec<Block>, Unavailable> {
        Ok(blocks
            .map(|block| match block {
                DAMAGED => Block::Damaged(Damage { object: "packs/x".into(), kind: "missing", problem: "gone".into() }),
                _ => Block::Data(vec![block.to_le_bytes()[0] + 1; usize::try_from(BLOCK).unwrap()].into()),
            })
            .collect())
    }
}

fn overlay(size_bytes: u64, folder: &Path) -> Overlay<Numbered> {
    Overlay::new(CachedImage::new(Numbered { size_bytes }), folder)
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn reads_see_what_was_written_last_and_the_image_elsewhere(
        tail in 1_u64..5000,
        steps in proptest::collection::vec((any::<bool>(), 0_u64..131_072, 1_usize..20_000, any::<u8>()), 1..25),
    ) {
        // Two whole blocks, of which the second is cut short.
        let size = BLOCK + tail.next_multiple_of(512).min(BLOCK);
        let folder = tempfile::tempdir().unwrap();
        let view = overlay(size, folder.path());
        let mut model: Vec<u8> = (0..size).map(|at| (at / BLOCK).to_le_bytes()[0] + 1).collect();
        on_runtime(async {
            for (is_write, offset, length, byte) in steps {
                let offset = offset % size;
                let length = u64::try_from(length).unwrap().min(size - offset);
                let range = usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
                if is_write {
                    view.write(offset, &vec![byte; range.len()]).await.unwrap();
                    model[range].fill(byte);
                } else {
                    assert!(view.read(offset, length).await.unwrap() == model[range]);
                }
            }
            assert!(view.read(0, size).await.unwrap() == model);
        });
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_page_written_whole_is_read_where_the_image_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let view = overlay(4 * BLOCK, folder.path());
    on_runtime(async {
        let at = DAMAGED * BLOCK + 4096;
        assert!(matches!(view.read(at, 4096).await, Err(OverlayError::Image(_))));
        view.write(at, &[9; 4096]).await.unwrap();
        assert!(view.read(at, 4096).await.unwrap().iter().all(|byte| *byte == 9));
        // A part of a page needs the rest of it.
        assert!(matches!(view.write(at + 8192, &[9; 512]).await, Err(OverlayError::Image(_))));
    });
}

#[test]
fn nothing_is_written_beyond_the_end_and_reads_stop_there() {
    let folder = tempfile::tempdir().unwrap();
    let view = overlay(BLOCK, folder.path());
    on_runtime(async {
        for offset in [BLOCK, BLOCK - 1, u64::MAX] {
            assert!(view.write(offset, &[1, 2]).await.is_err(), "{offset}");
        }
        assert_eq!(view.read(BLOCK - 10, 100).await.unwrap().len(), 10);
        assert!(view.read(BLOCK, 100).await.unwrap().is_empty());
    });
}
