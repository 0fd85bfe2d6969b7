//! A small mutator for the ordinary tests, which have no libFuzzer. The same seed changes the same
//! inputs in the same way.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        self.next().checked_rem(bound).unwrap_or(0) as usize
    }
}

/// Bytes at which parsers change their behaviour.
const EDGES: [u8; 16] = [
    0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b' ', b':', b';', b'=', b'&', b'%', b'<', b'"', b'0',
];

/// Returns a changed copy of one of `inputs`, which must not be empty.
#[must_use]
pub fn mutated(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let other = &inputs[random.below(inputs.len())];
        change(&mut input, other, random);
    }
    input
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len());
    let end = at + random.below(input.len() - at + 1);
    match random.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = EDGES[random.below(EDGES.len())];
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        3 => drop(input.drain(at..end.min(at + 8))),
        4 => {
            let edge = EDGES[random.below(EDGES.len())];
            let count = 1 + random.below(8);
            drop(input.splice(at..at, std::iter::repeat_n(edge, count)));
        }
        5 => {
            let piece = input[at..end.min(at + 64)].to_vec();
            drop(input.splice(at..at, piece));
        }
        6 => {
            let from = random.below(other.len());
            let to = from + random.below(other.len() - from + 1);
            drop(input.splice(at..end.min(at + 16), other[from..to].iter().copied()));
        }
        _ => {
            let number = random.next().to_le_bytes();
            let count = 1 + random.below(8);
            drop(input.splice(at..at, number[..count].iter().copied()));
        }
    }
}
