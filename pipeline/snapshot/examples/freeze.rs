//! Holds a file system still until a line or the end of standard input, or until the limit:
//! `freeze DEVICE TREE LIMIT_MS`. Each line `check` asks whether it is still frozen.
//!
//! Shows how a program gives itself as the watchdog, and is what the tests kill.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

use dualsync_model::time::Timestamp;
use dualsync_snapshot::{Driver, FreezeSpec, Reexec, Spec, take, watchdog_main};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = env::args_os().skip(1).collect();
    if args.first().is_some_and(|word| word == "__watchdog") {
        return watchdog_main(args.drain(1..));
    }
    match hold(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {:?}", error.source());
            ExitCode::FAILURE
        }
    }
}

fn hold(args: &[OsString]) -> Result<(), Box<dyn Error>> {
    let [device, tree, limit_ms] = args else { return Err("usage: freeze DEVICE TREE LIMIT_MS".into()) };
    let limit = Duration::from_millis(limit_ms.to_str().ok_or("a limit in digits")?.parse()?);
    let watchdog = Reexec { program: "/proc/self/exe".into(), args: vec!["__watchdog".into()] };
    let spec = Spec {
        source: "example".parse()?,
        device: device.into(),
        tree: tree.into(),
        driver: Driver::Freeze(FreezeSpec { limit, watchdog, needed: Vec::new() }),
    };
    let mut taken = take(&spec, Timestamp::default())?;
    println!("frozen");
    for line in std::io::stdin().lock().lines() {
        if line? != "check" {
            break;
        }
        match taken.still_valid() {
            Ok(()) => println!("valid"),
            Err(invalid) => println!("{invalid}"),
        }
    }
    Ok(taken.release()?)
}
