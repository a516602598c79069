//! `dualsync undelete`: marks are taken back while there is time.

use std::collections::BTreeMap;

use dualsync_model::event::CopyState;
use dualsync_model::outcome::Exit;
use futures::future::join_all;

use crate::app::App;
use crate::args::UndeleteArgs;
use crate::commands::list;
use crate::exit::Ending;
use crate::leaving::{Order, whole};
use crate::listing::Row;
use crate::mechanism::Mechanism;
use crate::outcome::{Outcome, Retirement};
use crate::point::resolve;
use crate::retire::{Depth, tell};

/// Finds the marks and takes them back.
pub async fn run(app: &App<'_>, args: &UndeleteArgs) -> anyhow::Result<Ending> {
    app.settings.check_policy()?;
    app.create_state()?;
    let answers = whole(app.list(None).await);
    let rows = app.rows(&answers)?;
    let known: Vec<_> = rows.iter().map(|row| row.point.clone()).collect();
    let points = args.points.iter().map(|text| resolve(text, &known)).collect::<Result<Vec<_>, _>>()?;
    let chosen: Vec<_> = rows.iter().filter(|row| points.contains(&row.point)).collect();
    let orders = orders(&chosen);
    let work = app.settings.targets.values().filter_map(|target| Some((target, orders.get(&target.target.name)?)));
    let outcomes = work.map(async |(target, order)| {
        Outcome::told(target, tell(app, target, order, &answers, Depth::Mark, |_| {}).await).strict()
    });
    let report = Retirement::new(false, join_all(outcomes).await);
    report.show_copies(app);
    let mut endings = vec![list::ending(&answers), report.ending()];
    for row in &chosen {
        endings.push(gone(row));
        if row.copies.iter().all(|(_, copy)| copy.mark.is_none()) {
            app.output.say(&format!("{} is not marked for deletion", row.point));
        } else if row.copies.iter().any(|(_, copy)| copy.mark.as_ref().is_some_and(|mark| !mark.asked)) {
            let words = "left the contract: the next run or prune marks it again, unless `retention` needs it";
            app.output.warn(&format!("{} {words}", row.point));
        }
    }
    Ok(Ending::all(endings))
}

fn orders(chosen: &[&Row]) -> BTreeMap<String, Order> {
    let mut orders: BTreeMap<String, Order> = BTreeMap::new();
    for row in chosen {
        for (_, copy) in row.copies.iter() {
            if let (Some(_), Some(manifest), Some(target)) = (&copy.mark, &copy.manifest, &copy.target) {
                let undo = (row.point.clone(), manifest.manifest.clone());
                orders.entry(target.clone()).or_default().undo.push(undo);
            }
        }
    }
    orders
}

/// What was deleted cannot be taken back.
fn gone(row: &Row) -> Ending {
    let gone: Vec<_> = Mechanism::BOTH
        .into_iter()
        .filter(|mechanism| row.copies.get(*mechanism).state == CopyState::Missing)
        .map(|mechanism| format!("the {mechanism} copy is not there any more"))
        .collect();
    if gone.is_empty() {
        return Ending::done();
    }
    let message = format!("{}: {}", row.point, gone.join(" and "));
    Ending::with(vec![Exit::Damaged], message, "`dualsync list` shows what is left of it")
}
