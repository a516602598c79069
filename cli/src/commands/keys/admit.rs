//! `dualsync keys add` and `keys remove`: further ways in. Of a block target they are slots in its repository, of an
//! archive target recipients in the configuration.

use dualsync_config::Settings;
use dualsync_config::target::TargetSettings;
use dualsync_model::job::{Keys, Task};
use dualsync_model::keys::{KeySlot, KeysTask, NewKey};

use crate::app::App;
use crate::args::{AddKeyArgs, RemoveKeyArgs};
use crate::commands::keys::{chosen, failed, words};
use crate::exit::{Ending, UsageError};
use crate::recipients::{Change, edited, save};

/// Makes one more way in.
pub async fn add(app: &App<'_>, args: &AddKeyArgs) -> anyhow::Result<Ending> {
    app.settings.check_policy()?;
    app.create_state()?;
    let target = chosen(app, args.target.as_deref())?;
    let name = target.target.name.as_str();
    if let Some(recipient) = &args.recipient {
        only_archive(target)?;
        change(app, target, Change::Add(recipient))?;
        app.output.note(&format!(
            "{name}: what is stored from the next run on is sealed to {recipient} too; what is stored already is not"
        ));
        return Ok(Ending::done());
    }
    let heard = app.ask(target, Task::Keys(KeysTask::Add { new: new_key(target, args)? })).await;
    if let Some(error) = heard.error {
        return Ok(failed(name, &error));
    }
    tell(app, name, "key_added", &heard.key_slots);
    if args.retention.is_some() {
        app.output.note("put the file on the machine that prunes, as the key of this target there, and delete it here");
    }
    Ok(Ending::done())
}

fn new_key(target: &TargetSettings, args: &AddKeyArgs) -> Result<NewKey, UsageError> {
    if matches!(target.keys, Keys::Archive { .. }) {
        let message = format!("{} is an archive target: it has recipients and no slots", target.target.name);
        return Err(UsageError::new(message, "`dualsync keys add --target NAME age1...`"));
    }
    let absolute = |file: &std::path::PathBuf| std::path::absolute(file).unwrap_or_else(|_| file.clone());
    match (&args.passphrase_from, &args.key_file, &args.retention) {
        (Some(text), None, None) => {
            let wrong = |error: dualsync_model::secret::SecretRefError| {
                UsageError::new(
                    format!("--passphrase-from: {error}"),
                    "file:PATH, systemd:NAME, env:NAME or command:ARGV",
                )
            };
            Ok(NewKey::Passphrase { from: text.parse().map_err(wrong)?, memory_mib: args.memory_mib })
        }
        (None, Some(file), None) => Ok(NewKey::KeyFile { to: absolute(file) }),
        (None, None, Some(file)) => Ok(NewKey::Retention { to: absolute(file) }),
        _ => Err(UsageError::new(
            "which key?",
            "one of --passphrase-from REF, --key-file FILE, --retention FILE; for an archive target age1...",
        )),
    }
}

fn only_archive(target: &TargetSettings) -> Result<(), UsageError> {
    match target.keys {
        Keys::Archive { .. } => Ok(()),
        Keys::Block { .. } => Err(UsageError::new(
            format!("{} is a block target: it has slots and no recipients", target.target.name),
            "one of --passphrase-from REF, --key-file FILE, --retention FILE",
        )),
    }
}

/// Takes a way in away.
pub async fn remove(app: &App<'_>, args: &RemoveKeyArgs) -> anyhow::Result<Ending> {
    app.settings.check_policy()?;
    app.create_state()?;
    let target = chosen(app, args.target.as_deref())?;
    let name = target.target.name.as_str();
    if matches!(target.keys, Keys::Archive { .. }) {
        agree(app, &format!("New copies in {name} will not be sealed to {}; older ones stay as they are.", args.id))
            .await?;
        change(app, target, Change::Remove(&args.id))?;
        app.output.note(&format!("{name}: {} opens what was stored up to now, and nothing that is new", args.id));
        return Ok(Ending::done());
    }
    let question = format!("Slot {} of {name} will be deleted. Whoever copied it can use it all the same.", args.id);
    agree(app, &question).await?;
    let heard = app.ask(target, Task::Keys(KeysTask::Remove { id: args.id.clone() })).await;
    if let Some(error) = heard.error {
        return Ok(failed(name, &error));
    }
    tell(app, name, "key_removed", &heard.key_slots);
    app.output
        .note("who copied the slot or the bucket can still use it: `dualsync keys rotate` shuts out of what is new");
    Ok(Ending::done())
}

async fn agree(app: &App<'_>, question: &str) -> anyhow::Result<()> {
    if app.yes {
        return Ok(());
    }
    match app.output.ask(&format!("{question} Go on?")).await {
        Some(true) => Ok(()),
        Some(false) => Err(UsageError::new("not confirmed, nothing was removed", "answer y, or add --yes").into()),
        None => Err(UsageError::new("there is no terminal to confirm it", "add --yes").into()),
    }
}

/// Edits the configuration, when what comes out is what was meant.
fn change(app: &App<'_>, target: &TargetSettings, change: Change<'_>) -> anyhow::Result<()> {
    let name = target.target.name.as_str();
    let has = |settings: &Settings, recipient: &str| match settings.targets.get(name).map(|target| &target.keys) {
        Some(Keys::Archive { recipients, .. }) => recipients.iter().any(|one| one == recipient),
        _ => false,
    };
    let (recipient, wanted) = match change {
        Change::Add(recipient) => (recipient, true),
        Change::Remove(recipient) => (recipient, false),
    };
    if has(&app.settings, recipient) == wanted {
        let word = if wanted { "is already" } else { "is not" };
        return Err(UsageError::new(format!("{recipient} {word} a recipient of {name}"), "`dualsync keys list`").into());
    }
    let by_hand = || {
        UsageError::new(
            format!("{} could not be edited", app.config.display()),
            format!("change recipients under [targets.{name}] by hand"),
        )
    };
    let text = std::fs::read_to_string(&app.config)?;
    let text = edited(&text, name, change).ok_or_else(by_hand)?;
    let settings = Settings::parse(&text, &app.config, std::iter::empty())?;
    if has(&settings, recipient) != wanted {
        return Err(by_hand().into());
    }
    Ok(save(&app.config, &text)?)
}

fn tell(app: &App<'_>, name: &str, message_type: &str, slots: &[KeySlot]) {
    app.output.json(&serde_json::json!({"message_type": message_type, "target": name, "keys": slots}));
    for slot in slots {
        app.output.note(&format!("{name}: {} key {}", slot.kind, words(slot)));
        for file in &slot.files {
            app.output.note(&format!("{name}: the key is in {file}"));
        }
    }
}
