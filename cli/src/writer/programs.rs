//! Where the two programs are: beside `dualsync` itself, else in the system's folder, never in PATH.
//!
//! A PATH that someone else may write must not decide what reads a whole disk as root.

use std::path::{Path, PathBuf};

use crate::mechanism::{Mechanism, Pair};

/// Where a package puts programs that people do not call.
const SYSTEM_FOLDER: &str = "/usr/libexec/dualsync";

/// The program that writes and reads this kind of copy.
pub const fn name(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Block => "dualsync-block",
        Mechanism::Archive => "dualsync-archive",
    }
}

/// A program that is in neither place.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the program {name} is neither in {} nor in {SYSTEM_FOLDER}", beside.display())]
pub struct MissingProgram {
    name: &'static str,
    beside: PathBuf,
}

/// Finds both, or says for each why not: one that is missing must not stop the other's copy.
pub fn find() -> Pair<Result<PathBuf, MissingProgram>> {
    let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned)).unwrap_or_default();
    Pair::new(|mechanism| find_in(mechanism, &beside, Path::new(SYSTEM_FOLDER)))
}

fn find_in(mechanism: Mechanism, beside: &Path, system: &Path) -> Result<PathBuf, MissingProgram> {
    [beside, system]
        .into_iter()
        .map(|folder| folder.join(name(mechanism)))
        .find(|program| program.is_absolute() && program.is_file())
        .ok_or_else(|| MissingProgram { name: name(mechanism), beside: beside.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_neighbour_is_taken_first_and_then_the_system_folder() {
        let (beside, system) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let find = || find_in(Mechanism::Block, beside.path(), system.path());
        let text = find().unwrap_err().to_string();
        assert!(text.contains("dualsync-block") && text.contains(SYSTEM_FOLDER), "{text}");
        std::fs::write(system.path().join("dualsync-block"), "").unwrap();
        assert_eq!(find().unwrap(), system.path().join("dualsync-block"));
        std::fs::write(beside.path().join("dualsync-block"), "").unwrap();
        assert_eq!(find().unwrap(), beside.path().join("dualsync-block"));
    }

    #[test]
    fn a_folder_that_is_not_known_is_never_the_working_folder() {
        assert!(find_in(Mechanism::Block, Path::new(""), Path::new("")).is_err());
    }
}
