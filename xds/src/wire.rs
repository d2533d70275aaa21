//! Reading protobuf's wire format without decoding messages.

use std::ops::Range;

/// A field of an encoded message, as places in its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) value: Scalar,
    /// Where the next field begins.
    pub(crate) end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Range<usize>),
}

/// The field at this place; `None` at the end and where the bytes make no sense.
pub(crate) fn field(bytes: &[u8], at: usize) -> Option<Field> {
    let (key, at) = varint(bytes, at)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| *number != 0)?;
    let (value, end) = match key & 7 {
        0 => {
            let (value, end) = varint(bytes, at)?;
            (Scalar::Varint(value), end)
        }
        1 => (Scalar::Fixed64(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?)), at + 8),
        2 => {
            let (length, start) = varint(bytes, at)?;
            let end = start.checked_add(usize::try_from(length).ok()?).filter(|end| *end <= bytes.len())?;
            (Scalar::Bytes(start..end), end)
        }
        5 => (Scalar::Fixed32(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)), at + 4),
        _ => return None,
    };
    Some(Field { number, value, end })
}

pub(crate) fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    None
}

/// The content of the last length-delimited field of this number, which is the one that counts.
pub(crate) fn bytes_of(bytes: &[u8], number: u32) -> Option<Range<usize>> {
    let mut found = None;
    let mut at = 0;
    while let Some(field) = field(bytes, at) {
        at = field.end;
        if let Scalar::Bytes(range) = field.value
            && field.number == number
        {
            found = Some(range);
        }
    }
    found
}
