//! Finds the bytes of one member in a stored volume.
//!
//! Promises to fetch only the chunks that hold the wanted frame, and the head of each volume once.
//! What it gives is whole by age's own proof; whether it is the *right* content only the digest in the
//! catalog tells, and the caller compares it.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::buffers::{Buffer, Buffers};
use crate::catalog::entry::At;
use crate::codec::{Packing, Unpacker};
use crate::format::{AGE_HEADER_BYTES_MAX, FRAME_BYTES_MAX, VOLUMES, volume_suffix};
use crate::manifest::Stored;
use crate::objects::{ObjectError, Objects};
use crate::refs::Ref;
use crate::seal::{Header, Identity, SealError};

/// Heads kept in memory.
const HEADS_MAX: usize = 4096;

/// Why the bytes of a member cannot be had; each names the volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The volume cannot be fetched.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A place that the point's list of objects does not know.
    #[error("{key} is not among the objects of this point")]
    Unlisted {
        /// The volume.
        key: String,
    },
    /// Its seal is broken.
    #[error("cannot open {key}")]
    Seal {
        /// The volume.
        key: String,
        /// Why not.
        #[source]
        source: SealError,
    },
    /// What is inside the seal is not what it should be.
    #[error("{key} does not hold what the catalog says")]
    Content {
        /// The volume.
        key: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// The volume it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Object(
                ObjectError::Missing { key } | ObjectError::Length { key, .. } | ObjectError::Digest { key, .. },
            )
            | Self::Unlisted { key }
            | Self::Seal { key, .. }
            | Self::Content { key, .. } => key,
            Self::Object(ObjectError::Store(error)) => error.object(),
            Self::Object(ObjectError::Key(_)) => "",
        }
    }

    /// The word of a finding, when the volume and not the store is at fault.
    pub fn finding(&self) -> Option<&'static str> {
        match self {
            Self::Object(error) => error.finding(),
            Self::Unlisted { .. } => Some("unexpected"),
            Self::Seal { .. } | Self::Content { .. } => Some("unreadable"),
        }
    }
}

/// The volumes of one point.
pub struct Volumes {
    objects: Objects,
    identity: Identity,
    list: List,
    heads: Mutex<HashMap<String, Arc<Head>>>,
    /// The last volume that was shadowed, as it is stored: who wants a range of it may want another.
    older: tokio::sync::Mutex<Option<(String, Bytes)>>,
    buffers: Buffers,
}

/// Size and digest of each volume.
type Sizes = HashMap<String, Stored>;

/// Reads what the point lists; `None` where that is damaged, an error where the store fails.
pub type ReadList = Box<dyn Fn() -> BoxFuture<'static, Result<Option<Vec<Ref>>, ObjectError>> + Send + Sync>;

/// What the point lists.
enum List {
    Read(Sizes),
    /// Read when something is wrong.
    Unread {
        read: ReadList,
        sizes: OnceCell<Option<Sizes>>,
    },
}

/// The beginning of a volume.
struct Head {
    header: Header,
    stored_bytes: u64,
    /// All of a volume that is no longer than a header may be.
    whole: Option<Bytes>,
}

impl Volumes {
    /// Over the objects that the point lists.
    pub fn new(objects: Objects, identity: Identity, refs: &[Ref]) -> Self {
        Self::over(objects, identity, List::Read(sizes(refs)))
    }

    /// For few files: the list of the point is not read as long as all is well. The catalog, which is under the same
    /// signature, names the volume, and age's tags and the digest of the content prove what is read of it.
    pub fn unlisted(objects: Objects, identity: Identity, read: ReadList) -> Self {
        Self::over(objects, identity, List::Unread { read, sizes: OnceCell::new() })
    }

    fn over(objects: Objects, identity: Identity, list: List) -> Self {
        Self {
            objects,
            identity,
            list,
            heads: Mutex::default(),
            older: tokio::sync::Mutex::default(),
            buffers: Buffers::default(),
        }
    }

    /// Size and digest of a volume, as the point lists it; `None` also where the list was not read.
    pub fn listed(&self, key: &str) -> Option<Stored> {
        let sizes = match &self.list {
            List::Read(sizes) => sizes,
            List::Unread { sizes, .. } => sizes.get()?.as_ref()?,
        };
        sizes.get(key).copied()
    }

    /// The same, after the list was read; `None` where that is damaged.
    async fn look_up(&self, key: &str) -> Result<Option<Stored>, VolumeError> {
        if let List::Unread { read, sizes: known } = &self.list {
            let read = || async { Ok::<_, ObjectError>(read().await?.map(|refs| sizes(&refs))) };
            if known.get_or_try_init(read).await?.is_none() {
                return Ok(None);
            }
        }
        self.listed(key).map(Some).ok_or_else(|| VolumeError::Unlisted { key: key.to_owned() })
    }

    /// What a volume has to be that is proved as a whole.
    async fn stored(&self, key: &str) -> Result<Stored, VolumeError> {
        let damaged = || content(key, "no length and no digest: the list of the point is damaged");
        self.look_up(key).await?.ok_or_else(damaged)
    }

    /// The tar of one member, from its pax header to its padding: one ranged read, and one more the
    /// first time a volume is used.
    pub async fn member(&self, at: &At) -> Result<Vec<u8>, VolumeError> {
        let frame = self.frame(&at.volume, at.frame, at.frame_bytes).await?;
        cut(&at.volume, &frame, at)
    }

    /// A frame, unpacked.
    pub async fn frame(&self, key: &str, frame: u64, frame_bytes: u64) -> Result<Buffer, VolumeError> {
        let packed = self.packed(key, frame..frame.saturating_add(frame_bytes)).await?;
        self.unpack(key, &packed)
    }

    /// Memory for `bytes` of a frame.
    pub fn buffer(&self, bytes: usize) -> Buffer {
        self.buffers.take(bytes)
    }

    /// Unpacks one frame.
    pub fn unpack(&self, key: &str, packed: &[u8]) -> Result<Buffer, VolumeError> {
        let packing = packing(key)?;
        let mut plain = self.buffer(packing.announced_bytes(packed).min(FRAME_BYTES_MAX));
        let unpacked = Unpacker::default().unpack(packing, packed, FRAME_BYTES_MAX, &mut plain);
        unpacked.map_err(|source| VolumeError::Content { key: key.to_owned(), source })?;
        Ok(plain)
    }

    /// What age unpacks from a range of the volume: one frame or several in a row, still packed. Where that fails, from an older
    /// version, which is read whole, since only all of it has a digest.
    pub async fn packed(&self, key: &str, plain: Range<u64>) -> Result<Buffer, VolumeError> {
        let error = match self.packed_on_top(key, plain.clone()).await {
            Err(error) if error.finding().is_some() => error,
            outcome => return outcome,
        };
        let Some(stored) = self.look_up(key).await? else { return Err(error) };
        let error = self.told_by_length(key, stored).unwrap_or(error);
        // Held while it is fetched: there is one such volume in memory, and never several.
        let mut older = self.older.lock().await;
        if older.as_ref().is_none_or(|(held, _)| held != key) {
            *older = None;
            *older = self.objects.older(key, stored).await?.map(|bytes| (key.to_owned(), bytes));
        }
        match &*older {
            Some((_, bytes)) => self.unseal(key, bytes, plain),
            None => Err(error),
        }
    }

    /// The store told how long the volume is, and the list says otherwise.
    fn told_by_length(&self, key: &str, stored: Stored) -> Option<VolumeError> {
        let found = self.known_head(key)?.stored_bytes;
        let error = ObjectError::Length { key: key.to_owned(), found, wanted: stored.bytes };
        (found != stored.bytes).then(|| error.into())
    }

    async fn packed_on_top(&self, key: &str, plain: Range<u64>) -> Result<Buffer, VolumeError> {
        let head = self.head(key).await?;
        let range = head.header.stored_range(&plain, head.stored_bytes);
        let window = match &head.whole {
            Some(whole) => part(whole, &range).map(Bytes::copy_from_slice).unwrap_or_default(),
            None => self.objects.get_range(key, range).await?,
        };
        self.open(key, &head.header, &window, plain)
    }

    /// A whole volume as it is stored, proved against the digest that the point lists.
    pub async fn fetch(&self, key: &str) -> Result<Bytes, VolumeError> {
        Ok(self.objects.get_good(key, self.stored(key).await?).await?)
    }

    /// What age unpacks from a range of a volume that is at hand as it is stored. Frames are unsealed where they
    /// are used, so that a whole volume is never in memory twice.
    pub fn unseal(&self, key: &str, stored: &[u8], plain: Range<u64>) -> Result<Buffer, VolumeError> {
        let header = Header::parse(stored).ok_or_else(|| content(key, "no age header at its beginning"))?;
        let window = part(stored, &header.stored_range(&plain, stored.len() as u64));
        self.open(key, &header, window.ok_or_else(|| content(key, "an end before its frames"))?, plain)
    }

    fn open(&self, key: &str, header: &Header, window: &[u8], plain: Range<u64>) -> Result<Buffer, VolumeError> {
        let mut bytes = self.buffer(window.len());
        self.identity
            .open_range(header, window, plain, &mut bytes)
            .map_err(|source| VolumeError::Seal { key: key.to_owned(), source })?;
        Ok(bytes)
    }

    fn known_head(&self, key: &str) -> Option<Arc<Head>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    async fn head(&self, key: &str) -> Result<Arc<Head>, VolumeError> {
        if let Some(head) = self.known_head(key) {
            return Ok(head);
        }
        let (first, stored_bytes) = match &self.list {
            List::Read(_) => {
                let stored_bytes = self.stored(key).await?.bytes;
                (self.objects.get_range(key, 0..AGE_HEADER_BYTES_MAX.min(stored_bytes)).await?, stored_bytes)
            }
            List::Unread { .. } => self.objects.get_beginning(key, AGE_HEADER_BYTES_MAX).await?,
        };
        let header = Header::parse(&first).ok_or_else(|| content(key, "no age header at its beginning"))?;
        let whole = (first.len() as u64 == stored_bytes).then_some(first);
        let head = Arc::new(Head { header, stored_bytes, whole });
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() >= HEADS_MAX {
            heads.clear();
        }
        heads.insert(key.to_owned(), head.clone());
        Ok(head)
    }
}

fn sizes(refs: &[Ref]) -> Sizes {
    let volumes = refs.iter().filter(|one| one.key.starts_with(VOLUMES));
    volumes.map(|one| (one.key.clone(), Stored { bytes: one.bytes, sha256: one.sha256 })).collect()
}

fn part<'b>(bytes: &'b [u8], range: &Range<u64>) -> Option<&'b [u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// How a volume is packed, by its key.
pub fn packing(key: &str) -> Result<Packing, VolumeError> {
    volume_suffix(key).and_then(Packing::from_suffix).ok_or_else(|| content(key, "an unknown kind of volume"))
}

/// The member in its unpacked frame.
pub fn cut(key: &str, frame: &[u8], at: &At) -> Result<Vec<u8>, VolumeError> {
    let member = || {
        let start = usize::try_from(at.offset).ok()?;
        frame.get(start..start.checked_add(usize::try_from(at.bytes).ok()?)?)
    };
    member().map(<[u8]>::to_vec).ok_or_else(|| content(key, "a frame that is too short"))
}

fn content(key: &str, text: &'static str) -> VolumeError {
    VolumeError::Content { key: key.to_owned(), source: io::Error::new(io::ErrorKind::InvalidData, text) }
}
