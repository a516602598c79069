//! Reads the content of many files of a point, each stored byte once.
//!
//! Files that are one member are read in *storage* order, volume by volume ([`members`]): path order would
//! cost a request a file. Files in parts are read one after the other, each in the order of its bytes, since
//! their digest is over the whole ([`parts`]), while members are read beside them: one waits where the other works.
//! What to read is written down in a [`plan`] on disk, so memory does not grow with the tree. A damaged volume costs
//! the files it holds and no others; only a store that fails, or a sink that wants no more, ends the reading.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::task::JoinError;

use crate::catalog::entry::Entry;
use crate::damage::Damage;
use crate::sort::SortError;
use crate::volume::reader::{VolumeError, Volumes};

mod fetch;
mod members;
mod parts;
pub mod plan;

use self::plan::Planned;

/// A file whose content is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The caller's number of the file.
    pub ordinal: u64,
    /// Its line in the catalog.
    pub entry: Entry,
}

/// Takes content as it arrives, from several threads. A failure of a file is the sink's own affair.
pub trait Sink: Send + Sync + 'static {
    /// The data of one member, which is the whole data of each of these files; or why it cannot be had.
    fn member(&self, files: &[Wanted], data: Result<&[u8], &VolumeError>);

    /// A file in parts begins. One at a time; members come meanwhile.
    fn begin(self: Arc<Self>, file: Wanted) -> Box<dyn PartedFile>;

    /// Whether nothing more is wanted: no more is fetched then.
    fn is_over(&self) -> bool {
        false
    }
}

/// Takes the parts of one file in their order.
pub trait PartedFile: Send {
    /// What was read of it before, the same bytes at the same places as far as they are there; each part is proved anew
    /// before it is believed.
    fn begun(&self) -> Option<File> {
        None
    }

    /// The data of the next part, which has the digest that the catalog notes; or why it cannot be had.
    fn part(&mut self, data: Result<&[u8], &VolumeError>);

    /// All parts were given.
    fn end(self: Box<Self>);
}

/// Why not all content could be tried.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The plan on disk.
    #[error(transparent)]
    Plan(#[from] SortError),
    /// A record of the plan, which this process wrote itself.
    #[error("the plan on disk is not readable")]
    Record(#[from] serde_json::Error),
    /// The store fails.
    #[error(transparent)]
    Store(Arc<VolumeError>),
    /// A worker thread is gone.
    #[error("a worker failed")]
    Worker(#[from] JoinError),
}

/// Reads everything that is planned. Damaged volumes are noted in `damage`, also where the files
/// of interest turn out to be intact.
pub async fn read(
    volumes: &Arc<Volumes>,
    planned: Planned,
    sink: &Arc<dyn Sink>,
    damage: &Arc<Damage>,
) -> Result<(), ReadError> {
    let outlet = Outlet { sink: Arc::clone(sink), failed: AtomicBool::new(false) };
    // Each is waited for, also after a failure of the other: a sink is left alone afterwards.
    let (members, parts) = tokio::join!(
        outlet.unless_failed(members::read(volumes, planned.frames, planned.wants, &outlet, damage)),
        outlet.unless_failed(parts::read(volumes, planned.parted, &outlet)),
    );
    members.and(parts)
}

/// The sink, and whether it is of use to bring it more.
struct Outlet {
    sink: Arc<dyn Sink>,
    failed: AtomicBool,
}

impl Outlet {
    /// The sink wants no more, or one of the two readings failed: the other need not go on.
    fn is_closed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.sink.is_over()
    }

    async fn unless_failed(&self, reading: impl Future<Output = Result<(), ReadError>>) -> Result<(), ReadError> {
        let outcome = reading.await;
        self.failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use dualsync_archive_store::contract::ErrorKind;
    use dualsync_archive_store::faulty::{Fault, FaultyStore};
    use dualsync_model::fact::EntryKind;

    use super::plan::Plan;
    use super::*;
    use crate::catalog::entry::Line;
    use crate::format::VOLUMES;
    use crate::listing::{Listing, ListingError};
    use crate::points::Copy;
    use crate::sample::{Made, Sample, meta};

    /// Wants so many members or parts, and no more.
    struct Few {
        wanted: usize,
        given: Arc<AtomicUsize>,
    }

    impl Few {
        fn wants(wanted: usize) -> Self {
            Self { wanted, given: Arc::default() }
        }
    }

    impl Sink for Few {
        fn member(&self, files: &[Wanted], data: Result<&[u8], &VolumeError>) {
            assert_eq!((files.len(), data.unwrap().len()), (1, 50_000));
            self.given.fetch_add(1, Ordering::Relaxed);
        }

        fn begin(self: Arc<Self>, _: Wanted) -> Box<dyn PartedFile> {
            Box::new(FewParts(self))
        }

        fn is_over(&self) -> bool {
            self.given.load(Ordering::Relaxed) >= self.wanted
        }
    }

    struct FewParts(Arc<Few>);

    impl PartedFile for FewParts {
        fn part(&mut self, data: Result<&[u8], &VolumeError>) {
            assert_eq!(data.unwrap().len(), 50_000);
            self.0.given.fetch_add(1, Ordering::Relaxed);
        }

        fn end(self: Box<Self>) {}
    }

    /// `count` volumes, each of one small file and one in a part.
    fn volumes(count: u8) -> Made {
        let mut sample = Sample::new();
        sample.directory("");
        for n in 0..count {
            sample.file(&format!("small-{n:03}"), &vec![n; 50_000]);
            sample.frame();
            sample.parted(&format!("{n:03}"), meta(EntryKind::File, 50_000), &[&vec![n ^ 0xff; 50_000]]);
            sample.volume();
        }
        sample.finish()
    }

    async fn read_into(made: &Made, sink: Few) -> Result<(), ReadError> {
        let state = tempfile::tempdir().unwrap();
        let (objects, identity) = (made.repository.objects.clone(), made.repository.identity.clone());
        let copy = Copy::find(&made.repository, &made.point).await.unwrap();
        let volumes = Arc::new(Volumes::new(objects, identity, &copy.refs(&made.repository.objects).await.unwrap()));
        let damage = Arc::new(Damage::new("a target", &made.point));
        let mut plan = Plan::new(state.path())?;
        let listing = Listing::open(&made.repository, &copy).await.unwrap();
        let add = |line| {
            match line {
                Line::Entry(entry) => plan.add(0, &entry).map(|_| ()).unwrap(),
                Line::Parts(parts) => plan.add_parts(&parts).unwrap(),
            }
            Ok::<(), ListingError>(())
        };
        listing.read(&damage, add).await.unwrap();
        let sink: Arc<dyn Sink> = Arc::new(sink);
        read(&volumes, plan.finish()?, &sink, &damage).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn everything_is_given_and_nothing_is_fetched_for_a_sink_that_wants_no_more() {
        let made = volumes(100);
        let given = Arc::<AtomicUsize>::default();
        read_into(&made, Few { wanted: usize::MAX, given: Arc::clone(&given) }).await.unwrap();
        assert_eq!(given.load(Ordering::Relaxed), 200);
        let all = made.repository.objects.requests().get;
        read_into(&made, Few::wants(3)).await.unwrap();
        let few = made.repository.objects.requests().get - all;
        // What was ahead came, and no more.
        assert!(few < all / 2, "{few} requests, {all} for everything");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_fails_one_reader_ends_both() {
        let made = volumes(100);
        read_into(&made, Few::wants(usize::MAX)).await.unwrap();
        let all = made.repository.objects.requests().get;
        let asked = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&asked);
        let faulty = FaultyStore::new(made.store.clone(), move |call| {
            let is_late = call.object.starts_with(VOLUMES) && counted.fetch_add(1, Ordering::Relaxed) >= 10;
            is_late.then_some(Fault::Fail(ErrorKind::Timeout))
        });
        let repository = made.through(Arc::new(faulty));
        let broken = Made { repository, store: made.store.clone(), point: made.point.clone() };
        let outcome = read_into(&broken, Few::wants(usize::MAX)).await;
        assert!(matches!(outcome, Err(ReadError::Store(_))), "{outcome:?}");
        let asked = asked.load(Ordering::Relaxed) as u64;
        assert!(asked < all / 2, "{asked} requests for volumes, {all} for everything");
    }
}
