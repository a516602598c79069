//! Reads a QR code that was printed in half blocks, as a scanner does from paper: with Debian's `zbarimg`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Pixels of a module's side, and modules of white paper around the code.
const PIXELS: usize = 4;
const MARGIN: usize = 4;

/// The bytes of the code that `lines` draw, two rows of modules a line; `scratch` is a file for the picture.
///
/// # Panics
/// When no code is found in it.
pub fn scan(lines: &[&str], scratch: &Path) -> Vec<u8> {
    fs::write(scratch, picture(lines)).unwrap();
    // Only QR codes are looked for, and no byte of them is taken for text of some character set.
    let scanned = Command::new("zbarimg")
        .args(["--quiet", "--raw", "--oneshot", "--nodbus", "-Sdisable", "-Sqrcode.enable", "-Sbinary"])
        .arg(scratch)
        .stdin(Stdio::null())
        .output()
        .expect("cannot start zbarimg");
    assert!(scanned.status.success(), "no code: {}\n{}", String::from_utf8_lossy(&scanned.stderr), lines.join("\n"));
    scanned.stdout
}

/// A grey picture (PGM), ink black and paper white.
fn picture(lines: &[&str]) -> Vec<u8> {
    let rows: Vec<Vec<bool>> =
        lines.iter().flat_map(|line| [ink(line, "\u{2588}\u{2580}"), ink(line, "\u{2588}\u{2584}")]).collect();
    let width = rows.iter().map(Vec::len).max().unwrap_or_default() + MARGIN;
    let height = rows.len() + 2 * MARGIN;
    let mut picture = format!("P5\n{} {}\n255\n", width * PIXELS, height * PIXELS).into_bytes();
    for y in 0..height * PIXELS {
        let row = (y / PIXELS).checked_sub(MARGIN).and_then(|at| rows.get(at));
        let is_ink = |x: usize| row.and_then(|row| row.get(x / PIXELS)).copied().unwrap_or_default();
        picture.extend((0..width * PIXELS).map(|x| if is_ink(x) { 0 } else { 255 }));
    }
    picture
}

/// Where a line has one of `signs`.
fn ink(line: &str, signs: &str) -> Vec<bool> {
    line.chars().map(|sign| signs.contains(sign)).collect()
}
