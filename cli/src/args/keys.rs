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
  dualsync keys export --qr --sheet /media/usb/recovery-sheet.txt")]
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
