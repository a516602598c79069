//! What the verb `keys` is asked, and what it says of each key. Nothing here is secret.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
}

/// One key of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// Its name: a key id (block path) or an age recipient (archive path).
    pub id: String,
    /// A fixed word: `raw` or `rotated` (block path), `identity` or `recipient` (archive path).
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
