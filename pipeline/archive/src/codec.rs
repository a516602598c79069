//! How frames are compressed: chosen by the job, recognised by the suffix of the volume's key.
//!
//! Each frame is compressed by itself, so that several in a row are what the stock tool unpacks in
//! one go, and one alone is what a ranged read needs. Zstandard runs in the library's own blocking
//! form, which is faster on a worker thread; the others through `async-compression`, whose
//! futures never wait here because both ends are memory.

use std::io::{self, Read};
use std::str::FromStr;

use async_compression::Level;
use async_compression::tokio::{bufread, write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Up to level 19 no window is longer than 8 MiB; 32 MiB leave room for other writers, and no frame of a
/// stranger makes each of several threads hold more.
const WINDOW_LOG_MAX: u32 = 25;
/// `xz -9` takes 65 MiB to unpack; whatever wants more is refused.
const XZ_MEMORY_BYTES_MAX: u64 = 80 << 20;

/// A compression with its level, `zstd:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    packing: Packing,
    level: i32,
}

/// A compression without its level: all that a reader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// As it is.
    Off,
}

/// A text that names no compression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no compression: write zstd:1 to zstd:19, gzip:1 to gzip:9, bzip2:1 to bzip2:9, xz:0 to xz:9 or off")]
pub struct CodecError(String);

impl FromStr for Codec {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, CodecError> {
        let wrong = || CodecError(text.to_owned());
        if text == "off" {
            return Ok(Self { packing: Packing::Off, level: 0 });
        }
        let (name, level) = text.split_once(':').ok_or_else(wrong)?;
        let level: i32 = level.parse().map_err(|_| wrong())?;
        let (packing, levels) = match name {
            "zstd" => (Packing::Zstd, 1..=19),
            "gzip" => (Packing::Gzip, 1..=9),
            "bzip2" => (Packing::Bzip2, 1..=9),
            "xz" => (Packing::Xz, 0..=9),
            _ => return Err(wrong()),
        };
        if levels.contains(&level) { Ok(Self { packing, level }) } else { Err(wrong()) }
    }
}

impl Codec {
    /// What catalogs are packed with, whatever the job says.
    pub const CATALOG: Self = Self { packing: Packing::Zstd, level: 3 };

    /// The compression, without its level.
    pub fn packing(self) -> Packing {
        self.packing
    }

    /// Packs one frame.
    pub fn pack(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut packed = Vec::new();
        self.packer().pack(plain, &mut packed)?;
        Ok(packed)
    }

    /// Packs frame after frame.
    pub fn packer(self) -> Packer {
        Packer { codec: self, zstd: None }
    }
}

/// Packs frames with tables that are made once: those of Zstandard are bigger than most of what they pack.
pub struct Packer {
    codec: Codec,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Packer {
    /// Puts one packed frame into `packed`, in the place of what was there.
    pub fn pack(&mut self, plain: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        packed.clear();
        let Codec { packing, level } = self.codec;
        // Encoders into memory never wait, so that this only ever polls once.
        macro_rules! through {
            ($encoder:ty) => {{
                let mut encoder = <$encoder>::with_quality(std::mem::take(packed), Level::Precise(level));
                futures::executor::block_on(async {
                    encoder.write_all(plain).await?;
                    encoder.shutdown().await
                })?;
                *packed = encoder.into_inner();
            }};
        }
        match packing {
            Packing::Zstd => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(zstd::bulk::Compressor::new(level)?),
                };
                packed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
                zstd.compress_to_buffer(plain, packed)?;
            }
            Packing::Gzip => through!(write::GzipEncoder<Vec<u8>>),
            Packing::Bzip2 => through!(write::BzEncoder<Vec<u8>>),
            Packing::Xz => through!(write::XzEncoder<Vec<u8>>),
            Packing::Off => packed.extend_from_slice(plain),
        }
        Ok(())
    }
}

/// Unpacks frames with what is made once.
#[derive(Default)]
pub struct Unpacker(Option<zstd::bulk::Decompressor<'static>>);

impl Unpacker {
    /// Puts what one frame or several in a row unpack to, at most `plain_bytes_max`, into `plain`, in the place of what was there.
    pub fn unpack(
        &mut self,
        packing: Packing,
        packed: &[u8],
        plain_bytes_max: usize,
        plain: &mut Vec<u8>,
    ) -> io::Result<()> {
        plain.clear();
        let limit = plain_bytes_max as u64 + 1;
        macro_rules! through {
            ($decoder:expr) => {{
                let mut decoder = $decoder;
                decoder.multiple_members(true);
                futures::executor::block_on(decoder.take(limit).read_to_end(plain))?;
            }};
        }
        match packing {
            Packing::Zstd if self.unpack_at_once(packed, plain_bytes_max, plain)? => {}
            Packing::Zstd => {
                plain.clear();
                zstd_reader(packed)?.take(limit).read_to_end(plain)?;
            }
            Packing::Gzip => through!(bufread::GzipDecoder::new(packed)),
            Packing::Bzip2 => through!(bufread::BzDecoder::new(packed)),
            Packing::Xz => through!(bufread::XzDecoder::with_mem_limit(packed, XZ_MEMORY_BYTES_MAX)),
            Packing::Off => plain.extend_from_slice(&packed[..packed.len().min(plain_bytes_max.saturating_add(1))]),
        }
        if plain.len() > plain_bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "unpacks to more than this format allows"));
        }
        Ok(())
    }

    /// One frame that says how long it is, as this program writes them, needs no window beside what it unpacks to. `false`: it is
    /// anything else, or damaged, and has to be read piece by piece.
    fn unpack_at_once(&mut self, packed: &[u8], plain_bytes_max: usize, plain: &mut Vec<u8>) -> io::Result<bool> {
        let bytes = Packing::Zstd.announced_bytes(packed);
        if bytes == 0 || bytes > plain_bytes_max {
            return Ok(false);
        }
        let zstd = match &mut self.0 {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        plain.reserve_exact(bytes);
        Ok(zstd.decompress_to_buffer(packed, plain).is_ok())
    }
}

impl Packing {
    const ALL: [Self; 5] = [Self::Zstd, Self::Gzip, Self::Bzip2, Self::Xz, Self::Off];

    /// What a volume's key carries between `.tar` and `.age`.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::Bzip2 => ".bz2",
            Self::Xz => ".xz",
            Self::Off => "",
        }
    }

    /// The compression of a suffix.
    pub fn from_suffix(suffix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|packing| packing.suffix() == suffix)
    }

    /// The length that the first frame says it unpacks to; 0 where it says none. What it says may be a lie.
    pub fn announced_bytes(self, packed: &[u8]) -> usize {
        match self {
            Self::Zstd => {
                let said = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
                said.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
            }
            Self::Gzip | Self::Bzip2 | Self::Xz | Self::Off => 0,
        }
    }

    /// Unpacks one frame or several in a row, to at most `plain_bytes_max`.
    pub fn unpack(self, packed: &[u8], plain_bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Unpacker::default().unpack(self, packed, plain_bytes_max, &mut plain)?;
        Ok(plain)
    }
}

/// Unpacks a Zstandard stream, frame after frame.
pub fn zstd_reader<'a, R: Read + 'a>(packed: R) -> io::Result<impl Read + 'a> {
    let mut decoder = zstd::stream::read::Decoder::new(packed)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn frames_in_a_row_unpack_to_their_sum() {
        for text in ["zstd:3", "gzip:6", "bzip2:6", "xz:1", "off"] {
            let codec: Codec = text.parse().unwrap();
            let mut packed = codec.pack(&vec![7; 100_000]).unwrap();
            packed.extend(codec.pack(b"end").unwrap());
            let plain = codec.packing().unpack(&packed, 100_003).unwrap();
            assert!(plain.len() == 100_003 && plain.ends_with(b"\x07end"), "{text}");
            assert!(codec.packing().unpack(&packed, 100_002).is_err(), "{text}");
            assert_eq!(Packing::from_suffix(codec.packing().suffix()), Some(codec.packing()));
        }
    }

    #[test]
    fn one_packer_and_one_unpacker_serve_frame_after_frame() {
        let (mut packed, mut plain) = (Vec::new(), b"older".to_vec());
        for text in ["zstd:3", "gzip:6", "off"] {
            let codec: Codec = text.parse().unwrap();
            let (mut compressor, mut unpacker) = (codec.packer(), Unpacker::default());
            for content in [vec![7; 100_000], b"short".to_vec(), Vec::new(), (0..=255).cycle().take(300_000).collect()]
            {
                compressor.pack(&content, &mut packed).unwrap();
                unpacker.unpack(codec.packing(), &packed, 300_000, &mut plain).unwrap();
                assert_eq!(plain, content, "{text}");
                assert_eq!(packed, codec.pack(&content).unwrap(), "{text}");
            }
            // Damage does not stay in the unpacker.
            compressor.pack(&vec![9; 5000], &mut packed).unwrap();
            let middle = packed.len() / 2;
            let cut = unpacker.unpack(codec.packing(), &packed[..middle], 300_000, &mut plain);
            assert!(cut.is_err() || plain.len() < 5000, "{text}");
            unpacker.unpack(codec.packing(), &packed, 5000, &mut plain).unwrap();
            assert_eq!(plain, vec![9; 5000], "{text}");
            assert!(unpacker.unpack(codec.packing(), &packed, 4999, &mut plain).is_err(), "{text}");
        }
    }

    #[test]
    fn a_frame_that_does_not_say_how_long_it_is_unpacks_too() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(&vec![7; 100_000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(Packing::Zstd.announced_bytes(&packed), 0);
        assert_eq!(Packing::Zstd.unpack(&packed, 100_000).unwrap(), vec![7; 100_000]);
        assert!(Packing::Zstd.unpack(&packed, 99_999).is_err());
    }

    #[test]
    fn garbage_is_an_error() {
        for packing in [Packing::Zstd, Packing::Gzip, Packing::Bzip2, Packing::Xz] {
            assert!(packing.unpack(b"not packed at all, not packed", 1000).is_err(), "{packing:?}");
        }
    }

    #[test]
    fn every_level_fits_the_memory_of_a_reader_and_more_is_refused() {
        let plain: Vec<u8> = (0..3_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for text in ["zstd:19", "xz:9"] {
            let codec: Codec = text.parse().unwrap();
            assert!(codec.packing().unpack(&codec.pack(&plain).unwrap(), plain.len()).unwrap() == plain, "{text}");
        }
        let greedy = |window_log| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window_log).unwrap();
            encoder.write_all(&plain).unwrap();
            Packing::Zstd.unpack(&encoder.finish().unwrap(), plain.len())
        };
        assert!(greedy(25).is_ok() && greedy(26).is_err());
    }

    #[test]
    fn unknown_compressions_are_refused() {
        for text in ["", "zstd", "zstd:0", "zstd:20", "gzip:10", "lz4:1", "zstd:x", "off:1"] {
            assert!(text.parse::<Codec>().is_err(), "{text}");
        }
    }
}
