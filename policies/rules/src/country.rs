//! Countries by their ISO 3166-1 code, and which of them are in the European Union.
//!
//! Lists as of 2026: the 27 member states (<https://european-union.europa.eu/principles-countries-history/eu-countries_en>)
//! and the three EFTA states of the European Economic Area. Switzerland and the United Kingdom are in neither.

use std::fmt;
use std::str::FromStr;

/// A country, as two capital letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// What a country belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// A member state of the European Union.
    Union,
    /// In the European Economic Area, but not in the Union.
    Area,
    /// In neither.
    Neither,
}

/// A text that is no country code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a two-letter country code like \"DE\", found \"{0}\"{hint}", hint = hint(.0))]
pub struct CountryError(String);

/// Codes people write although ISO 3166 has another.
fn hint(text: &str) -> &'static str {
    match text {
        "EL" | "el" => " (Greece is GR)",
        "UK" | "uk" => " (the United Kingdom is GB, and not in the EU)",
        "EU" | "eu" => " (the EU is no country: name the one where the data lies)",
        _ => "",
    }
}

const UNION: [[u8; 2]; 27] = [
    *b"AT", *b"BE", *b"BG", *b"CY", *b"CZ", *b"DE", *b"DK", *b"EE", *b"ES", *b"FI", *b"FR", *b"GR", *b"HR", *b"HU",
    *b"IE", *b"IT", *b"LT", *b"LU", *b"LV", *b"MT", *b"NL", *b"PL", *b"PT", *b"RO", *b"SE", *b"SI", *b"SK",
];
const AREA: [[u8; 2]; 3] = [*b"IS", *b"LI", *b"NO"];

impl Country {
    /// What it belongs to. A code that no country has belongs to nothing.
    pub fn membership(self) -> Membership {
        if UNION.contains(&self.0) {
            Membership::Union
        } else if AREA.contains(&self.0) {
            Membership::Area
        } else {
            Membership::Neither
        }
    }
}

impl FromStr for Country {
    type Err = CountryError;

    fn from_str(text: &str) -> Result<Self, CountryError> {
        match *text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() && hint(text).is_empty() => Ok(Self([a, b])),
            _ => Err(CountryError(text.to_owned())),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", char::from(self.0[0]), char::from(self.0[1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_is_that_of_the_treaties() {
        let check =
            |code: &str, expected| assert_eq!(code.parse::<Country>().unwrap().membership(), expected, "{code}");
        check("DE", Membership::Union);
        check("GR", Membership::Union);
        check("HR", Membership::Union);
        check("NO", Membership::Area);
        check("GB", Membership::Neither);
        check("CH", Membership::Neither);
        check("US", Membership::Neither);
        check("XX", Membership::Neither);
    }

    #[test]
    fn the_union_has_27_different_members_in_order() {
        assert!(UNION.is_sorted_by(|a, b| a < b));
        assert!(AREA.iter().all(|code| !UNION.contains(code)));
    }

    #[test]
    fn names_and_near_codes_are_refused_with_the_right_one() {
        let check = |text: &str, part: &str| {
            let message = text.parse::<Country>().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        check("France", "expected a two-letter country code like \"DE\", found \"France\"");
        check("de", "found \"de\"");
        check("EL", "Greece is GR");
        check("UK", "the United Kingdom is GB");
        check("EU", "the EU is no country");
        check("D1", "found");
        check("", "found");
    }
}
