//! Reads little-endian fields out of bytes that anybody may have written.
//!
//! Every step is checked: running out of bytes is an answer, never a panic. It copies nothing but
//! fixed-size fields.

/// The bytes ended before the field did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end inside a field")]
pub struct Short;

/// A place in a byte string.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The beginning of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next u16.
    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next u32.
    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next u64.
    pub fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    /// What was not read yet.
    pub const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read: trailing bytes are as wrong as missing ones.
    pub const fn is_empty(self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_the_end_is_an_answer() {
        let mut cursor = Cursor::new(&[1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!((cursor.u8(), cursor.u16(), cursor.u32(), cursor.u64()), (Ok(1), Ok(2), Ok(3), Ok(4)));
        assert!(!cursor.is_empty());
        assert_eq!(cursor.u16(), Err(Short));
        assert_eq!(cursor.rest(), [9], "a failed read takes nothing");
        assert_eq!(cursor.bytes(1), Ok(&[9][..]));
        assert!(cursor.is_empty());
    }
}
