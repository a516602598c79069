//! What a restore makes of TO, and which copy it reads: decided before anything is written.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use dualsync_model::job::Shape;

use crate::args::From;
use crate::exit::UsageError;
use crate::listing::CopyRow;
use crate::mechanism::{Mechanism, Pair};

/// What stands at TO now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A block device.
    Device,
    /// A regular file.
    File,
    /// A directory without an entry.
    EmptyDirectory,
    /// A directory with something in it.
    Directory,
}

impl Standing {
    /// Looks, following links.
    pub fn of(to: &Path) -> Result<Self, UsageError> {
        match std::fs::metadata(to) {
            Ok(metadata) => Self::of_metadata(to, &metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Nothing),
            Err(error) => Err(UsageError::new(
                format!("{} cannot be looked at: {error}", to.display()),
                "name a device, an image file or a directory that this user may see",
            )),
        }
    }

    fn of_metadata(to: &Path, metadata: &Metadata) -> Result<Self, UsageError> {
        let kind = metadata.file_type();
        if kind.is_block_device() {
            return Ok(Self::Device);
        }
        if kind.is_file() {
            return Ok(Self::File);
        }
        if kind.is_dir() {
            let empty = std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_none());
            return Ok(if empty { Self::EmptyDirectory } else { Self::Directory });
        }
        Err(UsageError::new(
            format!("{} is neither a block device nor a file nor a directory", to.display()),
            "name a device, an image file or a directory",
        ))
    }

    /// Whether there is something to lose.
    pub const fn holds_data(self) -> bool {
        matches!(self, Self::Device | Self::File | Self::Directory)
    }
}

/// What TO becomes: what stands there decides; where nothing does, `--from block` without `--path`
/// makes an image file and everything else a directory.
pub fn shape(standing: Standing, from: From, some_files: bool) -> Result<Shape, UsageError> {
    let shape = match standing {
        Standing::Device => Shape::Device,
        Standing::File => Shape::Image,
        Standing::Nothing if from == From::Block && !some_files => Shape::Image,
        Standing::EmptyDirectory | Standing::Directory | Standing::Nothing => Shape::Tree,
    };
    if shape == Shape::Tree {
        return Ok(shape);
    }
    if some_files {
        return Err(UsageError::new(
            "--path restores files into a directory, and TO is none",
            "name a directory, or one that does not exist yet",
        ));
    }
    if from == From::Archive {
        return Err(UsageError::new(
            "the archive copy holds files and cannot be restored to a device or an image file",
            "use --from block, or name a directory",
        ));
    }
    Ok(shape)
}

/// A copy and why it is that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The copy.
    pub mechanism: Mechanism,
    /// Said when it is not the one that fits best.
    pub instead: Option<String>,
}

/// The copy that is not there, by name.
#[derive(Debug, thiserror::Error)]
#[error("there is no good copy to restore from: {0}")]
pub struct NoCopy(pub String);

/// The copy to read. `auto` takes the one that fits, archive for files and block for a whole disk, and the
/// other one, where that can make the same shape, when the first is not available.
pub fn choose(from: From, shape: Shape, copies: &Pair<CopyRow>) -> Result<Choice, NoCopy> {
    let state = |mechanism: Mechanism| {
        let state = copies.get(mechanism).state;
        format!("the {mechanism} copy is {}", crate::listing::word(state))
    };
    let best = match (from, shape) {
        (From::Block, _) | (From::Auto, Shape::Device | Shape::Image) => Mechanism::Block,
        (From::Archive, _) | (From::Auto, Shape::Tree) => Mechanism::Archive,
    };
    if copies.get(best).is_restorable() && (copies.get(best).is_available() || from != From::Auto) {
        return Ok(Choice { mechanism: best, instead: None });
    }
    let Some(second) = second(from, shape).filter(|second| copies.get(*second).is_restorable()) else {
        // A damaged copy is better than none: what is intact in it is restored.
        if copies.get(best).is_restorable() {
            return Ok(Choice { mechanism: best, instead: None });
        }
        return Err(NoCopy(state(best)));
    };
    if !copies.get(second).is_available() && copies.get(best).is_restorable() {
        return Ok(Choice { mechanism: best, instead: None });
    }
    Ok(Choice { mechanism: second, instead: Some(format!("{}, so the {second} copy is read", state(best))) })
}

/// The copy that may stand in: only files can come from both.
pub fn second(from: From, shape: Shape) -> Option<Mechanism> {
    (from == From::Auto && shape == Shape::Tree).then_some(Mechanism::Block)
}

#[cfg(test)]
mod tests {
    use dualsync_model::event::CopyState;

    use super::*;

    #[test]
    fn what_stands_at_to_decides_its_shape() {
        let check =
            |standing, from, files, expected: Result<Shape, &str>| match (shape(standing, from, files), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{standing:?} {from:?}"),
                (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{found}"),
                (found, expected) => panic!("{standing:?} {from:?}: {found:?} instead of {expected:?}"),
            };
        check(Standing::Nothing, From::Block, false, Ok(Shape::Image));
        check(Standing::Nothing, From::Block, true, Ok(Shape::Tree));
        check(Standing::Nothing, From::Archive, false, Ok(Shape::Tree));
        check(Standing::Nothing, From::Auto, false, Ok(Shape::Tree));
        check(Standing::Device, From::Auto, false, Ok(Shape::Device));
        check(Standing::Device, From::Auto, true, Err("--path"));
        check(Standing::Device, From::Archive, false, Err("cannot be restored to a device"));
        check(Standing::File, From::Block, false, Ok(Shape::Image));
        check(Standing::File, From::Archive, false, Err("image file"));
        check(Standing::Directory, From::Block, false, Ok(Shape::Tree));
    }

    #[test]
    fn the_file_system_is_asked_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, expected| assert_eq!(Standing::of(&folder.path().join(name)).unwrap(), expected);
        check("x", Standing::Nothing);
        check(".", Standing::EmptyDirectory);
        std::fs::write(folder.path().join("file"), "").unwrap();
        check("file", Standing::File);
        check(".", Standing::Directory);
        assert!(Standing::of(Path::new("/dev/null")).is_err());
        assert!(Standing::Device.holds_data() && !Standing::EmptyDirectory.holds_data());
    }

    #[test]
    fn the_copy_that_fits_is_read_and_the_other_when_it_is_not_there() {
        use CopyState::{Available, Damaged, Deleting, Missing};

        let check = |from, shape, block, archive, expected: Option<(Mechanism, bool)>| {
            let copies = Pair { block: CopyRow::bare(block), archive: CopyRow::bare(archive) };
            let found = choose(from, shape, &copies).ok().map(|choice| (choice.mechanism, choice.instead.is_some()));
            assert_eq!(found, expected, "{from:?} {shape:?} {block:?} {archive:?}");
        };
        let (block, archive) = (Mechanism::Block, Mechanism::Archive);
        check(From::Auto, Shape::Tree, Available, Available, Some((archive, false)));
        check(From::Auto, Shape::Image, Available, Available, Some((block, false)));
        check(From::Auto, Shape::Tree, Available, Missing, Some((block, true)));
        check(From::Auto, Shape::Tree, Available, Damaged, Some((block, true)));
        check(From::Auto, Shape::Tree, Missing, Damaged, Some((archive, false)));
        check(From::Auto, Shape::Tree, Damaged, Damaged, Some((archive, false)));
        check(From::Auto, Shape::Device, Missing, Available, None);
        check(From::Auto, Shape::Tree, Missing, Missing, None);
        check(From::Archive, Shape::Tree, Available, Missing, None);
        check(From::Archive, Shape::Tree, Available, Damaged, Some((archive, false)));
        check(From::Block, Shape::Tree, Deleting, Available, Some((block, false)));
    }
}
