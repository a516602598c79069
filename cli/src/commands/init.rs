//! `dualsync init`: a configuration where there is none; repositories, keys and the recovery sheet where there is one.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use dualsync_config::target::TargetSettings;
use dualsync_model::event::Repository;
use dualsync_model::job::{InitTask, Keys, Task};
use dualsync_model::outcome::Exit;
use dualsync_presets::{preset, presets};
use serde::Serialize;

use crate::anchors;
use crate::app::App;
use crate::args::{Global, InitArgs};
use crate::exit::{Ending, UsageError, judge_writer, with_causes};
use crate::output::Output;
use crate::pin::pin;
use crate::writer::WriterError;
use crate::{repository, sheet};

/// Which of the two it is, the file system says.
pub async fn run(global: &Global, args: &InitArgs, output: &Output) -> anyhow::Result<Ending> {
    if !global.config.exists() {
        return write_preset(&global.config, args, output);
    }
    if let Some(preset) = &args.preset {
        let message = format!("{} exists and is not replaced by the preset '{preset}'", global.config.display());
        return Err(UsageError::new(message, "leave --preset out, or name another file with --config").into());
    }
    let app = App::open(global, output)?;
    app.settings.check_policy()?;
    create(&app, args).await
}

/// Writes a new file that nothing else can be in the place of.
fn write_preset(path: &Path, args: &InitArgs, output: &Output) -> anyhow::Result<Ending> {
    let preset = match &args.preset {
        Some(name) => preset(name).ok_or_else(|| unknown(name))?,
        None => presets().first().context("no preset is built in")?,
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("{} could not be created", folder.display()))?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .with_context(|| format!("{} could not be created", path.display()))?;
    file.write_all(preset.text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{} could not be written", path.display()))?;
    output.json(&serde_json::json!({"message_type": "config_written", "path": path, "preset": preset.name}));
    output.say(&format!("wrote {}: {}", path.display(), preset.description));
    output.say("next: set host, the two targets and the source in it, then run `dualsync init` again");
    Ok(Ending::done())
}

/// A preset that is not there, with those that are.
fn unknown(name: &str) -> UsageError {
    let known: Vec<_> = presets().iter().map(|preset| format!("{} ({})", preset.name, preset.description)).collect();
    UsageError::new(format!("there is no preset '{name}'"), format!("there are: {}", known.join("; ")))
}

/// One target after `init`.
#[derive(Serialize)]
struct TargetLine<'a> {
    message_type: &'static str,
    target: &'a str,
    mechanism: &'static str,
    repository: &'a Repository,
}

async fn create(app: &App<'_>, args: &InitArgs) -> anyhow::Result<Ending> {
    app.create_state()?;
    let mut made = Vec::new();
    let mut endings = Vec::new();
    for (name, target) in &app.settings.targets {
        match one(app, target).await {
            Ok(repository) => made.push((target, repository)),
            Err(error) => {
                let (exit, hint) = judge_writer(&error);
                let message = Some(format!("{name}: {}", with_causes(&error)));
                endings.push(Ending { exits: vec![exit], message, details: error.tail().to_vec(), hint });
            }
        }
    }
    for (target, repository) in &made {
        if let Err(ending) = remember(app, target, repository) {
            endings.push(ending);
        }
    }
    if endings.is_empty() {
        sheet::hand_out(app, &args.sheet, &made)?;
        app.output.note("next: `dualsync check`, then `dualsync run`");
    }
    Ok(Ending::all(endings))
}

async fn one(app: &App<'_>, target: &TargetSettings) -> Result<Repository, WriterError> {
    let heard = app.ask(target, Task::Init(InitTask::default())).await;
    let repository = match (heard.error, heard.repository) {
        (Some(error), _) => return Err(error),
        (None, None) => return Err(WriterError::silent(target.mechanism, "a repository line")),
        (None, Some(repository)) => repository,
    };
    let name = target.target.name.as_str();
    repository::remember(&app.state, name, &repository);
    app.output.json(&TargetLine {
        message_type: "repository",
        target: name,
        mechanism: target.mechanism.as_str(),
        repository: &repository,
    });
    let word = if repository.created { "created" } else { "is there" };
    app.output.note(&format!("{name}: the {} repository {} {word}", target.mechanism, repository.id));
    for key in &repository.keys_created {
        app.output.note(&format!("{name}: created the key {key}"));
    }
    Ok(repository)
}

/// Pins the public key and remembers the newest manifest.
fn remember(app: &App<'_>, target: &TargetSettings, repository: &Repository) -> Result<(), Ending> {
    let name = target.target.name.as_str();
    if let Some(newest) = &repository.newest {
        anchors::advance(&app.state.anchors(), name, newest)
            .map_err(|error| Ending::from(anyhow::Error::from(error)))?;
    }
    let Some(public) = &repository.signing_public else { return Ok(()) };
    match &target.keys {
        Keys::Archive { signing_public: Some(pinned), .. } if pinned == public => Ok(()),
        Keys::Archive { signing_public: Some(_), .. } => Err(Ending::with(
            vec![Exit::WrongKey],
            format!("{name}: signing_key does not belong to the pinned signing_public"),
            "mend the configuration: the recovery sheet has the public key of this repository",
        )),
        Keys::Archive { signing_public: None, .. } | Keys::Block { .. } => {
            pin(&app.config, name, public).map_err(|error| {
                let text = with_causes(&error);
                Ending::with(
                    vec![Exit::Failed],
                    text,
                    format!("add signing_public = \"{public}\" to [targets.{name}] by hand"),
                )
            })?;
            app.output.note(&format!("{name}: pinned signing_public in {}", app.config.display()));
            Ok(())
        }
    }
}
