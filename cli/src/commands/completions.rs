//! `dualsync completions`: a script for the shell, from the same definition that parses.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::Ending;
use crate::output::Output;

/// Prints the script.
pub fn run(args: &CompletionsArgs, output: &Output) -> Ending {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dualsync", &mut script);
    output.raw(&script);
    Ending::done()
}
