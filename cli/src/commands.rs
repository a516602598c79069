//! One file a verb; this one hands over, and stops everything on a signal.

mod check;

mod completions;

mod delete;

mod init;

mod keys;

mod list;

mod man;

mod prune;

mod restore;

mod run;

mod show;

mod status;

mod undelete;

mod verify;

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::args::{Cli, Verb};
use crate::exit::{Ending, Interrupted};
use crate::output::Output;

/// Does what was typed.
pub fn run(cli: &Cli, output: &Output) -> anyhow::Result<Ending> {
    match &cli.verb {
        Verb::Status(args) if args.nagios => {
            Ok(with_writers(cli, &cli.verb, output).unwrap_or_else(|error| status::unknown(output, &error)))
        }
        Verb::Completions(args) => Ok(completions::run(args, output)),
        Verb::Man(args) => man::run(args, output),
        verb => with_writers(cli, verb, output),
    }
}

/// Everything that starts writers runs on this one thread: they die with it (`writer/spawn.rs`).
fn with_writers(cli: &Cli, verb: &Verb, output: &Output) -> anyhow::Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let ending = runtime.block_on(async {
        let stop = stopped()?;
        tokio::select! {
            biased;
            // Dropping the work stops the writers, releases the snapshot and thaws.
            name = stop => Err(Interrupted(name).into()),
            ending = dispatch(cli, verb, output) => ending,
        }
    });
    // A comparison in the background ends when its streams do; nobody waits for it any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ending
}

async fn dispatch(cli: &Cli, verb: &Verb, output: &Output) -> anyhow::Result<Ending> {
    if let Verb::Init(args) = verb {
        return init::run(&cli.global, args, output).await;
    }
    let app = App::open(&cli.global, output)?;
    match verb {
        Verb::Run(args) => Box::pin(run::run(&app, args)).await,
        Verb::List(args) => list::run(&app, args).await,
        Verb::Show(args) => show::run(&app, args).await,
        Verb::Verify(args) => verify::run(&app, args).await,
        Verb::Restore(args) => restore::run(&app, args).await,
        Verb::Prune(args) => Box::pin(prune::run(&app, args)).await,
        Verb::Delete(args) => Box::pin(delete::run(&app, args)).await,
        Verb::Undelete(args) => Box::pin(undelete::run(&app, args)).await,
        Verb::Check => check::run(&app).await,
        Verb::Status(args) => status::run(&app, args).await,
        Verb::Keys(args) => keys::run(&app, &args.verb).await,
        Verb::Init(_) | Verb::Completions(_) | Verb::Man(_) | Verb::Watchdog(_) => Ok(Ending::done()),
    }
}

/// The name of the first signal that asks to stop. Set up before any work begins.
fn stopped() -> anyhow::Result<impl Future<Output = &'static str>> {
    let listen = |kind| signal(kind).context("signals cannot be received");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        }
    })
}
