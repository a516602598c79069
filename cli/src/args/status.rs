//! What may be typed behind `dualsync status`.

use std::path::PathBuf;

use clap::Args;

/// `dualsync status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Asks both stores what they hold now, and says for each source how old the newest good copy is on each side and \
which dates of the contract are missing. How a job ended is not asked. A copy older than 28 h is a warning, older \
than 32 h critical; `status = { warn = \"28h\", critical = \"32h\" }` in a [[source]] changes that.

Exit codes: 0 fine, 21 a copy is damaged or missing, 22 a date is missing or a copy is too old, else why a store did \
not answer. With --nagios 0 ok, 1 warning, 2 critical, 3 not known.

Examples:
  dualsync status
  dualsync status web --json
  dualsync status --nagios
  dualsync status --prometheus /var/lib/node_exporter/textfile/dualsync.prom")]
pub struct StatusArgs {
    /// Sources to look at; all of the configuration when none is given
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Print one line with performance data and end with 0, 1, 2 or 3, as a Nagios plugin does
    #[arg(long, conflicts_with = "json")]
    pub nagios: bool,
    /// Write a text file for the node exporter's textfile collector, and print nothing
    #[arg(long, value_name = "FILE")]
    pub prometheus: Option<PathBuf>,
}
