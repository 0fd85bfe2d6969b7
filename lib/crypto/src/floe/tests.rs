//! FLOE, checked against vectors and against a second implementation.

use super::*;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use fast_floe::low_level::{start_decryption, start_encryption};
use fast_floe::{Key, Parameters};
use std::collections::BTreeMap;

/// A segment is a cell, wherever we use FLOE.
const CELL: u32 = crate::cell::SEALED_CELL_LEN as u32;

const HEADER_TAG_LEN: usize = 32;
const HEADER_LEN: usize = PARAMS_LEN + IV_LEN + HEADER_TAG_LEN;

impl Stream {
    /// Starts a stream; returns it with the header that the specification gives it.
    fn start_sealing(
        params: Params,
        key: &[u8; 32],
        context: &[u8],
        iv: &[u8; IV_LEN],
    ) -> (Self, [u8; HEADER_LEN]) {
        let mut header = [0; HEADER_LEN];
        let (prefix, tag) = header.split_at_mut(PARAMS_LEN + IV_LEN);
        prefix[..PARAMS_LEN].copy_from_slice(&params.encode());
        prefix[PARAMS_LEN..].copy_from_slice(iv);
        let root = Prk::new_less_safe(HKDF_SHA384, key);
        expand(&root, &[prefix, b"HEADER_TAG:", context], tag).unwrap();
        (Self::new(params, key, context, iv).unwrap(), header)
    }

    /// Opens a stream by its header.
    fn start_opening(
        params: Params,
        key: &[u8; 32],
        context: &[u8],
        header: &[u8; HEADER_LEN],
    ) -> Self {
        let iv = header[PARAMS_LEN..][..IV_LEN].try_into().unwrap();
        let (stream, expected) = Self::start_sealing(params, key, context, &iv);
        verify_slices_are_equal(header, &expected).expect("a header of this key and context");
        stream
    }
}

struct Vector<'a>(BTreeMap<&'a str, &'a str>);

impl Vector<'_> {
    fn bytes(&self, field: &str) -> Vec<u8> {
        hex::decode(self.0[field]).unwrap()
    }

    fn number(&self, field: &str) -> u32 {
        self.0[field].parse().unwrap()
    }
}

fn vectors() -> Vec<Vector<'static>> {
    let text = include_str!("../../tests/vectors/floe.txt");
    let fields = |block: &'static str| {
        let lines = block.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split_once(' ').unwrap())
            .collect::<BTreeMap<_, _>>()
    };
    let vectors = text.split("\n\n").map(|block| Vector(fields(block)));
    vectors.filter(|vector| !vector.0.is_empty()).collect()
}

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

#[test]
fn vectors_open_and_seal_to_the_same_bytes() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 8);
    for vector in vectors {
        let name = vector.0["name"];
        let key: [u8; 32] = vector.bytes("key").try_into().unwrap();
        let context = vector.bytes("context");
        let params = Params {
            segment_len: vector.number("segment_len"),
            rotation_bits: vector.number("rotation_bits"),
        };
        let sealed = vector.bytes("ciphertext");
        let (header, body) = sealed.split_at(HEADER_LEN);
        let header: [u8; HEADER_LEN] = header.try_into().unwrap();
        let opener = Stream::start_opening(params, &key, &context, &header);
        let iv = header[PARAMS_LEN..PARAMS_LEN + IV_LEN].try_into().unwrap();
        let (sealer, header_again) = Stream::start_sealing(params, &key, &context, &iv);
        assert_eq!(header_again, header, "{name}");

        let segments: Vec<&[u8]> = body.chunks(params.segment_len as usize).collect();
        let mut opened = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let last = index + 1 == segments.len();
            let mut plain = vec![0; segment.len() - SEGMENT_OVERHEAD];
            opener
                .open_segment(index as u64, last, segment, &mut plain)
                .expect(name);
            let nonce = segment[LENGTH_LEN..BODY_AT].try_into().unwrap();
            let mut again = vec![0; segment.len()];
            sealer
                .seal_segment(index as u64, last, &nonce, &plain, &mut again)
                .expect(name);
            assert_eq!(&again, segment, "{name}");
            opened.extend_from_slice(&plain);
        }
        assert_eq!(opened, vector.bytes("plaintext"), "{name}");
    }
}

/// Ours opens what the second implementation seals, at every length around a segment's end.
#[test]
fn opens_what_fast_floe_seals() {
    for segment_len in [64_u32, 4096, CELL] {
        let params = Params::new(segment_len);
        let full = params.plain_len();
        for len in [0, 1, full - 1, full, full + 1, 3 * full, 3 * full + 7] {
            let theirs = Parameters::with_segment_length(segment_len).unwrap();
            let key = Key::from_bytes([9; 32]);
            let plain = plaintext(len);
            let sealed = fast_floe::encrypt(&key, b"context", theirs, &plain).unwrap();
            let (header, body) = sealed.split_at(HEADER_LEN);
            let stream =
                Stream::start_opening(params, &[9; 32], b"context", header.try_into().unwrap());
            let segments: Vec<&[u8]> = body.chunks(segment_len as usize).collect();
            let mut opened = Vec::new();
            for (index, segment) in segments.iter().enumerate() {
                let mut out = vec![0; segment.len() - SEGMENT_OVERHEAD];
                let last = index + 1 == segments.len();
                stream
                    .open_segment(index as u64, last, segment, &mut out)
                    .unwrap();
                opened.extend_from_slice(&out);
            }
            assert_eq!(opened, plain, "segments of {segment_len}, {len} bytes");
        }
    }
}

#[test]
fn fast_floe_opens_what_we_seal() {
    for segment_len in [64_u32, 4096, CELL] {
        let params = Params::new(segment_len);
        let full = params.plain_len();
        for len in [1, full, 2 * full + 7] {
            let plain = plaintext(len);
            let (stream, header) = Stream::start_sealing(params, &[9; 32], b"context", &[3; 32]);
            let mut sealed = header.to_vec();
            let pieces: Vec<&[u8]> = plain.chunks(full).collect();
            for (index, piece) in pieces.iter().enumerate() {
                let mut out = vec![0; piece.len() + SEGMENT_OVERHEAD];
                let nonce = [index as u8 + 1; NONCE_LEN];
                let last = index + 1 == pieces.len();
                stream
                    .seal_segment(index as u64, last, &nonce, piece, &mut out)
                    .unwrap();
                sealed.extend_from_slice(&out);
            }
            let key = Key::from_bytes([9; 32]);
            assert_eq!(
                fast_floe::decrypt(&key, b"context", &sealed).unwrap(),
                plain
            );
        }
    }
}

/// Beyond 64 GiB the key changes; both implementations must change it at the same cell.
#[test]
fn key_rotation_agrees_with_fast_floe() {
    let params = Params::new(CELL);
    let theirs = Parameters::with_segment_length(CELL).unwrap();
    let layout = theirs
        .plaintext_layout((3 << 20) * params.plain_len() as u64)
        .unwrap();
    let key = Key::from_bytes([9; 32]);
    let (mut sealing, header) = start_encryption(&key, b"context", theirs).unwrap();
    let mut opening = start_decryption(&key, b"context", theirs, &header).unwrap();
    let ours = Stream::start_opening(params, &[9; 32], b"context", header.as_bytes());
    let plain = plaintext(params.plain_len());
    for position in [
        0,
        (1 << 20) - 1,
        1 << 20,
        (1 << 20) + 1,
        (2 << 20) - 1,
        2 << 20,
    ] {
        let place = layout.segment_for_position(position).unwrap();
        let sealed = sealing.encrypt_segment(&plain, place).unwrap();
        let mut out = vec![0; plain.len()];
        ours.open_segment(position, false, &sealed, &mut out)
            .unwrap();
        assert_eq!(out, plain);

        let mut sealed = vec![0; CELL as usize];
        ours.seal_segment(position, false, &[5; NONCE_LEN], &plain, &mut sealed)
            .unwrap();
        assert_eq!(opening.decrypt_segment(&sealed, place).unwrap(), plain);
    }
}

/// Nothing is opened with parameters that somebody offers: they are constants. Those of another
/// program give other keys.
#[test]
fn attack_16_other_parameters_open_nothing() {
    let params = Params::new(64);
    let (key, iv) = ([9; 32], [3; 32]);
    let stream = Stream::new(params, &key, b"", &iv).unwrap();
    // A last segment may be shorter, so that only the keys tell the lengths apart.
    for plain in [&[][..], &[5; 8]] {
        let mut sealed = vec![0; plain.len() + SEGMENT_OVERHEAD];
        stream
            .seal_segment(0, true, &[1; NONCE_LEN], plain, &mut sealed)
            .unwrap();
        let mut out = vec![0; plain.len()];
        let mut opens = |segment_len, key: &[u8; 32], context: &[u8], iv: &[u8; IV_LEN]| {
            let other = Stream::new(Params::new(segment_len), key, context, iv).unwrap();
            other.open_segment(0, true, &sealed, &mut out).is_ok()
        };
        assert!(opens(64, &key, b"", &iv));
        for bit in 7..32 {
            assert!(!opens(64 | 1 << bit, &key, b"", &iv), "bit {bit}");
        }
        assert!(!opens(65, &key, b"", &iv));
        assert!(!opens(64, &[8; 32], b"", &iv));
        assert!(!opens(64, &key, b"x", &iv));
        for bit in 0..IV_LEN * 8 {
            let mut changed = iv;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(64, &key, b"", &changed), "bit {bit} of the IV");
        }
    }
}

#[test]
fn a_failed_segment_leaves_zeros() {
    let params = Params::new(64);
    let stream = Stream::new(params, &[9; 32], b"", &[3; 32]).unwrap();
    let mut sealed = vec![0; 64];
    stream
        .seal_segment(0, true, &[1; NONCE_LEN], &[0x55; 32], &mut sealed)
        .unwrap();
    // The tag, the length field, and a segment too short to be one.
    for (at, len) in [(63, 64), (3, 64), (0, 20)] {
        let mut changed = sealed[..len].to_vec();
        changed[at.min(len - 1)] ^= 1;
        let mut out = [0xAA; 32];
        assert!(stream.open_segment(0, true, &changed, &mut out).is_err());
        assert_eq!(out, [0; 32]);
    }
}

#[test]
fn positions_beyond_the_limit_are_refused() {
    let params = Params::new(64);
    let stream = Stream::new(params, &[9; 32], b"", &[3; 32]).unwrap();
    let mut sealed = vec![0; 64];
    let nonce = [1; NONCE_LEN];
    assert!(
        stream
            .seal_segment(SEGMENTS_MAX, true, &nonce, &[0; 32], &mut sealed)
            .is_err()
    );
    stream
        .seal_segment(SEGMENTS_MAX - 1, true, &nonce, &[0; 32], &mut sealed)
        .unwrap();
    let mut out = [0; 32];
    assert!(
        stream
            .open_segment(SEGMENTS_MAX, true, &sealed, &mut out)
            .is_err()
    );
    stream
        .open_segment(SEGMENTS_MAX - 1, true, &sealed, &mut out)
        .unwrap();
}
