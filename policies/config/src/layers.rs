//! The file with the environment on top of it.
//!
//! `DUALSYNC__TARGETS__PARIS__COUNTRY=FR` stands for `targets.paris.country`. Variables cannot hold
//! every letter a name can: a part is compared with the names in the file without case, with `_`
//! for anything else. A source is addressed by its name or its number from 0. A value that begins
//! with `[` or `{` is TOML, anything else is text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat, Value, ValueKind};

use crate::error::{ConfigError, Mistake, Place, Problem, join};
use crate::file::ConfigFile;
use crate::lines::Lines;

const PREFIX: &str = "DUALSYNC__";

/// Where each value came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) file: PathBuf,
    lines: Lines,
    variables: BTreeMap<String, String>,
}

impl Origin {
    /// The mistake with its place.
    pub(crate) fn locate(&self, mistake: Mistake) -> Problem {
        let variable = self.variables.iter().find(|(key, _)| covers(key, &mistake.key)).map(|(_, name)| name);
        let place = match variable {
            Some(name) => Place::Variable(name.clone()),
            None => Place::Line { file: self.file.clone(), line: self.lines.of(&mistake.key) },
        };
        Problem { place, key: mistake.key, message: mistake.message }
    }

    /// The error of one mistake.
    pub(crate) fn wrong(&self, mistake: Mistake) -> ConfigError {
        ConfigError::Wrong(vec![self.locate(mistake)])
    }
}

/// Whether `key` is `outer` or lies below it.
fn covers(outer: &str, key: &str) -> bool {
    key.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Reads `text` (the content of `file`) and lays the variables of `env` over it.
pub(crate) fn read(
    text: &str,
    file: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<(ConfigFile, Origin), ConfigError> {
    let lines = Lines::read(text).map_err(|(line, mistake)| {
        let place = Place::Line { file: file.to_path_buf(), line };
        ConfigError::Wrong(vec![Problem { place, key: mistake.key, message: mistake.message }])
    })?;
    let mut origin = Origin { file: file.to_path_buf(), lines, variables: BTreeMap::new() };
    let base = Config::builder().add_source(File::from_str(text, FileFormat::Toml));
    let typed = base.build_cloned().map_err(|error| origin.wrong(Mistake::from_library(&error)))?;
    let mut builder = base;
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let key = key_of(rest, &typed);
        origin.variables.insert(key.clone(), name);
        let value = value_of(&value).map_err(|mistake| origin.wrong(Mistake::new(key.clone(), mistake.message)))?;
        builder = builder
            .set_override(&key, value)
            .map_err(|_| origin.wrong(Mistake::new(key, "expected a key like DUALSYNC__TARGETS__PARIS__COUNTRY")))?;
    }
    let layered = builder.build().and_then(Config::try_deserialize);
    let file = layered.map_err(|error| origin.wrong(Mistake::from_library(&error)))?;
    Ok((file, origin))
}

/// The key of `TARGETS__PARIS__COUNTRY`, found by walking what the file has.
fn key_of(variable: &str, typed: &Config) -> String {
    let mut here = typed.clone().try_deserialize::<Value>().ok();
    let mut key = String::new();
    for part in variable.split("__") {
        let (step, next) = match here.map(|value| value.kind) {
            Some(ValueKind::Table(table)) => {
                let found = table.into_iter().find(|(name, _)| plain(name) == plain(part));
                found.map_or_else(|| (part.to_lowercase(), None), |(name, value)| (name, Some(value)))
            }
            Some(ValueKind::Array(items)) => {
                let index = items.iter().position(|item| named(item, part)).or_else(|| part.parse().ok());
                let next = index.and_then(|index| items.get(index).cloned());
                (index.map_or_else(|| part.to_lowercase(), |index| format!("[{index}]")), next)
            }
            _ => (part.to_lowercase(), None),
        };
        key = join(&key, &step);
        here = next;
    }
    key
}

fn named(item: &Value, part: &str) -> bool {
    match &item.kind {
        ValueKind::Table(table) => table
            .get("name")
            .and_then(|name| name.clone().into_string().ok())
            .is_some_and(|name| plain(&name) == plain(part)),
        _ => false,
    }
}

/// A name as a variable can spell it.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

fn value_of(text: &str) -> Result<Value, Mistake> {
    if !text.starts_with(['[', '{']) {
        return Ok(Value::new(None, text));
    }
    let parsed = Config::builder()
        .add_source(File::from_str(&format!("value = {text}"), FileFormat::Toml))
        .build()
        .and_then(|config| config.get::<Value>("value"));
    parsed.map_err(|_| Mistake::new("", "expected a TOML list or table"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "host = \"a\"\n[targets.my-nas]\ncountry = \"FR\"\n[[source]]\nname = \"web.1\"\n[[source]]\nname = \"db\"\n";

    fn load(env: &[(&str, &str)]) -> Result<ConfigFile, ConfigError> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read(TEXT, Path::new("dualsync.toml"), env).map(|(file, _)| file)
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = load(&[
            ("DUALSYNC__HOST", "b"),
            ("DUALSYNC__TARGETS__MY_NAS__COUNTRY", "DE"),
            ("DUALSYNC__SOURCE__WEB_1__IDLE", "true"),
            ("DUALSYNC__SOURCE__1__RETENTION", "{ daily = 3 }"),
            ("DUALSYNC__SOURCE__DB__EXCLUDE", "[\"a\", \"b,c\"]"),
            ("DUALSYNC_CONFIG", "ignored"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(file.host.as_deref(), Some("b"));
        assert_eq!(file.targets["my-nas"].country.as_deref(), Some("DE"));
        assert_eq!(file.source[0].idle, Some(true));
        assert_eq!(file.source[1].retention.as_ref().unwrap().daily, Some(3));
        assert_eq!(file.source[1].exclude.as_deref(), Some(&["a".to_owned(), "b,c".to_owned()][..]));
    }

    #[test]
    fn a_mistake_in_a_variable_names_the_variable() {
        let check = |name: &str, value: &str, expected: &str| {
            let message = load(&[(name, value)]).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        };
        check("DUALSYNC__HOTS", "b", "DUALSYNC__HOTS: hots: unknown key, did you mean \"host\"?");
        check(
            "DUALSYNC__TARGETS__MY_NAS__CONTRY",
            "DE",
            "DUALSYNC__TARGETS__MY_NAS__CONTRY: targets.my-nas.contry: unknown key, did you mean \"country\"?",
        );
        check("DUALSYNC__SOURCE__DB__IDLE", "maybe", "DUALSYNC__SOURCE__DB__IDLE: source[1].idle: expected a boolean");
        check(
            "DUALSYNC__SOURCE__DB__EXCLUDE",
            "[",
            "DUALSYNC__SOURCE__DB__EXCLUDE: source[1].exclude: expected a TOML",
        );
        check("DUALSYNC__", "x", "DUALSYNC__: ");
    }
}
