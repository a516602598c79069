//! Adds an age recipient to a target in the configuration file, or takes one out; everything else stays as it was typed.

use std::path::Path;

use crate::pin::{PinError, replace, table_of};

/// What becomes of the list.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// One more at its end.
    Add(&'a str),
    /// One less.
    Remove(&'a str),
}

/// The text of the file at `path` with the change under `[targets.TARGET]`; `None` where it cannot be made.
pub fn edited(text: &str, target: &str, change: Change<'_>) -> Option<String> {
    let (start, end) = table_of(text, target)?;
    let table = &text[start..end];
    let list = list_in(table).map(|(open, close)| (start + open, start + close));
    match (change, list) {
        (Change::Add(recipient), Some((open, close))) => Some(add(text, open, close, recipient)),
        (Change::Add(recipient), None) => {
            let break_before = if text[..start].ends_with('\n') { "" } else { "\n" };
            let line = format!("{break_before}recipients = [\"{recipient}\"]\n");
            Some([&text[..start], &line, &text[start..]].concat())
        }
        (Change::Remove(recipient), Some((open, close))) => remove(text, open, close, recipient),
        (Change::Remove(_), None) => None,
    }
}

/// Writes the new text in the place of the old one.
pub fn save(path: &Path, text: &str) -> Result<(), PinError> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    replace(&path, text).map_err(|source| PinError::Io { path, source })
}

/// Where the brackets of `recipients = [...]` stand in a table.
fn list_in(table: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    for line in table.split_inclusive('\n') {
        let is_it = line.trim_start().strip_prefix("recipients").is_some_and(|rest| rest.trim_start().starts_with('='));
        if is_it {
            let open = at + line.find('[')?;
            let close = open + tokens(&table[open..]).find(|(_, token)| *token == "]")?.0;
            return Some((open, close));
        }
        at += line.len();
    }
    None
}

/// Strings, brackets and commas with their places; comments and space are passed over.
fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &text[at..];
            let first = rest.chars().next()?;
            let length = match first {
                '#' => rest.find('\n').unwrap_or(rest.len()),
                '"' | '\'' => rest[1..].find(first)? + 2,
                _ => first.len_utf8(),
            };
            let from = at;
            at += length;
            if !first.is_whitespace() && first != '#' {
                return Some((from, &text[from..at]));
            }
        }
    })
}

fn add(text: &str, open: usize, close: usize, recipient: &str) -> String {
    let last = tokens(&text[open + 1..close]).last().map(|(at, token)| (open + 1 + at + token.len(), token.to_owned()));
    let (at, before) = match last {
        None => (open + 1, ""),
        Some((at, token)) if token == "," => (at, " "),
        Some((at, _)) => (at, ", "),
    };
    format!("{}{before}\"{recipient}\"{}", &text[..at], &text[at..])
}

fn remove(text: &str, open: usize, close: usize, recipient: &str) -> Option<String> {
    let inside: Vec<_> = tokens(&text[open + 1..close]).map(|(at, token)| (open + 1 + at, token)).collect();
    let found = inside.iter().position(|(_, token)| token.trim_matches(['"', '\'']) == recipient)?;
    let (from, token) = inside[found];
    let mut end = from + token.len();
    let mut start = from;
    // With the comma behind it, or as the last one with the comma before it.
    if let Some((comma, ",")) = inside.get(found + 1).copied() {
        end = comma + 1 + usize::from(text[comma + 1..].starts_with(' '));
    } else if let Some((comma, ",")) = found.checked_sub(1).and_then(|before| inside.get(before)).copied() {
        start = comma;
    }
    Some([&text[..start], &text[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, change: Change<'_>, expected: Option<&str>) {
        let frame =
            |list: &str| format!("[targets.paris]\nidentity = 'x'\n{list}# after\n\n[[source]]\nname = 'web'\n");
        assert_eq!(edited(&frame(list), "paris", change), expected.map(frame), "{list}");
    }

    #[test]
    fn one_more_goes_to_the_end_of_the_list() {
        for (list, expected) in [
            ("recipients = []\n", "recipients = [\"c\"]\n"),
            ("recipients = ['a'] # the safe\n", "recipients = ['a', \"c\"] # the safe\n"),
            ("recipients = [\n  \"a\", # [one]\n]\n", "recipients = [\n  \"a\", \"c\" # [one]\n]\n"),
            ("  recipients=[\"a\",\"b\"]\n", "  recipients=[\"a\",\"b\", \"c\"]\n"),
        ] {
            check(list, Change::Add("c"), Some(expected));
        }
    }

    #[test]
    fn a_table_without_a_list_gets_one() {
        let text = "[targets.paris]\nkind = 'x'\n\n[targets.b]\nrecipients = ['a']\n";
        let expected = "[targets.paris]\nrecipients = [\"c\"]\nkind = 'x'\n\n[targets.b]\nrecipients = ['a']\n";
        assert_eq!(edited(text, "paris", Change::Add("c")).unwrap(), expected);
        assert_eq!(edited("[targets.a]", "a", Change::Add("c")).unwrap(), "[targets.a]\nrecipients = [\"c\"]\n");
        assert_eq!(edited(text, "rome", Change::Add("c")), None);
    }

    #[test]
    fn one_is_taken_out_with_its_comma() {
        for (list, expected) in [
            ("recipients = [\"a\", \"c\", \"b\"]\n", Some("recipients = [\"a\", \"b\"]\n")),
            ("recipients = [\"a\", \"c\"]\n", Some("recipients = [\"a\"]\n")),
            ("recipients = [\"c\"] # gone\n", Some("recipients = [] # gone\n")),
            ("recipients = [\"a\"] # not \"c\"\n", None),
            ("# recipients = [\"c\"]\n", None),
        ] {
            check(list, Change::Remove("c"), expected);
        }
    }
}
