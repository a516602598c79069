//! The last line of `verify --json`, as `docs/semantics.md` has it.

use dualsync_model::event::Finding;
use dualsync_model::id::PointId;
use dualsync_model::outcome::Exit;
use serde::Serialize;

use super::{ContractRow, PointReport, Report};
use crate::difference::Difference;
use crate::side::Side;
use crate::verdict::Verdict;

/// The JSON of a report.
#[derive(Clone, Debug, Serialize)]
pub struct Summary<'a> {
    message_type: &'static str,
    verdict: Verdict,
    exit_code: u8,
    exit_codes: Vec<u8>,
    witnessed_entries: u64,
    witnessed_bytes: u64,
    differences_total: u64,
    differences: Vec<OfPoint<'a, Difference>>,
    findings_total: u64,
    findings: Vec<OfPoint<'a, Finding>>,
    contract: &'a [ContractRow],
    report: &'a Report,
}

/// Something found about one point.
#[derive(Clone, Debug, Serialize)]
struct OfPoint<'a, T> {
    point: &'a PointId,
    #[serde(flatten)]
    found: &'a T,
}

impl Report {
    /// The JSON line: sums over all points, each difference and finding with its point.
    pub fn summary(&self) -> Summary<'_> {
        let sum = |count: fn(&PointReport) -> u64| self.points.iter().map(count).sum();
        Summary {
            message_type: "summary",
            verdict: self.verdict(),
            exit_code: self.exit().code(),
            exit_codes: self.exits().into_iter().map(Exit::code).collect(),
            witnessed_entries: sum(|point| point.witness.entries),
            witnessed_bytes: sum(|point| point.witness.content_bytes),
            differences_total: sum(|point| point.differences.total),
            differences: self.of_points(|point| &point.differences.first),
            findings_total: sum(|point| point.copies.iter().map(|(_, copy)| copy.read.findings_total).sum()),
            findings: Side::BOTH
                .into_iter()
                .flat_map(|side| self.of_points(move |point| &point.copies.get(side).read.findings))
                .collect(),
            contract: &self.contract,
            report: self,
        }
    }

    fn of_points<'a, T>(&'a self, list: impl Fn(&'a PointReport) -> &'a Vec<T>) -> Vec<OfPoint<'a, T>> {
        let of_point = |point: &'a PointReport| list(point).iter().map(|found| OfPoint { point: &point.point, found });
        self.points.iter().flat_map(of_point).collect()
    }
}
