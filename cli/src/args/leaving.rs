//! What may be typed about copies that leave: `prune`, `delete`, `undelete`.

use clap::Args;

use super::mechanism;
use crate::mechanism::Mechanism;

/// `dualsync prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows for each point whether it stays, on each side, and why. What left the contract is marked; what was marked \
for longer than limits.grace (24 h) and still may go is deleted, with every stored object that nothing needs any \
more. A mark that the rule no longer stands behind is taken back. `dualsync run` puts the marks, too.

Each side is pruned for itself, and keeps what the other side lacks. When more than a third of the points would \
leave within 7 days, it asks; without a terminal and --yes these stay and the exit code is 1. A target that is \
a folder is pruned while no run of this host is on; else it is left alone, with exit code 11.

Examples:
  dualsync prune --dry-run
  dualsync prune
  dualsync prune web --yes
  dualsync prune --json | jq -r 'select(.message_type == \"summary\") | .targets[] | .target, .deleted_bytes'")]
pub struct PruneArgs {
    /// Sources to prune; all when none is given, and what a person deleted of others
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Show what would be done; mark and delete nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `dualsync delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Marks the copies, after it has shown which dates the contract loses and was told to go on: y for points, the \
source's name for a whole source, or --yes. Any `dualsync prune` that runs limits.grace (24 h) later deletes them \
with everything that only they needed; until it begins to, `dualsync undelete` takes it back.

The newest copy of a store stays until there is a newer one, or until its whole source is deleted.

Examples:
  dualsync delete web@20261120T020000Z
  dualsync delete web@20261120T020000Z web@20261119T020000Z --yes
  dualsync delete web@latest --only archive
  dualsync delete --source old-web --all")]
pub struct DeleteArgs {
    /// SOURCE@TIME, any unique beginning of it, or SOURCE@latest
    #[arg(value_name = "POINT", required_unless_present = "source", conflicts_with = "source")]
    pub points: Vec<String>,
    /// Every point of this source, in the configuration or not
    #[arg(long, value_name = "NAME", requires = "all")]
    pub source: Option<String>,
    /// Really all of them
    #[arg(long, requires = "source")]
    pub all: bool,
    /// Both copies (this is the default)
    #[arg(long, conflicts_with = "only")]
    pub both: bool,
    /// Only this copy
    #[arg(long, value_name = "MECHANISM", value_parser = mechanism())]
    pub only: Option<Mechanism>,
}

/// `dualsync undelete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Takes the marks of both copies back, however old they are. It is refused when the deletion has begun. A point that left the \
contract is marked again by the next run or prune.

Examples:
  dualsync undelete web@20261120T020000Z")]
pub struct UndeleteArgs {
    /// SOURCE@TIME, any unique beginning of it, or SOURCE@latest
    #[arg(value_name = "POINT", required = true)]
    pub points: Vec<String>,
}
