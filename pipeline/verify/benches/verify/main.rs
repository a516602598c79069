//! Two copies of a point side by side, in entries a second: `cargo bench -p dualsync-verify`.
//!
//! Figures to compare, before and after a change; nothing fails because it is slow.

use std::convert::Infallible;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use dualsync_model::event::{Event, Summary};
use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::path::RawPath;
use dualsync_model::time::Timestamp;
use dualsync_verify::examine::compare;
use dualsync_verify::exclude::Exclude;

/// Entries of the point.
const ENTRIES: u32 = 100_000;

type Lines = Vec<Result<Event, Infallible>>;

fn main() {
    let criterion = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    let mut criterion = criterion.configure_from_args();
    let block: Vec<Fact> = (0..ENTRIES).map(fact).collect();
    let drifted: Vec<Fact> = block.iter().enumerate().filter_map(|(number, fact)| drift(number, fact)).collect();
    let mut group = criterion.benchmark_group("facts");
    group.throughput(Throughput::Elements(ENTRIES.into()));
    for (name, archive) in [("compare equal copies", &block), ("compare where each hundredth differs", &drifted)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (lines(&block), lines(archive)),
                |(block, archive)| compare(Exclude::default(), true, block.into_iter(), archive.into_iter()),
                BatchSize::PerIteration,
            );
        });
    }
    let text: Vec<String> =
        lines(&block).iter().flatten().filter_map(|line| serde_json::to_string(line).ok()).collect();
    group.bench_function("parse lines", |bencher| {
        bencher.iter(|| text.iter().filter_map(|line| serde_json::from_str::<Event>(line).ok()).count());
    });
    group.finish();
    criterion.final_summary();
}

fn fact(number: u32) -> Fact {
    Fact {
        path: RawPath::new(format!("srv/www/customer-{:04}/htdocs/assets/image-{:02}.jpg", number / 100, number % 100)),
        kind: EntryKind::File,
        size: u64::from(number),
        mtime: Timestamp::new(1_790_000_000, number).expect("below a second"),
        mtime_whole_seconds: false,
        mode: 0o644,
        uid: 33,
        gid: 33,
        link_target: None,
        device: None,
        xattrs: Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into()),
        hard_link: None,
        sha256: Some(format!("{number:064x}")),
        state: FactState::Good,
    }
}

/// Of each two hundred entries one has another content and one is missing.
fn drift(number: usize, fact: &Fact) -> Option<Fact> {
    match number % 200 {
        50 => Some(Fact { sha256: Some("00".repeat(32)), ..fact.clone() }),
        150 => None,
        _ => Some(fact.clone()),
    }
}

fn lines(facts: &[Fact]) -> Lines {
    let facts = facts.iter().map(|fact| Ok(Event::Fact(Box::new(fact.clone()))));
    facts.chain([Ok(Event::Summary(Summary::default()))]).collect()
}
