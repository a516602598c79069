//! `dualsync keys`: what opens the copies. `list` shows nothing secret, `export` hands the recovery sheet out, `rotate`
//! has the writer of one target draw a new key, `add` and `remove` change who else has one.

mod admit;

mod rotate;

use dualsync_config::target::TargetSettings;
use dualsync_model::event::Repository;
use dualsync_model::job::{Keys, Task};
use dualsync_model::keys::{KeySlot, KeysTask};
use dualsync_model::secret::SecretRef;
use serde::Serialize;

use crate::app::App;
use crate::args::{KeysVerb, SheetArgs};
use crate::commands::list;
use crate::exit::{Ending, UsageError, judge_writer, with_causes};
use crate::repository;
use crate::sheet;
use crate::writer::WriterError;

/// One of them.
pub async fn run(app: &App<'_>, verb: &KeysVerb) -> anyhow::Result<Ending> {
    match verb {
        KeysVerb::List => show(app).await,
        KeysVerb::Export(args) => export(app, args).await,
        KeysVerb::Rotate(args) => rotate::run(app, args).await,
        KeysVerb::Add(args) => admit::add(app, args).await,
        KeysVerb::Remove(args) => admit::remove(app, args).await,
    }
}

/// A target with what is known of its repository.
struct Known<'a> {
    target: &'a TargetSettings,
    repository: Option<Repository>,
    slots: Vec<KeySlot>,
    /// A rotation of its key was cut off.
    is_unfinished: bool,
}

/// Asks every target; one that is away is told with what was known last.
async fn known<'a>(app: &'a App<'_>) -> anyhow::Result<(Vec<Known<'a>>, Ending)> {
    app.settings.check_policy()?;
    app.create_state()?;
    let answers = app.list(None).await;
    let mut all = Vec::new();
    for target in app.settings.targets.values() {
        let name = &target.target.name;
        let answered = answers.iter().any(|answer| answer.target == *name && answer.error.is_none());
        let asked = if answered {
            repository::ask(app, target)
                .await
                .map_err(|error| app.output.warn(&format!("{name}: {}", with_causes(&error))))
        } else {
            Err(())
        };
        let (slots, is_unfinished) = if asked.is_ok() { slots(app, target).await } else { (Vec::new(), false) };
        let repository = asked.ok().or_else(|| repository::remembered(&app.state, name));
        all.push(Known { target, repository, slots, is_unfinished });
    }
    Ok((all, list::ending(&answers)))
}

/// Every key that opens the target's repository, as its writer tells, and whether a rotation was cut off.
async fn slots(app: &App<'_>, target: &TargetSettings) -> (Vec<KeySlot>, bool) {
    let heard = app.ask(target, Task::Keys(KeysTask::List {})).await;
    if let Some(error) = &heard.error {
        app.output.warn(&format!("{}: {}", target.target.name, with_causes(error)));
    }
    let is_unfinished = heard.warnings.iter().any(|warning| warning.code == "rotation_unfinished");
    (heard.key_slots, is_unfinished)
}

/// One target of `keys list --json`.
#[derive(Serialize)]
struct TargetLine<'a> {
    message_type: &'static str,
    target: &'a str,
    mechanism: &'static str,
    country: String,
    repository: Option<&'a str>,
    facts: &'a [(String, String)],
    references: Vec<(&'static str, String)>,
    recipients: &'a [String],
    keys: &'a [KeySlot],
}

async fn show(app: &App<'_>) -> anyhow::Result<Ending> {
    let (all, ending) = known(app).await?;
    for Known { target, repository, slots, .. } in &all {
        let (name, country) = (target.target.name.as_str(), target.claim.country.to_string());
        let facts = repository.as_ref().map_or(&[][..], |repository| &repository.facts);
        app.output.json(&TargetLine {
            message_type: "keys",
            target: name,
            mechanism: target.mechanism.as_str(),
            country: country.clone(),
            repository: repository.as_ref().map(|repository| repository.id.as_str()),
            facts,
            references: references(&target.keys),
            recipients: recipients(&target.keys),
            keys: slots,
        });
        let line = |label: &str, value: &str| app.output.say(&format!("  {label:<40} {value}"));
        app.output.say(&format!("{name}: {country}, {} copies", target.mechanism));
        match repository {
            Some(repository) => line("repository", &repository.id),
            None => line("repository", "not known: the store was never heard"),
        }
        for (label, value) in facts.iter().filter(|(label, _)| !label.ends_with("repository id")) {
            line(label, value);
        }
        for (label, reference) in references(&target.keys) {
            line(label, &reference);
        }
        for recipient in recipients(&target.keys) {
            line("further recipient", recipient);
        }
        for slot in slots {
            line(&format!("{} key", slot.kind), &words(slot));
        }
    }
    app.output.note("nothing above is secret; `dualsync keys export` hands out what is");
    Ok(ending)
}

/// The target that was named; where there is only one that could be meant, that one.
fn chosen<'a>(app: &'a App<'_>, name: Option<&str>) -> Result<&'a TargetSettings, UsageError> {
    let targets = &app.settings.targets;
    let known = || targets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => targets.get(name).ok_or_else(|| {
            UsageError::new(format!("there is no target '{name}'"), format!("the configuration has: {}", known()))
        }),
        None => Err(UsageError::new("whose key?", format!("--target NAME, one of: {}", known()))),
    }
}

/// How it ends when the writer refused.
fn failed(name: &str, error: &WriterError) -> Ending {
    let (exit, hint) = judge_writer(error);
    let message = Some(format!("{name}: {}", with_causes(error)));
    Ending { exits: vec![exit], message, details: error.tail().to_vec(), hint }
}

/// A key in one line.
fn words(slot: &KeySlot) -> String {
    let since = slot.created_at.map(|at| format!(", since {}", at.whole_second())).unwrap_or_default();
    let now = if slot.current { "; new copies are sealed with it" } else { "" };
    format!("{}{since}: opens {}{now}", slot.id, slot.opens)
}

/// Where the secrets are, in the words of the configuration.
fn references(keys: &Keys) -> Vec<(&'static str, String)> {
    let told = |label, secret: &SecretRef| {
        let missing = match secret {
            SecretRef::File(path) if !path.exists() => " (NOT THERE)",
            _ => "",
        };
        (label, format!("{secret}{missing}"))
    };
    match keys {
        Keys::Block { key } => vec![told("key", key)],
        Keys::Archive { identity, signing_key, .. } => {
            vec![told("identity", identity), told("signing_key", signing_key)]
        }
    }
}

fn recipients(keys: &Keys) -> &[String] {
    match keys {
        Keys::Block { .. } => &[],
        Keys::Archive { recipients, .. } => recipients,
    }
}

async fn export(app: &App<'_>, args: &SheetArgs) -> anyhow::Result<Ending> {
    // Before anything is asked: a sheet that cannot be handed out need not be made.
    if args.sheet.is_none() && !app.output.is_for_eyes() {
        let message = "the recovery sheet holds secrets, and standard output is no terminal";
        return Err(UsageError::new(message, "--sheet FILE writes it to a new file that only you can read").into());
    }
    let (all, ending) = known(app).await?;
    hand_out(app, args, &all, ending)
}

fn hand_out(app: &App<'_>, args: &SheetArgs, all: &[Known<'_>], ending: Ending) -> anyhow::Result<Ending> {
    let unknown: Vec<_> =
        all.iter().filter(|known| known.repository.is_none()).map(|known| known.target.target.name.as_str()).collect();
    if !unknown.is_empty() {
        let exits = if ending.exits.is_empty() { vec![dualsync_model::outcome::Exit::Failed] } else { ending.exits };
        let names = unknown.join(", ");
        return Ok(Ending::with(
            exits,
            format!("no sheet was written: the repository of {names} is not known"),
            "`dualsync init` makes what is missing; a store that is away can be exported once it was heard",
        ));
    }
    if let Some(known) = all.iter().find(|known| known.is_unfinished) {
        let name = &known.target.target.name;
        return Ok(Ending::with(
            vec![dualsync_model::outcome::Exit::Failed],
            format!(
                "no sheet was written: a rotation of the key of {name} was cut off, and the sheet would hold the old key"
            ),
            format!("`dualsync keys rotate --target {name}` finishes it"),
        ));
    }
    let made: Vec<_> = all.iter().filter_map(|known| Some((known.target, known.repository.clone()?))).collect();
    sheet::hand_out(app, args, &made)?;
    app.output.json(&serde_json::json!({"message_type": "summary", "sheet": args.sheet, "qr": args.qr}));
    Ok(ending)
}
