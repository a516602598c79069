//! A simulated year of nights with outages of either side, compared with a calendar each morning.
//!
//! Started by `scripts/year`; needs faketime and some minutes. An argument is another seed.

use dualsync_e2e::nights::{Nights, standing};
use dualsync_e2e::site::Site;
use dualsync_e2e::tree;

fn main() {
    let seed = std::env::args().nth(1).map_or(20_270_110, |seed| seed.parse().expect("the seed is a number"));
    let site = Site::new();
    let source = tree::tiny_source(&site, "");
    site.configure(&source);
    // More than a year, so that last year's end is needed and last year's end is left behind.
    let mut nights = Nights::new(&site, source, Box::new(standing), "2027-01-10".parse().expect("a date"), seed, true);
    for number in 0..380 {
        nights.night(number);
        if number % 20 == 0 {
            println!("night {number}: {} and {} objects", nights.objects("de").len(), nights.objects("fr").len());
        }
    }
    println!("380 nights: every date of the contract was there or had its reason, and nothing else stayed");
}
