//! A command line as words, the way systemd reads `ExecStart=` (systemd.syntax(7)): no shell.
//!
//! Words are separated by white space. Single and double quotes keep white space in a word and
//! may begin anywhere in it. A backslash keeps the next character as it is, outside quotes and
//! inside double quotes; inside single quotes it is a character like any other. Nothing is
//! expanded: no variables, no globs, no pipes, no `;`. Who wants a shell writes
//! `sh -c '...'` and has the whole script in one word.

/// A line that is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// There is no word in it.
    #[error("the command is empty")]
    Empty,
    /// A quote is never closed.
    #[error("the quote {0} is never closed")]
    OpenQuote(char),
    /// It ends in a backslash.
    #[error("the backslash at the end keeps nothing")]
    OpenEscape,
    /// A program cannot be given a NUL.
    #[error("the command contains a NUL character")]
    Nul,
}

/// Cuts `line` into words, the program first; never empty.
pub fn split(line: &str) -> Result<Vec<String>, WordsError> {
    if line.contains('\0') {
        return Err(WordsError::Nul);
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().push(characters.next().ok_or(WordsError::OpenEscape)?);
            }
            (close, Some(open)) if close == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(character);
                // An empty pair of quotes is a word too.
                word.get_or_insert_default();
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            (other, _) => word.get_or_insert_default().push(other),
        }
    }
    if let Some(open) = quote {
        return Err(WordsError::OpenQuote(open));
    }
    words.extend(word);
    if words.is_empty() { Err(WordsError::Empty) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, words: &[&str]) {
        assert_eq!(split(line).unwrap(), words, "{line}");
    }

    #[test]
    fn words_are_cut_at_white_space_outside_quotes() {
        check("lvcreate -s\t-n snap\n vg/data ", &["lvcreate", "-s", "-n", "snap", "vg/data"]);
        check(r#"sh -c 'echo "device=$X"; exit'"#, &["sh", "-c", r#"echo "device=$X"; exit"#]);
        check(r#"a"b c"'d e'f"#, &["ab cd ef"]);
        check(r#"x "" ''"#, &["x", "", ""]);
        check(r"a\ b \'c '\n'", &["a b", "'c", r"\n"]);
        check(r#""a\"b\\""#, &[r#"a"b\"#]);
    }

    #[test]
    fn nothing_is_expanded() {
        check("echo $HOME *.txt | cat ; ~", &["echo", "$HOME", "*.txt", "|", "cat", ";", "~"]);
    }

    #[test]
    fn unfinished_lines_are_refused() {
        assert_eq!(split("  "), Err(WordsError::Empty));
        assert_eq!(split("a 'b"), Err(WordsError::OpenQuote('\'')));
        assert_eq!(split("a \"b'"), Err(WordsError::OpenQuote('"')));
        assert_eq!(split("a\\"), Err(WordsError::OpenEscape));
        assert_eq!(split("a\0b"), Err(WordsError::Nul));
    }
}
