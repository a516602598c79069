//! What cargo knows of the workspace: its members and whom each names in any section of its manifest.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The workspace as cargo sees it.
pub struct Workspace {
    pub root: PathBuf,
    pub packages: Vec<Package>,
}

/// One member.
pub struct Package {
    pub name: String,
    pub dependencies: Vec<Dependency>,
}

/// One edge of a manifest.
pub struct Dependency {
    pub name: String,
    /// Only tests see it.
    pub dev: bool,
}

impl Workspace {
    pub fn read() -> Result<Self> {
        let text = cargo(Path::new("."), &["metadata", "--no-deps", "--format-version", "1"])?;
        let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
        let root = metadata["workspace_root"].as_str().context("no workspace_root")?.into();
        let packages = metadata["packages"].as_array().context("no packages")?.iter().map(package).collect();
        Ok(Self { root, packages })
    }
}

fn package(value: &Value) -> Package {
    let dependencies = value["dependencies"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|dependency| Dependency { name: text(&dependency["name"]), dev: dependency["kind"] == "dev" });
    Package { name: text(&value["name"]), dependencies: dependencies.collect() }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Runs cargo and gives its standard output.
pub fn cargo(directory: &Path, arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).current_dir(directory).output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("cargo printed something that is not UTF-8")
}
