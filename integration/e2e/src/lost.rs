//! A lost machine, of which only a recovery sheet and one store are left, and the empty machine that takes its place.

use std::fs;
use std::path::{Path, PathBuf};

use crate::image::{sh, text};
use crate::qr;
use crate::site::{Site, Source, write_secret};

/// The text of a recovery sheet.
pub struct Sheet {
    text: String,
}

/// What the sheet calls a secret, and the file that it is typed into.
type Secret = (&'static str, &'static str);

/// The secrets of each store's path.
const SECRETS: [(&str, &[Secret]); 2] = [
    ("de", &[("repository key", "block.key")]),
    ("fr", &[("age identity", "archive.agekey"), ("signing key", "archive.signing")]),
];

impl Sheet {
    /// What `dualsync keys export --qr` hands out at a site, into its file `name`.
    ///
    /// # Panics
    /// When it does not.
    pub fn of(site: &Site, name: &str) -> Self {
        let path = site.path(name);
        let _ = site.dualsync(&["keys", "export", "--qr", "--sheet", text(&path)]).exits(0);
        Self { text: fs::read_to_string(path).unwrap() }
    }

    /// The lines of the secret under `label`, as its file had them: down to its QR code, empty ones too.
    ///
    /// # Panics
    /// When it is not on the sheet.
    pub fn secret(&self, label: &str) -> String {
        let lines = self.below(label).take_while(|line| !line.contains("QR code of the"));
        lines.flat_map(|line| [line.trim_start(), "\n"]).collect()
    }

    /// What a scanner reads in the QR code of the secret under `label`.
    ///
    /// # Panics
    /// When there is none or it cannot be read.
    pub fn scanned(&self, label: &str, scratch: &Path) -> Vec<u8> {
        let drawn = self.below(label).skip_while(|line| !line.contains("QR code of the")).skip(1);
        let is_drawing = |line: &&str| !line.chars().any(|sign| sign.is_ascii_graphic());
        qr::scan(&drawn.take_while(is_drawing).collect::<Vec<_>>(), scratch)
    }

    fn below(&self, label: &str) -> impl Iterator<Item = &str> {
        let mut lines =
            self.text.lines().skip_while(move |line| !line.trim_start().starts_with(&format!("SECRET {label}")));
        assert!(lines.next().is_some(), "{label} is not on the sheet");
        lines
    }

    /// The value that the sheet has beside `label`.
    fn value(&self, label: &str) -> Option<&str> {
        let line = self.text.lines().find(|line| line.trim_start().starts_with(label))?;
        line.split_whitespace().last()
    }

    /// What is below `TARGET name`.
    fn of_target(&self, name: &str) -> &str {
        let targets = self.text.split("  TARGET ").skip(1);
        let of_target = |target: &&str| target.split_whitespace().next() == Some(name);
        targets.into_iter().find(of_target).expect("the target is on the sheet")
    }

    /// An empty machine with a copy of `store`, the folder `de` or `fr` of `lost`, and the keys of that path alone, typed
    /// from this sheet. The other target is an empty folder whose keys are not there.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn machine(&self, lost: &Site, store: &str) -> Site {
        let machine = Site::new();
        sh("cp", &["-r", text(&lost.path(store)), text(&machine.path(store))]);
        for (label, file) in SECRETS.iter().filter(|(name, _)| *name == store).flat_map(|(_, secrets)| *secrets) {
            write_secret(&machine.path(file), &self.secret(label));
        }
        let nothing = machine.path("nothing");
        fs::create_dir(&nothing).unwrap();
        let lines = "snapshot = \"none\"\nidle = true\n".to_owned();
        machine.configure(&Source { device: nothing.join("disk"), tree: nothing, lines });
        let public = self.value("archive signing public key").expect("it is on the sheet");
        let config = fs::read_to_string(machine.config()).unwrap();
        let pinned = config.replace("\nsigning_key = ", &format!("\nsigning_public = \"{public}\"\nsigning_key = "));
        fs::write(machine.config(), pinned).unwrap();
        machine
    }

    /// The script in the store of a machine that the sheet says to use, once its digest is the one on the sheet.
    ///
    /// # Panics
    /// When it is another one.
    pub fn script(&self, machine: &Site, store: &str) -> PathBuf {
        let of_target = Self { text: self.of_target(store).to_owned() };
        let name = of_target.value("recover.py to use").unwrap_or("recover.py");
        let script = machine.path(&format!("{store}/{name}"));
        let digest = sh("sha256sum", &[text(&script)]);
        let digest = digest.split_whitespace().next().unwrap();
        assert_eq!(of_target.value("recover.py SHA-256"), Some(digest), "{name} is the one of the sheet");
        script
    }
}
