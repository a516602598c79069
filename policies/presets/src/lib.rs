//! Commented example configurations, each understood by `dualsync-config` as it stands.
//!
//! `dualsync init` writes one where there is none; a person then puts in names and places. They hold
//! no secret and no key that does nothing.

/// One example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The word that chooses it.
    pub name: &'static str,
    /// What it is for, one line.
    pub description: &'static str,
    /// The file.
    pub text: &'static str,
}

const PRESETS: [Preset; 3] = [
    Preset {
        name: "cloud",
        description: "one server, two S3 providers in two countries, every key explained",
        text: include_str!("../examples/cloud.toml"),
    },
    Preset {
        name: "directories",
        description: "two mounted folders: a NAS here and one abroad, or a first try",
        text: include_str!("../examples/directories.toml"),
    },
    Preset {
        name: "hosting",
        description: "a hosting server: several volumes and plans, snapshots by your own commands",
        text: include_str!("../examples/hosting.toml"),
    },
];

/// All of them; the first is the one to write when nobody chose.
pub const fn presets() -> &'static [Preset] {
    &PRESETS
}

/// The one called `name`.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dualsync_config::Settings;

    use super::*;

    fn parse(text: &str) -> Settings {
        Settings::parse(text, Path::new("dualsync.toml"), std::iter::empty()).unwrap()
    }

    #[test]
    fn each_example_is_understood_and_allowed_as_it_stands() {
        for preset in presets() {
            let settings = parse(preset.text);
            settings.check_policy().unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        }
    }

    #[test]
    fn each_example_is_found_by_its_name() {
        for example in presets() {
            assert_eq!(preset(example.name), Some(example));
            assert!(!example.description.is_empty() && example.text.starts_with("# dualsync: "));
        }
        assert_eq!(preset("nothing"), None);
    }

    /// The text with its optional keys switched on: `#key = ...` and `# key = ...` in `[limits]`.
    fn with_optional_keys(text: &str) -> String {
        let mut lines = Vec::new();
        let mut in_limits = false;
        for line in text.lines() {
            in_limits = line == "# [limits]" || (in_limits && line.starts_with("# "));
            let key = |line: &str| line.chars().next().is_some_and(|c| c.is_ascii_lowercase());
            let switched = match line.strip_prefix('#') {
                Some(rest) if in_limits => rest.trim_start(),
                Some(rest) if key(rest) && !rest.contains("...") && !rest.starts_with("providers") => rest,
                _ => line,
            };
            lines.push(switched);
        }
        lines.join("\n")
    }

    #[test]
    fn the_defaults_that_the_full_example_shows_are_the_defaults() {
        let text = preset("cloud").unwrap().text;
        let (plain, shown) = (parse(text), with_optional_keys(text));
        assert!(shown.contains("\nwriter_silence") && shown.contains("\nstate"), "{shown}");
        // `[limits]` would swallow the general keys after it, so it must stand behind them.
        let full = parse(&shown);
        assert_eq!(full.limits, plain.limits);
        assert_eq!(full.state, plain.state);
        assert_eq!(full.policy, plain.policy);
        let source = |settings: &Settings| (settings.sources[0].resend, settings.sources[0].manual);
        assert!(shown.contains("\nresend") && shown.contains("\nmanual"), "{shown}");
        assert_eq!(source(&full), source(&plain));
        assert_eq!(full.days.tolerance_s, plain.days.tolerance_s);
    }
}
