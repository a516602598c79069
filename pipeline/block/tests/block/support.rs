//! A workshop for tests: a store, a key, a source file, and one call for each verb.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dualsync_block::backup::{BackupError, Made, Settings, backup};
use dualsync_block::check::{Access, Checked, check};
use dualsync_block::events::Events;
use dualsync_block::heartbeat::Heartbeat;
use dualsync_block::init::init;
use dualsync_block::keyfile;
use dualsync_block::list::{Listed, list};
use dualsync_block::manifest::Clear;
use dualsync_block::marks::MarkNote;
use dualsync_block::names::{self, Companion};
use dualsync_block::prune::{PruneError, prune};
use dualsync_block::repository::Repository;
use dualsync_block::restore::{RestoreError, Restored, restore};
use dualsync_block::trouble::Trouble;
use dualsync_block_store::contract::Store;
use dualsync_block_store::memory::MemoryStore;
use dualsync_model::event::{Event, Finding, Point, Pruned, RetiredAction};
use dualsync_model::id::{PointId, RunId};
use dualsync_model::job::{
    BackupTask, CheckTask, Class, Depth, InitTask, Leaving, PruneTask, RestoreTask, Shape, Snapshot,
};
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

/// Smallest blocks, so that small sources have many.
pub const BLOCK: usize = 65_536;
/// The first night.
pub const FIRST_NIGHT: i64 = 1_795_140_000;

/// Bytes that no compressor shrinks, the same for the same seed.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// An output that a test can read.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub fn all(&self) -> Vec<Event> {
        let bytes = self.0.lock().unwrap();
        std::str::from_utf8(&bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn findings(&self) -> Vec<Finding> {
        let finding = |event| if let Event::Finding(finding) = event { Some(finding) } else { None };
        self.all().into_iter().filter_map(finding).collect()
    }

    pub fn points(&self) -> Vec<Point> {
        let point = |event| if let Event::Point(point) = event { Some(*point) } else { None };
        self.all().into_iter().filter_map(point).collect()
    }

    /// What became of each copy, by its night.
    pub fn retired(&self) -> Vec<(u32, RetiredAction)> {
        let night = |point: &PointId| u32::try_from((point.time().seconds() - FIRST_NIGHT) / 86_400).unwrap();
        let retired = |event| {
            if let Event::Retired(told) = event { Some((night(&told.point), told.action)) } else { None }
        };
        self.all().into_iter().filter_map(retired).collect()
    }

    pub fn warnings(&self) -> Vec<String> {
        let code = |event| if let Event::Warning(warning) = event { Some(warning.code) } else { None };
        self.all().into_iter().filter_map(code).collect()
    }
}

pub fn events() -> (Events, Lines) {
    let lines = Lines::default();
    (Events::new(Box::new(lines.clone())), lines)
}

/// Limits that small sources reach. The store in memory keeps the buffers it is given, so there are
/// enough of them; that a few suffice is tested on a directory.
pub fn settings() -> Settings {
    Settings { buffers: 1000, workers: 2, checkpoint_packs: 1, lock: None }
}

/// Everything one repository needs.
pub struct Workshop {
    pub folder: tempfile::TempDir,
    pub memory: Arc<MemoryStore>,
    pub store: Arc<dyn Store>,
    pub key: SecretRef,
    /// Whether it keeps versions, and what is hidden there is looked for.
    pub is_versioned: bool,
}

impl Workshop {
    /// A new repository in memory.
    pub async fn new() -> Self {
        let memory = Arc::new(MemoryStore::new(Timestamp::from_seconds(FIRST_NIGHT)));
        Self::on(Arc::clone(&memory) as Arc<dyn Store>, memory, false).await
    }

    /// A new repository in memory that keeps versions.
    pub async fn versioned() -> Self {
        let memory = Arc::new(MemoryStore::versioned(Timestamp::from_seconds(FIRST_NIGHT)));
        Self::on(Arc::clone(&memory) as Arc<dyn Store>, memory, true).await
    }

    async fn on(store: Arc<dyn Store>, memory: Arc<MemoryStore>, is_versioned: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SecretRef::File(folder.path().join("block.key"));
        let task = InitTask { block_bytes: Some(u32::try_from(BLOCK).unwrap()), only_look: false };
        let state = folder.path().join("state");
        init(Arc::clone(&store), "frankfurt", &key, &state, &task, Timestamp::from_seconds(FIRST_NIGHT)).await.unwrap();
        Self { folder, memory, store, key, is_versioned }
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub async fn open(&self) -> Arc<Repository> {
        self.open_on(Arc::clone(&self.store)).await
    }

    /// Opens the repository through another store, a faulty one for instance.
    pub async fn open_on(&self, store: Arc<dyn Store>) -> Arc<Repository> {
        let key = keyfile::read(&self.key).await.unwrap();
        let repository = Repository::open(store, "frankfurt", &key, &self.state()).await.unwrap();
        Arc::new(repository.looking_under(self.is_versioned))
    }

    /// Writes a source image.
    pub fn source(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("source.img");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Backs `bytes` up as the point of `night`.
    pub async fn night(&self, night: u32, bytes: &[u8]) -> Made {
        let source = self.source(bytes);
        let repository = self.open().await;
        self.backup(repository, &task(night, &source), "commit").await.0.unwrap()
    }

    pub async fn backup(
        &self,
        repository: Arc<Repository>,
        task: &BackupTask,
        command: &str,
    ) -> (Result<Made, BackupError>, Lines) {
        let (events, lines) = events();
        let line = if command.is_empty() { String::new() } else { format!("{{\"command\":\"{command}\"}}\n") };
        let mut commands = line.as_bytes();
        (backup(repository, task, settings(), &events, &mut commands).await, lines)
    }

    pub async fn list(&self) -> (Result<Listed, Trouble>, Lines) {
        let (events, lines) = events();
        let repository = self.open().await;
        (list(&repository, None, &events).await, lines)
    }

    pub async fn check(&self, depth: Depth) -> (Result<Checked, Trouble>, Lines) {
        let (events, lines) = events();
        let repository = self.open().await;
        let task = CheckTask { point: None, depth, slice: None };
        (check(&Access::Opened(repository), &task, &events).await, lines)
    }

    pub async fn restore(&self, task: &RestoreTask) -> (Result<Restored, RestoreError>, Lines) {
        let (events, lines) = events();
        let repository = self.open().await;
        (restore(repository, task, &events).await, lines)
    }

    /// The bytes that the point of `night` restores to, which must be undamaged.
    pub async fn restored(&self, night: u32) -> Vec<u8> {
        let to = self.folder.path().join("restored.img");
        let _ = std::fs::remove_file(&to);
        let restored = self.restore(&restore_task(night, &to)).await.0.unwrap();
        assert_eq!(restored.damaged, 0);
        std::fs::read(&to).unwrap()
    }

    /// A copy of the whole repository, to be damaged: same key, its own store and caches.
    pub fn fork(&self) -> Self {
        let memory = Arc::new(self.memory.fork());
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::clone(&memory) as Arc<dyn Store>;
        Self { folder, memory, store, key: self.key.clone(), is_versioned: self.is_versioned }
    }

    /// The same at another time.
    pub fn fork_at(&self, now: Timestamp) -> Self {
        let fork = self.fork();
        fork.memory.set_now(now);
        fork
    }

    /// What the manifest of a night names in clear.
    pub fn clear(&self, night: u32) -> Clear {
        let prefix = format!("points/web/{}", point(night).time().compact());
        let key = self.memory.keys().into_iter().find(|key| key.as_str().starts_with(&prefix)).unwrap();
        Clear::read(&self.memory.peek(&key).unwrap()).unwrap().0
    }

    /// Marks an object as a deleter does, with these companions.
    pub async fn mark(&self, key: &str, companions: &[Companion]) {
        let repository = self.open().await;
        let mark = names::mark(&names::digest_of(key).unwrap(), [7; 8]);
        let marked_at = self.store.now();
        let note =
            MarkNote { object: key.to_owned(), marked_at, reason: "left the contract".into(), asked: false, at: None };
        repository.put_document(&mark, &note).await.unwrap();
        for companion in companions {
            let note = MarkNote { at: Some(marked_at), ..note.clone() };
            repository.put_document(&names::companion(&mark, *companion), &note).await.unwrap();
        }
    }

    /// Leaves the marks that a deleter leaves of an object it deleted.
    pub async fn mark_deleted(&self, key: &str) {
        self.mark(key, &[Companion::Deleting]).await;
    }

    /// What leaves: the copies of these nights, by the rule.
    pub fn leaving(&self, nights: &[u32]) -> Vec<Leaving> {
        let leave = |night: &u32| {
            let manifest = self.manifest(*night);
            let sha256 = manifest.rsplit_once('-').unwrap().1.to_owned();
            Leaving { point: point(*night), manifest, sha256, reason: "left the rule".to_owned(), asked: false }
        };
        nights.iter().map(leave).collect()
    }

    /// Key of the manifest of a night.
    pub fn manifest(&self, night: u32) -> String {
        let prefix = format!("points/web/{}", point(night).time().compact());
        self.keys(&prefix).pop().unwrap()
    }

    pub async fn prune(&self, task: &PruneTask) -> (Result<Pruned, PruneError>, Lines) {
        let (events, lines) = events();
        let repository = self.open().await;
        (prune(&repository, task, self.store.now(), &events).await, lines)
    }

    /// Moves the store's clock on.
    pub fn pass_hours(&self, hours: i64) {
        self.memory.set_now(self.store.now().plus_seconds(hours * 3600));
    }

    /// Sets the store's clock to two in the morning of a night.
    pub fn begin_night(&self, night: u32) {
        self.memory.set_now(point(night).time());
    }

    /// What a stored heartbeat says.
    pub fn heartbeat(&self, key: &str) -> Heartbeat {
        serde_json::from_slice(&self.memory.peek(&key.parse().unwrap()).unwrap()).unwrap()
    }

    /// Keys that begin with `folder`.
    pub fn keys(&self, folder: &str) -> Vec<String> {
        self.memory.keys().iter().map(|key| key.as_str().to_owned()).filter(|key| key.starts_with(folder)).collect()
    }
}

pub fn point(night: u32) -> PointId {
    PointId::new("web".parse().unwrap(), Timestamp::from_seconds(FIRST_NIGHT + i64::from(night) * 86_400))
}

pub fn task(night: u32, source: &Path) -> BackupTask {
    let point = point(night);
    BackupTask {
        run: RunId::from_random(u64::from(night).to_be_bytes()),
        business_date: point.time().utc_date(),
        class: Class::Auto,
        note: None,
        expires: None,
        snapshot: Snapshot {
            id: format!("snapshot-{night}"),
            method: "none".to_owned(),
            frozen: true,
            taken_at: point.time(),
            device: source.to_owned(),
            tree: "/".into(),
            is_device: false,
        },
        exclude: Vec::new(),
        compression: "deflate:1".to_owned(),
        other: None,
        remembered: None,
        grace_s: 86_400,
        resend: dualsync_model::job::Resend::default(),
        lock_until: None,
        point,
    }
}

/// A prune that deletes, with a grace of a day.
pub fn sweep(drop: Vec<Leaving>) -> PruneTask {
    PruneTask { drop, sweep: true, grace_s: 86_400, ..PruneTask::default() }
}

pub fn restore_task(night: u32, to: &Path) -> RestoreTask {
    RestoreTask {
        point: point(night),
        to: to.to_owned(),
        shape: Shape::Image,
        paths: Vec::new(),
        resume: false,
        overwrite: false,
        dry_run: false,
        kernel_mount: false,
    }
}
