//! One server with one source, its two targets and its configuration, in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::garage::Garage;
use crate::programs::{Programs, Ran};

/// A site; the folder goes when it is dropped.
pub struct Site {
    /// Everything of this test.
    pub directory: TempDir,
    /// The programs this site uses.
    pub programs: Programs,
    config: PathBuf,
}

/// The source of a site.
pub struct Source {
    /// Block device or image file.
    pub device: PathBuf,
    /// Where it is mounted.
    pub tree: PathBuf,
    /// Further lines of `[[source]]`: the snapshot method at least.
    pub lines: String,
}

impl Site {
    /// An empty folder with the programs in it; the configuration comes with [`Site::configure`].
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("dualsync-e2e-").tempdir().unwrap();
        let programs = Programs::install(&directory.path().join("bin"));
        let config = directory.path().join("dualsync.toml");
        Self { directory, programs, config }
    }

    /// A path inside the site's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a configuration with two directory targets, `de` (block) and `fr` (archive).
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, source: &Source) {
        let place = |name: &str| {
            let path = self.path(name);
            fs::create_dir_all(&path).unwrap();
            format!("kind = \"directory\"\npath = \"{}\"\n", path.display())
        };
        self.write_config(&place("de"), &place("fr"), source);
    }

    /// Writes a configuration with two Garage servers as the two countries.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure_s3(&self, de: &Garage, fr: &Garage, source: &Source) {
        self.configure_buckets(&de.bucket(), &fr.bucket(), source);
    }

    /// Writes a configuration with two buckets as the two countries.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure_buckets(&self, de: &Bucket, fr: &Bucket, source: &Source) {
        let place = |country: &str, bucket: &Bucket| {
            let credentials = self.path(&format!("{country}.credentials"));
            write_secret(&credentials, &bucket.credentials);
            let Bucket { endpoint, region, name, .. } = bucket;
            let credentials = credentials.display();
            format!(
                "kind = \"s3\"\nendpoint = \"{endpoint}\"\nregion = \"{region}\"\nbucket = \"{name}\"\n\
                 credentials = \"file:{credentials}\"\n"
            )
        };
        self.write_config(&place("de", de), &place("fr", fr), source);
    }

    fn write_config(&self, de: &str, fr: &str, source: &Source) {
        let here = self.directory.path().display();
        let text = format!(
            r#"host = "e2e"
timezone = "Europe/Athens"
state = "{here}/state"

[targets.de]
mechanism = "block"
country = "DE"
provider = "house one"
{de}key = "file:{here}/block.key"

[targets.fr]
mechanism = "archive"
country = "FR"
provider = "house two"
{fr}identity = "file:{here}/archive.agekey"
signing_key = "file:{here}/archive.signing"

[[source]]
name = "web"
device = "{}"
tree = "{}"
block = "de"
archive = "fr"
schedule = "0 3 * * *"
{}"#,
            source.device.display(),
            source.tree.display(),
            source.lines
        );
        fs::write(&self.config, text).unwrap();
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// `dualsync ARGUMENTS` with this site's configuration, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.path("dualsync"));
        command.env("DUALSYNC_CONFIG", &self.config).env("NO_COLOR", "1").args(arguments);
        command
    }

    /// Runs `dualsync ARGUMENTS` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn dualsync(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes a file that only its owner may read.
///
/// # Panics
/// When it cannot be written.
pub fn write_secret(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
