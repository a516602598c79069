//! From what the configuration means to what a writer is told.

use dualsync_config::target::TargetSettings;
use dualsync_model::PROTOCOL;
use dualsync_model::job::{Job, Task};
use dualsync_model::time::Timestamp;

use crate::state::State;

/// The job of `task` at `target`.
pub fn job(target: &TargetSettings, state: &State, now: Timestamp, bandwidth: Option<u64>, task: Task) -> Job {
    Job {
        protocol: PROTOCOL,
        now,
        target: target.target.clone(),
        keys: target.keys.clone(),
        state: state.writer(&target.target.name),
        bandwidth,
        task,
    }
}

/// The program's argument for a task; the program compares it to the job.
pub const fn verb(task: &Task) -> &'static str {
    match task {
        Task::Init(_) => "init",
        Task::List(_) => "list",
        Task::Backup(_) => "backup",
        Task::Facts(_) => "facts",
        Task::Restore(_) => "restore",
        Task::Check(_) => "check",
        Task::Probe(_) => "probe",
        Task::Prune(_) => "prune",
        Task::Evidence(_) => "evidence",
        Task::Keys(_) => "keys",
    }
}
