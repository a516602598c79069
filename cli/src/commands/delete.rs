//! `dualsync delete`: a person's word, in two phases: marked now, deleted by a prune after the grace.
//!
//! It shows what the contract loses and refuses nothing but what cannot be done.

mod loss;

use std::collections::BTreeMap;

use dualsync_model::event::Point;
use dualsync_model::id::{PointId, SourceName};
use dualsync_verify::report::ContractRow;
use futures::future::join_all;

use crate::app::App;
use crate::args::DeleteArgs;
use crate::commands::list;
use crate::exit::{Ending, UsageError};
use crate::history::{self, Ended, Record};
use crate::human;
use crate::leaving::{Order, leaving};
use crate::listing::{Answer, Row};
use crate::mechanism::Mechanism;
use crate::outcome::{Outcome, Retirement};
use crate::point::resolve;
use crate::retire::{Depth, tell};
use crate::{clock, leaving as plans};

/// What the mark says.
const REASON: &str = "a person asked for it";

/// Finds the copies, shows what is lost, asks, marks.
pub async fn run(app: &App<'_>, args: &DeleteArgs) -> anyhow::Result<Ending> {
    app.settings.check_policy()?;
    app.create_state()?;
    // Every target: a source may have moved, or have left the configuration.
    let answers = plans::whole(app.list(None).await);
    let rows = app.rows(&answers)?;
    let chosen = match &args.source {
        Some(name) => Chosen::source(name, args, &rows, &answers)?,
        None => Chosen::points(args, &rows, &answers)?,
    };
    if chosen.copies.is_empty() {
        let silent = list::ending(&answers);
        let none = Ending::from(anyhow::Error::from(chosen.nothing()));
        return Ok(if silent.exits.is_empty() { none } else { silent });
    }
    let loses = loss::of(app, &rows, &chosen)?;
    show(app, &chosen, &loses);
    agree(app, &chosen).await?;
    let orders = chosen.orders();
    let work = app.settings.targets.values().filter_map(|target| Some((target, orders.get(&target.target.name)?)));
    let outcomes = work.map(async |(target, order)| {
        Outcome::told(target, tell(app, target, order, &answers, Depth::Mark, |_| {}).await).strict()
    });
    let report = Retirement::new(false, join_all(outcomes).await).losing(loses);
    if let Some(source) = &chosen.whole {
        let ended = Ended { at: clock::now(), source: source.clone() };
        history::append(&app.state.history(), &Record::Ended(ended))?;
    }
    report.show_copies(app);
    app.output.note("next: `dualsync prune` deletes them when their time is over; `dualsync undelete` takes it back");
    Ok(Ending::all(vec![list::ending(&answers), report.ending()]))
}

/// The copies that are to go.
pub(super) struct Chosen {
    /// The source, where all of it goes.
    whole: Option<SourceName>,
    /// The copies, each with its target's name and its mechanism.
    copies: Vec<(String, Mechanism, Point)>,
    /// For words.
    asked: String,
}

impl Chosen {
    fn source(name: &str, args: &DeleteArgs, rows: &[Row], answers: &[Answer]) -> Result<Self, UsageError> {
        let source: SourceName = name.parse().map_err(|error| {
            UsageError::new(format!("'{name}' is not a source: {error}"), "`dualsync list` shows them")
        })?;
        let points = rows.iter().filter(|row| row.source == source).map(|row| row.point.clone()).collect::<Vec<_>>();
        let whole = args.only.is_none().then(|| source.clone());
        Ok(Self { whole, copies: copies(args, &points, answers), asked: format!("source '{source}'") })
    }

    fn points(args: &DeleteArgs, rows: &[Row], answers: &[Answer]) -> anyhow::Result<Self> {
        let known: Vec<_> = rows.iter().map(|row| row.point.clone()).collect();
        let mut points = args.points.iter().map(|text| resolve(text, &known)).collect::<Result<Vec<_>, _>>()?;
        points.sort();
        points.dedup();
        let asked = points.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Ok(Self { whole: None, copies: copies(args, &points, answers), asked })
    }

    fn nothing(&self) -> UsageError {
        let message = format!("there is no such copy of {} to delete", self.asked);
        UsageError::new(message, "`dualsync list` shows what is there")
    }

    /// Whether this copy is among them.
    pub(super) fn has(&self, point: &PointId, mechanism: Mechanism) -> bool {
        self.copies.iter().any(|(_, side, copy)| *side == mechanism && copy.point == *point)
    }

    fn orders(&self) -> BTreeMap<String, Order> {
        let mut orders: BTreeMap<String, Order> = BTreeMap::new();
        for (target, _, copy) in &self.copies {
            orders.entry(target.clone()).or_default().drop.push(leaving(copy, REASON, true));
        }
        orders
    }
}

/// Every manifest of the points on the sides that were asked for: a commit that was tried again may have left two.
fn copies(args: &DeleteArgs, points: &[PointId], answers: &[Answer]) -> Vec<(String, Mechanism, Point)> {
    let asked = |answer: &&Answer| args.only.is_none_or(|only| only == answer.mechanism);
    let of = |answer: &Answer| {
        let copies = answer.points.iter().filter(|copy| points.contains(&copy.point)).cloned();
        copies.map(|copy| (answer.target.clone(), answer.mechanism, copy)).collect::<Vec<_>>()
    };
    answers.iter().filter(asked).flat_map(of).collect()
}

fn show(app: &App<'_>, chosen: &Chosen, loses: &[ContractRow]) {
    for (target, mechanism, copy) in &chosen.copies {
        let date = copy.business_date;
        app.output.note(&format!("  {} of {date}: the {mechanism} copy in {target}", copy.point));
    }
    if chosen.whole.is_none() {
        for row in loses {
            app.output.note(&format!("the contract loses {}", loss::words(row)));
        }
    }
}

/// A person's yes: for a whole source its name, for points a letter.
async fn agree(app: &App<'_>, chosen: &Chosen) -> anyhow::Result<()> {
    if app.yes {
        return Ok(());
    }
    let count = human::count(u64::try_from(chosen.copies.len()).unwrap_or(u64::MAX), "copy");
    let question = format!("{count} of {} will be deleted.", chosen.asked);
    let answer = match &chosen.whole {
        Some(source) => app.output.ask_for_word(&question, source.as_str()).await,
        None => app.output.ask(&format!("{question} Go on?")).await,
    };
    match answer {
        Some(true) => Ok(()),
        Some(false) => Err(UsageError::new("not confirmed, nothing was marked", "type it again, or add --yes").into()),
        None => {
            Err(UsageError::new("a deletion is asked for and there is no terminal to confirm it", "add --yes").into())
        }
    }
}
