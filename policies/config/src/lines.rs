//! Which line of the file a key stands on.
//!
//! The `config` crate layers values and forgets where they came from; this is the memory.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Mistake, join};

/// Lines by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// Reads the places of all keys; the error has the line of the first thing that is not TOML.
    pub(crate) fn read(text: &str) -> Result<Self, (usize, Mistake)> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().unwrap_or(0..0);
            (line(text, &at), Mistake::new("", error.message()))
        })?;
        let mut lines = Self::default();
        lines.table("", table.get_ref(), text);
        Ok(lines)
    }

    /// The line of `key`, or of the nearest section around it when the key itself is not there.
    pub(crate) fn of(&self, key: &str) -> usize {
        let mut key = key;
        loop {
            if let Some(line) = self.0.get(key) {
                return *line;
            }
            let Some(cut) = key.rfind(['.', '[']) else { return 1 };
            key = &key[..cut];
        }
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>, text: &str) {
        for (name, value) in table {
            let key = join(path, name.get_ref());
            self.value(&key, line(text, &name.span()), value, text);
        }
    }

    fn value(&mut self, key: &str, at: usize, value: &Spanned<DeValue<'_>>, text: &str) {
        self.0.insert(key.to_owned(), at);
        match value.get_ref() {
            DeValue::Table(table) => self.table(key, table, text),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&format!("{key}[{index}]"), line(text, &item.span()), item, text);
                }
            }
            _ => {}
        }
    }
}

fn line(text: &str, at: &Range<usize>) -> usize {
    text.bytes().take(at.start).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "host = \"a\"\n\n[targets.paris]\ncountry = \"FR\"\nrecipients = [\n  \"x\",\n  \"y\",\n]\n\n[[source]]\nname = \"web\"\n[[source]]\nname = \"db\"\nretention = { daily = 1 }\n";

    #[test]
    fn each_key_has_its_line() {
        let lines = Lines::read(TEXT).unwrap();
        let check = |key: &str, line| assert_eq!(lines.of(key), line, "{key}");
        check("host", 1);
        check("targets.paris", 3);
        check("targets.paris.country", 4);
        check("targets.paris.recipients[1]", 7);
        check("source[0].name", 11);
        check("source[1]", 12);
        check("source[1].retention.daily", 14);
    }

    #[test]
    fn a_key_that_is_missing_has_the_line_of_its_section() {
        let lines = Lines::read(TEXT).unwrap();
        assert_eq!(lines.of("targets.paris.bucket"), 3);
        assert_eq!(lines.of("source[1].device"), 12);
        assert_eq!(lines.of("state"), 1);
    }

    #[test]
    fn what_is_not_toml_is_found_on_its_line() {
        let check = |text: &str, expected| assert_eq!(Lines::read(text).unwrap_err().0, expected, "{text}");
        check("a = 1\nb = = 2\n", 2);
        check("a = 1\na = 2\n", 2);
        check("a = 1\n\n[b\n", 3);
    }
}
