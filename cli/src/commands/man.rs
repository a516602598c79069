//! `dualsync man`: manual pages, from the same definition that parses.

use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::{Cli, ManArgs};
use crate::exit::Ending;
use crate::output::Output;

/// Prints all pages one after the other, or writes one file for each into a folder.
pub fn run(args: &ManArgs, output: &Output) -> anyhow::Result<Ending> {
    for page in pages()? {
        match &args.folder {
            Some(folder) => write(folder, &page)?,
            None => output.raw(&page.text),
        }
    }
    Ok(Ending::done())
}

struct Page {
    name: String,
    text: Vec<u8>,
}

fn pages() -> anyhow::Result<Vec<Page>> {
    let mut whole = Cli::command();
    // Global options reach the verbs, and their pages, only now.
    whole.build();
    let verbs = whole.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| {
        let name = format!("dualsync-{}", verb.get_name());
        page(verb.clone().display_name(name))
    });
    std::iter::once(page(whole.clone())).chain(verbs).collect()
}

fn page(command: Command) -> anyhow::Result<Page> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut text = Vec::new();
    Man::new(command).render(&mut text).with_context(|| format!("the page {name} could not be made"))?;
    Ok(Page { name, text })
}

fn write(folder: &Path, page: &Page) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("the folder {} could not be made", folder.display()))?;
    let file = folder.join(format!("{}.1", page.name));
    std::fs::write(&file, &page.text).with_context(|| format!("{} could not be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_the_hidden_one_has_none() {
        let names: Vec<_> = pages().unwrap().into_iter().map(|page| page.name).collect();
        assert!(names.contains(&"dualsync".to_owned()) && names.contains(&"dualsync-restore".to_owned()), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("watchdog")), "{names:?}");
    }

    #[test]
    fn a_page_shows_options_global_ones_and_examples() {
        let pages = pages().unwrap();
        let restore = pages.iter().find(|page| page.name == "dualsync-restore").unwrap();
        let text = String::from_utf8_lossy(&restore.text).replace('\\', "");
        for expected in ["--overwrite", "--config", "dualsync restore web@latest --to /restore"] {
            assert!(text.contains(expected), "{expected}");
        }
    }
}
