//! Attack 18: GCM does not commit to its key. One ciphertext can be built that opens under two
//! keys; the commitment of the envelope must stop it. Cells carry none: the manifest, which opens
//! under one data key only, names their stream.

use crate::context::ObjectContext;
use crate::derive::{ManifestSeal, Subkey};
use crate::error::CryptoError;
use crate::keys::DataKey;
use crate::manifest::Manifest;
use crate::sealed::{self, NO_KEK, exposed};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use std::ops::Range;

const OBJECT: ObjectContext<'_> = ObjectContext {
    cluster: [1; 16],
    bucket: 1,
    key: b"key",
    version: [2; 16],
};

/// Multiplies in GCM's field: bit 0 is the highest, the polynomial is x^128+x^7+x^2+x+1.
fn multiply(a: u128, b: u128) -> u128 {
    let (mut product, mut shifted) = (0, b);
    for bit in (0..128).rev() {
        if a >> bit & 1 == 1 {
            product ^= shifted;
        }
        let carry = shifted & 1;
        shifted >>= 1;
        if carry == 1 {
            shifted ^= 0xE1 << 120;
        }
    }
    product
}

/// Returns a^(2^128 − 2), the inverse.
fn invert(a: u128) -> u128 {
    let one = 1 << 127;
    let (mut result, mut square) = (one, a);
    for _ in 1..128 {
        square = multiply(square, square);
        result = multiply(result, square);
    }
    assert_eq!(multiply(a, result), one);
    result
}

fn encrypt_block(key: &[u8; 32], block: [u8; 16]) -> u128 {
    let key = EncryptingKey::ctr(UnboundCipherKey::new(&AES_256, key).unwrap()).unwrap();
    let mut out = [0; 16];
    key.less_safe_encrypt(&mut out, EncryptionContext::Iv128((&block).into()))
        .unwrap();
    u128::from_be_bytes(out)
}

/// One key's view of the ciphertext: its hash key, its mask, and the associated data.
struct View<'a> {
    key: [u8; 32],
    nonce: [u8; 12],
    aad: &'a [u8],
}

impl View<'_> {
    fn hash_key(&self) -> u128 {
        encrypt_block(&self.key, [0; 16])
    }

    fn mask(&self) -> u128 {
        let mut block = [0; 16];
        block[..12].copy_from_slice(&self.nonce);
        block[15] = 1;
        encrypt_block(&self.key, block)
    }

    /// Returns the tag of a one-block ciphertext.
    fn tag(&self, block: u128) -> u128 {
        let mut hash = 0;
        for piece in self.aad.chunks(16) {
            let mut padded = [0; 16];
            padded[..piece.len()].copy_from_slice(piece);
            hash = multiply(hash ^ u128::from_be_bytes(padded), self.hash_key());
        }
        hash = multiply(hash ^ block, self.hash_key());
        let lengths = (self.aad.len() as u128 * 8) << 64 | 128;
        multiply(hash ^ lengths, self.hash_key()) ^ self.mask()
    }

    fn opens(&self, ciphertext_and_tag: &[u8]) -> bool {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.key).unwrap());
        let mut bytes = ciphertext_and_tag.to_vec();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        key.open_in_place(nonce, Aad::from(self.aad), &mut bytes)
            .is_ok()
    }
}

/// Builds one block and one tag that both views accept.
fn collide(first: &View<'_>, second: &View<'_>) -> Vec<u8> {
    // The tag is linear in the block: tag(x) = tag(0) + x·H².
    let square = |view: &View<'_>| multiply(view.hash_key(), view.hash_key());
    let apart = first.tag(0) ^ second.tag(0);
    let block = multiply(apart, invert(square(first) ^ square(second)));
    assert_eq!(first.tag(block), second.tag(block));
    let mut out = block.to_be_bytes().to_vec();
    out.extend_from_slice(&first.tag(block).to_be_bytes());
    out
}

#[test]
fn attack_18_two_key_record_is_stopped_by_its_commitment() {
    let keys = [DataKey::generate().unwrap(), DataKey::generate().unwrap()];
    let subkeys = keys
        .each_ref()
        .map(|key| Subkey::<ManifestSeal>::of_key(key.bytes()));
    let binding = OBJECT.binding("manifest").unwrap();
    let salt = core::array::from_fn(|at| at as u8);
    let inside = subkeys
        .each_ref()
        .map(|key| exposed::expose(key, NO_KEK, &binding, salt));
    let views = inside.each_ref().map(|record| View {
        key: record.key,
        nonce: record.nonce,
        aad: &record.aad,
    });
    let body = collide(&views[0], &views[1]);
    assert!(
        views.iter().all(|view| view.opens(&body)),
        "the collision must be a real one"
    );

    for (committed_to, record) in inside.iter().enumerate() {
        let mut sealed = record.header.to_vec();
        sealed.extend_from_slice(&record.commitment);
        sealed.extend_from_slice(&body);
        for (opened_with, subkey) in subkeys.iter().enumerate() {
            let opened = sealed::open(|_| Some(subkey), &binding, &sealed, 1024);
            match committed_to == opened_with {
                true => assert_eq!(opened.unwrap().len(), 16),
                false => assert_eq!(opened.unwrap_err(), CryptoError::Unauthentic),
            }
        }
    }
}

/// Cells could be made to collide for these two keys, but no manifest names a stream to both of
/// them, whichever salt, commitment and ciphertext are put together.
#[test]
fn attack_18_a_manifest_names_its_stream_under_one_key_only() {
    let keys = [DataKey::generate().unwrap(), DataKey::generate().unwrap()];
    let sealed = keys
        .each_ref()
        .map(|key| Manifest::default().seal(key, &OBJECT).unwrap());
    let opens = |key, sealed: &[u8]| Manifest::open(key, &OBJECT, 0, sealed).is_ok();
    for of in 0_usize..8 {
        let part = |bit: usize, range: Range<usize>| &sealed[of >> bit & 1][range];
        let mixed = [
            part(0, 0..37),
            part(1, 37..69),
            part(2, 69..sealed[0].len()),
        ]
        .concat();
        let found = keys.each_ref().map(|key| opens(key, &mixed));
        assert_eq!(found, [of == 0, of == 7], "{of:03b}");
    }
}
