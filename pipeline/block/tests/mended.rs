//! What a repository survives: lost objects, an init that was cut off, a store that is slow or was set back.

#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

#[expect(dead_code, reason = "other test programs use the rest")]
mod machine;
#[path = "machine/stored.rs"]
mod stored;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dualsync_block::backup::{BackupError, Made, Settings, backup};
use dualsync_block::events::Events;
use dualsync_block::facts::{FactsError, Question, facts};
use dualsync_block::init::init;
use dualsync_block::keyfile;
use dualsync_block::points::Census;
use dualsync_block::repository::{Repository, RepositoryError};
use dualsync_block::restore::{RestoreError, Restored, restore};
use dualsync_block::trouble::Trouble;
use dualsync_block::view::Setup;
use dualsync_block_store::contract::{Answer, ErrorKind, Key, ObjectInfo, Operation, Seen, Setting, Store, StoreError};
use dualsync_block_store::memory::MemoryStore;
use dualsync_model::event::{Event, Finding, Repository as Told, Requests};
use dualsync_model::id::{PointId, RunId};
use dualsync_model::job::{Anchor, BackupTask, Class, InitTask, RestoreTask, Shape, Snapshot};
use dualsync_model::outcome::Exit;
use dualsync_model::secret::SecretRef;
use dualsync_model::time::Timestamp;

use self::machine::{has_loop_devices, image};
use self::stored::{Faults, ImageFile};

const BLOCK: usize = 65_536;
const FIRST_NIGHT: i64 = 1_795_140_000;

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

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
    fn all(&self) -> Vec<Event> {
        let bytes = self.0.lock().unwrap();
        std::str::from_utf8(&bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let code = |event| if let Event::Warning(warning) = event { Some(warning.code) } else { None };
        self.all().into_iter().filter_map(code).collect()
    }

    fn findings(&self) -> Vec<Finding> {
        let finding = |event| if let Event::Finding(finding) = event { Some(finding) } else { None };
        self.all().into_iter().filter_map(finding).collect()
    }
}

/// A repository in memory, its key, and a folder for everything else.
struct Shop {
    folder: tempfile::TempDir,
    memory: Arc<MemoryStore>,
    key: SecretRef,
}

impl Shop {
    async fn new() -> Self {
        let memory = Arc::new(MemoryStore::new(Timestamp::from_seconds(FIRST_NIGHT)));
        let folder = tempfile::tempdir().unwrap();
        let key = SecretRef::File(folder.path().join("block.key"));
        let shop = Self { folder, memory, key };
        shop.init().await;
        shop
    }

    async fn init(&self) -> Told {
        self.init_as(&InitTask { block_bytes: Some(u32::try_from(BLOCK).unwrap()), only_look: false }).await
    }

    async fn init_as(&self, task: &InitTask) -> Told {
        let (store, state) = (Arc::clone(&self.memory) as Arc<dyn Store>, self.state());
        let now = Timestamp::from_seconds(FIRST_NIGHT);
        init(store, "frankfurt", &self.key, &state, task, now).await.unwrap().1
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    async fn try_open(&self, store: Arc<dyn Store>, key: &SecretRef) -> Result<Arc<Repository>, RepositoryError> {
        let key = keyfile::read(key).await.unwrap();
        Repository::open(store, "frankfurt", &key, &self.state()).await.map(Arc::new)
    }

    async fn open(&self) -> Arc<Repository> {
        self.try_open(Arc::clone(&self.memory) as Arc<dyn Store>, &self.key).await.unwrap()
    }

    fn task(&self, night: u32, bytes: &[u8]) -> BackupTask {
        let device = self.folder.path().join("source.img");
        std::fs::write(&device, bytes).unwrap();
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
                device,
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

    async fn back_up_on(&self, store: Arc<dyn Store>, task: &BackupTask) -> (Result<Made, BackupError>, Lines) {
        let repository = self.try_open(store, &self.key).await.unwrap();
        let settings = Settings { buffers: 8, workers: 2, checkpoint_packs: 1, lock: None };
        let lines = Lines::default();
        let events = Events::new(Box::new(lines.clone()));
        let mut commands = &b"{\"command\":\"commit\"}\n"[..];
        (backup(repository, task, settings, &events, &mut commands).await, lines)
    }

    async fn back_up(&self, task: &BackupTask) -> (Result<Made, BackupError>, Lines) {
        self.back_up_on(Arc::clone(&self.memory) as Arc<dyn Store>, task).await
    }

    async fn night(&self, night: u32, bytes: &[u8]) -> Lines {
        let (made, lines) = self.back_up(&self.task(night, bytes)).await;
        made.unwrap();
        lines
    }

    async fn restore(&self, repository: Arc<Repository>, night: u32) -> Result<(Restored, Vec<u8>), RestoreError> {
        let to = self.folder.path().join("restored.img");
        let _ = std::fs::remove_file(&to);
        let task = RestoreTask {
            point: point(night),
            to: to.clone(),
            shape: Shape::Image,
            paths: Vec::new(),
            resume: false,
            overwrite: false,
            dry_run: false,
            kernel_mount: false,
        };
        let restored = restore(repository, &task, &Events::new(Box::new(Lines::default()))).await?;
        Ok((restored, std::fs::read(&to).unwrap()))
    }

    fn keys(&self, folder: &str) -> Vec<Key> {
        self.memory.keys().into_iter().filter(|key| key.as_str().starts_with(folder)).collect()
    }

    fn remove(&self, folder: &str) {
        for key in self.keys(folder) {
            self.memory.remove(&key).unwrap();
        }
    }

    /// The repository as a folder.
    fn spread(&self) -> PathBuf {
        let root = self.folder.path().join("copy");
        for key in self.memory.keys() {
            let path = root.join(key.as_str());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.memory.peek(&key).unwrap()).unwrap();
        }
        root
    }
}

fn point(night: u32) -> PointId {
    PointId::new("web".parse().unwrap(), Timestamp::from_seconds(FIRST_NIGHT + i64::from(night) * 86_400))
}

/// What a [`Faulty`] store does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Manifests never arrive.
    TakesNoManifest,
    /// After this many map objects it is silent.
    GivesMaps(usize),
}

#[derive(Debug)]
struct Faulty {
    memory: Arc<MemoryStore>,
    fault: Fault,
    maps: AtomicUsize,
}

impl Faulty {
    fn on(shop: &Shop, fault: Fault) -> Arc<dyn Store> {
        Arc::new(Self { memory: Arc::clone(&shop.memory), fault, maps: AtomicUsize::new(0) })
    }
}

impl Store for Faulty {
    fn put<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, ()> {
        if self.fault == Fault::TakesNoManifest && key.as_str().starts_with("points/") {
            return Box::pin(std::future::pending());
        }
        self.memory.put(key, body, sha256)
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Bytes> {
        if let Fault::GivesMaps(given) = self.fault
            && key.as_str().starts_with("maps/")
            && self.maps.fetch_add(1, Ordering::Relaxed) >= given
        {
            let silent = StoreError::new(ErrorKind::Timeout, Operation::Get, "memory", key.as_str());
            return Box::pin(std::future::ready(Err(silent)));
        }
        self.memory.get(key)
    }

    fn get_range<'a>(&'a self, key: &'a Key, offset: u64, len: u64) -> Answer<'a, Bytes> {
        self.memory.get_range(key, offset, len)
    }

    fn head<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<ObjectInfo>> {
        self.memory.head(key)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> Answer<'a, Vec<ObjectInfo>> {
        self.memory.list(prefix, after)
    }

    fn delete<'a>(&'a self, key: &'a Key) -> Answer<'a, ()> {
        self.memory.delete(key)
    }

    fn clear_leftovers(&self) -> Answer<'_, u64> {
        self.memory.clear_leftovers()
    }

    fn put_if_absent<'a>(&'a self, key: &'a Key, body: Bytes, sha256: [u8; 32]) -> Answer<'a, bool> {
        self.memory.put_if_absent(key, body, sha256)
    }

    fn setting<'a>(&'a self, setting: Setting, scratch: &'a Key) -> Answer<'a, Seen> {
        self.memory.setting(setting, scratch)
    }

    fn now(&self) -> Timestamp {
        self.memory.now()
    }

    fn has_clock(&self) -> bool {
        self.memory.has_clock()
    }

    fn requests(&self) -> Requests {
        self.memory.requests()
    }

    fn describe(&self) -> String {
        self.memory.describe()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_pack_or_map_is_noticed_the_next_night_and_sent_again() {
    for folder in ["packs/", "maps/"] {
        let shop = Shop::new().await;
        let bytes = noise(9 * BLOCK, 1);
        assert_eq!(shop.night(0, &bytes).await.warnings(), [""; 0]);
        shop.remove(folder);
        assert_eq!(shop.night(1, &bytes).await.warnings(), ["missing"], "{folder}");
        let (restored, found) = shop.restore(shop.open().await, 1).await.unwrap();
        assert_eq!(restored.damaged, 0, "{folder}");
        assert!(found == bytes, "{folder}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_nobody_has_any_more_costs_a_transfer_and_no_night() {
    let shop = Shop::new().await;
    let bytes = noise(9 * BLOCK, 1);
    shop.night(0, &bytes).await;
    shop.remove("maps/");
    std::fs::remove_dir_all(shop.state()).unwrap();
    assert_eq!(shop.night(1, &bytes).await.warnings(), ["missing", "damaged"]);
    let (restored, found) = shop.restore(shop.open().await, 1).await.unwrap();
    assert!(restored.damaged == 0 && found == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_without_changes_needs_at_most_twelve_requests() {
    let shop = Shop::new().await;
    let bytes = noise(9 * BLOCK, 1);
    shop.night(0, &bytes).await;
    let before = shop.memory.requests().total();
    shop.night(1, &bytes).await;
    let requests = shop.memory.requests().total() - before;
    assert!(requests <= 12, "{requests} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_was_cut_off_before_repo_json_is_finished_by_the_next_one() {
    let shop = Shop::new().await;
    shop.remove("repo.json");
    assert!(shop.init().await.created);
    let bytes = noise(3 * BLOCK, 1);
    shop.night(0, &bytes).await;
    assert!(shop.restore(shop.open().await, 0).await.unwrap().1 == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_slot_costs_no_night_and_init_puts_it_back_and_another_key_stays_wrong() {
    let shop = Shop::new().await;
    let store = || Arc::clone(&shop.memory) as Arc<dyn Store>;
    let other = SecretRef::File(shop.folder.path().join("other.key"));
    keyfile::create(&other).unwrap();
    let wrong = shop.try_open(store(), &other).await.unwrap_err();
    assert!(matches!(wrong, RepositoryError::WrongKey { .. }), "{wrong:?}");
    shop.remove("keys/");
    shop.open().await;
    let looked = shop.init_as(&InitTask { only_look: true, ..InitTask::default() }).await;
    assert!(!looked.created && shop.memory.list("keys/", None).await.unwrap().is_empty(), "a look mends nothing");
    assert!(!shop.init().await.created);
    assert_eq!(shop.memory.list("keys/", None).await.unwrap().len(), 1, "init puts the slot back");
    let wrong = shop.try_open(store(), &other).await.unwrap_err();
    assert!(matches!(wrong, RepositoryError::WrongKey { .. }), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recover_py_restores_without_slot_and_without_repo_json() {
    let shop = Shop::new().await;
    let bytes = noise(5 * BLOCK + 77, 1);
    shop.night(0, &bytes).await;
    let copy = shop.spread();
    let SecretRef::File(key) = &shop.key else { panic!("a file") };
    for (number, lost) in ["nothing", "keys", "repo.json"].into_iter().enumerate() {
        let path = copy.join(lost);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else if path.exists() {
            std::fs::remove_file(&path).unwrap();
        }
        let to = shop.folder.path().join(format!("recovered-{number}.img"));
        let arguments =
            [copy.join("recover.py"), "--identity".into(), key.clone(), "--to".into(), to.clone(), copy.clone()];
        let output = Command::new("python3").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(if number == 0 { 0 } else { 21 }), "{lost}: {said}");
        assert!(number == 0 || said.contains(lost), "{said}");
        assert!(std::fs::read(&to).unwrap() == bytes, "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_does_not_arrive_in_time_is_given_up() {
    let shop = Shop::new().await;
    let task = BackupTask { grace_s: 0, ..shop.task(0, &noise(BLOCK, 1)) };
    let store = Faulty::on(&shop, Fault::TakesNoManifest);
    let (made, _) = shop.back_up_on(store, &task).await;
    assert!(matches!(made, Err(BackupError::TooSlow { .. })), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_readers_would_refuse_is_never_put() {
    let shop = Shop::new().await;
    let task = BackupTask { note: Some("n".repeat(5 << 20)), ..shop.task(0, &noise(BLOCK, 1)) };
    let (made, _) = shop.back_up(&task).await;
    assert!(matches!(made, Err(BackupError::Unreadable(_))), "{made:?}");
    assert!(shop.keys("points/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_cannot_be_read_while_blocks_are_proved_ends_the_restore() {
    let shop = Shop::new().await;
    // Two pages, and a map object for each night: proving begins with another one than writing ended with.
    let mut bytes = vec![0; 1030 * BLOCK];
    bytes[..BLOCK].copy_from_slice(&noise(BLOCK, 1));
    bytes[1025 * BLOCK..1026 * BLOCK].copy_from_slice(&noise(BLOCK, 2));
    shop.night(0, &bytes).await;
    bytes[1026 * BLOCK..1027 * BLOCK].copy_from_slice(&noise(BLOCK, 3));
    shop.night(1, &bytes).await;
    std::fs::remove_dir_all(shop.state()).unwrap();
    std::fs::write(shop.state(), b"no folder, so nothing is kept").unwrap();
    let open = async |given| shop.try_open(Faulty::on(&shop, Fault::GivesMaps(given)), &shop.key).await.unwrap();
    let whole = shop.restore(open(1000).await, 1).await.unwrap();
    assert!(whole.1 == bytes);
    let ended = shop.restore(open(2).await, 1).await;
    assert!(matches!(ended, Err(RestoreError::Fetch(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_without_the_remembered_manifest_is_a_rollback_though_its_number_is_higher() {
    let shop = Shop::new().await;
    let bytes = noise(BLOCK, 1);
    shop.night(0, &bytes).await;
    shop.night(1, &bytes).await;
    let first = shop.keys("points/").remove(0).as_str().rsplit('-').next().unwrap().to_owned();
    for (sha256, is_known) in [(first, true), ("ab".repeat(32), false)] {
        let remembered = Some(Anchor { sequence: 1, sha256 });
        let night = if is_known { 2 } else { 3 };
        let (made, lines) = shop.back_up(&BackupTask { remembered, ..shop.task(night, &bytes) }).await;
        made.unwrap();
        let kinds: Vec<String> = lines.findings().into_iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, if is_known { vec![] } else { vec!["rollback".to_owned()] });
    }
}

#[test]
fn an_image_that_damage_keeps_from_being_mounted_is_told_as_damage_with_its_object() {
    if !has_loop_devices() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), "disk", 16, &["mke2fs", "-q", "-F", "-t", "ext4"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let setup = Setup {
        program: PathBuf::from(env!("CARGO_BIN_EXE_dualsync-block")),
        state: folder.path().join("state"),
        kernel_mount: true,
        runtime: runtime.handle().clone(),
    };
    let faults = Arc::new(Faults::default());
    faults.damaged.lock().unwrap().insert(0, "packs/aa/bad".to_owned());
    let (point, mut findings) = (point(0), Vec::new());
    let question = Question { point: &point, target: "paris", slice: None };
    let outcome = facts(ImageFile::open(&image, faults), &question, &setup, &mut |event| {
        if let Event::Finding(finding) = event {
            findings.push(finding);
        }
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, FactsError::Damaged { objects: 1, .. }), "{error:?}");
    assert_eq!(Trouble::from(error).exit(), Exit::Damaged);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((finding.object.as_str(), finding.points.as_slice()), ("packs/aa/bad", [point.clone()].as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ledger_is_kept_however_many_points_there_are() {
    let shop = Shop::new().await;
    for night in 0..4 {
        shop.night(night, &noise(BLOCK, 1)).await;
    }
    let census = Census::take(&*shop.open().await).await.unwrap();
    let ledgers: Vec<usize> = census.heads.iter().map(|head| head.description.ledger.len()).collect();
    assert_eq!(ledgers, [0, 0, 0, 3]);
    assert_eq!(census.newest().unwrap().sequence, 4);
}
