//! Driver `freeze`: the mounted file system stands still while it is read; for small sources.
//!
//! Refused when anything a run writes lies on that file system: the run would wait for itself
//! until the limit. The freeze and the thaw are the watchdog's.

use std::path::{Path, PathBuf};

use crate::error::SnapshotError;
use crate::footing::{Ground, Host};
use crate::spec::{FreezeSpec, Needed};
use crate::watchdog::leash::Leash;

/// Freezes the file system of `tree`, which stands on `device`.
pub(crate) fn take(device: &Path, tree: &Path, ground: Ground, spec: &FreezeSpec) -> Result<Leash, SnapshotError> {
    let host = Host::look().map_err(|source| SnapshotError::Io {
        operation: "look for mounts of",
        path: device.to_owned(),
        source,
    })?;
    refuse(&host, device, tree, ground, spec)?;
    Leash::freeze(&spec.watchdog, tree, spec.limit)
        .map_err(|source| SnapshotError::Freeze { tree: tree.to_owned(), source })
}

fn refuse(host: &Host, device: &Path, tree: &Path, ground: Ground, spec: &FreezeSpec) -> Result<(), SnapshotError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SnapshotError::Io { operation: "find the file system of", path, source }
    };
    if !host.under_path(tree).map_err(failed(tree))?.contains(&ground) {
        return Err(SnapshotError::TreeElsewhere { tree: tree.to_owned(), device: device.to_owned() });
    }
    let frozen = Ground::Device(host.mount_of(tree).map_err(failed(tree))?.device);
    for Needed { label, path } in always_needed(spec).iter().chain(&spec.needed) {
        if host.under_path(path).map_err(failed(path))?.contains(&frozen) {
            let (tree, label, path) = (tree.to_owned(), label.clone(), path.clone());
            return Err(SnapshotError::WouldBlock { tree, label, path });
        }
    }
    Ok(())
}

fn always_needed(spec: &FreezeSpec) -> [Needed; 2] {
    [
        Needed { label: "the whole system".to_owned(), path: PathBuf::from("/") },
        Needed { label: "the watchdog".to_owned(), path: spec.watchdog.program.clone() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn spec(needed: &[&str]) -> FreezeSpec {
        let needed = needed.iter().map(|path| Needed { label: format!("label of {path}"), path: path.into() });
        FreezeSpec {
            limit: Duration::from_secs(1),
            watchdog: crate::Reexec { program: "/proc/self/exe".into(), args: Vec::new() },
            needed: needed.collect(),
        }
    }

    #[test]
    fn the_root_is_never_frozen() {
        let host = Host::look().unwrap();
        let ground = Ground::Device(host.mount_of(Path::new("/")).unwrap().device);
        let refusal = refuse(&host, Path::new("/dev/root"), Path::new("/"), ground, &spec(&[])).unwrap_err();
        assert!(matches!(&refusal, SnapshotError::WouldBlock { path, .. } if path == Path::new("/")), "{refusal}");
    }

    #[test]
    fn what_a_run_writes_is_never_frozen_even_before_it_exists() {
        // /proc is a file system of its own on every Linux host, and neither the root nor our program is on it.
        let host = Host::look().unwrap();
        let ground = Ground::Device(host.mount_of(Path::new("/proc")).unwrap().device);
        let tree = Path::new("/proc");
        refuse(&host, Path::new("proc"), tree, ground, &spec(&["/"])).expect("nothing of ours is on /proc");
        let refusal = refuse(&host, Path::new("proc"), tree, ground, &spec(&["/proc/none/yet"])).unwrap_err();
        assert!(refusal.to_string().contains("label of /proc/none/yet"), "{refusal}");
    }

    #[test]
    fn a_tree_on_another_device_is_refused() {
        let host = Host::look().unwrap();
        let refusal = refuse(&host, Path::new("/dev/x"), Path::new("/proc"), Ground::Device((99, 99)), &spec(&[]));
        assert!(matches!(refusal, Err(SnapshotError::TreeElsewhere { .. })));
    }
}
