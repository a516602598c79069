//! Whatever kills a run and both its writers while the file system stands still: it is thawed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dualsync_e2e::image::{Mounted, sh, text};
use dualsync_e2e::needs;
use dualsync_e2e::site::{Site, Source};
use rustix::process::{Pid, Signal, kill_process};

/// Long enough for a loaded machine, and much shorter than the limit of the freeze.
const SOON: Duration = Duration::from_mins(1);
/// Long enough to see that a write hangs.
const MOMENT: Duration = Duration::from_millis(300);

/// What `work` gives, whenever it is done.
fn later<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(work()));
    receiver
}

/// The process ids that two held writers leave in a pipe.
fn held(pipe: PathBuf) -> Receiver<[i32; 2]> {
    later(move || {
        // Open for both, so that it does not end between two writers.
        let pipe = fs::File::options().read(true).write(true).open(pipe).unwrap();
        let mut lines = BufReader::new(pipe).lines();
        [(); 2].map(|()| lines.next().unwrap().unwrap().parse().unwrap())
    })
}

fn thaw(tree: &Path) {
    let _ = Command::new("fsfreeze").arg("--unfreeze").arg(tree).stderr(Stdio::null()).status();
}

#[test]
fn a_file_system_is_thawed_when_the_run_and_both_writers_are_killed() {
    if !needs::root_and_loop() || !needs::commands(&["fsfreeze"]) {
        return;
    }
    let site = Site::new();
    let mounted = Mounted::make(site.directory.path(), "data", "ext4", 32, &[]);
    fs::write(mounted.tree.join("file"), "data").unwrap();
    site.configure(&Source {
        device: mounted.device.clone(),
        tree: mounted.tree.clone(),
        lines: "snapshot = \"freeze\"\n[limits]\nfreeze = \"20m\"\n".into(),
    });
    let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
    let pipe = site.path("held");
    sh("mkfifo", &[text(&pipe)]);
    let writers = ["dualsync-block", "dualsync-archive"];
    for writer in writers {
        let script = "[ \"$1\" = backup ] || exec \"$real\" \"$@\"\necho $$ > HELD\nexec sleep 900";
        site.programs.replace(writer, &script.replace("HELD", text(&pipe)));
    }
    let pids = held(pipe);
    let mut run =
        site.command(&["run"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pids = pids.recv_timeout(SOON).expect("both writers were started");

    let after = mounted.tree.join("after");
    let write = later(move || fs::write(after, "it goes through").map(drop));
    let early = write.recv_timeout(MOMENT);
    run.kill().unwrap();
    run.wait().unwrap();
    for pid in pids {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    let late = write.recv_timeout(SOON);
    thaw(&mounted.tree);
    assert!(early.is_err(), "the file system was not frozen: {early:?}");
    late.expect("the file system stayed frozen").unwrap();

    for writer in writers {
        site.programs.mend(writer);
    }
    let _ = site.dualsync(&["run"]).exits(0);
    let _ = site.dualsync(&["verify", "--latest", "--full"]).exits(0);
}
