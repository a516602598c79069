//! A target, keys and a source on disk, and the program run on them in this process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dualsync_archive::events::Events;
use dualsync_archive::failure::Fault;
use dualsync_archive::input::Input;
use dualsync_archive::keys::KeyRefs;
use dualsync_archive::program::work_on;
use dualsync_archive_store::contract::Store;
use dualsync_archive_store::service::Patience;
use dualsync_model::event::{Event, Summary};
use dualsync_model::job::{
    BackupTask, Class, InitTask, Job, Keys, ListTask, Place, RestoreTask, Shape, Snapshot, Target, Task,
};
use dualsync_model::time::Timestamp;

/// Collects event lines.
#[derive(Clone, Default)]
pub struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hears each line, which comes in one piece, and keeps it.
struct Ears<F> {
    sink: Sink,
    hear: F,
}

impl<F: FnMut(&str) + Send> Write for Ears<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (self.hear)(&String::from_utf8_lossy(bytes));
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.sink.flush()
    }
}

impl Sink {
    /// What was printed.
    pub fn events(&self) -> Vec<Event> {
        let text = self.0.lock().unwrap().clone();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

/// Everything a job needs, in one folder.
pub struct Site {
    /// The folder.
    pub root: Arc<tempfile::TempDir>,
    /// The host's folder for state, and its source, below it.
    pub host: String,
    /// Pinned after `init`.
    pub signing_public: Option<String>,
    /// Nights so far.
    pub night: i64,
    /// How to compress.
    pub compression: String,
}

/// How a job ended.
pub struct Ended {
    /// The summary, or why there is none.
    pub outcome: Result<Summary, Fault>,
    /// Every line.
    pub events: Vec<Event>,
}

impl Ended {
    /// The summary of a job that was done.
    pub fn summary(&self) -> &Summary {
        self.outcome.as_ref().unwrap_or_else(|fault| panic!("{fault:?}\n{:?}", self.events))
    }

    /// Warnings with this code.
    pub fn warnings(&self, code: &str) -> Vec<String> {
        let warnings = self.events.iter().filter_map(|event| match event {
            Event::Warning(warning) if warning.code == code => Some(warning.message.clone()),
            _ => None,
        });
        warnings.collect()
    }
}

pub const COMMIT: &str = "{\"command\":\"commit\"}\n";

impl Site {
    /// An empty target and an empty source, without a repository.
    pub fn bare() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["target", "source", "state"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        let root = Arc::new(root);
        Self { root, host: String::new(), signing_public: None, night: 0, compression: "zstd:3".into() }
    }

    /// The same keys and nights, with a state and a source of its own that holds what the source holds now.
    pub fn fork(&self, number: usize, seed: u64) -> Self {
        let host = format!("host-{number}-{seed:x}/");
        let root = self.root.path().join(&host);
        std::fs::create_dir_all(root.join("state")).unwrap();
        let copied = std::process::Command::new("cp").arg("-a").arg(self.source()).arg(root.join("source")).status();
        assert!(copied.unwrap().success());
        let (root, signing_public) = (self.root.clone(), self.signing_public.clone());
        Self { root, host, signing_public, night: self.night, compression: self.compression.clone() }
    }

    /// A target with a repository.
    pub async fn new() -> Self {
        let mut site = Self::bare();
        let ended = site.run(Task::Init(InitTask::default())).await;
        site.pin(&ended);
        site
    }

    /// Pins the key that `init` printed.
    pub fn pin(&mut self, ended: &Ended) {
        ended.summary();
        let repository = ended.events.iter().find_map(|event| match event {
            Event::Repository(repository) => Some(repository.clone()),
            _ => None,
        });
        self.signing_public = repository.unwrap().signing_public;
    }

    /// Restores the last point into a new folder.
    pub async fn restore(&self, to: &str) -> PathBuf {
        let task = RestoreTask {
            point: self.backup_task().point,
            to: self.path(to),
            shape: Shape::Tree,
            paths: Vec::new(),
            resume: false,
            overwrite: false,
            dry_run: false,
            kernel_mount: false,
        };
        self.run(Task::Restore(task)).await.summary();
        self.path(to)
    }

    /// Restores the last point and compares it with the source.
    pub async fn restore_and_compare(&self, to: &str) {
        same_tree(&self.source(), &self.restore(to).await);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The tree that is backed up.
    pub fn source(&self) -> PathBuf {
        self.path(&format!("{}source", self.host))
    }

    /// The directory target.
    pub fn target(&self) -> PathBuf {
        self.path("target")
    }

    pub fn keys(&self) -> Keys {
        Keys::Archive {
            identity: format!("file:{}", self.path("age.key").display()).parse().unwrap(),
            signing_key: format!("file:{}", self.path("minisign.key").display()).parse().unwrap(),
            signing_public: self.signing_public.clone(),
            recipients: Vec::new(),
            sealed: false,
        }
    }

    pub fn job(&self, task: Task) -> Job {
        Job {
            protocol: 1,
            now: self.now(),
            target: Target {
                name: "paris".into(),
                place: Place::Directory { path: self.target() },
                prefix: String::new(),
                credentials: None,
                immutability: None,
            },
            keys: self.keys(),
            state: self.path(&format!("{}state", self.host)),
            bandwidth: None,
            task,
        }
    }

    /// The time of this night, long after every file was made, so that nothing is racy.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_compact("20361120T020000Z").unwrap().plus_seconds(self.night * 86_400)
    }

    pub fn backup_task(&self) -> BackupTask {
        BackupTask {
            point: format!("web@{}", self.now().compact()).parse().unwrap(),
            run: format!("{:016x}", self.night).parse().unwrap(),
            business_date: self.now().utc_date(),
            class: Class::Auto,
            note: None,
            expires: None,
            snapshot: Snapshot {
                id: format!("night-{}", self.night),
                method: "none".into(),
                frozen: true,
                taken_at: self.now(),
                device: "/dev/null".into(),
                tree: self.source(),
                is_device: false,
            },
            exclude: Vec::new(),
            compression: self.compression.clone(),
            other: None,
            remembered: None,
            grace_s: 86_400,
            resend: dualsync_model::job::Resend::default(),
            lock_until: None,
        }
    }

    /// Runs a task on the directory target.
    pub async fn run(&self, task: Task) -> Ended {
        self.run_with(task, COMMIT).await
    }

    /// Runs a task with this on its standard input.
    pub async fn run_with(&self, task: Task, input: &'static str) -> Ended {
        let job = self.job(task);
        let store = dualsync_archive_store::open(&job.target, job.now, None, Patience::default()).await.unwrap();
        run_on(&job, store, input).await
    }

    /// One more night, committed.
    pub async fn backup(&mut self) -> Ended {
        self.night += 1;
        self.run(Task::Backup(Box::new(self.backup_task()))).await
    }

    pub async fn list(&self) -> Ended {
        self.run(Task::List(ListTask::default())).await
    }

    /// Every object, by key.
    pub fn objects(&self) -> Vec<String> {
        let mut keys = Vec::new();
        collect(&self.target(), &self.target(), &mut keys);
        keys.sort();
        keys
    }

    /// The only object whose key has this form.
    pub fn objects_like(&self, prefix: &str, suffix: &str) -> Vec<String> {
        self.objects().into_iter().filter(|key| key.starts_with(prefix) && key.ends_with(suffix)).collect()
    }

    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.source().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

fn collect(root: &Path, folder: &Path, keys: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, keys);
        } else {
            keys.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// Runs a job on a store of the test's choice.
pub async fn run_on(job: &Job, store: Arc<dyn Store>, input: &'static str) -> Ended {
    run_heard(job, store, input, |_| ()).await
}

/// The same; `hear` is called with each line before the program goes on.
pub async fn run_heard(
    job: &Job,
    store: Arc<dyn Store>,
    input: &'static str,
    hear: impl FnMut(&str) + Send + 'static,
) -> Ended {
    let sink = Sink::default();
    let events = Events::new(Ears { sink: sink.clone(), hear });
    let keys = KeyRefs::of(&job.keys).unwrap();
    let outcome = work_on(job, &keys, store, Input::new(input.as_bytes()), &events).await;
    Ended { outcome, events: sink.events() }
}

/// Bytes that do not compress, the same on every machine.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// Whether the test runs with all rights.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Compares two trees by a tool that is not ours: names, kinds, modes, owners, sizes, times to the nanosecond,
/// link targets, hard links, attributes and content.
pub fn same_tree(a: &Path, b: &Path) {
    let describe = |root: &Path| {
        let line = "find . -printf '%P|%y|%m|%U|%G|%s|%T@|%l|%n\\n' | sed 's/^\\(.*|d|[^|]*|[^|]*|[^|]*|\\)[0-9]*/\\1/' | LC_ALL=C sort; \
                    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; \
                    getfattr -R -h -d -m - . 2>/dev/null | LC_ALL=C sort";
        let output = std::process::Command::new("bash").args(["-c", line]).current_dir(root).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (left, right) = (describe(a), describe(b));
    let differ = left.lines().zip(right.lines()).find(|(left, right)| left != right);
    assert!(left == right, "{differ:?}");
    assert!(left.lines().count() > 1, "there is something to compare");
}
