use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

const BLOCK: u64 = 64 * 1024;

/// An image whose bytes are a function of their offset, which counts what is fetched.
struct Pattern {
    size_bytes: u64,
    damaged: BTreeSet<u64>,
    silent: AtomicBool,
    fetches: Mutex<Vec<Range<u64>>>,
    in_flight: Mutex<InFlight>,
}

/// Blocks that are being fetched, and the most there were.
#[derive(Default)]
struct InFlight {
    now: u64,
    most: u64,
}

fn byte_at(offset: u64) -> u8 {
    // Block 3 of every 8 is zeros.
    if offset / BLOCK % 8 == 3 { 0 } else { offset.wrapping_mul(0x9e37_79b9).to_le_bytes()[2] | 1 }
}

impl BlockSource for Pattern {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn block_bytes(&self) -> u64 {
        BLOCK
    }

    async fn read_blocks(&self, blocks: Range<u64>) -> Result<Vec<Block>, Unavailable> {
        assert!(blocks.start < blocks.end && blocks.end <= self.size_bytes.div_ceil(BLOCK), "{blocks:?}");
        {
            let mut in_flight = self.in_flight.lock().unwrap();
            in_flight.now += blocks.end - blocks.start;
            in_flight.most = in_flight.most.max(in_flight.now);
        }
        tokio::task::yield_now().await;
        self.in_flight.lock().unwrap().now -= blocks.end - blocks.start;
        if self.silent.load(Ordering::Relaxed) {
            return Err(Unavailable { block: blocks.start, object: "packs/x".into(), problem: "timed out".into() });
        }
        self.fetches.lock().unwrap().push(blocks.clone());
        Ok(blocks.map(|block| self.block(block)).collect())
    }
}

impl Pattern {
    fn block(&self, block: u64) -> Block {
        let bytes = block * BLOCK..((block + 1) * BLOCK).min(self.size_bytes);
        if self.damaged.contains(&block) {
            let object = format!("packs/{}", block / 4);
            return Block::Damaged(Damage { object, kind: "digest", problem: "flipped".into() });
        }
        if block % 8 == 3 { Block::Zero } else { Block::Data(bytes.map(byte_at).collect()) }
    }
}

fn image(size_bytes: u64, damaged: &[u64]) -> Arc<CachedImage<Pattern>> {
    let damaged = damaged.iter().copied().collect();
    CachedImage::new(Pattern {
        size_bytes,
        damaged,
        silent: false.into(),
        fetches: Mutex::default(),
        in_flight: Mutex::default(),
    })
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn fetched(image: &CachedImage<Pattern>) -> Vec<Range<u64>> {
    image.source().fetches.lock().unwrap().clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_read_gives_the_bytes_of_the_image(
        size in 1_u64..3_000_000,
        reads in proptest::collection::vec((0_u64..3_200_000, 0_usize..200_000), 1..30),
    ) {
        let image = image(size, &[]);
        on_runtime(async {
            for (offset, length) in reads {
                let mut buffer = vec![0; length];
                let inside = offset + length as u64 <= size;
                match image.read(offset, &mut buffer).await {
                    Ok(()) => {
                        assert!(inside);
                        assert!((offset..).zip(&buffer).all(|(at, byte)| byte_at(at) == *byte));
                    }
                    Err(ReadError::Range { .. }) => assert!(!inside),
                    Err(other) => panic!("{other}"),
                }
            }
        });
    }
}

#[test]
fn a_stray_read_fetches_its_own_block_and_a_second_one_nothing() {
    let image = image(1 << 30, &[]);
    on_runtime(async {
        for offset in [900 << 20, 5 << 20, 300 << 20, 900 << 20, 5 << 20] {
            image.read(offset, &mut [0; 4096]).await.unwrap();
        }
    });
    let fetched = fetched(&image);
    assert_eq!(fetched.len(), 3);
    assert!(fetched.iter().all(|blocks| blocks.end - blocks.start == 1), "{fetched:?}");
}

#[test]
fn a_read_that_goes_on_reaches_further_up_to_the_maximum() {
    let image = image(256 << 20, &[]);
    on_runtime(async {
        let mut buffer = vec![0; 128 * 1024];
        for offset in (0..256_u64 << 20).step_by(buffer.len()) {
            image.read(offset, &mut buffer).await.unwrap();
        }
    });
    let mut fetched = fetched(&image);
    let longest = fetched.iter().map(|blocks| (blocks.end - blocks.start) * BLOCK).max().unwrap();
    assert_eq!(longest, REACH_BYTES_MAX);
    assert!(fetched.len() < 45, "{} fetches for 256 MiB", fetched.len());
    fetched.sort_by_key(|blocks| blocks.start);
    let covered: u64 = fetched.iter().map(|blocks| blocks.end - blocks.start).sum();
    assert_eq!(covered, (256 << 20) / BLOCK, "a block was fetched twice");
}

#[test]
fn two_readers_of_one_block_fetch_it_once() {
    let image = image(1 << 20, &[]);
    on_runtime(async {
        let one = async { image.read(0, &mut [0; 4096]).await };
        let two = async { image.read(8192, &mut [0; 4096]).await };
        let (one, two) = tokio::join!(one, two);
        one.unwrap();
        two.unwrap();
    });
    assert_eq!(fetched(&image).len(), 1);
}

#[test]
fn memory_is_bounded_whatever_is_read() {
    let image = image(1 << 30, &[]);
    on_runtime(async {
        let mut buffer = vec![0; 128 * 1024];
        for step in 0..4000_u64 {
            image.read(step * 7919 % 8191 * 131_072, &mut buffer).await.unwrap();
        }
    });
    let state = image.lock();
    let kept: u64 = state.stretches.values().map(|(stretch, _)| stretch.blocks.end - stretch.blocks.start).sum();
    assert_eq!(kept, state.kept_blocks);
    assert!(kept * BLOCK <= CACHE_BYTES + REACH_BYTES_MAX);
    assert!(state.streams.len() <= STREAMS);
}

#[test]
fn damage_stays_in_its_block_and_is_noted_once_with_its_bytes() {
    let image = image((1 << 20) + 100, &[5, 16]);
    on_runtime(async {
        for _ in 0..3 {
            let mut buffer = vec![0; 4096];
            image.read(4 * BLOCK, &mut buffer).await.unwrap();
            image.read(6 * BLOCK, &mut buffer).await.unwrap();
            let error = image.read(5 * BLOCK + 8192, &mut buffer).await.unwrap_err();
            assert!(matches!(error, ReadError::Damaged { block: 5 }), "{error}");
            image.read(16 * BLOCK, &mut [0; 100]).await.unwrap_err();
        }
    });
    let damages: Vec<_> = image.damages().into_iter().map(|it| (it.bytes, it.damage.object)).collect();
    let expected = [(5 * BLOCK..6 * BLOCK, "packs/1".to_owned()), (16 * BLOCK..(1 << 20) + 100, "packs/4".to_owned())];
    assert_eq!(damages, expected);
    assert!(image.unavailable().is_none());
}

#[test]
fn the_damage_that_stood_in_the_way_last_is_the_last_one() {
    let image = image(1 << 20, &[1, 5, 9]);
    let last = || image.damages().last().map(|it| it.damage.object.clone());
    on_runtime(async {
        // Read along with others, it is noted, and nothing was in anybody's way yet.
        image.fetch(&Stretch { blocks: 0..12, content: OnceCell::new() }).await.unwrap();
        assert_eq!((image.damages().len(), last().unwrap()), (3, "packs/2".to_owned()));
        for (block, object) in [(1, "packs/0"), (9, "packs/2"), (5, "packs/1"), (1, "packs/0"), (0, "packs/0")] {
            let _ = image.read(block * BLOCK, &mut [0; 512]).await;
            assert_eq!((image.damages().len(), last().unwrap()), (3, object.to_owned()), "block {block}");
        }
    });
}

#[test]
fn stray_reads_are_fetched_together_and_long_stretches_two_at_a_time() {
    let image = image(1 << 30, &[]);
    let fetch_all = |stretches: Vec<Range<u64>>| {
        let fetches = async {
            let tasks: Vec<_> = stretches
                .into_iter()
                .map(|blocks| {
                    let image = Arc::clone(&image);
                    tokio::spawn(async move {
                        image.fetch(&Stretch { blocks, content: OnceCell::new() }).await.unwrap();
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        };
        on_runtime(fetches);
        std::mem::take(&mut *image.source().in_flight.lock().unwrap()).most
    };
    let reach = REACH_BYTES_MAX / BLOCK;
    assert_eq!(fetch_all((0..16).map(|n| n * 1000..n * 1000 + 1).collect()), 16);
    assert_eq!(fetch_all((0..6).map(|n| n * reach..(n + 1) * reach).collect()), 2 * reach);
}

#[test]
fn a_silent_store_is_no_damage_and_is_asked_again() {
    let image = image(1 << 20, &[]);
    on_runtime(async {
        image.source().silent.store(true, Ordering::Relaxed);
        let error = image.read(0, &mut [0; 512]).await.unwrap_err();
        assert!(matches!(error, ReadError::Unavailable { block: 0, .. }), "{error}");
        image.source().silent.store(false, Ordering::Relaxed);
        image.read(0, &mut [0; 512]).await.unwrap();
    });
    assert!(image.damages().is_empty());
    assert_eq!(image.unavailable().unwrap().problem, "timed out");
}
