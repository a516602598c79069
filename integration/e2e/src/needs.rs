//! What a test needs from the machine, and how it says that it is not there.

use std::path::Path;
use std::process::{Command, Stdio};

/// True when every command is there; else the test is to return at once.
///
/// # Panics
/// With `DUALSYNC_NO_SKIP=1`, when something is missing.
pub fn commands(names: &[&str]) -> bool {
    let missing: Vec<_> = names.iter().filter(|name| !is_command(name)).collect();
    missing.is_empty() || skip(&format!("needs the commands {missing:?}"))
}

/// True for root with loop devices, who may make and mount file systems.
///
/// # Panics
/// With `DUALSYNC_NO_SKIP=1`, when this is not so.
pub fn root_and_loop() -> bool {
    let root = rustix::process::geteuid().is_root();
    (root && Path::new("/dev/loop-control").exists()) || skip("needs root and loop devices")
}

fn is_command(name: &str) -> bool {
    Command::new(name)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

fn skip(reason: &str) -> bool {
    assert!(std::env::var_os("DUALSYNC_NO_SKIP").is_none(), "{reason}, and DUALSYNC_NO_SKIP is set");
    eprintln!("skipped: {reason}");
    false
}
