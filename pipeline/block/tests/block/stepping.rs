//! The rule that keeps a run and its deleters apart, tried call by call: a real backup, real deleters and people who take back
//! are interleaved by a seeded scheduler, in directed schedules that aim at the moments that the proof of 0006 speaks of.
//!
//! Every actor works on a [`Stepping`] store that stops before each call. In between the clock moves on by hours, answers come
//! late, hosts' clocks are off. After every call that may matter each manifest must find all its objects. The same
//! schedules lose objects when a part of the rule is taken out: so they look where something could be seen.

mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use dualsync_block::backup::{BackupError, backup};
use dualsync_block::events::Events;
use dualsync_block::keyfile;
use dualsync_block::list::list;
use dualsync_block::prune::{PruneError, prune};
use dualsync_block::repository::Repository;
use dualsync_block_store::contract::Store;
use dualsync_model::event::{Event, RetiredAction};
use dualsync_model::job::{PruneTask, Resend};
use tokio::io::{AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::task::JoinHandle;

use crate::support::{BLOCK, Lines, Workshop, events, noise, settings, task};
use world::{Broken, Dice, GRACE_S, RUN, Stepping, World};

/// Deleters; each does one job at a time.
const FIRST: usize = 1;
const SECOND: usize = 2;
const THIRD: usize = 3;

/// Three nights of a small source, each with a pack of its own, and what the run of the fourth night reads.
async fn three_small_nights() -> Workshop {
    let shop = Workshop::new().await;
    let mut bytes = noise(12 * BLOCK, 1);
    for night in 1..=4_u32 {
        let at = night as usize * 2 * BLOCK;
        bytes[at..at + 2 * BLOCK].copy_from_slice(&noise(2 * BLOCK, u64::from(night) + 100));
        shop.begin_night(night);
        if night < 4 {
            shop.night(night, &bytes).await;
        }
    }
    shop.source(&bytes);
    shop
}

/// Tells the world when the run has nothing to do but wait for `commit`.
struct Watcher(Arc<World>, Lines);

impl Write for Watcher {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.windows(10).any(|window| window == b"\"prepared\"") {
            self.0.join(RUN, true);
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What happened in a schedule, or in all of them.
#[derive(Debug, Default)]
struct Outcome {
    lost: Option<String>,
    /// By what it was.
    counts: BTreeMap<&'static str, u64>,
}

impl Outcome {
    fn count(&mut self, what: &'static str, number: usize) {
        *self.counts.entry(what).or_default() += number as u64;
    }
}

type Pruning = JoinHandle<(Result<(), PruneError>, Lines)>;

/// One schedule while it runs.
struct Schedule<'a> {
    shop: &'a Workshop,
    folder: tempfile::TempDir,
    world: Arc<World>,
    dice: Dice,
    /// Gets no turn while others have one to take.
    held: Option<usize>,
    commands: Option<DuplexStream>,
    run: Option<JoinHandle<Result<(), BackupError>>>,
    jobs: Vec<Pruning>,
    outcome: Outcome,
}

impl<'a> Schedule<'a> {
    fn new(shop: &'a Workshop, seed: u64, broken: Broken) -> Self {
        let mut dice = Dice::new(seed);
        let (has_clock, hides_runs) = (!dice.once_in(4), dice.once_in(2));
        let world = Arc::new(World::new(shop.memory.fork(), has_clock, hides_runs, broken));
        Self {
            shop,
            folder: tempfile::tempdir().unwrap(),
            world,
            dice,
            held: None,
            commands: None,
            run: None,
            jobs: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    fn host(&mut self, actor: usize) -> (Arc<dyn Store>, PathBuf) {
        // With a store's clock the job's may be ten minutes off; without one ages are right to less than G/4.
        let most_s = if self.world.has_clock { 550 } else { GRACE_S / 32 };
        let ahead_s = i64::try_from(self.dice.roll(2 * most_s.unsigned_abs())).unwrap() - most_s;
        let dice = Mutex::new(Dice::new(self.dice.roll(u64::MAX)));
        let store = Stepping { world: Arc::clone(&self.world), actor, ahead_s, dice };
        (Arc::new(store), self.folder.path().join(actor.to_string()))
    }

    async fn begin_run(&mut self) {
        let (store, state) = self.host(RUN);
        let key = keyfile::read(&self.shop.key).await.unwrap();
        let (hand, ear) = tokio::io::duplex(64);
        self.commands = Some(hand);
        let mut task = task(4, &self.shop.folder.path().join("source.img"));
        // Everything that is still named is used again.
        task.resend = Resend { sparse_percent: 0, ..Resend::default() };
        let world = Arc::clone(&self.world);
        world.join(RUN, false);
        self.run = Some(tokio::spawn(async move {
            let events = Events::new(Box::new(Watcher(Arc::clone(&world), Lines::default())));
            let repository = Arc::new(Repository::open(store, "frankfurt", &key, &state).await.unwrap());
            let settings = dualsync_block::backup::Settings { checkpoint_packs: 1000, ..settings() };
            let ended = backup(repository, &task, settings, &events, &mut BufReader::new(ear)).await;
            world.leave(RUN);
            ended.map(drop)
        }));
    }

    async fn commit(&mut self) {
        if self.world.is_alive(RUN) {
            self.world.is_committing.store(true, Ordering::SeqCst);
            self.world.join(RUN, false);
            let hand = self.commands.as_mut().unwrap();
            hand.write_all(b"{\"command\":\"commit\"}\n").await.unwrap();
        }
    }

    /// Copies of these nights, as far as they are there.
    fn leaving(&self, nights: &[u32]) -> PruneTask {
        let keys = self.world.memory.keys();
        let mut task = PruneTask { sweep: true, grace_s: GRACE_S.unsigned_abs(), ..PruneTask::default() };
        task.drop = self.shop.leaving(nights);
        task.drop.retain(|leaving| keys.iter().any(|key| key.as_str() == leaving.manifest));
        task.drop.iter_mut().for_each(|leaving| leaving.asked = true);
        task
    }

    fn undoing(&self, night: u32) -> PruneTask {
        PruneTask { undo: vec![self.shop.manifest(night)], ..self.leaving(&[]) }
    }

    async fn begin_job(&mut self, actor: usize, task: PruneTask) {
        let (store, state) = self.host(actor);
        let key = keyfile::read(&self.shop.key).await.unwrap();
        let mut job_now = store.now();
        if self.world.has_clock {
            // A host's clock that jumped by two days must keep it from deleting.
            let jumped_s = if self.dice.once_in(16) { 2 * GRACE_S } else { self.dice.pick(&[0, 300, -500]) };
            job_now = job_now.plus_seconds(jumped_s);
        }
        let world = Arc::clone(&self.world);
        world.join(actor, false);
        self.jobs.push(tokio::spawn(async move {
            let (events, lines) = events();
            let repository = Repository::open(store, "frankfurt", &key, &state).await.unwrap();
            let ended = prune(&repository, &task, job_now, &events).await;
            world.leave(actor);
            (ended.map(drop), lines)
        }));
    }

    /// Lets calls go, one at a time, until `is_over` or nobody has one. With `jumps` hours pass in between.
    async fn go_on(&mut self, jumps: bool, is_over: impl Fn(&World) -> bool) {
        loop {
            let mut actors = self.world.ready().await;
            if actors.iter().any(|actor| Some(*actor) != self.held) {
                actors.retain(|actor| Some(*actor) != self.held);
            }
            if self.outcome.lost.is_none() {
                self.outcome.lost = self.world.lost();
            }
            if actors.is_empty() || is_over(&self.world) {
                return;
            }
            if jumps && self.dice.once_in(25) {
                self.world.advance(self.dice.pick(&[GRACE_S / 8, GRACE_S / 4, GRACE_S / 2, GRACE_S]));
            }
            actors.sort_unstable();
            actors.dedup();
            let actor = self.dice.pick(&actors);
            self.world.let_go(actor, &mut self.dice);
        }
    }

    async fn run_out(&mut self, jumps: bool) {
        self.go_on(jumps, |_| false).await;
    }

    /// Marks come while the run sends; it commits when they are young or old; who deletes begins right before its last look,
    /// right after it, or when it has ended.
    async fn play(&mut self) {
        if self.dice.once_in(3) {
            // An unrelated old point is on its way out.
            self.begin_job(FIRST, self.leaving(&[1])).await;
            self.run_out(false).await;
            self.world.advance(self.dice.pick(&[GRACE_S / 8, GRACE_S, GRACE_S * 9 / 8]));
        }
        self.begin_run().await;
        if self.dice.once_in(3) {
            self.begin_job(FIRST, self.leaving(&[1])).await;
        }
        self.run_out(false).await;
        // The run sends for so long that it seems dead, or a deleter does not see it at all.
        self.world.advance(if self.world.hides_runs { GRACE_S / 8 } else { GRACE_S * 17 / 16 });
        let nights = self.dice.pick(&[&[3][..], &[3], &[2, 3], &[1, 2, 3]]);
        self.begin_job(FIRST, self.leaving(nights)).await;
        self.world.remember_manifests().await;
        self.run_out(false).await;
        let marked = self.world.now();
        let young = [GRACE_S / 8, GRACE_S / 4, GRACE_S * 3 / 8, GRACE_S / 2 - 600];
        let old = [GRACE_S / 2 + 600, GRACE_S + 1_200, GRACE_S * 9 / 8];
        let passes = if self.dice.once_in(3) { self.dice.pick(&old) } else { self.dice.pick(&young) };
        self.world.advance(passes);
        if self.dice.once_in(6) {
            self.begin_job(THIRD, self.undoing(3)).await;
        }
        self.commit().await;
        match self.dice.roll(7) {
            0..2 => {}
            2..5 => self.go_on(false, |world| world.has_looked.load(Ordering::SeqCst)).await,
            _ => self.run_out(false).await,
        }
        let grown = self.world.now().seconds_since(marked);
        if !self.dice.once_in(6) {
            self.world.advance((GRACE_S + 1_200 - grown).max(0));
        }
        self.held = Some(RUN).filter(|_| !self.dice.once_in(4));
        self.begin_job(SECOND, self.leaving(&[1, 2, 3])).await;
        let jumps = self.dice.once_in(2);
        self.run_out(jumps).await;
        // Whatever was left half done, the next one ends it.
        self.world.advance(GRACE_S * 9 / 8);
        self.begin_job(FIRST, self.leaving(&[1, 2, 3])).await;
        self.run_out(false).await;
    }

    async fn end(mut self) -> Outcome {
        match self.run.take().unwrap().await.unwrap() {
            Ok(()) => self.outcome.count("points made", 1),
            Err(BackupError::Marked { .. }) => self.outcome.count("runs stopped by a mark", 1),
            Err(BackupError::TooSlow { .. } | BackupError::Store(_)) => self.outcome.count("runs that were slow", 1),
            Err(BackupError::Parent(_)) => self.outcome.count("runs that found nothing to stand on", 1),
            Err(other) => panic!("{other:?}"),
        }
        for job in std::mem::take(&mut self.jobs) {
            let (ended, lines) = job.await.unwrap();
            match ended {
                Ok(()) => {}
                Err(PruneError::Clocks(_)) => self.outcome.count("jobs with a wrong clock", 1),
                Err(PruneError::Slow(_)) => self.outcome.count("marks that took too long", 1),
                Err(other) => panic!("{other:?}"),
            }
            let retired = |action| lines.retired().iter().filter(|told| told.1 == action).count();
            self.outcome.count("points deleted", retired(RetiredAction::Deleted));
            self.outcome.count("points taken back", retired(RetiredAction::Undone));
            for event in lines.all() {
                if let Event::Pruned(pruned) = event {
                    self.outcome.count("objects deleted", usize::try_from(pruned.deleted_objects).unwrap());
                }
            }
        }
        let memory: Arc<dyn Store> = Arc::clone(&self.world.memory) as Arc<dyn Store>;
        let key = keyfile::read(&self.shop.key).await.unwrap();
        let repository = Repository::open(memory, "frankfurt", &key, self.folder.path()).await.unwrap();
        let listed = list(&repository, None, &events().0).await;
        if self.world.broken == Broken::Nothing {
            assert_eq!(listed.unwrap().findings, 0, "a deletion that nothing proves");
        }
        self.outcome
    }
}

async fn schedule(shop: &Workshop, seed: u64, broken: Broken) -> Outcome {
    let mut schedule = Schedule::new(shop, seed, broken);
    schedule.play().await;
    schedule.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_schedule_of_a_run_and_its_deleters_loses_an_object() {
    let shop = three_small_nights().await;
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..240 {
        let outcome = schedule(&shop, seed, Broken::Nothing).await;
        assert_eq!(outcome.lost, None, "seed {seed}");
        for (what, count) in outcome.counts {
            *sums.entry(what).or_default() += count;
        }
    }
    println!("{sums:?}");
    // A test in which nothing happens would find nothing.
    for what in ["points made", "runs stopped by a mark", "runs that were slow", "points deleted", "objects deleted"] {
        assert!(sums.get(what).is_some_and(|count| *count >= 20), "{what}: {sums:?}");
    }
}

/// The same schedules with a part of the rule taken out.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_rule_asks_for_is_needed() {
    let shop = three_small_nights().await;
    let mut shares = Vec::new();
    for broken in [Broken::BlindRun, Broken::SlowRun, Broken::StaleDeleter] {
        let mut lost = 0;
        for seed in 0..80 {
            lost += u32::from(schedule(&shop, seed, broken).await.lost.is_some());
        }
        println!("{broken:?}: {lost} of 80 schedules lose an object");
        shares.push((broken, lost));
    }
    assert!(shares.iter().all(|(_, lost)| *lost >= 5), "{shares:?}");
}
