//! Which keys an index file may hold, from memory: a split block Bloom filter as Apache Parquet
//! defines it (`BloomFilter.md` of parquet-format), over another hash of the key. It never denies a
//! key that it was built of; of others it lets about one in two hundred pass.

use super::shard::key_to_bytes;
use megalith_model::shard::ShardKey;

/// Bytes of one block as stored: eight words, little-endian.
pub(super) const BLOCK_BYTES: usize = 32;
/// Bits of filter for each key.
const BITS_PER_KEY: usize = 12;
/// Parquet's salts, one for each word of a block.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// A key, hashed once for all the filters that are asked for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyHash(u64);

impl KeyHash {
    pub(super) fn of(key: ShardKey) -> Self {
        let hash = blake3::hash(&key_to_bytes(key));
        let (first, _) = hash.as_bytes().split_first_chunk().expect("32 bytes");
        Self(u64::from_le_bytes(*first))
    }

    /// The block of `blocks` that this key is in.
    fn block(self, blocks: usize) -> usize {
        (((self.0 >> 32) * blocks as u64) >> 32) as usize
    }

    /// The one bit of each word that stands for this key.
    fn mask(self) -> [u32; 8] {
        SALTS.map(|salt| 1 << ((self.0 as u32).wrapping_mul(salt) >> 27))
    }
}

/// The filter of one index file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    blocks: Vec<[u32; 8]>,
}

impl Filter {
    /// Builds the filter of some keys.
    pub(super) fn of(keys: impl ExactSizeIterator<Item = ShardKey>) -> Self {
        let bits = keys.len() * BITS_PER_KEY;
        let mut blocks = vec![[0; 8]; bits.div_ceil(8 * BLOCK_BYTES).max(1)];
        for hash in keys.map(KeyHash::of) {
            let at = hash.block(blocks.len());
            for (word, bit) in blocks[at].iter_mut().zip(hash.mask()) {
                *word |= bit;
            }
        }
        Self { blocks }
    }

    /// False if the key is in none of the keys that the filter was built of.
    pub(super) fn may_hold(&self, hash: KeyHash) -> bool {
        let words = &self.blocks[hash.block(self.blocks.len())];
        let mut bits = words.iter().zip(hash.mask());
        bits.all(|(word, bit)| word & bit != 0)
    }

    /// The filter as stored.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let words = self.blocks.as_flattened().iter();
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Reads what [`Filter::to_bytes`] made; None if it is no whole number of blocks, or none.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (stored, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        if stored.is_empty() || !rest.is_empty() {
            return None;
        }
        let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let block = |bytes: &[u8; BLOCK_BYTES]| {
            let mut words = [0; 8];
            for (to, from) in words.iter_mut().zip(bytes.as_chunks().0) {
                *to = word(from);
            }
            words
        };
        Some(Self {
            blocks: stored.iter().map(block).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::BlobId;

    fn key(number: u64) -> ShardKey {
        ShardKey {
            blob: BlobId(number),
            segment: (number % 3) as u32,
            slot: (number % 6) as u8,
        }
    }

    #[test]
    fn a_filter_denies_none_of_its_keys_and_most_others() {
        for count in [0, 1, 2, 100, 8_000] {
            let filter = Filter::of((0..count).map(key).collect::<Vec<_>>().into_iter());
            let stored = Filter::from_bytes(&filter.to_bytes()).expect("whole blocks");
            assert_eq!(stored, filter);
            assert!((0..count).all(|number| stored.may_hold(KeyHash::of(key(number)))));
            let others = (1_000_000..1_010_000).map(|number| KeyHash::of(key(number)));
            let passed = others.filter(|hash| stored.may_hold(*hash)).count();
            assert!(passed < 100, "{passed} of 10,000 others at {count} keys");
        }
    }

    #[test]
    fn the_stored_form_stays_as_it_is() {
        let filter = Filter::of([key(1), key(2)].into_iter());
        let hex: Vec<String> = (filter.to_bytes().iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex.concat(),
            "08000020080200000002020000000201000020800000000c0000020400180000"
        );
        assert_eq!(Filter::from_bytes(&[]), None);
        assert_eq!(Filter::from_bytes(&[0; 40]), None);
    }
}
