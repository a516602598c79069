//! What the block path does with every byte, in the small: `cargo bench -p dualsync-block`.
//!
//! One thread, no store and no disk: the functions that the workers of a backup, `check`, `restore` and
//! `verify` call, stage by stage and one behind the other. Figures to compare, before and after a change; nothing fails
//! because it is slow.

mod allocation;
mod maps;
mod names;
mod packs;
mod sample;
mod stages;
mod worker;

use std::time::Duration;

use criterion::Criterion;
use dualsync_block::keys::{KeyTree, RepositoryId, RepositoryKey};

fn main() {
    let criterion = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    let mut criterion = criterion.configure_from_args();
    let samples = sample::all();
    stages::bench(&mut criterion, &samples);
    packs::bench(&mut criterion, &samples);
    worker::bench(&mut criterion, &samples);
    maps::bench(&mut criterion);
    names::bench(&mut criterion);
    allocation::bench(&mut criterion);
    criterion.final_summary();
}

fn keys() -> KeyTree {
    KeyTree::new(&RepositoryKey::new([3; 32]), RepositoryId([4; 16]))
}
