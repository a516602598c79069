//! The program `dualsync-block`: one verb, one job line on standard input, event lines on standard output.
//!
//! It dies with its parent, and ends with the exit code of its last line.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use dualsync_block::events::Events;
use dualsync_block::program::{VERBS, run};
use dualsync_block::view;
use dualsync_model::event::{Event, Failure};
use dualsync_model::outcome::Exit;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let raw: Vec<_> = std::env::args_os().skip(1).collect();
    // The program starts itself to read a mounted image in a world of its own, without keys or store.
    if let [mode, request] = raw.as_slice()
        && mode == view::inside::MODE
        && let Some(exit) = view::inside::main(request)
    {
        return exit;
    }
    let arguments: Vec<String> = raw.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let verb = match arguments.as_slice() {
        [flag] if flag == "--version" => {
            return print(concat!("dualsync-block ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        [flag] if flag == "--help" => return print(&usage()),
        [verb] if VERBS.contains(&verb.as_str()) => verb.clone(),
        _ => {
            eprint!("{}", usage());
            return ExitCode::from(Exit::Usage.code());
        }
    };
    // Killed when `dualsync` is gone: nobody would say `commit` or read what is printed.
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("dualsync-block: cannot ask to die with the parent: {error}");
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("DUALSYNC_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("dualsync-block: cannot start: {error}");
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let exit = runtime.block_on(until_signal(&verb));
    // Threads that wait for standard input cannot be joined.
    runtime.shutdown_background();
    ExitCode::from(exit.code())
}

async fn until_signal(verb: &str) -> Exit {
    let events = Events::new(Box::new(std::io::stdout()));
    let input = match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(input) => tokio::fs::File::from_std(File::from(input)),
        Err(error) => {
            eprintln!("dualsync-block: cannot read standard input: {error}");
            return Exit::Usage;
        }
    };
    let mut input = tokio::io::BufReader::new(input);
    let interrupted = async {
        let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        match (terminate, interrupt) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            }
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        exit = run(verb, &mut input, &events) => exit,
        () = interrupted => {
            // No clean-up is needed: without a manifest nothing of this run is a point.
            events.say(&Event::Error(Failure {
                exit_code: Exit::Interrupted.code(),
                code: "interrupted".to_owned(),
                message: "stopped by a signal".to_owned(),
                hint: None,
            }));
            Exit::Interrupted
        }
    }
}

fn usage() -> String {
    format!(
        "usage: dualsync-block VERB < JOB\n\nVERB is one of {}. The job is one line of JSON, see docs/worker-protocol.md;\n\
         `dualsync` starts this program, people rarely do.\n",
        VERBS.join(", ")
    )
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
