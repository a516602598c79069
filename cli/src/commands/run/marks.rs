//! The end of a run: copies that left the contract are marked, so that their grace begins tonight, and the locks of those
//! that stay are made as long as the contract needs them.
//!
//! Best effort: whatever goes wrong here is a warning, and the next run or `prune` does it. Nothing is deleted.

use dualsync_config::source::SourceSettings;
use dualsync_model::event::RetiredAction;
use dualsync_model::id::PointId;
use serde::Serialize;

use crate::app::App;
use crate::exit::with_causes;
use crate::leaving::{self, Order};
use crate::listing::Answer;
use crate::mechanism::{Mechanism, Pair};
use crate::retire::{Depth, tell};
use crate::{clock, immutability, retention};

/// Marks that were put and taken back on one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Marks {
    /// These leave.
    pub marked: Vec<PointId>,
    /// These stay after all.
    pub undone: Vec<PointId>,
}

/// Sets the marks of `source` on both sides.
pub async fn set(app: &App<'_>, source: &SourceSettings) -> Pair<Marks> {
    match plan(app, source).await {
        Ok((answers, orders)) => {
            let (block, archive) = tokio::join!(
                one(app, source, Mechanism::Block, &answers, &orders),
                one(app, source, Mechanism::Archive, &answers, &orders),
            );
            Pair { block, archive }
        }
        Err(error) => {
            warn(app, source, &format!("{error:#}"));
            Pair::default()
        }
    }
}

/// What each mechanism is told, after both were asked what they hold.
async fn plan(app: &App<'_>, source: &SourceSettings) -> anyhow::Result<(Vec<Answer>, Pair<Order>)> {
    let heard = app.list(Some(&source.name)).await;
    for answer in heard.iter().filter(|answer| answer.error.is_some()) {
        let error = answer.error.as_ref().map(|error| with_causes(error)).unwrap_or_default();
        warn(app, source, &format!("{}: {error}", answer.target));
    }
    let history = app.history()?;
    let only = [source.name.clone()].into();
    let planned = leaving::plans(&app.rows(&heard)?, &app.settings, &history, clock::now(), Some(&only));
    let locked = immutability::locks(&planned, &heard, &app.settings, clock::now());
    let answers = leaving::whole(heard);
    let rows = app.rows(&answers)?;
    retention::remember_beginnings(app, &rows, &history)?;
    let plans = leaving::plans(&rows, &app.settings, &history, clock::now(), Some(&only));
    for question in leaving::questions(&plans) {
        warn(app, source, &format!("{question}; `dualsync prune` asks whether they may"));
    }
    let mut orders = leaving::orders(&plans, &answers, false);
    immutability::add(&mut orders, (&plans, &answers), locked, &app.settings, clock::now());
    let mut of = |mechanism| orders.remove(&app.settings.target(source, mechanism).target.name).unwrap_or_default();
    Ok((answers, Pair { block: of(Mechanism::Block), archive: of(Mechanism::Archive) }))
}

async fn one(
    app: &App<'_>,
    source: &SourceSettings,
    mechanism: Mechanism,
    answers: &[Answer],
    orders: &Pair<Order>,
) -> Marks {
    let order = orders.get(mechanism).unannounced(answers);
    if order.is_empty() {
        return Marks::default();
    }
    let target = app.settings.target(source, mechanism);
    let heard = tell(app, target, &order, answers, Depth::Mark, |_| {}).await;
    if let Some(error) = &heard.error {
        let problem = format!("{}: {}", target.target.name, with_causes(error));
        if order.locks.is_empty() {
            warn(app, source, &problem);
        } else {
            app.output.warn(&format!("{}: not all marks and locks could be set there tonight: {problem}", source.name));
        }
    }
    let with = |action| {
        let copies = heard.retired.iter().filter(move |copy| copy.action == action);
        copies.map(|copy| copy.point.clone()).collect()
    };
    Marks { marked: with(RetiredAction::Marked), undone: with(RetiredAction::Undone) }
}

fn warn(app: &App<'_>, source: &SourceSettings, what: &str) {
    app.output.warn(&format!("{}: nothing is marked for deletion there tonight: {what}", source.name));
}
