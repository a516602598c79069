//! Outages of either side, drawn at random: a folder that is not there, a server that was stopped.

use std::fs;

use crate::calendar::SIDES;
use crate::garage::Garage;
use crate::site::Site;

/// What lets a side be reached, or not.
pub trait Door {
    /// Lets it be reached when `open`; else nobody reaches it. Called again with the same value nothing changes.
    fn set(&mut self, open: bool);
}

/// A target that is a folder of a site; an outage is a folder that is not there.
pub struct Folder<'a> {
    site: &'a Site,
    name: &'static str,
}

impl<'a> Folder<'a> {
    /// The two targets of [`Site::configure`].
    pub fn both(site: &'a Site) -> [Box<dyn Door + 'a>; 2] {
        ["de", "fr"].map(|name| Box::new(Self { site, name }) as Box<dyn Door + 'a>)
    }
}

impl Door for Folder<'_> {
    fn set(&mut self, open: bool) {
        let (here, gone) = (self.site.path(self.name), self.site.path(&format!("{}.away", self.name)));
        match (open, gone.exists()) {
            (true, true) => fs::rename(gone, here).unwrap(),
            (false, false) => fs::rename(here, gone).unwrap(),
            _ => {}
        }
    }
}

impl Door for Garage {
    fn set(&mut self, open: bool) {
        if open { self.resume() } else { self.stop() }
    }
}

/// Numbers that are the same each time (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// The weather over both sides.
pub struct Weather<'a> {
    doors: [Box<dyn Door + 'a>; 2],
    random: Random,
    /// For how many nights from now each side cannot be reached.
    away: [u64; 2],
    /// How many nights each side could not be reached.
    missed: [u32; 2],
}

impl<'a> Weather<'a> {
    /// Fair weather, until [`Weather::night`] draws something else from `seed`.
    pub fn new(doors: [Box<dyn Door + 'a>; 2], seed: u64) -> Self {
        Self { doors, random: Random(seed | 1), away: [0, 0], missed: [0, 0] }
    }

    /// Which sides can be reached tonight.
    pub fn night(&mut self) -> [bool; 2] {
        for away in &mut self.away {
            if *away == 0 && self.random.below(14) == 0 {
                let long = self.random.below(5) == 0;
                *away = if long { 8 + self.random.below(8) } else { 1 + self.random.below(3) };
            }
        }
        let there = self.away.map(|nights| nights == 0);
        for (side, there) in there.into_iter().enumerate() {
            self.away[side] = self.away[side].saturating_sub(1);
            self.missed[side] += u32::from(!there);
            self.doors[side].set(there);
        }
        there
    }

    /// Both sides can be reached from now on.
    pub fn clear_up(&mut self) {
        self.away = [0, 0];
        for door in &mut self.doors {
            door.set(true);
        }
    }

    /// Fails when a side was never away, or hardly ever there: such nights would show little.
    ///
    /// # Panics
    /// Then.
    pub fn was_mixed(&self, nights: u32) {
        for (side, missed) in SIDES.into_iter().zip(self.missed) {
            assert!(missed > 0 && missed < nights / 2, "the {side} side was away for {missed} of {nights} nights");
        }
    }
}
