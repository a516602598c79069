//! `dualsync restore`: bring a point, or some of its files, back from one of its copies.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use dualsync_config::target::TargetSettings;
use dualsync_model::event::{Finding, Requests, Summary};
use dualsync_model::id::PointId;
use dualsync_model::job::{Keys, RestoreTask, Shape, Task};
use dualsync_model::outcome::Exit;
use dualsync_model::secret::SecretRef;
use serde::Serialize;

use crate::app::App;
use crate::args::RestoreArgs;
use crate::clock;
use crate::destination::{Standing, choose, second, shape};
use crate::exit::{Ending, UsageError, judge_writer, with_causes};
use crate::history::{self, Record};
use crate::human;
use crate::listen::{Heard, listen, words};
use crate::listing::Row;
use crate::mechanism::{Mechanism, Pair};
use crate::point::{resolve, source_of};

/// Decides shape and copy, asks before it destroys, restores.
pub async fn run(app: &App<'_>, args: &RestoreArgs) -> anyhow::Result<Ending> {
    let to = std::path::absolute(&args.to).context("TO cannot be made an absolute path")?;
    let standing = Standing::of(&to)?;
    let shape = shape(standing, args.from, !args.paths.is_empty())?;
    guard(app, args, &to, standing, shape).await?;
    app.settings.check_policy()?;
    app.create_state()?;
    let answers = app.list(source_of(&args.point).as_ref()).await;
    let rows = app.rows(&answers)?;
    let known: Vec<_> = rows.iter().map(|row| row.point.clone()).collect();
    let point = resolve(&args.point, &known)?;
    let row = rows.iter().find(|row| row.point == point).context("the point went away")?;
    let choice = choose(args.from, shape, &row.copies)?;
    if let Some(instead) = &choice.instead {
        app.output.warn(instead);
    }
    let order = Order { args, to, shape, standing, point };
    let first = order.restore(app, row, choice.mechanism, args.overwrite).await?;
    match order.second_try(&first, choice.mechanism, row) {
        Some(other) => {
            app.output.warn(&format!("{}; the {other} copy is read instead", first.words()));
            Ok(order.restore(app, row, other, true).await?.ending(app, &order))
        }
        None => Ok(first.ending(app, &order)),
    }
}

/// The target, opened with the identities in this file where one is named.
fn with_identity(target: &TargetSettings, file: Option<&Path>) -> anyhow::Result<TargetSettings> {
    let mut target = target.clone();
    if let (Some(file), Keys::Archive { identity, .. }) = (file, &mut target.keys) {
        *identity = SecretRef::File(std::path::absolute(file).context("--identity cannot be made an absolute path")?);
    }
    Ok(target)
}

/// Nothing that exists is written over by accident.
async fn guard(app: &App<'_>, args: &RestoreArgs, to: &Path, standing: Standing, shape: Shape) -> anyhow::Result<()> {
    if args.dry_run || !standing.holds_data() {
        return Ok(());
    }
    if !args.overwrite {
        // Into a directory beside what is there is fine: the writer refuses each file that exists.
        if shape == Shape::Tree || (args.resume && shape == Shape::Image) {
            return Ok(());
        }
        let message = format!("{} exists and would be written over", to.display());
        return Err(UsageError::new(message, "add --overwrite when its content may be lost").into());
    }
    if app.yes {
        return Ok(());
    }
    match app.output.ask(&format!("{} will be written over. Go on?", to.display())).await {
        Some(true) => Ok(()),
        Some(false) => Err(UsageError::new("not confirmed, nothing was written", "answer y, or add --yes").into()),
        None => Err(UsageError::new("--overwrite destroys data and there is no terminal to ask", "add --yes").into()),
    }
}

struct Order<'a> {
    args: &'a RestoreArgs,
    to: PathBuf,
    shape: Shape,
    standing: Standing,
    point: PointId,
}

impl Order<'_> {
    async fn restore(
        &self,
        app: &App<'_>,
        row: &Row,
        mechanism: Mechanism,
        overwrite: bool,
    ) -> anyhow::Result<Restored> {
        let name = row.copies.get(mechanism).target.as_deref().unwrap_or_default();
        let target =
            app.settings.targets.get(name).with_context(|| format!("the target '{name}' is not configured"))?;
        let task = RestoreTask {
            point: self.point.clone(),
            to: self.to.clone(),
            shape: self.shape,
            paths: self.args.paths.clone(),
            resume: self.args.resume,
            overwrite,
            dry_run: self.args.dry_run,
            // Every source has a tree that this host mounts anyway.
            kernel_mount: app.settings.source(self.point.source().as_str()).is_some(),
        };
        let target = &with_identity(target, self.args.identity.as_deref())?;
        let progress = RefCell::new(app.output.progress("restore", &Pair::new(|side| side == mechanism)));
        let began = Instant::now();
        let writer = app.start(target, None, Task::Restore(task)).await;
        let heard = listen(writer, |status| progress.borrow_mut().update(mechanism, status)).await;
        drop(progress);
        for warning in &heard.warnings {
            app.output.warn(&words(warning));
        }
        for finding in &heard.findings {
            app.output.warn(&describe(finding));
        }
        Ok(Restored { mechanism, heard, duration_s: began.elapsed().as_secs() })
    }

    /// The copy that may mend what the first could not give. Only where nothing stood at TO before: then
    /// everything there is of this restore, and may be written over.
    fn second_try(&self, first: &Restored, mechanism: Mechanism, row: &Row) -> Option<Mechanism> {
        let (exit, _) = judge_writer(first.heard.error.as_ref()?);
        let fresh = matches!(self.standing, Standing::Nothing | Standing::EmptyDirectory) || self.args.overwrite;
        let mendable = matches!(exit, Exit::Damaged | Exit::RepositoryMissing | Exit::Failed) && !self.args.dry_run;
        second(self.args.from, self.shape)
            .filter(|other| fresh && mendable && *other != mechanism && row.copies.get(*other).is_available())
    }
}

struct Restored {
    mechanism: Mechanism,
    heard: Heard,
    duration_s: u64,
}

/// The last line of `restore --json`.
#[derive(Serialize)]
struct SummaryLine<'a> {
    message_type: &'static str,
    point: &'a PointId,
    from: &'static str,
    to: String,
    shape: Shape,
    dry_run: bool,
    duration_s: u64,
    items: Option<u64>,
    bytes: Option<u64>,
    fetched_bytes: Option<u64>,
    requests: Option<Requests>,
    peak_memory_bytes: Option<u64>,
    incomplete: Option<u64>,
    findings: &'a [Finding],
}

impl Restored {
    /// A restore that wrote something is a drill, whoever asked for it and why. The data is back whether or not
    /// that can be written down.
    fn remember(&self, app: &App<'_>, order: &Order<'_>, summary: &Summary) {
        if order.args.dry_run {
            return;
        }
        let record = Record::Restored(history::Restored {
            at: clock::now(),
            point: order.point.clone(),
            from: self.mechanism.as_str().to_owned(),
            bytes: summary.bytes,
            duration_s: self.duration_s,
            partial: !order.args.paths.is_empty(),
            verified: summary.exit_code == 0 && self.heard.findings.is_empty(),
        });
        if let Err(error) = history::append(&app.state.history(), &record) {
            app.output.warn(&with_causes(&error));
        }
    }

    fn words(&self) -> String {
        let reason = self.heard.error.as_ref().map(|error| with_causes(error)).unwrap_or_default();
        format!("the {} copy could not be restored whole: {reason}", self.mechanism)
    }

    fn ending(self, app: &App<'_>, order: &Order<'_>) -> Ending {
        let summary = self.heard.summary.as_ref();
        let number = |of: fn(&Summary) -> u64| summary.map(of);
        app.output.json(&SummaryLine {
            message_type: "summary",
            point: &order.point,
            from: self.mechanism.as_str(),
            to: order.to.display().to_string(),
            shape: order.shape,
            dry_run: order.args.dry_run,
            duration_s: self.duration_s,
            items: number(|summary| summary.items),
            bytes: number(|summary| summary.bytes),
            fetched_bytes: number(|summary| summary.fetched_bytes),
            requests: summary.map(|summary| summary.requests),
            peak_memory_bytes: number(|summary| summary.peak_memory_bytes),
            incomplete: number(|summary| summary.incomplete),
            findings: &self.heard.findings,
        });
        if let Some(summary) = summary {
            self.remember(app, order, summary);
            app.output.say(&sentence(order, self.mechanism, summary, self.duration_s));
            if summary.exit_code == Exit::Incomplete.code() {
                let text = format!("{} could not be restored as they were", human::count(summary.incomplete, "entry"));
                return Ending::with(
                    vec![Exit::Incomplete],
                    text,
                    "the warnings name them; what exists at TO is replaced with --overwrite only",
                );
            }
            return Ending::done();
        }
        let message = self.words();
        let Some(error) = self.heard.error else { return Ending::done() };
        let (exit, hint) = judge_writer(&error);
        let hint = hint.or_else(|| {
            let other = self.mechanism.other();
            (exit == Exit::Damaged).then(|| format!("what is intact was restored; --from {other} reads the other copy"))
        });
        Ending { exits: vec![exit], message: Some(message), details: error.tail().to_vec(), hint }
    }
}

fn sentence(order: &Order<'_>, mechanism: Mechanism, summary: &Summary, duration_s: u64) -> String {
    let shape = match order.shape {
        Shape::Device => "the device",
        Shape::Image => "the image file",
        Shape::Tree => "the directory",
    };
    let unit = if mechanism == Mechanism::Block && order.shape != Shape::Tree { "block" } else { "entry" };
    let (verb, end) = if order.args.dry_run {
        ("would restore", String::new())
    } else {
        ("restored", format!(" in {}", human::seconds(duration_s)))
    };
    let items = human::count(summary.items, unit);
    let items = match summary.incomplete {
        0 => items,
        incomplete => format!("{} of {items}", summary.items.saturating_sub(incomplete)),
    };
    format!(
        "{verb} {} from the {mechanism} copy to {shape} {}: {items}, {}{end}",
        order.point,
        order.to.display(),
        human::bytes(summary.bytes),
    )
}

/// A finding in one line, with the files it hits.
pub fn describe(finding: &Finding) -> String {
    let mut text = format!("{}: {}", finding.target, human::about(&finding.object, &finding.problem));
    if !finding.paths.is_empty() {
        let shown: Vec<_> = finding.paths.iter().take(5).map(ToString::to_string).collect();
        let more = finding.paths.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text = format!("{text}; hits {}{more}", shown.join(", "));
    }
    text
}
