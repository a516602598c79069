//! Sixty nights of random churn, seven kept: what is stored and sent, against what lives and changed.

use std::collections::HashSet;
use std::sync::Arc;

use crate::support::{BLOCK, Workshop, events, noise, point, settings, sweep, task};
use dualsync_block::backup::backup;
use dualsync_block::prune::prune;
use dualsync_block_store::contract::{ErrorKind, Operation};
use dualsync_block_store::faulty::{Fault, FaultyStore};
use dualsync_model::job::Depth;

const BLOCKS: usize = 640;
const NIGHTS: u32 = 60;
const KEPT: usize = 7;

/// A source as the seed of each block.
fn image(seeds: &[u64]) -> Vec<u8> {
    seeds.iter().flat_map(|seed| noise(BLOCK, *seed)).collect()
}

/// Changes 2 to 10 per cent of the blocks, anywhere; how many.
fn churn(seeds: &mut [u64], night: u32) -> u64 {
    let mut changed = HashSet::new();
    let dice = noise(2 * BLOCKS, u64::from(night) + 1_000_000);
    let share = 2 + usize::from(dice[0]) % 9;
    for pair in dice.chunks_exact(2).take(BLOCKS * share / 100) {
        let at = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % BLOCKS;
        seeds[at] = u64::from(night) * 10_000 + at as u64;
        changed.insert(at);
    }
    changed.len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_nights_of_churn_stay_under_twice_the_live_bytes() {
    let shop = Workshop::new().await;
    let mut seeds: Vec<u64> = (0..BLOCKS as u64).collect();
    let mut kept: Vec<(u32, Vec<u64>)> = Vec::new();
    let (mut sent, mut changed, mut worst_percent) = (0, 0, 0);
    for night in 0..NIGHTS {
        let churned = if night == 0 { 0 } else { churn(&mut seeds, night) * BLOCK as u64 };
        shop.begin_night(night);
        let source = shop.source(&image(&seeds));
        let task = task(night, &source);
        let made =
            backup(shop.open().await, &task, settings(), &events().0, &mut &b"{\"command\":\"commit\"}\n"[..]).await;
        let added = made.unwrap().added_bytes;
        // The first night sends everything, which no later night has to answer for.
        if night > 0 {
            sent += added;
            changed += churned;
        }
        kept.push((night, seeds.clone()));
        // A deleter that cannot read data, a few minutes later each night so that a grace of a day is over.
        shop.memory.set_now(point(night).time().plus_seconds(7_200 + 60 * i64::from(night)));
        let leaving: Vec<u32> = (0..night).filter(|old| is_listed(&shop, *old)).rev().skip(KEPT - 1).collect();
        let blind = FaultyStore::new(Arc::clone(&shop.store), |call| {
            let is_data = call.object.starts_with("packs/") || call.object.starts_with("maps/");
            (is_data && call.operation == Operation::Get).then_some(Fault::Fail(ErrorKind::Denied))
        });
        let repository = shop.open_on(Arc::new(blind)).await;
        prune(&repository, &sweep(shop.leaving(&leaving)), shop.store.now(), &events().0).await.unwrap();
        kept.retain(|(night, _)| is_listed(&shop, *night));
        let live: HashSet<(usize, u64)> =
            kept.iter().flat_map(|(_, seeds)| seeds.iter().copied().enumerate()).collect();
        let stored: usize =
            shop.memory.keys().iter().filter_map(|key| shop.memory.peek(key)).map(|body| body.len()).sum();
        worst_percent = worst_percent.max(stored * 100 / (live.len() * BLOCK));
        assert!(kept.len() <= KEPT + 2, "night {night}: {} points", kept.len());
    }
    println!(
        "stored at most {worst_percent} % of the live bytes, sent {} % of the changed bytes ({} MiB of {} MiB)",
        sent * 100 / changed,
        sent >> 20,
        changed >> 20
    );
    assert!(worst_percent < 200, "{worst_percent} %");
    assert!(sent * 10 < changed * 22, "{sent} of {changed}");
    for (night, seeds) in &kept {
        assert!(shop.restored(*night).await == image(seeds), "night {night}");
    }
    assert_eq!(shop.check(Depth::Objects).await.0.unwrap().findings, 0);
}

fn is_listed(shop: &Workshop, night: u32) -> bool {
    !shop.keys(&format!("points/web/{}", point(night).time().compact())).is_empty()
}
