//! The two checksums of ext4's own records: CRC-32C (`metadata_csum`) and CRC-16 (`gdt_csum`).
//!
//! Both are used as the kernel uses them: reflected, continued from a seed, without a final
//! inversion (fs/ext4/super.c, lib/crc16.c). They protect a few megabytes a night, so a table a
//! byte is fast enough.

/// Reflected polynomial of CRC-32C (Castagnoli).
const CASTAGNOLI: u32 = 0x82f6_3b78;
/// Reflected polynomial of CRC-16 (ANSI).
const ANSI: u16 = 0xa001;

static CRC32C_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let (mut index, mut byte) = (0, 0_u32);
    while index < 256 {
        let (mut rest, mut bit) = (byte, 0);
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ CASTAGNOLI } else { rest >> 1 };
            bit += 1;
        }
        table[index] = rest;
        (index, byte) = (index + 1, byte + 1);
    }
    table
};

/// CRC-32C of `bytes`, continued from `seed`; the first seed is `!0`.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |rest, byte| rest >> 8 ^ CRC32C_TABLE[usize::from(rest.to_le_bytes()[0] ^ byte)])
}

/// CRC-16 of `bytes`, continued from `seed`; the first seed is `!0`.
pub(super) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |rest, byte| {
        (0..8).fold(rest ^ u16::from(*byte), |rest, _| if rest & 1 == 1 { rest >> 1 ^ ANSI } else { rest >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_the_catalogue_come_out() {
        // CRC-32/ISCSI and CRC-16/MODBUS of the catalogue of parametrised CRC algorithms.
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(!0, b"123456789"), 0x4b37);
    }

    #[test]
    fn a_checksum_continues_where_it_stopped() {
        for cut in 0..9 {
            let (head, tail) = b"123456789".split_at(cut);
            assert_eq!(crc32c(crc32c(!0, head), tail), crc32c(!0, b"123456789"));
            assert_eq!(crc16(crc16(!0, head), tail), crc16(!0, b"123456789"));
        }
    }
}
