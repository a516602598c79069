//! What the archive path does with every byte and every entry, in the small: `cargo bench -p dualsync-archive`.
//!
//! One thread and no store: the functions that a backup, `check`, `restore` and `verify` call, stage by stage and one
//! behind the other. Figures to compare, before and after a change; nothing fails because it is slow.

mod catalog;
mod contents;
mod frames;
mod members;
mod sample;
mod sorting;
mod walking;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let criterion = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    let mut criterion = criterion.configure_from_args();
    let samples = sample::all();
    contents::bench(&mut criterion, &samples);
    members::bench(&mut criterion, &samples);
    frames::bench(&mut criterion, &samples);
    catalog::bench(&mut criterion);
    sorting::bench(&mut criterion);
    walking::bench(&mut criterion);
    criterion.final_summary();
}
