//! The points that were looked at for this report.

use super::{Grade, Page};
use crate::difference::words;
use crate::report::text::{NAMELESS, bytes, scope};
use crate::report::{PointReport, Report};
use crate::stream::End;
use crate::verdict::Verdict;

/// Points that each have a place of their own, whatever came of them.
const SINGLE_MAX: usize = 3;

/// Lines of a list that are shown; the JSON has more.
const SHOWN_MAX: usize = 50;

impl Report {
    pub(super) fn write_points(&self, page: &mut Page) {
        page.raw("<section>\n<h2>What was read back for this report</h2>\n");
        page.raw(
            "<p class=\"soft\">Both programs fetched their copy from its store, decrypted it and computed every checksum \
             anew; the two accounts were then compared entry by entry.</p>\n",
        );
        if self.points.is_empty() {
            page.raw("<p>There was no point to look at.</p>\n");
        }
        // Of many points those that are well are a line each; the page stays short enough to be read.
        let (many, few) = if self.points.len() > SINGLE_MAX {
            self.points.iter().partition(|point| is_well(point))
        } else {
            (Vec::new(), self.points.iter().collect::<Vec<_>>())
        };
        write_lines(page, &many);
        for point in few {
            write_point(page, point);
        }
        if let Some(turn) = &self.around.turn {
            let caption = format!(
                "Rotation of {}: part {} of the stored objects of every kept point, read against their SHA-256",
                turn.date, turn.slice
            );
            page.raw("<h3>Tonight's part of everything that is kept</h3>\n");
            page.table(&caption, &["Target", "Points", "Objects read", "Bytes", "Result"]);
            for at in &turn.targets {
                page.raw("<tr><th scope=\"row\">").text(&at.target).raw("</th>");
                page.cell(&at.points.to_string()).cell(&at.objects.to_string()).cell(&bytes(at.fetched_bytes));
                let (grade, words) = match (&at.failure, at.findings.len()) {
                    (None, 0) => (Grade::Green, "all good".to_owned()),
                    (None, count) => (Grade::Red, format!("{count} missing or wrong: {}", first(&at.findings))),
                    (Some(failure), _) => (Grade::Red, format!("not read to the end: {failure}")),
                };
                page.raw("<td>").sign(grade).raw(" ").text(&words).raw("</td></tr>\n");
            }
            page.end_table();
        }
        page.raw("</section>\n");
    }
}

fn first(findings: &[String]) -> String {
    let shown: Vec<_> = findings.iter().take(5).map(String::as_str).collect();
    shown.join("; ")
}

/// Nothing to be told beyond its line.
fn is_well(point: &PointReport) -> bool {
    point.differences.total == 0
        && matches!(point.verdict, Verdict::Agree | Verdict::Explained)
        && point.copies.iter().all(|(_, copy)| copy.read.findings_total == 0)
}

fn write_lines(page: &mut Page, points: &[&PointReport]) {
    if points.is_empty() {
        return;
    }
    let caption = format!("{} points on which nothing is wrong", points.len());
    page.table(&caption, &["Date", "Result", "Compared", "Agreement", "Fetched"]);
    for point in points {
        page.raw("<tr><th scope=\"row\">").text(&point.business_date.to_string());
        page.note(&point.point.to_string()).raw("</th><td>");
        let (grade, words) = verdict(point);
        page.sign(grade).raw(" ").raw(words).raw("</td>").cell(&point.scope.to_string()).cell(&agreement(point));
        let fetched = point.copies.iter().map(|(side, copy)| format!("{side} {}", bytes(copy.read.fetched_bytes)));
        page.cell(&fetched.collect::<Vec<_>>().join(", ")).raw("</tr>\n");
    }
    page.end_table();
}

fn agreement(point: &PointReport) -> String {
    let witness = &point.witness;
    let content = bytes(witness.content_bytes);
    if point.compared {
        format!("{} entries, {} files ({content}) with one SHA-256", witness.entries, witness.content_files)
    } else {
        "contents not compared, as asked".to_owned()
    }
}

const fn verdict(point: &PointReport) -> (Grade, &'static str) {
    match point.verdict {
        Verdict::Agree => (Grade::Green, "both copies say the same"),
        Verdict::Explained if point.compared => {
            (Grade::Green, "both copies say the same, but for accepted differences")
        }
        Verdict::Explained => (Grade::Green, "the stored objects are good; contents were not compared, as asked"),
        Verdict::Disagree => (Grade::Red, "the two copies differ"),
        Verdict::OneSideMissing => (Grade::Red, "one copy is missing or was not heard to the end"),
        Verdict::Damaged => (Grade::Red, "a copy is damaged"),
    }
}

fn write_point(page: &mut Page, point: &PointReport) {
    let (grade, words) = verdict(point);
    page.raw("<h3>").text(&format!("Point {}, for {}", point.point, point.business_date)).raw("</h3>\n<p>");
    page.sign(grade).raw(" <strong>").raw(words).raw("</strong></p>\n<dl>\n");
    let mut item = |label: &str, value: &str| {
        page.raw("<dt>").text(label).raw("</dt><dd>").text(value).raw("</dd>\n");
    };
    item("compared", &scope(point.scope));
    let stood = if point.frozen { "the source stood still" } else { "the source did not stand still" };
    item("moment", &format!("snapshot by {}, {stood}", point.snapshot_method));
    if point.compared {
        let witness = &point.witness;
        let content = bytes(witness.content_bytes);
        let same = format!(
            "{} entries agree in every respect; {} files ({content}) have one SHA-256 in both countries",
            witness.entries, witness.content_files
        );
        item("agreement", &same);
    }
    let explained: Vec<_> =
        point.explained.iter().map(|(reason, count)| format!("{count} {}", reason.text())).collect();
    if !explained.is_empty() {
        item("accepted differences", &explained.join(", "));
    }
    page.raw("</dl>\n");
    write_copies(page, point);
    write_differences(page, point);
    write_findings(page, point);
}

fn write_copies(page: &mut Page, point: &PointReport) {
    page.table("The two copies of this point", &["Copy", "Where", "Read back", "Fetched", "Manifest", "Heard"]);
    for (side, copy) in point.copies.iter() {
        let read = &copy.read;
        page.raw("<tr><th scope=\"row\">").text(&side.to_string()).raw("</th>");
        page.cell(&format!("{} ({})", copy.target.target, copy.target.country));
        page.cell(&format!("{} entries, {} files, {}", read.entries, read.content_files, bytes(read.content_bytes)));
        let objects = if read.objects > 0 { format!(", {} objects", read.objects) } else { String::new() };
        page.cell(&format!("{}{objects}", bytes(read.fetched_bytes)));
        match (copy.sequence, &copy.sha256) {
            (Some(sequence), Some(sha256)) => page
                .raw("<td>")
                .text(&format!("number {sequence} "))
                .code(sha256.get(..16).unwrap_or(sha256))
                .raw("</td>"),
            _ => page.cell("none"),
        };
        let (grade, words) = match &read.end {
            End::Complete => (Grade::Green, "to the end".to_owned()),
            End::Absent => (Grade::Red, "no copy was seen there".to_owned()),
            End::Failed { message, .. } => (Grade::Red, format!("it failed: {message}")),
            End::Broken { problem } => (Grade::Red, format!("not to the end: {problem}")),
        };
        page.raw("<td>").sign(grade).raw(" ").text(&words).raw("</td></tr>\n");
    }
    page.end_table();
}

fn write_differences(page: &mut Page, point: &PointReport) {
    let differences = &point.differences;
    if differences.total == 0 {
        return;
    }
    if differences.first.is_empty() {
        page.raw("<p>").sign(Grade::Red).text(&format!(" {}; {NAMELESS}.", differences.counts())).raw("</p>\n");
        return;
    }
    page.table(
        &format!("Differences: {}", shown(differences.total, differences.first.len())),
        &["Path", "What", "Block copy", "Archive copy", "Wrong", "Why"],
    );
    for difference in differences.first.iter().take(SHOWN_MAX) {
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        page.raw("<tr><td>").code(&difference.path.to_string()).raw("</td>");
        page.cell(&words(&difference.kind));
        page.cell(&word(&difference.block)).cell(&word(&difference.archive));
        page.cell(&words(&difference.culprit)).cell(&difference.reason).raw("</tr>\n");
    }
    page.end_table();
}

fn write_findings(page: &mut Page, point: &PointReport) {
    for (side, copy) in point.copies.iter() {
        let read = &copy.read;
        if read.findings_total == 0 {
            continue;
        }
        let caption = format!(
            "Stored objects of the {side} copy that are missing or wrong: {}",
            shown(read.findings_total, read.findings.len())
        );
        page.table(&caption, &["Object", "What is wrong", "Files it hits"]);
        for finding in read.findings.iter().take(SHOWN_MAX) {
            let hits: Vec<_> = finding.paths.iter().take(5).map(ToString::to_string).collect();
            let more = finding.paths.len().saturating_sub(hits.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            page.raw("<tr><td>").code(&finding.object).raw("</td>");
            page.cell(&finding.problem).cell(&format!("{}{more}", hits.join(", "))).raw("</tr>\n");
        }
        page.end_table();
    }
}

fn shown(total: u64, kept: usize) -> String {
    let shown = kept.min(SHOWN_MAX) as u64;
    if total > shown { format!("{total}, of which the first {shown} are shown") } else { total.to_string() }
}
