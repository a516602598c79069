//! Driver `freeze` on a real ext4 file system: frozen is frozen, and thawed whatever dies.

mod image;
mod skip;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use dualsync_model::time::Timestamp;
use dualsync_snapshot::{Driver, FreezeSpec, Invalid, Needed, Reexec, SnapshotError, Spec, Taken, take};
use image::{Image, ends_within, run};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Long enough for a loaded machine; nothing waits this long when all is well.
const SOON: Duration = Duration::from_secs(50);
/// Long enough to see that a write hangs.
const MOMENT: Duration = Duration::from_millis(150);

/// The example `freeze`, which cargo builds beside the tests.
fn example() -> PathBuf {
    let tests = std::env::current_exe().expect("a test has a path");
    let program = tests.ancestors().nth(2).expect("target/debug/deps/test").join("examples/freeze");
    assert!(program.exists(), "{} is missing: run all of `cargo test -p dualsync-snapshot`", program.display());
    program
}

fn spec(image: &Image, limit: Duration) -> Spec {
    let watchdog = Reexec { program: example(), args: vec!["__watchdog".into()] };
    Spec {
        source: "web".parse().expect("a name"),
        device: image.file(),
        tree: image.tree(),
        driver: Driver::Freeze(FreezeSpec { limit, watchdog, needed: Vec::new() }),
    }
}

fn freeze(image: &Image, limit: Duration) -> Taken {
    take(&spec(image, limit), Timestamp::default()).expect("a mounted image can be frozen")
}

fn assert_frozen(image: &Image) -> Child {
    let write = image.start_write();
    assert!(!ends_within(&write, MOMENT), "a write went through");
    write
}

fn assert_thaws(image: &Image, mut waiting: Child) {
    assert!(ends_within(&waiting, SOON), "still frozen");
    assert!(waiting.wait().expect("it ended").success());
    assert!(image.tree().join("written").exists());
}

#[test]
fn nothing_is_written_until_the_release() {
    let Some(image) = Image::mounted() else { return };
    let mut taken = freeze(&image, SOON);
    let moment = taken.moment();
    assert!(moment.frozen && !moment.is_device && moment.method == "freeze");
    assert_eq!((&moment.device, &moment.tree), (&image.file(), &image.tree()));
    let write = assert_frozen(&image);
    taken.still_valid().expect("it holds");
    taken.still_valid().expect("it can be asked again");
    taken.release().expect("the watchdog thaws");
    assert_thaws(&image, write);
}

#[test]
fn a_read_only_file_system_is_frozen_against_a_remount() {
    let Some(image) = Image::mounted() else { return };
    image.remount("ro");
    let mut taken = freeze(&image, SOON);
    taken.still_valid().expect("it holds");
    taken.release().expect("the watchdog thaws");
    image.remount("rw");
    assert_thaws(&image, image.start_write());
}

#[test]
fn dropping_it_thaws() {
    let Some(image) = Image::mounted() else { return };
    let taken = freeze(&image, SOON);
    let write = assert_frozen(&image);
    drop(taken);
    assert_thaws(&image, write);
}

#[test]
fn an_expired_freeze_is_thawed_and_noticed() {
    let Some(image) = Image::mounted() else { return };
    let mut taken = freeze(&image, Duration::from_millis(400));
    let write = image.start_write();
    assert_thaws(&image, write);
    for _ in 0..2 {
        let invalid = taken.still_valid().expect_err("the limit is over");
        assert!(matches!(invalid, Invalid::Expired { .. } | Invalid::Watchdog { .. }), "{invalid}");
    }
    taken.release().expect("there is nothing left to thaw");
}

#[test]
fn a_thaw_by_someone_else_is_noticed_and_leaves_nothing_frozen() {
    let Some(image) = Image::mounted() else { return };
    let mut taken = freeze(&image, SOON);
    assert!(run("fsfreeze", &["--unfreeze".as_ref(), image.tree().as_ref()]));
    assert!(matches!(taken.still_valid(), Err(Invalid::Thawed { .. })));
    taken.release().expect("there is nothing left to thaw");
    assert_thaws(&image, image.start_write());
}

#[test]
fn a_freeze_of_someone_else_is_refused_and_left_alone() {
    let Some(image) = Image::mounted() else { return };
    assert!(run("fsfreeze", &["--freeze".as_ref(), image.tree().as_ref()]));
    let refusal = take(&spec(&image, SOON), Timestamp::default()).err().expect("it is frozen already");
    assert!(matches!(refusal, SnapshotError::Freeze { .. }), "{refusal}");
    let write = assert_frozen(&image);
    assert!(run("fsfreeze", &["--unfreeze".as_ref(), image.tree().as_ref()]));
    assert_thaws(&image, write);
}

#[test]
fn what_a_run_writes_is_not_frozen() {
    let Some(image) = Image::mounted() else { return };
    let refused = |needed: &Path, program: &Path| {
        let mut spec = spec(&image, SOON);
        let Driver::Freeze(freeze) = &mut spec.driver else { unreachable!("made above") };
        freeze.needed = vec![Needed { label: "the state directory".into(), path: needed.to_owned() }];
        freeze.watchdog.program = program.to_owned();
        take(&spec, Timestamp::default()).err()
    };
    let refusal = refused(&image.tree().join("state/not/yet"), &example()).expect("the state would block");
    assert!(refusal.to_string().contains("the state directory"), "{refusal}");
    let refusal = refused(image.beside(), &image.tree().join("dualsync")).expect("the watchdog would block");
    assert!(refusal.to_string().contains("the watchdog"), "{refusal}");
    assert!(refused(image.beside(), &example()).is_none(), "what lies beside is no reason");
    assert_thaws(&image, image.start_write());
}

#[test]
fn a_tree_that_is_not_on_the_device_is_refused() {
    let Some(image) = Image::mounted() else { return };
    let mut spec = spec(&image, SOON);
    spec.device = image.beside().join("other.img");
    std::fs::write(&spec.device, "x").expect("a file");
    assert!(matches!(take(&spec, Timestamp::default()), Err(SnapshotError::TreeElsewhere { .. })));
}

#[test]
fn a_watchdog_that_is_not_one_freezes_nothing() {
    let Some(image) = Image::mounted() else { return };
    for (program, args) in [("/bin/echo", vec!["hello"]), ("/bin/true", vec![]), ("/nonexistent", vec![])] {
        let mut spec = spec(&image, SOON);
        let Driver::Freeze(freeze) = &mut spec.driver else { unreachable!("made above") };
        freeze.watchdog = Reexec { program: program.into(), args: args.into_iter().map(Into::into).collect() };
        assert!(matches!(take(&spec, Timestamp::default()), Err(SnapshotError::Freeze { .. })), "{program}");
        assert_thaws(&image, image.start_write());
    }
}

/// The example as a process of its own, with a watchdog as its child.
struct Holder {
    process: Child,
    says: BufReader<ChildStdout>,
    watchdog: Pid,
}

impl Holder {
    fn start(image: &Image) -> Self {
        let mut process = Command::new(example())
            .process_group(0)
            .args([image.file().as_os_str(), image.tree().as_os_str(), "45000".as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut says = BufReader::new(process.stdout.take().expect("it is piped"));
        assert_eq!(line(&mut says), "frozen");
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let children = std::fs::read_to_string(children).expect("the kernel lists children");
        let watchdog = children.trim().parse().ok().and_then(Pid::from_raw).expect("one child, the watchdog");
        Self { process, says, watchdog }
    }

    fn check(&mut self) -> String {
        let orders = self.process.stdin.as_mut().expect("it is piped");
        orders.write_all(b"check\n").expect("it listens");
        line(&mut self.says)
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

#[test]
fn when_everything_else_is_killed_the_watchdog_thaws() {
    let Some(image) = Image::mounted() else { return };
    let mut holder = Holder::start(&image);
    assert_eq!(holder.check(), "valid");
    let write = assert_frozen(&image);
    holder.process.kill().expect("SIGKILL");
    holder.process.wait().expect("it is dead");
    assert_thaws(&image, write);
}

#[test]
fn when_the_whole_process_group_is_killed_the_watchdog_thaws() {
    let Some(image) = Image::mounted() else { return };
    let mut holder = Holder::start(&image);
    let write = assert_frozen(&image);
    kill_process_group(Pid::from_child(&holder.process), Signal::KILL).expect("SIGKILL");
    holder.process.wait().expect("it is dead");
    assert_thaws(&image, write);
}

#[test]
fn signals_that_end_a_service_do_not_end_the_watchdog() {
    let Some(image) = Image::mounted() else { return };
    let mut holder = Holder::start(&image);
    for signal in [Signal::HUP, Signal::INT, Signal::TERM, Signal::QUIT, Signal::USR1, Signal::USR2] {
        kill_process(holder.watchdog, signal).expect("it lives");
    }
    assert_eq!(holder.check(), "valid");
    let write = assert_frozen(&image);
    drop(holder.process.stdin.take());
    assert_thaws(&image, write);
    assert!(holder.process.wait().expect("it ends").success());
}

#[test]
fn a_killed_watchdog_is_noticed_and_its_freeze_is_ended() {
    let Some(image) = Image::mounted() else { return };
    let mut holder = Holder::start(&image);
    let write = assert_frozen(&image);
    kill_process(holder.watchdog, Signal::KILL).expect("it lives");
    assert!(holder.check().starts_with("nothing is known of the freeze"));
    drop(holder.process.stdin.take());
    assert_thaws(&image, write);
    assert!(holder.process.wait().expect("it ends").success());
}

#[test]
fn the_watchdog_has_its_memory_locked_and_a_session_of_its_own() {
    let Some(image) = Image::mounted() else { return };
    let mut holder = Holder::start(&image);
    let pid = holder.watchdog.as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let locked = status.lines().find(|line| line.starts_with("VmLck:")).expect("the kernel says so");
    assert!(!locked.ends_with(" 0 kB"), "{locked}");
    assert_eq!(rustix::process::getsid(Some(holder.watchdog)).expect("it lives"), holder.watchdog);
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).expect("it lives"), Path::new("/"));
    drop(holder.process.stdin.take());
    assert!(holder.process.wait().expect("it ends").success());
}
