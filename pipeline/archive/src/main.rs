//! The program `dualsync-archive`: a verb on the command line, a job on standard input, events on standard output.

use std::io::{BufReader, stdin};
use std::process::ExitCode;

use dualsync_archive::events::Events;
use dualsync_archive::heap::return_big_buffers;
use dualsync_archive::input::Input;
use dualsync_archive::program::{NAME, run};
use dualsync_model::outcome::Exit;

const HELP: &str = "\
usage: dualsync-archive VERB < JOB

The archive path of dualsync: files as sealed tar volumes. It is started by `dualsync` and speaks
the worker protocol, version 1: one JSON job on standard input, JSON lines on standard output.

VERB is one of init, list, backup, facts, restore, check, probe, prune, evidence, keys.
";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--help" | "-h"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("{NAME} {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        [verb] => ExitCode::from(start(verb)),
        _ => {
            eprint!("{HELP}");
            ExitCode::from(Exit::Usage.code())
        }
    }
}

fn start(verb: &str) -> u8 {
    // Before the first big buffer; a refusal costs memory and nothing else.
    let _ = return_big_buffers();
    // Dies with whoever reads the events; where the system refuses, a broken pipe ends it a little later.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let input = Input::new(BufReader::new(stdin()));
            let code = runtime.block_on(run(verb, input, &Events::to_stdout()));
            // A thread may still wait for input that never comes.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("cannot start: {error}");
            Exit::Failed.code()
        }
    }
}
