//! The chain of reports, and how anyone can check this one.

use super::{Grade, Page};
use crate::report::Report;

impl Report {
    pub(super) fn write_chain(&self, page: &mut Page) {
        let around = &self.around;
        page.raw("<section>\n<h2>This report as evidence</h2>\n");
        if around.number == 0 {
            page.raw("<p>This report is in no chain.</p>\n</section>\n");
            return;
        }
        page.raw(
            "<p>Reports are numbered without gaps. Each names the SHA-256 of the one before it, is signed, and is kept \
                  in both countries, so that none can be changed, taken out or added later unnoticed.</p>\n<dl>\n",
        );
        page.raw("<dt>this report</dt><dd>").text(&format!("number {}", around.number)).raw("</dd>\n");
        page.raw("<dt>the one before</dt><dd>");
        match &around.previous {
            Some(previous) => page.text("SHA-256 of its report.json: ").code(previous),
            None => page.text("none: this is the first"),
        };
        page.raw("</dd>\n</dl>\n");
        page.table("What each store kept of the chain before this report", &["Store", "Reports", "Newest", "State"]);
        for shelf in &around.chain {
            page.raw("<tr><th scope=\"row\">").text(&shelf.target).raw("</th>").cell(&shelf.reports.to_string());
            page.cell(&shelf.newest.map_or_else(|| "none yet".to_owned(), |number| number.to_string()));
            let faults: Vec<_> =
                shelf.faults.iter().map(|fault| format!("report {} {}", fault.number, fault.problem)).collect();
            let (grade, words) = match &shelf.away {
                _ if !faults.is_empty() => (Grade::Red, faults.join("; ")),
                Some(away) => (Grade::Amber, format!("away, so this report is not kept there yet: {away}")),
                None if shelf.mended.is_empty() => (Grade::Green, "whole".to_owned()),
                None => {
                    let numbers: Vec<_> = shelf.mended.iter().map(ToString::to_string).collect();
                    (Grade::Green, format!("whole; put there now, after it was away: {}", numbers.join(", ")))
                }
            };
            page.raw("<td>").sign(grade).raw(" ").text(&words).raw("</td></tr>\n");
        }
        page.end_table();
        page.raw("<p class=\"soft\">To check it: ").code("dualsync verify --evidence");
        page.raw(
            " reads the whole chain back from both stores. Without dualsync: <code>proof.json</code> beside this page in \
             either store names the SHA-256 of each file, which <code>sha256sum</code> computes anew; in the archive store \
             <code>minisign -V -P KEY -m report.json</code> with the signing public key above accepts the signature.</p>\n\
             </section>\n",
        );
    }
}
