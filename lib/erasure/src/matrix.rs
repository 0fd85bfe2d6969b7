//! The coding matrix and its inverses. Part of the stored format: it never changes.
//!
//! ```text
//! V[r][c] = r^c over GF(2^8) with the polynomial x^8+x^4+x^3+x^2+1 (0x11D), n rows, k columns
//! M       = V × (first k rows of V)^-1
//! ```
//!
//! The first k rows of M are the identity: data cells are stored as they are. Any k rows are
//! independent, so any k cells give back the data.

use reed_solomon_erasure::galois_8::{div, exp, mul};

/// A matrix over GF(2^8), row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    columns: usize,
    cells: Vec<u8>,
}

impl Matrix {
    /// Builds a matrix of `rows` × `columns` from a rule.
    fn from_fn(rows: usize, columns: usize, rule: impl Fn(usize, usize) -> u8) -> Self {
        let cells = (0..rows * columns).map(|i| rule(i / columns, i % columns));
        Self {
            columns,
            cells: cells.collect(),
        }
    }

    /// Builds the coding matrix for `data` + `parity` cells.
    #[must_use]
    pub fn coding(data: usize, parity: usize) -> Self {
        let vandermonde = Self::from_fn(data + parity, data, |r, c| exp(r as u8, c));
        let top: Vec<usize> = (0..data).collect();
        let inverse = vandermonde.pick(&top).inverted();
        vandermonde.times(&inverse.expect("a Vandermonde matrix has an inverse"))
    }

    /// Returns row `row`.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u8] {
        &self.cells[row * self.columns..(row + 1) * self.columns]
    }

    /// Returns the matrix of the named rows.
    #[must_use]
    pub fn pick(&self, rows: &[usize]) -> Self {
        Self::from_fn(rows.len(), self.columns, |r, c| self.row(rows[r])[c])
    }

    /// Returns the product `self` × `other`.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        let rows = self.cells.len() / self.columns;
        Self::from_fn(rows, other.columns, |r, c| {
            let products = self.row(r).iter().enumerate();
            products.fold(0, |sum, (i, factor)| sum ^ mul(*factor, other.row(i)[c]))
        })
    }

    /// Returns the inverse of a square matrix, by Gauss-Jordan elimination; None if there is none.
    #[must_use]
    pub fn inverted(&self) -> Option<Self> {
        let size = self.columns;
        let mut left = self.clone();
        let mut right = Self::from_fn(size, size, |r, c| u8::from(r == c));
        for pivot in 0..size {
            let found = (pivot..size).find(|&row| left.row(row)[pivot] != 0)?;
            left.swap_rows(pivot, found);
            right.swap_rows(pivot, found);
            let scale = div(1, left.row(pivot)[pivot]);
            left.scale_row(pivot, scale);
            right.scale_row(pivot, scale);
            for row in (0..size).filter(|&row| row != pivot) {
                let factor = left.row(row)[pivot];
                left.add_row(pivot, row, factor);
                right.add_row(pivot, row, factor);
            }
        }
        Some(right)
    }

    fn swap_rows(&mut self, one: usize, other: usize) {
        for c in 0..self.columns {
            self.cells
                .swap(one * self.columns + c, other * self.columns + c);
        }
    }

    fn scale_row(&mut self, row: usize, factor: u8) {
        for c in 0..self.columns {
            let cell = &mut self.cells[row * self.columns + c];
            *cell = mul(*cell, factor);
        }
    }

    fn add_row(&mut self, source: usize, target: usize, factor: u8) {
        for c in 0..self.columns {
            let product = mul(self.cells[source * self.columns + c], factor);
            self.cells[target * self.columns + c] ^= product;
        }
    }
}
