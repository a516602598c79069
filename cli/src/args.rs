//! What may be typed: verbs, options, and the help that teaches them.

mod keys;
pub use keys::{AddKeyArgs, KeysArgs, KeysVerb, RemoveKeyArgs, RotateArgs, SheetArgs};

mod leaving;
pub use leaving::{DeleteArgs, PruneArgs, UndeleteArgs};

mod status;
pub use status::StatusArgs;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::mechanism::Mechanism;
use crate::rotation::Choice;

/// The hidden verb: `dualsync` starts itself with it to hold a freeze.
pub const WATCHDOG: &str = "__watchdog";

/// Keeps a server twice: one frozen moment, two independent copies, in two countries.
#[derive(Debug, Parser)]
#[command(name = "dualsync", version, propagate_version = true, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_help = "\
The first night:
  dualsync init              write a commented configuration, then edit it
  dualsync init              again: make both repositories, their keys and the recovery sheet
  dualsync check             is everything there that a run needs?
  dualsync run               make both copies
  dualsync verify --latest   do they say the same?

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 some entries unreadable, 4 only one copy \
was made, 10 no repository, 11 locked, 12 wrong key, 20 copies differ, 21 a copy is damaged or missing, \
22 a date of the contract is missing, 23 evidence broken, 130 interrupted.")]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that every command takes, before or after the verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DUALSYNC_CONFIG",
        default_value = "/etc/dualsync/dualsync.toml",
        help_heading = "Global options"
    )]
    pub config: PathBuf,
    /// Print JSON, one object a line, errors too
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print results, warnings and errors only
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more: both programs' own words as they come
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub verbose: bool,
    /// Answer every question with yes
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub yes: bool,
}

/// One verb, one file in `commands/`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a configuration, or make what is missing of both repositories and their keys
    Init(InitArgs),
    /// Make both copies of each source
    Run(RunArgs),
    /// List the restore points and the state of both copies
    List(ListArgs),
    /// Show everything about one point
    Show(ShowArgs),
    /// Read both copies back and compare them
    Verify(VerifyArgs),
    /// Bring a point, or some of its files, back
    Restore(RestoreArgs),
    /// Mark and delete what left the contract
    Prune(PruneArgs),
    /// Delete points, or everything of a source, after a time in which it can be taken back
    Delete(DeleteArgs),
    /// Take a deletion back while there is time
    Undelete(UndeleteArgs),
    /// Try everything that a run needs
    #[command(after_help = "\
Tries the configuration, the policy, keys, programs, space, snapshot tools and, with a scratch object, both \
stores; then says what the two paths still share. A run that follows should find no surprise.

Examples:
  dualsync check
  dualsync check --json | jq -r 'select(.state == \"fail\") | .detail'")]
    Check,
    /// Say how each source stands, judged by what the stores hold
    Status(StatusArgs),
    /// Show or change the keys, or hand out the recovery sheet
    Keys(KeysArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print or write the manual pages
    Man(ManArgs),
    /// Thaws a frozen file system whatever happens to its starter
    #[command(name = WATCHDOG, hide = true, disable_help_flag = true)]
    Watchdog(WatchdogArgs),
}

/// `dualsync init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a configuration file it writes one from a preset, for you to edit. With one it creates what is \
missing (state folders, both repositories, their keys), pins the public key in the configuration and \
prints the recovery sheet. It never changes what exists, so it can be run again at any time.

Keep the recovery sheet away from this server: with it and one of the two stores you get your data \
back without this server and without dualsync.

Examples:
  dualsync init
  dualsync init --config ./dualsync.toml --preset directories
  dualsync init --sheet /media/usb/recovery-sheet.txt")]
pub struct InitArgs {
    /// How the recovery sheet is handed out
    #[command(flatten)]
    pub sheet: SheetArgs,
    /// The preset to write where there is no configuration
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
}

/// `dualsync run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Freezes each source once, lets both programs read that one moment side by side, and commits each copy \
by itself once the moment is seen to be still valid. When one path fails the other goes on: exit code 4.

A point made with --manual goes after 7 days when nothing else is said; a source may have 10 of them, for 30 \
days at most (manual = { max_points, max_age, expires } of the source).

Examples:
  dualsync run
  dualsync run web
  dualsync run web --manual --note 'before the upgrade' --expires 2d
  dualsync run web --only archive
  dualsync run --dry-run")]
pub struct RunArgs {
    /// Sources to copy; all of the configuration when none is given
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Make a point on demand that counts for no date of the contract
    #[arg(long)]
    pub manual: bool,
    /// A few words to find the point again
    #[arg(long, value_name = "TEXT", requires = "manual")]
    pub note: Option<String>,
    /// When the point may go, like 12h, 2d or 4w
    #[arg(long, value_name = "AGE", requires = "manual", value_parser = age)]
    pub expires: Option<Duration>,
    /// Make only this copy
    #[arg(long, value_name = "MECHANISM", value_parser = mechanism())]
    pub only: Option<Mechanism>,
    /// Say what would be done; touch no key, store or source
    #[arg(long)]
    pub dry_run: bool,
}

/// `dualsync list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Asks both stores and merges what they say. The state of a copy is one of creating, available, restoring, \
error, damaged, missing, deleting.

Examples:
  dualsync list
  dualsync list web
  dualsync list --json | jq -r '.[] | select(.copies.block.state != \"available\") | .point'")]
pub struct ListArgs {
    /// Only the points of this source
    #[arg(value_name = "SOURCE")]
    pub source: Option<String>,
}

/// `dualsync show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dualsync show web@latest
  dualsync show web@20261120T020000Z --json")]
pub struct ShowArgs {
    /// SOURCE@TIME, any unique beginning of it, or SOURCE@latest
    #[arg(value_name = "POINT")]
    pub point: String,
}

/// `dualsync verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Both programs read their copy back from its store, hash every file anew, and the two accounts are \
compared entry by entry. What differs is named together with the side that is wrong, where the writers' \
own notes tell. Then the contract is judged: which dates are there, in which country.

--slice today/30, once a night, is the rotation: a thirtieth of the newest points is compared, and the \
same thirtieth of the stored objects of every kept point is read, so that every stored byte is read in 30 \
days. The report says how far that is.

Each verify makes one numbered report (JSON, text, one HTML page) that names the one before it and is kept in \
both stores and under `state/reports`. --evidence reads all of them back and proves the chain.

Exit codes: 0 the copies agree, 20 they differ, 21 a copy is damaged or missing, 22 a date is missing, 23 the \
chain of reports is broken.

Examples:
  dualsync verify
  dualsync verify web@20261120T020000Z --full
  dualsync verify --latest --slice 3/30
  dualsync verify --slice today/30
  dualsync verify --all --objects
  dualsync verify --all --presence
  dualsync verify --evidence")]
pub struct VerifyArgs {
    /// SOURCE@TIME, any unique beginning of it, or SOURCE@latest
    #[arg(value_name = "POINT", conflicts_with_all = ["latest", "all"])]
    pub point: Option<String>,
    /// The newest point of each source (this is the default)
    #[arg(long, conflicts_with = "all")]
    pub latest: bool,
    /// Every point
    #[arg(long)]
    pub all: bool,
    /// Read a fixed part only, like 3/30; today/30 is the part of this date, of every kept point
    #[arg(long, value_name = "N/COUNT", conflicts_with_all = ["full", "presence"])]
    pub slice: Option<Choice>,
    /// Compare every file, and read every stored object of the point too
    #[arg(long, conflicts_with_all = ["objects", "presence"])]
    pub full: bool,
    /// Only check each stored object against its digest; needs no content key
    #[arg(long, conflicts_with = "presence")]
    pub objects: bool,
    /// Only check that each stored object is there, with the right size
    #[arg(long)]
    pub presence: bool,
    /// Read the chain of reports back from both stores and prove it; read no copy
    #[arg(long, conflicts_with_all = ["point", "latest", "all", "slice", "full", "objects", "presence"])]
    pub evidence: bool,
}

/// Which copy to restore from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// The block copy.
    Block,
    /// The archive copy.
    Archive,
    /// The one that fits: block for a device or an image, archive for files; the other when it is not there.
    Auto,
}

/// `dualsync restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
TO is a block device, an image file or a directory. A TO that does not exist becomes an image file with \
--from block and no --path, else a directory. Nothing that exists is written over without --overwrite.

Examples:
  dualsync restore web@latest --to /restore --path 'etc/**'
  dualsync restore web@latest --to /restore --dry-run
  dualsync restore web@20261120T020000Z --from block --to /var/tmp/web.img
  dualsync restore web@latest --from block --to /dev/vg0/data --overwrite
  dualsync restore web@latest --to /restore --resume")]
pub struct RestoreArgs {
    /// SOURCE@TIME, any unique beginning of it, or SOURCE@latest
    #[arg(value_name = "POINT")]
    pub point: String,
    /// A device, an image file or a directory
    #[arg(long, value_name = "TO")]
    pub to: PathBuf,
    /// Which copy to read
    #[arg(long, value_name = "COPY", default_value = "auto")]
    pub from: From,
    /// Restore only what matches; may be given more than once
    #[arg(long = "path", value_name = "GLOB")]
    pub paths: Vec<String>,
    /// Say what would be done; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go on where an interrupted restore stopped
    #[arg(long)]
    pub resume: bool,
    /// Write over what exists at TO
    #[arg(long)]
    pub overwrite: bool,
    /// Open the archive copy with the age identities in this file, the recovery key for instance
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// `dualsync completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dualsync completions bash > /etc/bash_completion.d/dualsync
  dualsync completions zsh > /usr/share/zsh/vendor-completions/_dualsync")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// `dualsync man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dualsync man | man -l -
  dualsync man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write one page for each command here; without it all pages go to standard output
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// `dualsync __watchdog`: what the snapshot crate asks for, handed on as it is.
#[derive(Debug, Args)]
pub struct WatchdogArgs {
    /// Handed on.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<std::ffi::OsString>,
}

/// `block` or `archive`, and nothing else, so that completions know both.
fn mechanism() -> impl TypedValueParser<Value = Mechanism> {
    PossibleValuesParser::new(Mechanism::BOTH.map(Mechanism::as_str))
        .map(|word| if word == Mechanism::Block.as_str() { Mechanism::Block } else { Mechanism::Archive })
}

/// Reads `90s`, `15m`, `12h`, `2d` or `4w`.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit, like 12h, 2d or 4w".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    if number == 0 {
        return Err("a point that expires at once is none".to_owned());
    }
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_but_the_hidden_one_teaches_by_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("  dualsync {}", verb.get_name())), "{}", verb.get_name());
        }
    }

    #[test]
    fn every_example_of_the_help_parses() {
        let mut examples = 0;
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter_map(|line| line.strip_prefix("  dualsync ")) {
                let command = line.split(['|', '>']).next().unwrap().replace("'before the upgrade'", "words");
                let words = std::iter::once("dualsync").chain(command.split_whitespace());
                assert!(Cli::try_parse_from(words).is_ok(), "{line}");
                examples += 1;
            }
        }
        assert!(examples > 20);
    }

    #[test]
    fn global_options_stand_anywhere() {
        let before = Cli::try_parse_from(["dualsync", "--json", "--config", "/x", "list"]).unwrap();
        let after = Cli::try_parse_from(["dualsync", "list", "--json", "--config", "/x", "--yes"]).unwrap();
        assert!(before.global.json && after.global.json && after.global.yes);
        assert_eq!(before.global.config, after.global.config);
    }

    #[test]
    fn ages_are_a_number_and_a_unit() {
        assert_eq!(age("2d").unwrap(), Duration::from_hours(48));
        assert_eq!(age("90s").unwrap(), Duration::from_secs(90));
        for text in ["", "d", "2", "-1d", "0h", "2 d", "1y", "99999999999999999999w", "2é"] {
            assert!(age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for line in [
            "run --note x",
            "run --expires 2d",
            "verify web@latest --all",
            "verify --latest --all",
            "verify --slice 1/3 --full",
            "verify --objects --presence",
            "list -q -v",
            "restore web@latest",
            "attach",
            "prune --only block",
            "delete",
            "delete --source web",
            "delete --all",
            "delete web@latest --source web --all",
            "delete web@latest --both --only block",
            "undelete",
        ] {
            let words = std::iter::once("dualsync").chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
