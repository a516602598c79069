//! What the verb `keys` is asked, and what it says of each key. Nothing here is secret.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;
use crate::time::Timestamp;

/// The task of `keys`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub enum KeysTask {
    /// Prints a `key_slot` line for each key that opens this repository.
    List {},
    /// Draws a new key: what is stored from now on is sealed with it, and it opens what is old.
    Rotate {
        /// A new file for the new key; absent where the key at hand is a file, which is then replaced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<PathBuf>,
    },
    /// Makes one more way in (block path).
    Add {
        /// Which.
        new: NewKey,
    },
    /// Takes one away (block path).
    Remove {
        /// Id of its slot.
        id: String,
    },
}

/// One more way into a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NewKey {
    /// A passphrase, hashed with Argon2id.
    Passphrase {
        /// Where the words are.
        from: SecretRef,
        /// Memory of Argon2id in MiB, 64 to 1024; 256 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_mib: Option<u32>,
    },
    /// A key of its own, which can be removed again.
    KeyFile {
        /// A new file for it.
        to: PathBuf,
    },
    /// What a deleter needs: it opens manifests and no content.
    Retention {
        /// A new file for it.
        to: PathBuf,
    },
}

/// One key of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// Its name: a key id or the id of a slot (block path) or an age recipient (archive path).
    pub id: String,
    /// A fixed word: `raw`, `rotated`, `passphrase`, `wrapped` or `retention` (block path), `identity` or `recipient` (archive path).
    pub kind: String,
    /// What it opens, in words.
    pub opens: String,
    /// When it was made, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Whether new data is sealed with it.
    pub current: bool,
    /// Files that this job wrote for it, or kept of the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Task;

    #[test]
    fn a_rotation_reads_back_and_a_misspelt_field_is_refused() {
        let rotate = r#"{"verb":"keys","act":"rotate","to":"/new.key"}"#;
        let task: Task = serde_json::from_str(rotate).unwrap();
        assert_eq!(task, Task::Keys(KeysTask::Rotate { to: Some("/new.key".into()) }));
        assert_eq!(serde_json::to_string(&task).unwrap(), rotate);
        assert!(serde_json::from_str::<Task>(&rotate.replace("\"to\"", "\"too\"")).is_err());
        assert!(serde_json::from_str::<Task>(r#"{"verb":"keys","act":"list","to":"/x"}"#).is_err());
    }
}
