//! Driver `command` with real commands: what they see, what they print, and that `release` runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dualsync_model::time::Timestamp;
use dualsync_snapshot::{CommandSpec, Driver, Invalid, Leftover, ReleaseError, SnapshotError, Spec, leftovers, take};

/// A folder with an image file, a tree, and the place where `release` leaves its environment.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("snap.img"), "x").expect("an image");
        fs::create_dir(folder.path().join("tree")).expect("a tree");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A script that prints device and tree.
    fn prints(&self) -> String {
        format!(
            "sh -c 'echo device={}; echo tree={}; echo id=lv7'",
            self.path("snap.img").display(),
            self.path("tree").display()
        )
    }

    fn spec(&self, take: &str, check: Option<&str>) -> Spec {
        let release = format!("sh -c 'env | grep ^DUALSYNC_ | sort > {}'", self.path("released").display());
        Spec {
            source: "web".parse().expect("a name"),
            device: self.path("snap.img"),
            tree: self.path("tree"),
            driver: Driver::Command(CommandSpec {
                take: take.to_owned(),
                release,
                check: check.map(str::to_owned),
                limit: Duration::from_secs(30),
                journal: self.path("journal"),
            }),
        }
    }

    /// Snapshots that are noted as standing.
    fn leftovers(&self) -> Vec<Leftover> {
        leftovers(&self.path("journal"), &"web".parse().expect("a name")).expect("the journal can be read")
    }

    /// The environment that `release` saw, if it ran.
    fn released(&self) -> Option<String> {
        fs::read_to_string(self.path("released")).ok()
    }
}

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

#[test]
fn the_printed_device_and_tree_are_the_moment_and_release_sees_them() {
    let place = Place::new();
    let mut taken = take(&place.spec(&place.prints(), Some("true")), NOW).expect("the commands work");
    let moment = taken.moment().clone();
    assert_eq!((&moment.device, &moment.tree), (&place.path("snap.img"), &place.path("tree")));
    assert!(moment.frozen && !moment.is_device && moment.method == "command" && moment.id.len() == 32);
    assert!(moment.taken_at >= NOW);
    taken.still_valid().expect("check says so");
    assert_eq!(place.released(), None);
    taken.release().expect("release works");
    let env = place.released().expect("it ran");
    for line in [
        format!("DUALSYNC_DEVICE={}", moment.device.display()),
        format!("DUALSYNC_TREE={}", moment.tree.display()),
        format!("DUALSYNC_SNAPSHOT={}", moment.id),
        "DUALSYNC_ID=lv7".to_owned(),
        "DUALSYNC_SOURCE=web".to_owned(),
        format!("DUALSYNC_SOURCE_TREE={}", place.path("tree").display()),
    ] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
}

#[test]
fn a_snapshot_that_nobody_released_is_released_by_its_note() {
    let place = Place::new();
    let taken = take(&place.spec(&place.prints(), None), NOW).expect("it works");
    let id = taken.moment().id.clone();
    // As a kill leaves it: nothing is dropped.
    std::mem::forget(taken);
    let [leftover] = <[Leftover; 1]>::try_from(place.leftovers()).expect("one stands");
    leftover.release().expect("release works");
    let env = place.released().expect("it ran");
    for line in [format!("DUALSYNC_SNAPSHOT={id}"), "DUALSYNC_ID=lv7".to_owned(), "DUALSYNC_SOURCE=web".to_owned()] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    assert!(place.leftovers().is_empty());
}

#[test]
fn what_stands_is_noted_before_take_runs_and_until_release_did() {
    let place = Place::new();
    let seen = place.path("seen");
    let journal = place.path("journal");
    let look = format!("sh -c 'ls {} > {}; exit 3'", journal.display(), seen.display());
    assert!(take(&place.spec(&look, None), NOW).is_err());
    assert!(fs::read_to_string(seen).expect("take ran").starts_with("web."));
    assert!(place.leftovers().is_empty(), "release worked after the failed take");

    let mut spec = place.spec(&place.prints(), None);
    let Driver::Command(commands) = &mut spec.driver else { unreachable!("made above") };
    commands.release = format!("test -e {}", place.path("gone").display());
    take(&spec, NOW).expect("it works").release().expect_err("release fails");
    let [leftover] = <[Leftover; 1]>::try_from(place.leftovers()).expect("it still stands");
    leftover.release().expect_err("release fails again");
    fs::write(place.path("gone"), "").expect("a file");
    let [leftover] = <[Leftover; 1]>::try_from(place.leftovers()).expect("it still stands");
    leftover.release().expect("now it is gone");
    assert!(place.leftovers().is_empty());
}

#[test]
fn nothing_is_taken_that_cannot_be_noted() {
    let place = Place::new();
    fs::write(place.path("journal"), "a file in the way").expect("a file");
    let refusal = take(&place.spec(&place.prints(), None), NOW).err().expect("it is refused");
    assert!(refusal.to_string().starts_with("cannot note a snapshot in"), "{refusal}");
    assert_eq!(place.released(), None);
}

#[test]
fn each_moment_has_its_own_id() {
    let place = Place::new();
    let id = || take(&place.spec(&place.prints(), None), NOW).expect("it works").moment().id.clone();
    assert_ne!(id(), id());
}

#[test]
fn release_runs_when_the_moment_is_dropped() {
    let place = Place::new();
    drop(take(&place.spec(&place.prints(), None), NOW).expect("it works"));
    assert!(place.released().is_some());
}

#[test]
fn release_runs_after_every_failure_of_take() {
    let fails: [(&str, &str); 6] = [
        ("sh -c 'echo device=/made/it; exit 3'", "DUALSYNC_DEVICE=/made/it"),
        ("sh -c 'echo tree=/made/it'", "DUALSYNC_TREE=/made/it"),
        ("sh -c 'echo device=/nonexistent; echo tree=/'", "DUALSYNC_DEVICE=/nonexistent"),
        ("sh -c 'echo device=/dev/null; echo tree=/'", "DUALSYNC_DEVICE=/dev/null"),
        ("sh -c 'echo device=/etc/passwd; echo tree=/etc/passwd'", "DUALSYNC_TREE=/etc/passwd"),
        ("/nonexistent/program", "DUALSYNC_SOURCE=web"),
    ];
    for (line, told) in fails {
        let place = Place::new();
        assert!(take(&place.spec(line, None), NOW).is_err(), "{line}");
        let env = place.released().unwrap_or_else(|| panic!("no release after {line}"));
        assert!(env.contains(told), "{told} in {env}");
    }
}

#[test]
fn a_command_line_that_is_none_starts_nothing() {
    let place = Place::new();
    for (take_line, check) in [("sh -c 'x", None), ("", None), ("true", Some("a\\"))] {
        let refusal = take(&place.spec(take_line, check), NOW).err().expect("it cannot be read");
        assert!(matches!(refusal, SnapshotError::Command(_)), "{refusal}");
    }
    assert_eq!(place.released(), None);
}

#[test]
fn take_that_hangs_is_killed_and_released() {
    let place = Place::new();
    let mut spec = place.spec("sleep 3600", None);
    let Driver::Command(commands) = &mut spec.driver else { unreachable!("made above") };
    commands.limit = Duration::from_millis(300);
    assert!(take(&spec, NOW).is_err());
    assert!(place.released().is_some());
}

#[test]
fn a_check_that_fails_makes_it_invalid() {
    let place = Place::new();
    let full = place.path("full");
    let check = format!("test ! -e {}", full.display());
    let mut taken = take(&place.spec(&place.prints(), Some(&check)), NOW).expect("it works");
    taken.still_valid().expect("not full yet");
    fs::write(full, "").expect("a file");
    assert!(matches!(taken.still_valid(), Err(Invalid::Check(_))));
    taken.release().expect("release works");
}

#[test]
fn another_file_in_the_place_of_the_device_makes_it_invalid() {
    let place = Place::new();
    let mut taken = take(&place.spec(&place.prints(), None), NOW).expect("it works");
    fs::rename(place.path("snap.img"), place.path("old.img")).expect("a rename");
    assert!(matches!(taken.still_valid(), Err(Invalid::Unknown { .. })));
    fs::write(place.path("snap.img"), "x").expect("a file");
    assert!(matches!(taken.still_valid(), Err(Invalid::Changed { .. })));
}

#[test]
fn a_release_that_fails_is_told() {
    let place = Place::new();
    let mut spec = place.spec(&place.prints(), None);
    let Driver::Command(commands) = &mut spec.driver else { unreachable!("made above") };
    commands.release = "sh -c 'echo still in use >&2; exit 5'".to_owned();
    let error = take(&spec, NOW).expect("it works").release().expect_err("release fails");
    let ReleaseError::Command(cause) = &error else { panic!("{error}") };
    let cause = std::error::Error::source(cause).expect("it has a cause").to_string();
    assert!(cause.contains("still in use"), "{cause}");
}

#[test]
fn what_is_no_device_or_no_tree_is_refused_before_any_command_runs() {
    let place = Place::new();
    let refused = |device: &Path, tree: &Path| {
        let mut spec = place.spec(&place.prints(), None);
        (spec.device, spec.tree) = (device.to_owned(), tree.to_owned());
        take(&spec, NOW).err().expect("it is refused")
    };
    let (image, tree) = (place.path("snap.img"), place.path("tree"));
    assert!(matches!(refused(Path::new("/dev/null"), &tree), SnapshotError::NotADevice { .. }));
    assert!(matches!(refused(&tree, &tree), SnapshotError::NotADevice { .. }));
    assert!(matches!(refused(&image, &image), SnapshotError::NotATree { .. }));
    assert!(matches!(refused(&place.path("gone"), &tree), SnapshotError::Io { .. }));
    assert_eq!(place.released(), None);
}
