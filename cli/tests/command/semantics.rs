//! Every example of `docs/semantics.md` is typed, and must come out as the page says.

use std::path::Path;

use serde_json::Value;

use crate::site::{Ran, Site};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/semantics.md");
    std::fs::read_to_string(path).expect("the page is in docs")
}

/// A fenced block: its language, the comment right above it, its text.
struct Block {
    language: String,
    remark: String,
    text: String,
}

fn blocks(language: &str) -> Vec<Block> {
    let (mut found, mut open, mut above) = (Vec::new(), None::<Block>, String::new());
    for line in page().lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text.extend([line, "\n"]),
            (None, Some(language)) => {
                let remark = above.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")).unwrap_or_default();
                open = Some(Block { language: language.to_owned(), remark: remark.to_owned(), text: String::new() });
            }
            (None, None) => {}
        }
        line.clone_into(&mut above);
    }
    found.retain(|block: &Block| block.language == language);
    assert!(!found.is_empty(), "the page has {language} blocks");
    found
}

/// A host as the remark wants it: `archive backup: exit 1` or `config: OLD -> NEW`.
fn site(remark: &str) -> Site {
    let site = Site::new();
    if let Some((old, new)) = remark.strip_prefix("config: ").and_then(|change| change.split_once(" -> ")) {
        assert!(site.config().contains(old), "{old}");
        site.configure(&site.config().replace(old, new));
    } else if let Some((what, body)) = remark.split_once(": ").filter(|(what, _)| *what != "json") {
        let (mechanism, verb) = what.split_once(' ').expect("MECHANISM VERB: BODY");
        site.good_but(mechanism, verb, body);
    }
    site
}

fn typed(site: &Site, line: &str) -> Ran {
    let mut command = site.command(line);
    command.current_dir(site.path(""));
    Ran::of(command.output().unwrap())
}

/// Whether `line` is `pattern` with anything for each `[..]`.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn what_is_typed_on_the_page_comes_out_as_it_says() {
    for block in blocks("console") {
        let site = site(&block.remark);
        let mut last: Option<Ran> = None;
        for line in block.text.lines() {
            let ran = last.as_ref();
            if line == "$ echo $?" {
                continue;
            }
            if let Some(command) = line.strip_prefix("$ dualsync ") {
                last = Some(typed(&site, command));
            } else if let Ok(code) = line.parse::<i32>() {
                assert_eq!(ran.unwrap().code, code, "{}", block.text);
            } else {
                let ran = ran.expect("a command first");
                let found = ran.out.lines().chain(ran.err.lines()).any(|come| matches(line, come.trim_end()));
                assert!(found, "'{line}' did not come out:\n{}\n{}", ran.out, ran.err);
            }
        }
    }
}

/// Every field of `example` is in `found`, with the same kind of value where the example has one.
fn assert_has(example: &Value, found: &Value, at: &str) {
    match (example, found) {
        (Value::Object(example), Value::Object(found)) => {
            for (field, example) in example {
                let found = found.get(field).unwrap_or_else(|| panic!("{at}/{field} is not there"));
                assert_has(example, found, &format!("{at}/{field}"));
            }
        }
        (Value::Array(example), Value::Array(found)) => {
            for (example, found) in example.iter().zip(found) {
                assert_has(example, found, &format!("{at}[]"));
            }
            assert!(example.is_empty() || !found.is_empty(), "{at} is empty");
        }
        (Value::Null, Value::Null) => {}
        _ => assert_eq!(std::mem::discriminant(example), std::mem::discriminant(found), "{at}: {found}"),
    }
}

#[test]
fn the_json_has_every_field_that_the_page_shows() {
    for block in blocks("json") {
        let command = block.remark.strip_prefix("json: ").expect("a remark with the command");
        let site = site(&block.remark);
        typed(&site, "init --sheet sheet.txt").ends(0);
        typed(&site, "run").ends(0);
        let example = serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{error}: {}", block.text));
        assert_has(&example, &typed(&site, &format!("{command} --json")).last(), command);
    }
}

#[test]
fn the_configuration_of_the_page_is_one_that_runs() {
    let site = Site::new();
    let text = blocks("toml").remove(0).text;
    site.configure(&text.replace("/var/lib/dualsync", &site.path("state").display().to_string()));
    site.run("run --dry-run").ends(0);
    let with_examples = text.replace("# signing_public", "signing_public").replace("# recipients", "recipients");
    site.configure(&with_examples);
    site.run("run --dry-run").ends(2).tells("targets.paris.signing_public");
}

#[test]
fn the_commands_of_the_page_are_those_that_are_there() {
    let (site, page) = (Site::new(), page());
    let planned = page.split("Planned and not there today").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let planned: Vec<_> = planned.split('`').skip(1).step_by(2).collect();
    assert!(!planned.is_empty(), "{planned:?}");
    for verb in planned {
        site.run(&format!("{verb} --help")).ends(2).tells("unrecognized subcommand");
    }
    let help = site.run("--help").ends(0).out;
    let listed =
        help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1).take_while(|line| !line.is_empty());
    for verb in listed.filter_map(|line| line.split_whitespace().next()) {
        assert!(page.contains(&format!("`dualsync {verb}")), "{verb} is not on the page");
    }
}

#[test]
fn the_exit_codes_of_the_page_are_those_of_the_model() {
    let page = page();
    for exit in dualsync_model::outcome::Exit::ALL {
        assert!(page.contains(&format!("\n| {} | ", exit.code())), "{exit}");
    }
}
