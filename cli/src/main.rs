//! `dualsync`, the command people type: parse, start the writers, show, exit.
//!
//! It links neither path: the two programs do the work on data, this one decides, watches and tells.
//! `output.rs` is the only file that prints, `clock.rs` the only one that asks what time it is,
//! `exit.rs` turns every end into a number.

mod args;

mod commands;

mod app;

mod job;

mod moment;

mod copies;

mod listen;

mod writer;

mod listing;

mod retention;

mod rotation;

mod reports;

mod recipients;

mod repository;

mod leaving;

mod presence;

mod immutability;

mod retire;

mod outcome;

mod destination;

mod point;

mod history;

mod anchors;

mod lock;

mod state;

mod pin;

mod sheet;

mod status;

mod mechanism;

mod human;

mod output;

mod exit;

mod clock;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use dualsync_snapshot::watchdog_main;

use crate::args::{Cli, Verb};
use crate::exit::Ending;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    if let Verb::Watchdog(args) = &cli.verb {
        return watchdog_main(args.arguments.iter().cloned());
    }
    let output = Output::new(&cli.global);
    let ending = commands::run(&cli, &output).unwrap_or_else(Ending::from);
    // A result that nobody can read is no success.
    let written = output.written().context("the result could not be written").err().map(Ending::from);
    let ending = Ending::all(std::iter::once(ending).chain(written).collect());
    ending.tell(&output);
    ExitCode::from(ending.code())
}

/// Help and version are clap's to print; a mistake is told like every other error, in JSON where the
/// line asks for it, since its options cannot be known yet.
fn refuse(error: &clap::Error) -> ExitCode {
    let ending = exit::usage(error);
    if ending.code() != 0 && std::env::args_os().any(|word| word == "--json") {
        ending.tell(&Output::for_json());
    } else {
        // A closed standard output is nobody to tell.
        let _ = error.print();
    }
    ExitCode::from(ending.code())
}
