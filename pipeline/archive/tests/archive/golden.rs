//! Repositories that earlier releases wrote: each is opened, checked, listed, compared and restored.
//!
//! `tests/golden/make` made `v1`; it is never made anew, since its purpose is that it stays as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dualsync_archive_store::service::Patience;
use dualsync_model::event::Event;
use dualsync_model::fact::Fact;
use dualsync_model::job::{CheckTask, Depth, FactsTask, Job, Keys, ListTask, Place, RestoreTask, Shape, Target, Task};

use crate::site::{Ended, run_on};

/// A golden repository, copied to where its keys can be made private.
struct Golden {
    root: tempfile::TempDir,
}

impl Golden {
    fn open(version: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version);
        let copied = std::process::Command::new("cp").arg("-r").arg(from.join(".")).arg(root.path()).status();
        assert!(copied.unwrap().success());
        for key in ["identity.txt", "signing.key"] {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(root.path().join(key), private).unwrap();
        }
        std::fs::create_dir(root.path().join("state")).unwrap();
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    async fn run(&self, task: Task) -> Ended {
        let key = |name: &str| format!("file:{}", self.path(name).display()).parse().unwrap();
        let signing_public = std::fs::read_to_string(self.path("signing.pub")).unwrap().trim().to_owned();
        let job = Job {
            protocol: 1,
            now: "2036-11-22T00:00:00Z".parse().unwrap(),
            target: Target {
                name: "golden".into(),
                place: Place::Directory { path: self.path("repository") },
                prefix: String::new(),
                credentials: None,
                immutability: None,
            },
            keys: Keys::Archive {
                identity: key("identity.txt"),
                signing_key: key("signing.key"),
                signing_public: Some(signing_public),
                recipients: Vec::new(),
                sealed: false,
            },
            state: self.path("state"),
            bandwidth: None,
            task,
        };
        let store = dualsync_archive_store::open(&job.target, job.now, None, Patience::default()).await.unwrap();
        run_on(&job, store, "").await
    }
}

fn facts(events: impl IntoIterator<Item = Event>) -> Vec<Fact> {
    let facts = events.into_iter().filter_map(|event| match event {
        Event::Fact(fact) => Some(*fact),
        _ => None,
    });
    facts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_of_version_1_is_read_as_it_was_written() {
    let golden = Golden::open("v1");
    let listed = golden.run(Task::List(ListTask::default())).await;
    assert_eq!((listed.summary().items, listed.summary().incomplete), (2, 0), "{:?}", listed.events);
    let check = CheckTask { point: None, depth: Depth::Objects, slice: None };
    let checked = golden.run(Task::Check(check)).await;
    assert_eq!(checked.summary().incomplete, 0, "{:?}", checked.events);
    assert!(checked.summary().objects > 10);

    for (point, passwd) in [("web@20361120T020000Z", "root:x:0:0\n"), ("web@20361121T020000Z", "changed")] {
        let text = std::fs::read_to_string(golden.path(&format!("{point}.facts"))).unwrap();
        let wanted = facts(text.lines().map(|line| serde_json::from_str(line).unwrap()));
        let task = FactsTask { point: point.parse().unwrap(), slice: None, kernel_mount: false };
        let found = golden.run(Task::Facts(task)).await;
        found.summary();
        let found = facts(found.events);
        assert_eq!(found, wanted, "{point}");
        assert_eq!(found.len(), 15);

        let to = golden.path(point);
        let task = RestoreTask {
            point: point.parse().unwrap(),
            to: to.clone(),
            shape: Shape::Tree,
            paths: Vec::new(),
            resume: false,
            overwrite: false,
            dry_run: false,
            kernel_mount: false,
        };
        golden.run(Task::Restore(task)).await.summary();
        assert_eq!(std::fs::read_to_string(to.join("etc/passwd")).unwrap(), passwd);
        let digests: BTreeMap<_, _> =
            wanted.iter().filter_map(|fact| Some((&fact.path, fact.sha256.clone()?))).collect();
        assert!(digests.len() > 6);
        for (path, digest) in digests {
            let name = std::os::unix::ffi::OsStrExt::from_bytes(path.as_bytes());
            let bytes = std::fs::read(to.join::<&std::ffi::OsStr>(name)).unwrap();
            assert_eq!(dualsync_archive::digest::Digest::of(&bytes).hex(), digest, "{path:?}");
        }
    }
}
