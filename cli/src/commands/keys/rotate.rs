//! `dualsync keys rotate`: a new key for one target, then a new recovery sheet.
//!
//! The writer draws and keeps the key; nothing secret passes through here but the sheet.

use dualsync_config::target::TargetSettings;
use dualsync_model::job::{Keys, Task};
use dualsync_model::keys::{KeySlot, KeysTask};
use dualsync_model::secret::SecretRef;
use serde::Serialize;

use crate::app::App;
use crate::args::RotateArgs;
use crate::commands::keys::{chosen, failed, hand_out, known};
use crate::exit::{Ending, UsageError};

/// What `keys rotate --json` ends with.
#[derive(Serialize)]
struct Summary<'a> {
    message_type: &'static str,
    target: &'a str,
    keys: &'a [KeySlot],
    sheet: Option<&'a std::path::Path>,
}

/// Replaces the key of one target.
pub async fn run(app: &App<'_>, args: &RotateArgs) -> anyhow::Result<Ending> {
    app.settings.check_policy()?;
    app.create_state()?;
    let target = chosen(app, args.target.as_deref())?;
    let name = target.target.name.as_str();
    alone(app, target)?;
    if args.to.is_some() && (args.sheet.sheet.is_some() || args.sheet.qr) {
        let message = "with --to no sheet can be written yet: the configuration still finds the old key";
        let next = "leave --sheet and --qr out, put the new file where the key is found, then `dualsync keys export`";
        return Err(UsageError::new(message, next).into());
    }
    // A sheet that cannot be written is told before the key is another one.
    if let Some(sheet) = args.sheet.sheet.as_ref().filter(|sheet| sheet.exists()) {
        let message = format!("{} exists, and a recovery sheet is never written over", sheet.display());
        return Err(UsageError::new(message, "name a new file with --sheet").into());
    }
    let heard = app
        .ask(target, Task::Keys(KeysTask::Rotate { to: args.to.as_ref().map(std::path::absolute).transpose()? }))
        .await;
    if let Some(error) = heard.error {
        return Ok(failed(name, &error));
    }
    app.output.json(&Summary {
        message_type: "rotated",
        target: name,
        keys: &heard.key_slots,
        sheet: args.sheet.sheet.as_deref(),
    });
    tell(app, name, &heard.key_slots);
    if let Some(to) = &args.to {
        let next = format!("next: put {} where the key of {name} is found, then `dualsync keys export`", to.display());
        app.output.note(&next);
        return Ok(Ending::done());
    }
    if args.sheet.sheet.is_none() && !app.output.is_for_eyes() {
        app.output.note("next: `dualsync keys export --sheet FILE` writes the new recovery sheet");
        return Ok(Ending::done());
    }
    let (all, ending) = known(app).await?;
    hand_out(app, &args.sheet, &all, ending)
}

/// Refuses a key that another target uses too: the new one would not open that target's repository.
fn alone(app: &App<'_>, target: &TargetSettings) -> Result<(), UsageError> {
    let key = key_of(&target.keys);
    let shares = |other: &&TargetSettings| other.target.name != target.target.name && key_of(&other.keys) == key;
    match app.settings.targets.values().find(shares) {
        None => Ok(()),
        Some(other) => Err(UsageError::new(
            format!("{key} is the key of {} too, which the new key would not open", other.target.name),
            format!(
                "copy the file, name the copy as the key of {}, then rotate one after the other",
                other.target.name
            ),
        )),
    }
}

fn key_of(keys: &Keys) -> &SecretRef {
    match keys {
        Keys::Block { key } => key,
        Keys::Archive { identity, .. } => identity,
    }
}

fn tell(app: &App<'_>, name: &str, slots: &[KeySlot]) {
    for slot in slots.iter().filter(|slot| slot.current) {
        app.output.note(&format!("{name}: new copies are sealed with {} from now on", slot.id));
        for (at, file) in slot.files.iter().enumerate() {
            let what = if at == 0 { "the key is in" } else { "the one before is kept in" };
            app.output.note(&format!("{name}: {what} {file}"));
        }
    }
    if let Some(old) = slots.iter().find(|slot| !slot.current) {
        app.output
            .note(&format!("{name}: recovery sheets that name {} as the key id or recipient are outdated", old.id));
    }
}
