//! Where the copies are, how that was established, how they are sealed, and what both paths share.

use super::{Grade, Page};
use crate::report::Report;
use crate::report::around::{Basis, TargetFacts};

impl Report {
    pub(super) fn write_places(&self, page: &mut Page) {
        page.raw("<section>\n<h2>Where the copies are, and how they are sealed</h2>\n");
        for target in &self.around.targets {
            write_target(page, target);
        }
        page.raw("</section>\n<section>\n<h2>What the two copies still share</h2>\n");
        page.raw(
            "<p class=\"soft\">The two programs have no code in common that reads, compresses, encrypts or sends data, and \
             no key or account. What is left is listed here: a fault in it could reach both copies.</p>\n<ul class=\"reasons\">\n",
        );
        for shared in &self.around.shared {
            page.raw("<li>").sign(shared.statement.grade).raw(" ");
            page.text(&format!("{}: {}", shared.subject, shared.statement.words)).raw("</li>\n");
        }
        page.raw("</ul>\n</section>\n");
    }
}

fn write_target(page: &mut Page, target: &TargetFacts) {
    let title = format!("{}: {}, {} copies", target.target, target.country, target.mechanism);
    page.raw("<h3>").text(&title).raw("</h3>\n<dl>\n");
    let mut item = |label: &str, value: &str| {
        page.raw("<dt>").text(label).raw("</dt><dd>").text(value).raw("</dd>\n");
    };
    item("country", &target.country);
    item("provider", target.provider.as_deref().unwrap_or("not named"));
    if let Some(region) = &target.region {
        item("region", region);
    }
    item("place", &target.place);
    item("encryption", &target.encryption);
    let grade = if target.basis == Basis::Confirmed { Grade::Green } else { Grade::Amber };
    page.raw("<dt>established</dt><dd>").sign(grade).raw(" ").text(target.basis.text()).raw("</dd>\n");
    page.raw("<dt>repository</dt><dd>").code(target.repository.as_deref().unwrap_or("not known")).raw("</dd>\n");
    for (label, value) in &target.keys {
        page.raw("<dt>").text(label).raw("</dt><dd>").code(value).raw("</dd>\n");
    }
    if let Some(away) = &target.away {
        page.raw("<dt>state</dt><dd>").sign(Grade::Red);
        page.raw(" ").text(&format!("the store did not answer: {away}")).raw("</dd>\n");
    }
    page.raw("<dt>newest manifest</dt><dd>");
    match &target.newest {
        Some(newest) => page.text(&format!("number {}, SHA-256 ", newest.sequence)).code(&newest.sha256),
        None => page.text("none yet"),
    };
    page.raw("</dd>\n</dl>\n");
    if !target.statements.is_empty() {
        page.raw("<ul class=\"reasons\">\n");
        for statement in &target.statements {
            page.raw("<li>").sign(statement.grade).raw(" ").text(&statement.words).raw("</li>\n");
        }
        page.raw("</ul>\n");
    }
}
