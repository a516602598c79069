//! A simulated year of nights with outages of either side, compared with a calendar each morning.
//!
//! Started by `scripts/year`; needs faketime and some minutes. An argument is another seed.

use dualsync_e2e::clockfile::ClockFile;
use dualsync_e2e::nights::Nights;
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;
use dualsync_e2e::weather::{Folder, Weather};
use dualsync_model::time::Date;

/// More than a year, so that last year's end is needed and last year's end is left behind.
const NIGHTS: u32 = 380;

fn main() {
    let seed = std::env::args().nth(1).map_or(20_270_110, |seed| seed.parse().expect("the seed is a number"));
    let site = Site::new();
    let source = tree::tiny_source(&site, "");
    site.configure(&source);
    let first: Date = "2027-01-10".parse().expect("a date");
    let clock = ClockFile::new(&site.path("clock"), first.midnight_utc());
    let mut nights = Nights::new(&site, source, &clock, Weather::new(Folder::both(&site), seed), first);
    for number in 0..NIGHTS {
        nights.night();
        if number % 20 == 0 {
            println!("night {number}: {}", nights.holds());
        }
    }
    nights.each_side_was_away();
    for _ in 0..4 {
        nights.fair_night();
    }
    nights.everything_is_whole();
    nights.nothing_else_is_kept();
    println!("at the end: {}", nights.holds());
    println!("{NIGHTS} nights: every date of the contract was there or had its reason, and nothing else stayed;");
    println!("every stored byte has its digest, the chain of reports is whole on both sides");
}
