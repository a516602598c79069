//! Block compression: DEFLATE written by ISA-L, read by libdeflate, or raw.
//!
//! Two implementations check each other every night, because a pack is read back before a manifest
//! may name it. Raw is chosen where compression would not pay: a probe of a few kilobytes costs
//! little beside the block, and incompressible blocks are common (media, archives, ciphertext).

use isal::{Codec as IsalCodec, CompressionLevel, compress_into};
use libdeflater::Decompressor;

use crate::format::Codec;

/// A block must shrink by at least one part in this many, or it is kept raw.
const GAIN_MIN_PART: usize = 32;
/// The probe compresses this much from the middle of the block.
const PROBE_BYTES: usize = 8 << 10;
/// Smaller blocks are compressed without a probe.
const PROBE_FROM_BYTES: usize = 64 << 10;

/// How a backup compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Every block raw.
    Off,
    /// ISA-L level 1: as fast as the disk.
    Fast,
    /// ISA-L level 3: a little smaller, a third slower.
    Better,
}

/// A compression setting that the block path does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no compression of the block path: write deflate:1, deflate:3 or off")]
pub struct UnknownCompression(String);

impl std::str::FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        match text {
            "off" => Ok(Self::Off),
            "deflate" | "deflate:1" => Ok(Self::Fast),
            "deflate:3" => Ok(Self::Better),
            _ => Err(UnknownCompression(text.to_owned())),
        }
    }
}

/// Compresses blocks; one for each thread, since it owns the output buffer.
pub struct Compressor {
    level: Option<CompressionLevel>,
    out: Vec<u8>,
}

impl Compressor {
    /// A compressor of one setting.
    pub fn new(compression: Compression) -> Self {
        let level = match compression {
            Compression::Off => None,
            Compression::Fast => Some(CompressionLevel::One),
            Compression::Better => Some(CompressionLevel::Three),
        };
        Self { level, out: Vec::new() }
    }

    /// The smaller form of `block`, which is `block` itself where DEFLATE does not pay.
    pub fn compress<'a>(&'a mut self, block: &'a [u8]) -> (Codec, &'a [u8]) {
        let Some(level) = self.level else { return (Codec::Raw, block) };
        if block.len() >= PROBE_FROM_BYTES {
            let middle = block.len() / 2;
            if self.deflate(&block[middle..middle + PROBE_BYTES], level).is_none() {
                return (Codec::Raw, block);
            }
        }
        match self.deflate(block, level) {
            Some(length) => (Codec::Deflate, &self.out[..length]),
            None => (Codec::Raw, block),
        }
    }

    /// Length of the compressed form in `self.out`; `None` when it does not gain enough.
    fn deflate(&mut self, plain: &[u8], level: CompressionLevel) -> Option<usize> {
        let limit = plain.len() - plain.len() / GAIN_MIN_PART;
        self.out.resize(limit.max(self.out.len()), 0);
        // An output that is too small is ISA-L's way to say the same: no gain.
        compress_into(plain, &mut self.out[..limit], level, IsalCodec::Deflate).ok().filter(|length| *length < limit)
    }
}

/// A body that does not inflate to what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body does not inflate to the {expected} bytes it should have")]
pub struct InflateError {
    /// What the record header says.
    pub expected: usize,
}

/// Inflates bodies; one for each thread.
pub struct Inflater(Decompressor);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompressor::new())
    }
}

impl Inflater {
    /// Makes the plain bytes of `body` in `out`, exactly `plain_bytes` of them; never more,
    /// whatever the body claims. After an error `out` is empty.
    pub fn inflate(
        &mut self,
        codec: Codec,
        body: &[u8],
        plain_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        let wrong = InflateError { expected: plain_bytes };
        let made = match codec {
            Codec::Raw if body.len() == plain_bytes => {
                out.clear();
                out.extend_from_slice(body);
                Some(body.len())
            }
            Codec::Raw => None,
            Codec::Deflate => {
                // An earlier block is written over, not zeroed first: all of it is made anew, or nothing is given out.
                out.resize(plain_bytes, 0);
                self.0.deflate_decompress(body, out).ok()
            }
        };
        if made == Some(plain_bytes) {
            return Ok(());
        }
        out.clear();
        Err(wrong)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that no compressor shrinks, the same for the same seed.
    pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; bytes];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    /// Bytes that shrink about as well as text.
    pub fn text(bytes: usize, seed: u64) -> Vec<u8> {
        let words = noise(bytes / 4 + 1, seed);
        let mut out: Vec<u8> = words.iter().flat_map(|byte| format!("{:03} ", byte % 50).into_bytes()).collect();
        out.truncate(bytes);
        out
    }

    fn round_trip(compression: Compression, block: &[u8]) -> (Codec, usize) {
        let mut compressor = Compressor::new(compression);
        let (codec, body) = compressor.compress(block);
        let mut out = vec![1, 2, 3];
        Inflater::default().inflate(codec, body, block.len(), &mut out).unwrap();
        assert_eq!(out, block);
        (codec, body.len())
    }

    #[test]
    fn libdeflate_reads_what_isa_l_writes_at_every_level_and_size() {
        for compression in [Compression::Fast, Compression::Better] {
            for bytes in [0, 1, 2, 31, 4096, 65_535, 65_536, 131_072, 1 << 20] {
                for block in [text(bytes, 1), noise(bytes, 2), vec![0; bytes], vec![0xa5; bytes]] {
                    round_trip(compression, &block);
                }
            }
        }
    }

    #[test]
    fn noise_stays_raw_and_text_shrinks() {
        assert_eq!(round_trip(Compression::Fast, &noise(131_072, 3)), (Codec::Raw, 131_072));
        let (codec, bytes) = round_trip(Compression::Fast, &text(131_072, 3));
        assert_eq!(codec, Codec::Deflate);
        assert!(bytes < 80_000, "{bytes}");
        assert_eq!(round_trip(Compression::Off, &text(131_072, 3)), (Codec::Raw, 131_072));
    }

    #[test]
    fn a_body_never_inflates_past_what_its_header_says() {
        let mut compressor = Compressor::new(Compression::Fast);
        let bomb = vec![0; 1 << 20];
        let (codec, body) = compressor.compress(&bomb);
        let mut out = Vec::new();
        for claimed in [0, 1, (1 << 20) - 1, (1 << 20) + 1] {
            assert!(Inflater::default().inflate(codec, body, claimed, &mut out).is_err(), "{claimed}");
            assert!(out.len() <= claimed);
        }
        assert!(Inflater::default().inflate(Codec::Raw, b"abc", 2, &mut out).is_err());
        assert!(Inflater::default().inflate(Codec::Deflate, b"\xff\xff\xff", 2, &mut out).is_err());
    }

    #[test]
    fn nothing_of_an_earlier_block_is_left_in_the_buffer() {
        let mut compressor = Compressor::new(Compression::Fast);
        let (mut inflater, mut out) = (Inflater::default(), Vec::new());
        let blocks = [text(131_072, 1), text(4096, 2), text(65_536, 3), text(131_072, 4)];
        for block in &blocks {
            let (codec, body) = compressor.compress(block);
            inflater.inflate(codec, body, block.len(), &mut out).unwrap();
            assert!(out == *block, "{} bytes", block.len());
        }
        // A body that ends early would otherwise be filled up with what stood there.
        let (codec, body) = compressor.compress(&blocks[1]);
        for body in [body, &body[..body.len() / 2]] {
            inflater.inflate(codec, body, blocks[0].len(), &mut out).unwrap_err();
            assert!(out.is_empty());
            inflater.inflate(Codec::Raw, &blocks[0], blocks[0].len(), &mut out).unwrap();
            inflater.inflate(Codec::Raw, body, blocks[0].len(), &mut out).unwrap_err();
            assert!(out.is_empty());
        }
    }

    #[test]
    fn settings_are_the_documented_ones() {
        assert_eq!("deflate:1".parse(), Ok(Compression::Fast));
        assert_eq!("deflate:3".parse(), Ok(Compression::Better));
        assert_eq!("off".parse(), Ok(Compression::Off));
        assert!("zstd:3".parse::<Compression>().is_err());
    }

    proptest! {
        #[test]
        fn any_block_reads_back(block in proptest::collection::vec(0_u8..4, 0..70_000)) {
            round_trip(Compression::Fast, &block);
        }
    }
}
