//! `cargo xtask tidy`: checks that keep ARCHITECTURE.md and the house rules true.
//!
//! Every check reads the tree or `cargo metadata` and names what breaks a rule and why the rule is
//! there. Nothing is changed, except by `tidy --write`, which refreshes the digests of `format.rs`
//! in the format documents after a person has read both.

mod edges;
mod formats;
mod shared;
mod sources;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

const USAGE: &str = "usage: cargo xtask tidy [--write]

  tidy           check the dependency edges, the crates both writers link, the format documents
                 and the sources; exit 1 names each broken rule
  tidy --write   first write the digest of each format.rs into its document";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match tidy(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(complaints) if complaints.is_empty() => {
            println!("tidy: all rules hold");
            ExitCode::SUCCESS
        }
        Ok(complaints) => {
            for complaint in &complaints {
                eprintln!("tidy: {complaint}");
            }
            eprintln!("tidy: {} broken rules", complaints.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn tidy(arguments: &[&str]) -> Result<Vec<String>> {
    let write = match arguments {
        ["tidy"] => false,
        ["tidy", "--write"] => true,
        _ => bail!("{USAGE}"),
    };
    let workspace = Workspace::read()?;
    if write {
        formats::write(&workspace.root)?;
    }
    let mut complaints = edges::check(&workspace.packages);
    complaints.extend(shared::check(&workspace.root)?);
    complaints.extend(formats::check(&workspace.root)?);
    complaints.extend(sources::check(&workspace.root)?);
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_tree_holds_every_rule() {
        assert_eq!(tidy(&["tidy"]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn other_words_are_answered_with_the_usage() {
        let said = tidy(&["tidy", "--wirte"]).unwrap_err().to_string();
        assert!(said.starts_with("usage: cargo xtask tidy"), "{said}");
    }
}
