//! Messages as bytes, and the few fields of them that are looked at.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// gRPC without a message type.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frames;

impl Codec for Frames {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Frames {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Frames {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The two protocols, which number their fields differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    State,
    Delta,
}

impl Dialect {
    /// A request's type.
    pub(super) fn asked_type(self, frame: &[u8]) -> Option<&str> {
        let number = match self {
            Self::State => 4,
            Self::Delta => 2,
        };
        text_field(frame, number)
    }
}

/// A response's type, in both.
pub(super) fn answered_type(frame: &[u8]) -> Option<&str> {
    text_field(frame, 4)
}

/// The last text with this number at the top of a message.
fn text_field(mut rest: &[u8], wanted: u64) -> Option<&str> {
    let mut found = None;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let bytes = match key & 7 {
            0 => {
                varint(&mut rest)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let value = rest.get(..bytes)?;
        rest = &rest[bytes..];
        if key == wanted << 3 | 2 {
            found = std::str::from_utf8(value).ok();
        }
    }
    found
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse};
    use prost::Message as _;

    #[test]
    fn types_are_found_without_decoding() {
        let type_url = "type.googleapis.com/x".to_owned();
        let names = vec!["a".to_owned(); 300];
        let state =
            DiscoveryRequest { type_url: type_url.clone(), resource_names: names.clone(), ..Default::default() };
        assert_eq!(Dialect::State.asked_type(&state.encode_to_vec()), Some(type_url.as_str()));
        let delta =
            DeltaDiscoveryRequest { type_url: type_url.clone(), resource_names_subscribe: names, ..Default::default() };
        assert_eq!(Dialect::Delta.asked_type(&delta.encode_to_vec()), Some(type_url.as_str()));
        let answer = DiscoveryResponse { canary: true, type_url: type_url.clone(), ..Default::default() };
        assert_eq!(answered_type(&answer.encode_to_vec()), Some(type_url.as_str()));
    }

    #[test]
    fn garbage_has_no_type() {
        for garbage in [&[0x22][..], &[0x22, 5, 1], &[0xff; 12], &[0x23], &[0x22, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert_eq!(answered_type(garbage), None, "{garbage:?}");
        }
        assert_eq!(answered_type(&[]), None);
    }
}
