//! A flipped byte, a missing object, a truncated object in either store: verify names the object, the
//! target and the files hit, exits 21, the rest still restores from that copy, and everything from the other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dualsync_e2e::garage::Garage;
use dualsync_e2e::image::{rsync_finds_no_difference, text};
use dualsync_e2e::needs;
use dualsync_e2e::objects::{Objects, files, name_below};
use dualsync_e2e::site::{Site, Source};
use dualsync_e2e::tree::{make_image, random_bytes};

/// What is left of an object's bytes; `None`: nothing, not even the object.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

const DAMAGES: &[(&str, Damage)] = &[
    ("a flipped byte", |good| {
        let mut bytes = good.to_vec();
        bytes[good.len() / 2] ^= 1;
        Some(bytes)
    }),
    ("a missing object", |_| None),
    ("a truncated object", |good| Some(good[..good.len() / 2].to_vec())),
    ("an empty object", |_| Some(Vec::new())),
];

/// The folders whose objects hold what people want back.
const KINDS: &[(&str, &str, &str)] =
    &[("de", "block", "packs"), ("de", "block", "maps"), ("fr", "archive", "volumes"), ("fr", "archive", "catalogs")];

/// Two nights; the second changes a quarter of the bytes, so that its point needs objects of both.
struct Nights {
    site: Site,
    tree: std::path::PathBuf,
    objects: [Objects; 2],
    /// The largest object of each kind and night.
    of_nights: [Vec<String>; 2],
}

impl Nights {
    fn new(site: Site, source: &Source, objects: [Objects; 2]) -> Self {
        let _ = site.dualsync(&["init", "--sheet", text(&site.path("sheet.txt"))]).exits(0);
        let mut nights = Self { site, tree: source.tree.clone(), objects, of_nights: Default::default() };
        for night in 0..2 {
            let before: Vec<_> = KINDS.iter().map(|kind| nights.of(kind.0).keys(kind.2)).collect();
            if night == 1 {
                let other: Vec<_> = random_bytes(1 << 20).iter().map(|byte| byte ^ 0x5a).collect();
                fs::write(source.tree.join("noise-2"), other).unwrap();
                make_image(source, "32M");
            }
            let _ = nights.site.dualsync(&["run"]).exits(0);
            nights.of_nights[night] = KINDS
                .iter()
                .zip(before)
                .map(|(kind, before)| nights.of(kind.0).keys(kind.2).into_iter().find(|key| !before.contains(key)))
                .map(Option::unwrap)
                .collect();
        }
        nights
    }

    fn of(&self, target: &str) -> &Objects {
        &self.objects[usize::from(target == "fr")]
    }

    /// Names of all files of the source.
    fn all(&self) -> BTreeSet<String> {
        files(&self.tree).iter().map(|path| name_below(&self.tree, path)).collect()
    }

    /// Damages an object of a kind in one way, looks and restores, and mends it.
    fn check(&self, (target, mechanism, kind): (&str, &str, &str), object: &str, (damage, apply): &(&str, Damage)) {
        let case = format!("{kind}: {damage}: {object}");
        let good = self.of(target).get(object);
        match apply(&good) {
            Some(bytes) => self.of(target).put(object, &bytes),
            None => self.of(target).delete(object),
        }
        // Nothing that a program remembers may hide it.
        fs::remove_dir_all(self.site.path("state")).unwrap();
        let report = self.site.dualsync(&["verify", "--latest", "--full", "--json"]).exits(21).summary();
        assert_eq!(report["verdict"], "damaged", "{case}");
        let findings = report["findings"].as_array().unwrap();
        assert!(!findings.is_empty(), "{case}: {report}");
        for finding in findings {
            assert_eq!((&finding["object"], &finding["target"]), (&object.into(), &target.into()), "{case}: {report}");
        }
        let named = findings.iter().flat_map(|finding| finding["paths"].as_array().unwrap());
        let named: BTreeSet<_> = named.map(|path| path.as_str().unwrap().to_owned()).collect();
        let is_hit = |file: &String| Path::new(file).ancestors().any(|path| named.contains(text(path)));
        let hit: BTreeSet<_> = self.all().into_iter().filter(is_hit).collect();
        assert!(!hit.is_empty(), "{case}: the files hit are not named: {report}");

        let back = self.restore(mechanism, 21);
        let expected: BTreeSet<_> = self.all().difference(&hit).cloned().collect();
        assert_eq!(back, expected, "{case}: what is not named comes back, and nothing else: {report}");
        let other = if mechanism == "block" { "archive" } else { "block" };
        assert_eq!(self.restore(other, 0), self.all(), "{case}");
        rsync_finds_no_difference(&self.tree, &self.site.path("out"), &["/lost+found"]);
        self.of(target).put(object, &good);
    }

    /// The files that come back into the folder `out`; each is as it was.
    fn restore(&self, from: &str, exit: i32) -> BTreeSet<String> {
        let out = self.site.path("out");
        let _ = fs::remove_dir_all(&out);
        let arguments = ["restore", "web@latest", "--from", from, "--path", "**", "--to", text(&out), "--yes"];
        let _ = self.site.dualsync(&arguments).exits(exit);
        if !out.exists() {
            return BTreeSet::new();
        }
        // The folder that was named is not part of what a glob matches.
        dualsync_e2e::image::sh("touch", &["-r", text(&self.tree), text(&out)]);
        let names: BTreeSet<_> = files(&out).iter().map(|path| name_below(&out, path)).collect();
        for name in &names {
            let same = fs::read(out.join(name)).unwrap() == fs::read(self.tree.join(name)).unwrap();
            assert!(same, "{from}: {name} came back with other bytes");
        }
        names
    }
}

/// Small files and 4 MiB that do not compress, fewer entries than a finding names.
fn source(site: &Site) -> Source {
    let (device, tree) = (site.path("data.img"), site.path("tree"));
    fs::create_dir(&tree).unwrap();
    for directory in ["d0", "d1", "d2"] {
        fs::create_dir(tree.join(directory)).unwrap();
        for file in 0..12 {
            let line = format!("{directory} {file} some words that compress well\n");
            fs::write(tree.join(format!("{directory}/f{file}")), line.repeat(1 + file * 40)).unwrap();
        }
    }
    let noise = random_bytes(4 << 20);
    fs::write(tree.join("noise-1"), &noise[1 << 20..]).unwrap();
    fs::write(tree.join("noise-2"), &noise[..1 << 20]).unwrap();
    let source = Source { device, tree, lines: "snapshot = \"none\"\nidle = true\n".to_owned() };
    make_image(&source, "32M");
    source
}

#[test]
fn verify_names_what_each_damaged_object_hits_and_all_else_comes_back_from_both_copies() {
    let site = Site::new();
    let source = source(&site);
    site.configure(&source);
    let objects = ["de", "fr"].map(|target| Objects::Folder(site.path(target)));
    let nights = Nights::new(site, &source, objects);
    let _ = nights.site.dualsync(&["verify", "--latest", "--full"]).exits(0);
    for (number, kind) in KINDS.iter().enumerate() {
        for object in [&nights.of_nights[0][number], &nights.of_nights[1][number]] {
            // Of the catalog the second night keeps nothing of the first: its segments changed.
            if kind.2 == "catalogs" && *object == nights.of_nights[0][number] {
                continue;
            }
            for damage in DAMAGES {
                nights.check(*kind, object, damage);
            }
        }
    }
    let _ = nights.site.dualsync(&["verify", "--latest", "--full"]).exits(0);
}

#[test]
fn the_same_in_buckets() {
    if !needs::commands(&["garage", "python3"]) {
        return;
    }
    let site = Site::new();
    let source = source(&site);
    let garages = ["garage-de", "garage-fr"].map(|name| Garage::start(&site.path(name)));
    site.configure_s3(&garages[0], &garages[1], &source);
    let objects = garages.each_ref().map(|garage| Objects::Bucket(garage.bucket()));
    let nights = Nights::new(site, &source, objects);
    for (number, kind) in KINDS.iter().enumerate().filter(|(_, kind)| ["packs", "volumes"].contains(&kind.2)) {
        for damage in DAMAGES {
            nights.check(*kind, &nights.of_nights[1][number], damage);
        }
    }
    let _ = nights.site.dualsync(&["verify", "--latest", "--full"]).exits(0);
}
