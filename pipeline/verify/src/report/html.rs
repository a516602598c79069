//! The report as one page that needs nothing else: no script, no font, no picture, no address to load from.
//!
//! For a reader who has never seen dualsync: the verdict first, then how to read the page, then date by date in
//! each country, then everything it rests on. What a state is stands there as a sign and a word, never as a colour
//! alone. Every text that comes from outside is escaped in one place, [`Page::text`].

mod contract;

mod points;

mod reading;

mod places;

mod chain;

use super::Report;
use super::around::Grade;

const STYLE: &str = include_str!("html/page.css");

impl Report {
    /// The page, UTF-8.
    pub fn html(&self) -> String {
        let mut page = Page::default();
        let title = self.title();
        page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.raw("<meta name=\"color-scheme\" content=\"light dark\">\n");
        // Even a mistake in this file could load nothing.
        page.raw(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
        );
        page.tag("title", &title);
        page.raw("<style>\n").raw(STYLE).raw("</style>\n</head>\n<body>\n<main>\n");
        self.write_head(&mut page, &title);
        write_guide(&mut page);
        self.write_contract_page(&mut page);
        self.write_points(&mut page);
        self.write_reading(&mut page);
        self.write_places(&mut page);
        self.write_chain(&mut page);
        page.raw("</main>\n<footer>");
        page.text(&format!("{title}. Made by dualsync {} on {}.", self.around.version, self.around.host));
        page.raw("</footer>\n</body>\n</html>\n");
        page.finish()
    }

    /// `Backup compliance report 12, web-01`.
    pub(super) fn title(&self) -> String {
        let host = &self.around.host;
        match self.around.number {
            0 => format!("Backup compliance report, {host}"),
            number => format!("Backup compliance report {number}, {host}"),
        }
    }

    fn write_head(&self, page: &mut Page, title: &str) {
        page.raw("<header>\n").tag("h1", title);
        page.raw("<p class=\"when\">Made ").text(&self.created_at.whole_second().to_string()).raw("</p>\n");
        let grade = self.grade();
        page.raw("<section class=\"verdict ")
            .raw(class(grade))
            .raw("\" aria-label=\"Verdict\">\n<p class=\"headline\">");
        page.sign(grade);
        page.raw(" <strong>").raw(word(grade)).raw("</strong> ").text(self.headline()).raw("</p>\n");
        let reasons = self.reasons();
        if !reasons.is_empty() {
            page.raw("<ul class=\"reasons\">\n");
            for reason in &reasons {
                page.raw("<li>").sign(reason.grade).raw(" ").text(&reason.words).raw("</li>\n");
            }
            page.raw("</ul>\n");
        }
        page.raw("</section>\n</header>\n");
    }
}

fn write_guide(page: &mut Page) {
    page.raw(
        "<section>\n<h2>How to read this page</h2>\n\
         <p>The server named above is copied every night by two independent programs: a <dfn>block copy</dfn> of the \
         whole disk and an <dfn>archive copy</dfn> of all files. Both are made from one frozen moment, encrypted on the \
         server, and kept in two different countries. The <dfn>contract</dfn> is the list of dates that must be \
         restorable from each copy by itself. This report is made by reading the stored copies back, not from the \
         logs of the backup jobs.</p>\n<ul class=\"legend\">\n<li>",
    );
    page.sign(Grade::Green).raw(" <strong>there</strong>: a good copy of that date is kept in that country</li>\n<li>");
    page.sign(Grade::Amber).raw(
        " <strong>stands in</strong>: the date itself was missed; the copy named beside it, an earlier day of the same \
         month, is kept in its place</li>\n<li>",
    );
    page.sign(Grade::Amber).raw(
        " <strong>there</strong>: the copy is kept, and was not read back whole for longer than a round of reading takes\
         </li>\n<li>",
    );
    page.sign(Grade::Red).raw(" <strong>missing</strong>: that date cannot be restored from that country</li>\n<li>");
    page.raw("<span class=\"sign none\" aria-hidden=\"true\">\u{2013}</span> <strong>not asked for</strong>: the date lies before the first copy ever made</li>\n</ul>\n</section>\n");
}

/// The class of a grade.
const fn class(grade: Grade) -> &'static str {
    match grade {
        Grade::Green => "green",
        Grade::Amber => "amber",
        Grade::Red => "red",
    }
}

/// The word of a whole report.
pub(super) const fn word(grade: Grade) -> &'static str {
    match grade {
        Grade::Green => "GOOD.",
        Grade::Amber => "GOOD, WITH REMARKS.",
        Grade::Red => "NOT GOOD.",
    }
}

/// HTML as it is written.
#[derive(Debug, Default)]
struct Page {
    html: String,
}

impl Page {
    /// Markup of this crate's own; never a text from outside.
    fn raw(&mut self, markup: &str) -> &mut Self {
        self.html.push_str(markup);
        self
    }

    /// Text from anywhere, for an element or a quoted attribute. What a browser would hide or reorder by is shown
    /// as a replacement sign: a name must not look like another.
    fn text(&mut self, text: &str) -> &mut Self {
        for letter in text.chars() {
            match letter {
                '&' => self.html.push_str("&amp;"),
                '<' => self.html.push_str("&lt;"),
                '>' => self.html.push_str("&gt;"),
                '"' => self.html.push_str("&quot;"),
                '\'' => self.html.push_str("&#39;"),
                '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    self.html.push('\u{fffd}');
                }
                letter if letter.is_control() => self.html.push('\u{fffd}'),
                letter => self.html.push(letter),
            }
        }
        self
    }

    /// One element with a text.
    fn tag(&mut self, name: &str, text: &str) -> &mut Self {
        self.raw("<").raw(name).raw(">").text(text).raw("</").raw(name).raw(">\n")
    }

    /// A cell with a text.
    fn cell(&mut self, text: &str) -> &mut Self {
        self.raw("<td>").text(text).raw("</td>")
    }

    /// A line below what a cell says.
    fn note(&mut self, text: &str) -> &mut Self {
        self.raw("<small>").text(text).raw("</small>")
    }

    /// A text in the letters of a machine: ids, keys, digests.
    fn code(&mut self, text: &str) -> &mut Self {
        self.raw("<code>").text(text).raw("</code>")
    }

    /// The sign of a grade; the word beside it says the same.
    fn sign(&mut self, grade: Grade) -> &mut Self {
        let sign = match grade {
            Grade::Green => "\u{2713}",
            Grade::Amber => "\u{25b2}",
            Grade::Red => "\u{2717}",
        };
        self.raw("<span class=\"sign ").raw(class(grade)).raw("\" aria-hidden=\"true\">").raw(sign).raw("</span>")
    }

    /// A table's opening: its caption for those who hear it, its headings.
    fn table(&mut self, caption: &str, headings: &[&str]) -> &mut Self {
        self.raw("<table>\n<caption>").text(caption).raw("</caption>\n<thead><tr>");
        for heading in headings {
            self.raw("<th scope=\"col\">").text(heading).raw("</th>");
        }
        self.raw("</tr></thead>\n<tbody>\n")
    }

    fn end_table(&mut self) -> &mut Self {
        self.raw("</tbody>\n</table>\n")
    }

    fn finish(self) -> String {
        self.html
    }
}

#[cfg(test)]
mod tests;
