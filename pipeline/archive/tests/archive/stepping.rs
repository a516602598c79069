//! Backups, deleters and people who change their mind, interleaved call by call by a seeded scheduler.
//!
//! Every actor runs the real program on a [`Stepping`] store that stops before each call. One call at a time
//! is let go, the store's clock jumps by hours in between, answers come late, job clocks are off. After every call
//! that may matter, each manifest that is there must find all its objects. What the program measures with the
//! boot-time clock (the time to put a manifest, to take a mark back) is measured here by the simulated one: what
//! is too late does not reach the store.

mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dualsync_archive_store::contract::{Key, Store};
use dualsync_archive_store::memory::MemoryStore;
use dualsync_model::id::PointId;
use dualsync_model::job::{Leaving, PruneTask, Task};
use dualsync_model::time::Timestamp;
use futures::StreamExt as _;

use crate::memory::Memory;
use crate::site::{COMMIT, Site, noise, run_on};
use crate::stepping::world::{Dice, GRACE_S, HOUR_S, Hidden, Scheduler, Stepping, World};

/// Three nights of a small source, of which every schedule gets a copy.
struct Base {
    memory: Memory,
    objects: Vec<(Key, Bytes, Timestamp)>,
}

impl Base {
    async fn new() -> Self {
        let mut memory = Memory::new().await;
        for night in 0..3 {
            memory.store.set_now(memory.site.now().plus_seconds(86_400));
            memory.site.write("stays", &noise(1, 3_000));
            memory.site.write(&format!("from-{night}"), &noise(10 + night, 2_000));
            memory.site.write("changes", &noise(100 + night, 2_000));
            memory.night(memory.store.clone(), COMMIT).await.summary();
        }
        let mut objects = Vec::new();
        for key in memory.store.keys() {
            let modified = memory.store.head(&key).await.unwrap().unwrap().modified;
            objects.push((key.clone(), memory.store.peek(&key).unwrap(), modified));
        }
        Self { memory, objects }
    }

    fn world(&self, has_clock: bool) -> Arc<World> {
        let now = self.memory.site.now().plus_seconds(HOUR_S);
        let store = MemoryStore::new(now);
        for (key, bytes, modified) in &self.objects {
            store.set_now(*modified);
            store.replace(key.clone(), bytes.clone());
        }
        store.set_now(now);
        Arc::new(World {
            store,
            scheduler: Scheduler::default(),
            now: Mutex::new(now),
            has_clock,
            touched: AtomicBool::new(false),
            is_sending: AtomicBool::new(false),
            taken_back: Mutex::default(),
            wrong: Mutex::default(),
            known: self.objects.iter().map(|(key, ..)| key.to_string()).collect(),
        })
    }
}

/// Copies that may go and marks that are taken back, drawn among what is there.
fn draw(world: &World, dice: &mut Dice) -> PruneTask {
    let mut task = PruneTask { sweep: dice.roll(5) > 0, grace_s: GRACE_S.unsigned_abs(), ..PruneTask::default() };
    for key in world.store.keys().iter().filter(|key| key.as_str().ends_with("/manifest.json")) {
        let digest = dualsync_archive::digest::Digest::of(key.as_str().as_bytes());
        let is_marked = world.store.keys().iter().any(|mark| mark.as_str().starts_with(&format!("marks/{digest}")));
        if is_marked && dice.roll(6) == 0 {
            task.undo.push(key.to_string());
        } else if is_marked || dice.roll(2) == 0 {
            let time = key.as_str().split('/').nth(2).unwrap().split('-').next().unwrap();
            let point: PointId = format!("web@{time}").parse().unwrap();
            let sha256 = dualsync_archive::digest::Digest::of(&world.store.peek(key).unwrap()).hex();
            let asked = dice.roll(2) == 0;
            task.drop.push(Leaving { point, manifest: key.to_string(), sha256, reason: "test".into(), asked });
        }
    }
    task
}

/// How a schedule ended.
#[derive(Default)]
struct Outcome {
    lost: Option<String>,
    committed: u64,
    deleted_copies: u64,
    deleted_objects: u64,
    undone: u64,
    /// Jobs that were refused, since their clock and the store's are too far apart.
    wrong_clocks: u64,
    /// Backups that found what they use marked for too long.
    stopped: u64,
}

/// How far the clock of a job is off where a store tells the time: seldom it has jumped by days, or is just beyond the ten
/// minutes within which anything is deleted.
fn off(dice: &mut Dice) -> i64 {
    match dice.roll(16) {
        0 => [2 * GRACE_S, -2 * GRACE_S][usize::try_from(dice.roll(2)).unwrap()],
        1 => [700, -700][usize::try_from(dice.roll(2)).unwrap()],
        _ => 0,
    }
}

async fn schedule(base: &Base, seed: u64, hidden: Hidden) -> Outcome {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
    let world = base.world(dice.roll(3) > 0);
    let mut actors = Vec::new();
    for actor in 0..3_usize {
        // No more apart than two clocks may be.
        let ahead = i64::try_from(dice.roll(1_000)).unwrap() - 500;
        let seed = dice.roll(u64::MAX).max(1);
        let (world, site) = (world.clone(), base.memory.site.fork(actor, seed));
        let runtime = tokio::runtime::Handle::current();
        let act = move || runtime.block_on(act(world, site, actor, ahead, hidden, seed));
        actors.push(tokio::task::spawn_blocking(act));
    }
    let mut lost = None;
    loop {
        let wait = world.scheduler.changed.notified();
        let (is_ready, is_over) = world.scheduler.with(|waiting| {
            waiting.calls.retain(|call| !call.go.is_closed());
            let actors: std::collections::BTreeSet<_> = waiting.calls.iter().map(|call| call.actor).collect();
            (actors.len() + waiting.finished >= 3 && !actors.is_empty(), waiting.finished >= 3)
        });
        if is_over {
            break;
        }
        if !is_ready {
            wait.await;
            continue;
        }
        // Seldom and far: in between, somebody may be quick enough for a quarter of the grace.
        if dice.roll(40) == 0 {
            world.advance(i64::try_from(dice.roll(30 * HOUR_S.unsigned_abs())).unwrap());
        }
        // A backup that has looked around reads and sends for days: only so can both phases of a deletion pass before
        // it commits.
        let is_slow = world.is_sending.load(Ordering::Relaxed) && dice.roll(60) > 0;
        let call = world.scheduler.with(|waiting| {
            let actors: std::collections::BTreeSet<_> = waiting.calls.iter().map(|call| call.actor).collect();
            let mut actors: Vec<_> = actors.into_iter().collect();
            actors.retain(|actor| *actor != 0 || !is_slow || waiting.finished == 2);
            let mut draw = |sides: usize| usize::try_from(dice.roll(sides as u64)).unwrap();
            let actor = actors.get(draw(actors.len().max(1))).copied().unwrap_or_default();
            let of_actor: Vec<_> = (0..waiting.calls.len()).filter(|at| waiting.calls[*at].actor == actor).collect();
            let chosen = of_actor[draw(of_actor.len())];
            waiting.calls.swap_remove(chosen)
        });
        if call.go.send(()).is_ok() {
            // An actor with several calls under way may be busy with another one of them.
            let is_busy = || world.scheduler.with(|waiting| waiting.calls.iter().any(|next| next.actor == call.actor));
            while !call.over.load(Ordering::SeqCst) && !is_busy() {
                world.scheduler.changed.notified().await;
            }
        }
        if lost.is_none() && world.touched.swap(false, Ordering::Relaxed) {
            lost = world.check().err();
        }
    }
    let lost = lost.or(world.wrong.lock().unwrap().take());
    let mut outcome = Outcome { lost, ..Outcome::default() };
    for actor in actors {
        let counts = actor.await.unwrap();
        outcome.committed += counts.committed;
        outcome.deleted_copies += counts.deleted_copies;
        outcome.deleted_objects += counts.deleted_objects;
        outcome.undone += counts.undone;
        outcome.wrong_clocks += counts.wrong_clocks;
        outcome.stopped += counts.stopped;
    }
    outcome
}

/// Actor 0 makes two backups, the others prune five times each. What they are refused is no matter.
async fn act(world: Arc<World>, mut site: Site, actor: usize, ahead: i64, hidden: Hidden, seed: u64) -> Outcome {
    use dualsync_model::event::{Event, RetiredAction};
    let mut dice = Dice(seed);
    let mut counts = Outcome::default();
    for round in 0..if actor == 0 { 2 } else { 5 } {
        let task = if actor == 0 {
            site.write("changes", &noise(seed ^ round, 2_000));
            site.night += 1;
            Task::Backup(Box::new(site.backup_task()))
        } else {
            Task::Prune(draw(&world, &mut dice))
        };
        let mut job = site.job(task);
        job.now = world.now().plus_seconds(ahead);
        // Without a store's clock the run locks of the host stand for it, which this test does not have.
        let off = if world.has_clock { off(&mut dice) } else { 0 };
        job.now = job.now.plus_seconds(off);
        let (marks, dice) = (Mutex::default(), Mutex::new(Dice(dice.roll(u64::MAX).max(1))));
        let store = Stepping {
            world: world.clone(),
            actor,
            ahead,
            hidden,
            dice,
            calls: AtomicU64::new(0),
            marks_asked: AtomicU64::new(0),
            marks,
        };
        let ended = run_on(&job, Arc::new(store), COMMIT).await;
        let is_wrong = actor != 0 && off != 0 && (ahead + off).abs() > 600;
        if let Err(fault) = &ended.outcome {
            counts.wrong_clocks += u64::from(is_wrong && fault.code() == "refused");
            counts.stopped += u64::from(actor == 0);
        } else if is_wrong {
            // Told at the end: who panics here would keep the others waiting for ever.
            *world.wrong.lock().unwrap() = Some(format!("a job whose clock is off by {} s pruned", ahead + off));
        }
        for event in ended.events {
            match event {
                Event::Committed(_) => counts.committed += 1,
                Event::Retired(retired) if retired.action == RetiredAction::Deleted => counts.deleted_copies += 1,
                Event::Retired(retired) if retired.action == RetiredAction::Undone => {
                    world.was_taken_back(&retired.manifest);
                    counts.undone += 1;
                }
                Event::Pruned(pruned) => counts.deleted_objects += pruned.deleted_objects,
                _ => {}
            }
        }
    }
    world.scheduler.change(|waiting| waiting.finished += 1);
    counts
}

/// Schedules at once: each waits for its own turns most of the time.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn no_schedule_of_backups_and_deleters_loses_an_object() {
    let base = &Base::new().await;
    let mut schedules = futures::stream::iter(0..200)
        .map(|seed| async move {
            let hidden = if seed % 2 == 0 { Hidden::Nothing } else { Hidden::Runs };
            (seed, schedule(base, seed, hidden).await)
        })
        .buffer_unordered(AT_ONCE);
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    let mut lost = Vec::new();
    while let Some((seed, outcome)) = schedules.next().await {
        // Told at the end: an actor that is not let go would wait for ever.
        lost.extend(outcome.lost.map(|object| format!("seed {seed}: {object}")));
        for (what, count) in [
            ("points made", outcome.committed),
            ("points deleted", outcome.deleted_copies),
            ("objects deleted", outcome.deleted_objects),
            ("marks taken back", outcome.undone),
            ("jobs with a wrong clock", outcome.wrong_clocks),
            ("backups that were stopped", outcome.stopped),
        ] {
            *sums.entry(what).or_default() += count;
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
    println!("{sums:?}");
    // A test in which nothing happens would find nothing.
    assert!(sums.values().all(|count| *count >= 5), "{sums:?}");
}

/// The same schedules with a part of the rule taken out.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_rule_asks_for_is_needed() {
    let base = &Base::new().await;
    let mut shares = Vec::new();
    for hidden in [Hidden::Marks, Hidden::NewManifests] {
        let schedules = futures::stream::iter(0..60).map(|seed| schedule(base, seed, hidden));
        // All of them run to their end: an actor that is not let go would wait for ever.
        let outcomes: Vec<_> = schedules.buffer_unordered(AT_ONCE).collect().await;
        let lost = outcomes.iter().filter(|outcome| outcome.lost.is_some()).count();
        println!("{hidden:?}: {lost} of {} schedules lose an object", outcomes.len());
        shares.push((hidden, lost));
    }
    assert!(shares.iter().all(|(_, lost)| *lost >= 5), "{shares:?}");
}
