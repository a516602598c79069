//! What may be typed behind `dualsync keys`, and how the recovery sheet is handed out.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `dualsync keys`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dualsync keys list
  dualsync keys list --json
  dualsync keys export --sheet /media/usb/recovery-sheet.txt
  dualsync keys export --qr --sheet /media/usb/recovery-sheet.txt
  dualsync keys rotate --target frankfurt --sheet /media/usb/recovery-sheet.txt")]
pub struct KeysArgs {
    /// What to do with them
    #[command(subcommand)]
    pub verb: KeysVerb,
}

/// The verbs of `dualsync keys`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Show ids, recipients, public keys and where the secrets are; nothing secret
    List,
    /// Hand out the recovery sheet: everything that is needed to get the data back without this host
    #[command(after_help = "\
The sheet and one of the two stores are enough on an empty machine: docs/recovery.md shows both ways, with dualsync and \
with the recover.py that lies in each store. The sheet holds secrets: it goes to a terminal or into a new file of mode \
0600, never into a pipe.

Examples:
  dualsync keys export
  dualsync keys export --qr --sheet /media/usb/recovery-sheet.txt")]
    Export(SheetArgs),
    /// Put a new key in the place of one target's key: new copies need it, and it opens the old ones too
    #[command(after_help = "\
What is stored from now on is sealed with the new key. What is stored already is not sealed anew: whoever has the old key \
and the bucket still reads it, and unchanged data stays where it is. So rotate when a key may have been seen, and change \
the store's credentials at the same time; when everything must become unreadable to somebody, begin a new repository.

The old key is kept: beside the new one as block.key.<key id>, or in the same file below the new identity. A rotation that \
was cut off anywhere is finished by the same command. Recovery sheets made before are outdated: a new one is handed out.

Other hosts that use the same key need the new file too; until then they can read and refuse to write.

Examples:
  dualsync keys rotate --target frankfurt
  dualsync keys rotate --target frankfurt --sheet /media/usb/recovery-sheet.txt
  dualsync keys rotate --target paris --to /root/new.agekey    (the key is no file: `systemd:`, `env:`, `command:`)")]
    Rotate(RotateArgs),
    /// Make one more way in: a passphrase, a key file, a key for the machine that prunes, an age recipient
    #[command(after_help = "\
Of a block target: a passphrase (Argon2id) or a key file opens everything, and can be removed again; a retention key opens \
manifests only, so that a machine that prunes, and holds the right to delete, reads no content. They lie in the repository as \
slots and stand for the key of now: after a rotation make new ones.

Of an archive target: an age recipient, the recovery key in the safe. What is stored from the next run on is sealed to it.

Where the repository is to be opened with a passphrase, the key file of that target holds one line, \
`dualsync-block-passphrase-1:` and the words.

Examples:
  dualsync keys add --target frankfurt --passphrase-from file:/root/words
  dualsync keys add --target frankfurt --key-file /media/usb/spare.key
  dualsync keys add --target frankfurt --retention /root/pruner.key
  dualsync keys add --target paris age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")]
    Add(AddKeyArgs),
    /// Take one away again; what was copied before stays readable with it
    #[command(after_help = "\
Asks first, or takes --yes. The keys that the repository itself hangs on cannot be removed.

Examples:
  dualsync keys list
  dualsync keys remove --target frankfurt 5f0c9a...
  dualsync keys remove --target paris age1ql3z7...")]
    Remove(RemoveKeyArgs),
}

/// `dualsync keys add`.
#[derive(Debug, Args)]
pub struct AddKeyArgs {
    /// The target that gets one more key
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Archive: an age recipient
    #[arg(value_name = "AGE1...", conflicts_with_all = ["passphrase_from", "key_file", "retention"])]
    pub recipient: Option<String>,
    /// Block: where the words are (file:PATH, systemd:NAME, env:NAME, command:ARGV), 12 characters at least
    #[arg(long, value_name = "REF", conflicts_with_all = ["key_file", "retention"])]
    pub passphrase_from: Option<String>,
    /// Block: memory that a passphrase costs each time, 64 to 1024 MiB
    #[arg(long, value_name = "MIB", requires = "passphrase_from")]
    pub memory_mib: Option<u32>,
    /// Block: a new file for a key of its own
    #[arg(long, value_name = "FILE", conflicts_with = "retention")]
    pub key_file: Option<PathBuf>,
    /// Block: a new file for a key that opens manifests only
    #[arg(long, value_name = "FILE")]
    pub retention: Option<PathBuf>,
}

/// `dualsync keys remove`.
#[derive(Debug, Args)]
pub struct RemoveKeyArgs {
    /// The target that loses it
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// The id of a slot, or an age recipient, as `dualsync keys list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `dualsync keys rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The target whose key is replaced
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// A new file for the new key, where the configuration's key is no file
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// The new recovery sheet
    #[command(flatten)]
    pub sheet: SheetArgs,
}

/// The recovery sheet.
#[derive(Debug, Args)]
pub struct SheetArgs {
    /// Write the recovery sheet to a new file (mode 0600) instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// Add each secret as a QR code, to be scanned from a printed sheet
    #[arg(long)]
    pub qr: bool,
}
