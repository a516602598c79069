//! What a writer says: JSON lines on its standard output, one [`Event`] each.
//!
//! The first line is `hello`, the last `summary` or `error`. Fields may be added, never renamed;
//! a reader passes over fields it does not know and takes an unknown `message_type` as garbage.

use serde::{Deserialize, Serialize};

use crate::fact::Fact;
use crate::id::PointId;
use crate::job::{Anchor, Class, ReportId};
use crate::keys::KeySlot;
use crate::path::RawPath;
use crate::time::{Date, Timestamp};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum Event {
    /// Who speaks, and in which version.
    Hello(Hello),
    /// How far the work is; also the sign of life, at least every 30 seconds.
    Status(Status),
    /// Something a person should know that did not stop the work.
    Warning(Warning),
    /// `backup`: every object the manifest names is durable; `commit` or `abort` is awaited.
    Prepared(Prepared),
    /// `backup`: the manifest is durable, the copy exists.
    Committed(Committed),
    /// `init`: what was created or found.
    Repository(Repository),
    /// `list`: one copy.
    Point(Box<Point>),
    /// `facts`: one entry, in the order of [`RawPath`].
    Fact(Box<Fact>),
    /// `facts`, `check`, `list`, `restore`: something stored is missing or wrong.
    Finding(Finding),
    /// `probe`: what the store was seen to do.
    Capability(Capability),
    /// `prune`: what became of one copy that may go.
    Retired(Retired),
    /// `prune`: what the repository holds and what left it; one line, before the summary.
    Pruned(Pruned),
    /// `evidence`: one report that is kept.
    Evidence(Evidence),
    /// `keys`: one key that opens the repository.
    KeySlot(KeySlot),
    /// The work is done; exit code 0 or 3.
    Summary(Summary),
    /// It is not; any other exit code.
    Error(Failure),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// `dualsync-block` or `dualsync-archive`.
    pub program: String,
    /// Its version.
    pub version: String,
}

/// Progress; all counts from the beginning of this job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// A word for a person: `scanning`, `reading`, `uploading`, `verifying`, `waiting`.
    pub phase: String,
    /// Bytes of the source or of the stored point that are done.
    pub bytes_done: u64,
    /// Bytes in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Entries or blocks done.
    pub items_done: u64,
    /// Entries or blocks in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_total: Option<u64>,
    /// Bytes sent to or fetched from the store.
    pub transferred_bytes: u64,
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// A fixed word, for programs: `unreadable`, `changed`, `rollback`, `clock`, ...
    pub code: String,
    /// A sentence, for people.
    pub message: String,
    /// The entry it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RawPath>,
}

/// Ready to commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The sequence number the manifest will have.
    pub sequence: u64,
    /// Bytes that were added to the store so far.
    pub added_bytes: u64,
}

/// The copy exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Key of the manifest, relative to the prefix.
    pub manifest: String,
    /// Its sequence number and digest.
    #[serde(flatten)]
    pub anchor: Anchor,
}

/// A repository as `init` leaves it: nothing here is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Its id, hex.
    pub id: String,
    /// Whether this job created it.
    pub created: bool,
    /// Key files that this job created.
    #[serde(default)]
    pub keys_created: Vec<String>,
    /// Lines for the recovery sheet, label and value: key ids, recipients, public keys, block size.
    #[serde(default)]
    pub facts: Vec<(String, String)>,
    /// The minisign public key to pin (archive path).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_public: Option<String>,
    /// SHA-256 of `recover.py` in the repository, hex.
    pub recover_sha256: String,
    /// Sequence and digest of the newest manifest, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Anchor>,
}

/// The state of one copy of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyState {
    /// A run is making it.
    Creating,
    /// Its manifest is there and good.
    Available,
    /// A restore is reading it.
    Restoring,
    /// The run that should have made it failed.
    Error,
    /// Its manifest or an object it names is known to be wrong.
    Damaged,
    /// It should be there and is not.
    Missing,
    /// Marked, and inside or past its grace.
    Deleting,
}

/// One copy, as its manifest tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The point.
    pub point: PointId,
    /// The date it counts for.
    pub business_date: Date,
    /// Contract or on demand.
    pub class: Class,
    /// The moment of the snapshot.
    pub created_at: Timestamp,
    /// Names the frozen moment: only copies with the same one are a pair.
    pub snapshot_id: String,
    /// How it was taken.
    pub snapshot_method: String,
    /// Whether the source stood still.
    pub frozen: bool,
    /// Bytes of the source: of the device, or of all files.
    pub size_bytes: u64,
    /// Stored bytes of every object this point needs.
    pub stored_bytes: u64,
    /// Stored bytes that this point added.
    pub added_bytes: u64,
    /// How long the copy took, seconds.
    pub duration_s: u64,
    /// Its place in the chain.
    #[serde(flatten)]
    pub anchor: Anchor,
    /// The other target's newest manifest as this manifest remembers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Anchor>,
    /// Key of the manifest.
    pub manifest: String,
    /// Available, damaged, deleting.
    pub state: CopyState,
    /// Entries that could not be read or changed while they were read.
    #[serde(default)]
    pub incomplete_entries: u64,
    /// What the writer was told to leave out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// A person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When a manual point may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When the store received the manifest, by its own clock; absent for a store without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_at: Option<Timestamp>,
    /// Of `stored_bytes`, what this point really uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<u64>,
    /// The proved mark on this copy, when there is one that was not taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<PointMark>,
}

/// A copy is announced to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointMark {
    /// Since when, by the store's clock where it has one.
    pub since: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// Whether a person asked for it; else the rule did.
    #[serde(default)]
    pub asked: bool,
    /// Whether the deletion has begun: then it cannot be taken back.
    #[serde(default)]
    pub deleting: bool,
}

/// What became of one copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The point.
    pub point: PointId,
    /// Key of its manifest.
    pub manifest: String,
    /// What.
    pub action: RetiredAction,
    /// Why, in words.
    pub reason: String,
    /// Since when it is marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What `prune` did with one copy, or would do in a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetiredAction {
    /// Marked now: its grace begins.
    Marked,
    /// Marked before, and still inside its grace.
    Waiting,
    /// Its mark was taken back.
    Undone,
    /// Deleted.
    Deleted,
    /// Could go, but something needs it now: a run, a restore, or that it is the newest.
    Kept,
    /// What was asked for came too late or names another copy.
    Refused,
}

/// What a `prune` job found and did. Bytes are stored bytes; objects are packs, maps, volumes, segments and lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Objects in the repository before this job.
    pub objects: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Of these, the bytes that points use which are not marked.
    pub live_bytes: u64,
    /// Objects that were marked now, manifests not among them.
    pub marked_objects: u64,
    /// Objects that are marked and still inside their grace.
    pub waiting_objects: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Objects that were deleted, manifests among them.
    pub deleted_objects: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Marks, run records and leftovers of cut-off writes that were cleared away.
    pub cleared: u64,
    /// Objects whose lock was made longer now.
    #[serde(default)]
    pub locked_objects: u64,
    /// Objects that are due and stay because their lock has not ended.
    #[serde(default)]
    pub still_locked_objects: u64,
    /// Their bytes.
    #[serde(default)]
    pub still_locked_bytes: u64,
}

/// A report of `verify` as one store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Its place in the chain, as its proof tells.
    #[serde(flatten)]
    pub report: ReportId,
    /// Key of its proof.
    pub object: String,
    /// What is wrong with it; absent when the proof and every file are good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Something stored that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The target's name.
    pub target: String,
    /// The object's key, relative to the prefix.
    pub object: String,
    /// A fixed word: `missing`, `truncated`, `digest`, `unreadable`, `shadowed`, `rollback`, `chain`, `forged`, `unknown_version`, `unexpected`.
    pub kind: String,
    /// A sentence.
    pub problem: String,
    /// Points that need the object, as far as known.
    #[serde(default)]
    pub points: Vec<PointId>,
    /// Files that it hits, as far as known; at most 100.
    #[serde(default)]
    pub paths: Vec<RawPath>,
}

/// What a store was seen to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// A fixed word: `round_trip`, `checksum`, `conditional_put`, `versioning`, `object_lock`, `clock`, `delete`, ...
    pub name: String,
    /// What was found.
    pub state: CapabilityState,
    /// What was tried and what came back.
    pub detail: String,
}

/// Whether a capability can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapabilityState {
    /// Tried, and it does what it says.
    Enforced,
    /// Answers success and does nothing: worse than absent.
    Ignored,
    /// Refused or unknown to the store.
    Absent,
    /// Not asked for, or it cannot be tried: nothing is known of it.
    NotTried,
    /// A part that dualsync needs does not work.
    Failed,
}

/// Requests to the store, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Writes.
    pub put: u64,
    /// Reads, whole or ranged.
    pub get: u64,
    /// Pages of listings.
    pub list: u64,
    /// Look-ups without a body.
    pub head: u64,
    /// Deletions.
    pub delete: u64,
}

impl Requests {
    /// All requests.
    pub const fn total(self) -> u64 {
        self.put + self.get + self.list + self.head + self.delete
    }
}

/// The last line of a job that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// 0, or 3 when some entries could not be read.
    pub exit_code: u8,
    /// Entries or blocks handled.
    pub items: u64,
    /// Bytes of the source or the stored point handled.
    pub bytes: u64,
    /// Stored bytes added.
    pub added_bytes: u64,
    /// Stored bytes read.
    pub fetched_bytes: u64,
    /// Entries that could not be read or changed meanwhile; findings of `check`.
    pub incomplete: u64,
    /// Requests to the store.
    pub requests: Requests,
    /// Largest resident set of the program, bytes (getrusage(2)).
    pub peak_memory_bytes: u64,
    /// Stored objects checked or read back.
    #[serde(default)]
    pub objects: u64,
}

/// The last line of a job that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The program's exit code, see [`crate::outcome::Exit`].
    pub exit_code: u8,
    /// A fixed word: `usage`, `repository_missing`, `wrong_key`, `locked`, `store`, `damaged`, `source`, `aborted`, `internal`.
    pub code: String,
    /// What failed on what, with its causes.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event: &Event, json: &str) {
        assert_eq!(serde_json::to_string(event).unwrap(), json);
        assert_eq!(&serde_json::from_str::<Event>(json).unwrap(), event);
    }

    #[test]
    fn lines_are_what_the_protocol_page_says() {
        check(
            &Event::Hello(Hello { protocol: 1, program: "dualsync-block".into(), version: "0.1.0".into() }),
            r#"{"message_type":"hello","protocol":1,"program":"dualsync-block","version":"0.1.0"}"#,
        );
        check(
            &Event::Committed(Committed {
                manifest: "points/web/x".into(),
                anchor: Anchor { sequence: 7, sha256: "ab".into() },
            }),
            r#"{"message_type":"committed","manifest":"points/web/x","sequence":7,"sha256":"ab"}"#,
        );
    }

    #[test]
    fn a_field_from_the_future_is_passed_over_and_a_strange_line_is_not() {
        assert!(
            serde_json::from_str::<Event>(r#"{"message_type":"prepared","sequence":1,"added_bytes":2,"new":3}"#)
                .is_ok()
        );
        assert!(serde_json::from_str::<Event>(r#"{"message_type":"surprise"}"#).is_err());
    }
}
