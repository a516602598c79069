//! What is remembered of a verify: which copies were read back whole, and what is wrong with them.

use dualsync_model::time::Timestamp;
use dualsync_verify::difference::{Aspect, Culprit};
use dualsync_verify::report::{PointReport, Scope};
use dualsync_verify::stream::End;

use crate::history::Verified;
use crate::human;
use crate::mechanism::{Mechanism, Pair};
use crate::retention::side_of;

/// Most problems of one copy that are remembered; the report has all.
const PROBLEMS_MAX: usize = 20;

/// The record of one point; `deep` says whether the stored objects were read, and not only looked for.
pub fn of(report: &PointReport, deep: bool, at: Timestamp) -> Verified {
    let complete = |mechanism| report.copies.get(side_of(mechanism)).read.end == End::Complete;
    Verified {
        at,
        point: report.point.clone(),
        slice: match report.scope {
            Scope::Slice(slice) => Some(slice),
            Scope::Objects(slice) => slice,
            Scope::Full | Scope::Presence => None,
        },
        witnessed: Pair::new(|mechanism| report.compared && complete(mechanism)),
        objects: Pair::new(|mechanism| deep && complete(mechanism)),
        problems: Pair::new(|mechanism| problems(report, mechanism)),
    }
}

/// Objects that are wrong and files that the copy itself knows to be damaged. A store that could not be
/// reached says nothing about the copy.
fn problems(report: &PointReport, mechanism: Mechanism) -> Vec<String> {
    let side = side_of(mechanism);
    let culprit = match mechanism {
        Mechanism::Block => Culprit::Block,
        Mechanism::Archive => Culprit::Archive,
    };
    let objects = report.copies.get(side).read.findings.iter().filter(|finding| is_damage(&finding.kind));
    let files = report
        .differences
        .first
        .iter()
        .filter(|difference| difference.kind == Aspect::Damaged && difference.culprit == culprit);
    let objects = objects.map(|finding| human::about(&finding.object, &finding.problem));
    let files = files.map(|difference| human::about(&difference.path.to_string(), &difference.reason));
    bounded(objects.chain(files).collect())
}

/// The first of many problems, and how many more there are.
pub fn bounded(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        problems.truncate(PROBLEMS_MAX);
        problems.push(format!("and {more} more"));
    }
    problems
}

/// Objects that nobody needs, and a history that is not whole, are no damage of this copy.
pub fn is_damage(kind: &str) -> bool {
    !matches!(kind, "unexpected" | "rollback" | "chain")
}
