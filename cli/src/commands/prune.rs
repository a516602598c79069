//! `dualsync prune`: show what may go and why, then let each target mark and delete for itself.

mod show;

use std::cell::RefCell;
use std::collections::BTreeSet;

use dualsync_config::target::TargetSettings;
use dualsync_model::id::SourceName;
use dualsync_model::job::Place;
use futures::future::join_all;

use crate::app::App;
use crate::args::PruneArgs;
use crate::commands::list;
use crate::exit::{Ending, UsageError, with_causes};
use crate::leaving::{self, Order, SourcePlan};
use crate::listing::{Answer, Row};
use crate::lock::{LockError, RunLock};
use crate::mechanism::Pair;
use crate::outcome::{Outcome, Retirement};
use crate::retire::{Depth, tell};
use crate::{immutability, presence, retention};

/// Lists, plans, asks where too much would leave, then tells every target at once.
pub async fn run(app: &App<'_>, args: &PruneArgs) -> anyhow::Result<Ending> {
    let wanted = wanted(app, args)?;
    app.settings.check_policy()?;
    app.create_state()?;
    let history = app.history()?;
    let plan = |rows: &[Row]| leaving::plans(rows, &app.settings, &history, app.now, wanted.as_ref());
    let heard = app.list(None).await;
    let held = immutability::locks(&plan(&app.rows(&heard)?), &heard, &app.settings, app.now);
    let mut answers = leaving::whole(heard);
    let mut rows = app.rows(&answers)?;
    let mut plans = plan(&rows);
    if leaving::is_anything(&plans) {
        let (looked, findings) = presence::ask(app, answers).await;
        answers = looked;
        rows = app.rows(&answers)?;
        presence::apply(&findings, &mut rows);
        plans = plan(&rows);
    }
    show::plans(app, &plans, &answers);
    if !args.dry_run {
        retention::remember_beginnings(app, &rows, &history)?;
    }
    let yes = args.dry_run || agree(app, &plans).await?;
    let mut orders = leaving::orders(&plans, &answers, yes);
    immutability::add(&mut orders, (&plans, &answers), held, &app.settings, app.now);
    let targets = targets(app, wanted.as_ref(), &orders);
    let locks = if args.dry_run { Ok(Vec::new()) } else { hold_still(app, &targets) };
    let sides = Pair::new(|mechanism| targets.iter().any(|target| target.mechanism == mechanism));
    let progress = RefCell::new(app.output.progress("prune", &sides));
    let depth = if args.dry_run { Depth::Rehearse } else { Depth::Sweep };
    let work = targets.iter().map(async |target| {
        let name = &target.target.name;
        if answers.iter().any(|answer| answer.target == *name && answer.error.is_some()) {
            return keep(app, target, orders.get(name).filter(|_| !args.dry_run), &answers).await;
        }
        if let (Err(error), true) = (&locks, is_directory(target)) {
            return Outcome::locked(target, error);
        }
        let order = orders.get(name).cloned().unwrap_or_default();
        let told = |status: &_| progress.borrow_mut().update(target.mechanism, status);
        Outcome::told(target, tell(app, target, &order, &answers, depth, told).await)
    });
    let outcomes = join_all(work).await;
    drop((progress, locks));
    let report = Retirement::new(args.dry_run, outcomes);
    report.show(app);
    let withheld = if yes { Ending::done() } else { show::withheld(&plans) };
    Ok(Ending::all(vec![list::ending(&answers), report.ending(), withheld]))
}

/// Of a target that did not tell everything nothing leaves; the copies that it told of are locked for longer all the same.
async fn keep(app: &App<'_>, target: &TargetSettings, order: Option<&Order>, answers: &[Answer]) -> Outcome {
    if let Some(order) = order.filter(|order| !order.locks.is_empty()) {
        let heard = tell(app, target, order, answers, Depth::Mark, |_| {}).await;
        if let Some(error) = &heard.error {
            let problem = format!("{}: {}", target.target.name, with_causes(error));
            app.output.warn(&format!("not all locks were made longer: {problem}"));
        }
    }
    Outcome::silent(target)
}

/// The sources that were named; `None` for all there are, those that left the configuration among them.
fn wanted(app: &App<'_>, args: &PruneArgs) -> Result<Option<BTreeSet<SourceName>>, UsageError> {
    let names =
        args.sources.iter().map(|name| Ok(app.source(name)?.name.clone())).collect::<Result<BTreeSet<_>, _>>()?;
    Ok((!names.is_empty()).then_some(names))
}

/// Whether everything may leave: nothing has to be asked, or a person said yes. Where nobody can be asked, what
/// needs a yes stays and the rest is done.
async fn agree(app: &App<'_>, plans: &[SourcePlan]) -> anyhow::Result<bool> {
    let questions = leaving::questions(plans);
    if questions.is_empty() || app.yes {
        return Ok(true);
    }
    for question in &questions {
        app.output.warn(question);
    }
    match app.output.ask("May they leave?").await {
        Some(true) => Ok(true),
        Some(false) => Err(UsageError::new(
            "not confirmed, nothing was marked or deleted",
            "`dualsync prune --dry-run` shows the plan; was `retention` changed?",
        )
        .into()),
        None => Ok(false),
    }
}

/// Every target, or those of the named sources and what holds copies of them.
fn targets<'a>(
    app: &'a App<'_>,
    wanted: Option<&BTreeSet<SourceName>>,
    orders: &std::collections::BTreeMap<String, Order>,
) -> Vec<&'a TargetSettings> {
    let serves = |name: &str| {
        let mut sources = app.settings.sources.iter();
        sources.any(|source| {
            wanted.is_none_or(|wanted| wanted.contains(&source.name))
                && (source.block == name || source.archive == name)
        })
    };
    let all = app.settings.targets.values();
    all.filter(|target| {
        let name = &target.target.name;
        wanted.is_none() || serves(name) || orders.contains_key(name)
    })
    .collect()
}

fn is_directory(target: &TargetSettings) -> bool {
    matches!(target.target.place, Place::Directory { .. })
}

/// A directory has no clock that could tell a mark's age if this host's jumps: no run of this host may be on while
/// it is swept. See `docs/decisions/0006-deleting.md`.
fn hold_still(app: &App<'_>, targets: &[&TargetSettings]) -> Result<Vec<RunLock>, LockError> {
    if !targets.iter().any(|target| is_directory(target)) {
        return Ok(Vec::new());
    }
    let folder = app.state.locks();
    app.settings.sources.iter().map(|source| RunLock::take(&folder, &source.name)).collect()
}
