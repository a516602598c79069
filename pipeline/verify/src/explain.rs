//! Differences with an accepted reason: counted as explained, never as agreement.

use std::collections::BTreeMap;

use dualsync_model::fact::{EntryKind, Fact, FactState};
use dualsync_model::path::RawPath;
use serde::Serialize;

use crate::exclude::Exclude;
use crate::side::Side;

/// Why a difference is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A socket has no content and does not outlive its program.
    Socket,
    /// `lost+found` at the root belongs to the file system, not to the data.
    LostAndFound,
    /// A rule left it out of the archive.
    Excluded,
    /// The source was not frozen and the writer saw it change while it read.
    ChangedWhileRead,
    /// Another file system was mounted there: the archive has the mounted root, the image what lies below.
    MountPoint,
    /// The contents were not compared, by request: `--objects` or `--presence`.
    NotCompared,
}

impl Reason {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Socket => "sockets",
            Self::LostAndFound => "lost+found",
            Self::Excluded => "left out by an exclude rule",
            Self::ChangedWhileRead => "changed while the unfrozen source was read",
            Self::MountPoint => "mount points",
            Self::NotCompared => "copies checked, contents not compared, as asked",
        }
    }
}

/// Explained differences, counted by reason.
pub type Explained = BTreeMap<Reason, u64>;

/// Knows what the copies were told and what happened to them.
#[derive(Debug, Default)]
pub(crate) struct Explainer {
    pub(crate) exclude: Exclude,
    pub(crate) frozen: bool,
    /// The last mount point that went by; whatever lies below one comes right after it.
    mount_point: Option<RawPath>,
}

impl Explainer {
    pub(crate) fn new(exclude: Exclude, frozen: bool) -> Self {
        Self { exclude, frozen, mount_point: None }
    }

    /// To be told of each fact, in order, before it is asked about it.
    pub(crate) fn pass(&mut self, fact: &Fact) {
        if fact.state == FactState::MountPoint {
            self.mount_point = Some(fact.path.clone());
        }
    }

    /// Why an entry may be on one side only.
    pub(crate) fn missing(&self, side: Side, fact: &Fact) -> Option<Reason> {
        if fact.kind == EntryKind::Socket {
            return Some(Reason::Socket);
        }
        if let Some(reason) = self.changed(fact) {
            return Some(reason);
        }
        if side == Side::Archive {
            return None;
        }
        if lies_in(&fact.path, b"lost+found") {
            Some(Reason::LostAndFound)
        } else if self.exclude.covers(&fact.path) {
            Some(Reason::Excluded)
        } else if self.mount_point.as_ref().is_some_and(|point| lies_in(&fact.path, point.as_bytes())) {
            Some(Reason::MountPoint)
        } else {
            None
        }
    }

    /// Why the values of an entry may differ.
    pub(crate) fn differing(&self, block: &Fact, archive: &Fact) -> Option<Reason> {
        if [block, archive].into_iter().any(|fact| fact.state == FactState::MountPoint) {
            return Some(Reason::MountPoint);
        }
        self.changed(block).or_else(|| self.changed(archive))
    }

    fn changed(&self, fact: &Fact) -> Option<Reason> {
        let changed = matches!(fact.state, FactState::Changed { .. });
        (changed && !self.frozen).then_some(Reason::ChangedWhileRead)
    }
}

/// Whether `path` is `folder` or lies below it.
fn lies_in(path: &RawPath, folder: &[u8]) -> bool {
    path.as_bytes().strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::file;

    fn with(path: &str, state: FactState) -> Fact {
        Fact { state, ..file(path, "x") }
    }

    fn changed() -> FactState {
        FactState::Changed { problem: "grew".into() }
    }

    fn explainer(frozen: bool) -> Explainer {
        Explainer::new(Exclude::new(["cache/**"]).unwrap(), frozen)
    }

    #[test]
    fn only_the_archive_may_leave_out_and_only_with_a_reason() {
        for (path, reason) in [
            ("lost+found", Some(Reason::LostAndFound)),
            ("lost+found/#12", Some(Reason::LostAndFound)),
            ("lost+foundling", None),
            ("home/lost+found", None),
            ("cache/a", Some(Reason::Excluded)),
            ("data", None),
        ] {
            assert_eq!(explainer(true).missing(Side::Block, &file(path, "x")), reason, "{path}");
            assert_eq!(explainer(true).missing(Side::Archive, &file(path, "x")), None, "{path}");
        }
    }

    #[test]
    fn a_socket_may_be_on_either_side() {
        let socket = Fact { kind: EntryKind::Socket, ..file("run/s", "") };
        for side in Side::BOTH {
            assert_eq!(explainer(true).missing(side, &socket), Some(Reason::Socket));
        }
    }

    #[test]
    fn a_change_explains_only_where_nothing_was_frozen() {
        let (calm, wild) = (file("a", "x"), with("a", changed()));
        assert_eq!(explainer(false).differing(&calm, &wild), Some(Reason::ChangedWhileRead));
        assert_eq!(explainer(false).differing(&calm, &calm), None);
        assert_eq!(explainer(true).differing(&calm, &wild), None);
        assert_eq!(explainer(false).missing(Side::Archive, &wild), Some(Reason::ChangedWhileRead));
        assert_eq!(explainer(true).missing(Side::Archive, &wild), None);
    }

    #[test]
    fn what_lies_under_a_mount_is_explained_until_the_walk_leaves_it() {
        let mut explainer = explainer(true);
        let mount = with("srv", FactState::MountPoint);
        explainer.pass(&mount);
        assert_eq!(explainer.differing(&file("srv", "x"), &mount), Some(Reason::MountPoint));
        assert_eq!(explainer.missing(Side::Block, &file("srv/below", "x")), Some(Reason::MountPoint));
        assert_eq!(explainer.missing(Side::Block, &file("srv2", "x")), None);
        assert_eq!(explainer.missing(Side::Archive, &file("srv/below", "x")), None);
    }
}
