//! Encodes stripes, and restores what is missing of them.

use crate::kernel::mul_add;
use crate::matrix::Matrix;
use megalith_model::profile::Profile;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How many bytes are worked on at a time, so that parity stays in the first-level cache.
const BLOCK: usize = 8 * 1024;

/// Why cells can't be coded. All but `TooFewCells` are mistakes of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Fewer than k cells are present.
    #[error("{present} cells are there, {needed} are needed")]
    TooFewCells {
        /// How many cells are present, including those of no bytes.
        present: usize,
        needed: usize,
    },
    /// The number of cells isn't that of the profile.
    #[error("{found} cells given where the profile has {expected}")]
    CellCount {
        found: usize,
        /// The profile's number.
        expected: usize,
    },
    /// A cell doesn't have the given length.
    #[error("cell {cell} has {found} bytes instead of {expected}")]
    CellLength {
        cell: usize,
        found: usize,
        expected: usize,
    },
}

/// Codes the stripes of one profile. Cheap to clone; made once for each profile and process.
#[derive(Clone, Debug)]
pub struct Encoder {
    code: Arc<Code>,
}

#[derive(Debug)]
struct Code {
    profile: Profile,
    matrix: Matrix,
}

impl Encoder {
    /// Returns the encoder of a profile.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        static MADE: OnceLock<Mutex<BTreeMap<Profile, Encoder>>> = OnceLock::new();
        let made = MADE.get_or_init(Mutex::default);
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Self {
            code: Arc::new(Code {
                profile,
                matrix: Matrix::coding(profile.data(), profile.parity()),
            }),
        };
        made.entry(profile).or_insert_with(make).clone()
    }

    /// Returns the profile.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.code.profile
    }

    /// Computes the m parity cells of a stripe; each becomes as long as its longest data cell.
    ///
    /// Data cells may differ in length, and those at the end may be left out.
    ///
    /// # Errors
    /// [`CodeError::CellCount`].
    pub fn encode_stripe(&self, data: &[&[u8]], parity: &mut [Vec<u8>]) -> Result<(), CodeError> {
        let profile = self.code.profile;
        expect_count(parity.len(), profile.parity())?;
        if data.len() > profile.data() {
            return expect_count(data.len(), profile.data());
        }
        let len = data.iter().map(|cell| cell.len()).max().unwrap_or(0);
        for cell in parity.iter_mut() {
            cell.clear();
            cell.resize(len, 0);
        }
        let rows = (0..parity.len()).map(|p| self.code.matrix.row(profile.data() + p));
        let rows: Vec<&[u8]> = rows.collect();
        combine(&rows, data, parity);
        Ok(())
    }

    /// Prepares to restore the cells of mask `wanted` from those of mask `present`, for any number
    /// of stripes.
    ///
    /// # Errors
    /// [`CodeError::TooFewCells`].
    pub fn decoder(&self, present: u32, wanted: u32) -> Result<Decoder, CodeError> {
        let profile = self.code.profile;
        let is_set = |mask: u32, cell: &usize| mask >> cell & 1 == 1;
        let all = 0..profile.shards();
        let present: Vec<usize> = all.clone().filter(|cell| is_set(present, cell)).collect();
        if present.len() < profile.data() {
            return Err(CodeError::TooFewCells {
                present: present.len(),
                needed: profile.data(),
            });
        }
        // Data cells come first: their rows are those of the identity.
        let sources = present[..profile.data()].to_vec();
        let wanted: Vec<usize> = all.filter(|cell| is_set(wanted, cell)).collect();
        let picked = self.code.matrix.pick(&sources);
        let inverse = picked.inverted().expect("any k rows are independent");
        let factors = self.code.matrix.pick(&wanted).times(&inverse);
        Ok(Decoder {
            sources,
            wanted,
            factors,
        })
    }

    // For repair.
    /// Restores all missing (None) cells of a stripe, parity too; `cells` and `lens` have n
    /// entries. A cell of length 0 may be absent.
    ///
    /// # Errors
    /// [`CodeError`]; nothing is changed then.
    pub fn reconstruct_all(
        &self,
        cells: &mut [Option<Vec<u8>>],
        lens: &[usize],
    ) -> Result<(), CodeError> {
        let shards = self.code.profile.shards();
        expect_count(cells.len(), shards)?;
        expect_count(lens.len(), shards)?;
        let (mut present, mut wanted) = (0_u32, 0_u32);
        for (number, cell) in cells.iter().enumerate() {
            let expected = lens[number];
            match cell {
                Some(cell) if cell.len() != expected => {
                    return Err(CodeError::CellLength {
                        cell: number,
                        found: cell.len(),
                        expected,
                    });
                }
                Some(_) => present |= 1 << number,
                // To the code, a data cell of no bytes is all zeros: it counts as present.
                None if expected == 0 => {
                    present |= u32::from(number < self.code.profile.data()) << number;
                }
                None => wanted |= 1 << number,
            }
        }
        let decoder = self.decoder(present, wanted)?;
        let source = |number: &usize| cells[*number].as_deref().unwrap_or_default();
        let sources: Vec<&[u8]> = decoder.sources().iter().map(source).collect();
        let wanted_lens = decoder.wanted().iter().map(|number| lens[*number]);
        let rebuilt = decoder.decode(&sources, &wanted_lens.collect::<Vec<_>>())?;
        for (number, cell) in decoder.wanted().iter().zip(rebuilt) {
            cells[*number] = Some(cell);
        }
        for (number, cell) in cells.iter_mut().enumerate() {
            if cell.is_none() && lens[number] == 0 {
                *cell = Some(Vec::new());
            }
        }
        Ok(())
    }
}

/// Restores a fixed set of cells from another.
#[derive(Clone, Debug)]
pub struct Decoder {
    sources: Vec<usize>,
    wanted: Vec<usize>,
    factors: Matrix,
}

impl Decoder {
    /// Returns the k cells that [`Decoder::decode`] takes, ascending.
    #[must_use]
    pub fn sources(&self) -> &[usize] {
        &self.sources
    }

    /// Returns the cells that it restores, ascending.
    #[must_use]
    pub fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    /// Computes the wanted cells of one stripe, each of its given length.
    ///
    /// # Errors
    /// [`CodeError::CellCount`].
    pub fn decode(&self, sources: &[&[u8]], lens: &[usize]) -> Result<Vec<Vec<u8>>, CodeError> {
        expect_count(sources.len(), self.sources.len())?;
        expect_count(lens.len(), self.wanted.len())?;
        let mut out: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
        let rows: Vec<&[u8]> = (0..out.len()).map(|i| self.factors.row(i)).collect();
        combine(&rows, sources, &mut out);
        Ok(out)
    }
}

/// Adds the sum of `rows[output][i]` × `inputs[i]` to each output, up to the output's length.
fn combine(rows: &[&[u8]], inputs: &[&[u8]], outputs: &mut [Vec<u8>]) {
    let len = outputs.iter().map(Vec::len).max().unwrap_or(0);
    for start in (0..len).step_by(BLOCK) {
        for (row, output) in rows.iter().zip(outputs.iter_mut()) {
            let end = output.len().min(start + BLOCK);
            let Some(target) = output.get_mut(start..end) else {
                continue;
            };
            for (factor, input) in row.iter().zip(inputs) {
                let end = input.len().min(end);
                if let Some(source) = input.get(start..end) {
                    mul_add(*factor, source, target);
                }
            }
        }
    }
}

fn expect_count(found: usize, expected: usize) -> Result<(), CodeError> {
    if found == expected {
        Ok(())
    } else {
        Err(CodeError::CellCount { found, expected })
    }
}
