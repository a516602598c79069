//! Tonight's walk beside the parent's catalog: both come in the one order, so memory holds one entry of each.

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::backup::BackupError;
use crate::catalog::stream::{CatalogError, Grouped};
use crate::tree::walk::{WalkError, Walked};

/// What a pass over both does.
pub trait Visit {
    /// An entry of tonight, with what the parent's catalog has under the same path.
    fn entry(&mut self, walked: Walked, old: Option<Grouped>) -> Result<(), BackupError>;

    /// An entry of the parent that is gone.
    fn gone(&mut self, old: Grouped) -> Result<(), BackupError>;
}

/// Walks both to their ends, or to the first error.
pub fn join(
    walk: impl Iterator<Item = Result<Walked, WalkError>>,
    old: impl Iterator<Item = Result<Grouped, CatalogError>>,
    visit: &mut impl Visit,
) -> Result<(), BackupError> {
    let mut old = old.peekable();
    for walked in walk {
        let walked = walked.map_err(BackupError::Walk)?;
        loop {
            match compare(&mut old, &walked)? {
                Some(Ordering::Less) => visit.gone(take(&mut old)?)?,
                Some(Ordering::Equal) => {
                    let same = take(&mut old)?;
                    break visit.entry(walked, Some(same))?;
                }
                Some(Ordering::Greater) | None => break visit.entry(walked, None)?,
            }
        }
    }
    old.try_for_each(|gone| visit.gone(gone?))
}

/// How the next old entry stands to `walked`; `None` when there is none.
fn compare<I>(old: &mut Peekable<I>, walked: &Walked) -> Result<Option<Ordering>, BackupError>
where
    I: Iterator<Item = Result<Grouped, CatalogError>>,
{
    match old.peek() {
        None => Ok(None),
        Some(Ok(next)) => Ok(Some(next.entry.path.cmp(&walked.path))),
        Some(Err(_)) => Err(take(old).err().unwrap_or(BackupError::Died)),
    }
}

fn take<I>(old: &mut Peekable<I>) -> Result<Grouped, BackupError>
where
    I: Iterator<Item = Result<Grouped, CatalogError>>,
{
    Ok(old.next().ok_or(BackupError::Died)??)
}
