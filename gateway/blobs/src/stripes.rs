//! Decides which cells of a window to request from which slot. Pure: it is told every answer.
//!
//! A stripe of copies is one cell of each copy. A stripe is settled when its wanted cells have
//! arrived, or any k of its cells. Slots with wanted cells are asked first; if one fails or is
//! late, others are asked until k are reached.

use bytes::Bytes;
use megalith_model::shape::{SegmentLayout, Shape};
use std::collections::BTreeMap;
use std::ops::Range;

/// A set of slots, one bit each.
pub type Mask = u32;

/// Cells to request from a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellRequest {
    pub slot: usize,
    /// The first cell of its shard.
    pub first: u64,
    pub count: u64,
}

/// The stripes of one window.
pub struct Stripes {
    needed: usize,
    first: u64,
    stripes: Vec<Stripe>,
    /// Slots that are not asked any more.
    failed: Mask,
    /// Slots that were asked and are no longer counted on.
    late: Mask,
}

#[derive(Clone, Default)]
struct Stripe {
    /// Slots with a cell in this stripe.
    holders: Mask,
    /// Data slots without a cell in this stripe: known to be all zeros.
    zero: Mask,
    /// Slots whose own cells are wanted; none for copies, as any copy will do.
    wanted: Mask,
    asked: Mask,
    got: Mask,
    cells: BTreeMap<usize, Bytes>,
}

impl Stripes {
    /// Describes the window of the segment's data cells `cells`, which is not empty.
    pub fn new(shape: Shape, layout: &SegmentLayout, cells: Range<u64>) -> Self {
        let columns = layout.columns() as u64;
        let stripes = cells.start / columns..cells.end.div_ceil(columns);
        let shards = layout.profile().shards();
        let mask = |test: &dyn Fn(usize) -> bool| -> Mask {
            (0..shards)
                .filter(|&slot| test(slot))
                .fold(0, |mask, slot| mask | 1 << slot)
        };
        let stripe = |stripe: u64| {
            let holders = mask(&|slot| layout.shard_cells(slot) > stripe);
            let is_data = |slot: usize| shape == Shape::Coded && slot < columns as usize;
            let wanted = |slot: usize| cells.contains(&(stripe * columns + slot as u64));
            Stripe {
                holders,
                zero: mask(&|slot| is_data(slot) && holders >> slot & 1 == 0),
                wanted: mask(&|slot| is_data(slot) && wanted(slot)),
                ..Stripe::default()
            }
        };
        Self {
            needed: layout.shards_needed(),
            first: stripes.start,
            stripes: stripes.map(stripe).collect(),
            failed: 0,
            late: 0,
        }
    }

    /// Says what to request now. `order` lists the slots that may be asked, preferred ones first.
    pub fn next(&mut self, order: &[usize]) -> Vec<CellRequest> {
        let mut requests: Vec<CellRequest> = Vec::new();
        for index in 0..self.stripes.len() {
            let mask = self.to_ask(&self.stripes[index], order);
            self.stripes[index].asked |= mask;
            let at = self.first + index as u64;
            for slot in slots(mask) {
                let open = requests
                    .iter_mut()
                    .find(|request| request.slot == slot && request.first + request.count == at);
                match open {
                    Some(request) => request.count += 1,
                    None => requests.push(CellRequest {
                        slot,
                        first: at,
                        count: 1,
                    }),
                }
            }
        }
        requests
    }

    /// Takes a slot's answer; None if the cells have wrong lengths for that slot.
    pub fn arrived(
        &mut self,
        layout: &SegmentLayout,
        request: CellRequest,
        cells: Vec<Bytes>,
    ) -> bool {
        let lens = (0..request.count)
            .map(|i| layout.shard_cell_len(request.slot, request.first + i) as usize);
        if !cells.iter().map(Bytes::len).eq(lens) {
            self.failed(request.slot);
            return false;
        }
        for (i, cell) in cells.into_iter().enumerate() {
            let index = (request.first - self.first) as usize + i;
            self.stripes[index].got |= 1 << request.slot;
            self.stripes[index].cells.insert(request.slot, cell);
        }
        true
    }

    /// Gives up on a slot.
    pub fn failed(&mut self, slot: usize) {
        self.failed |= 1 << slot;
    }

    /// Stops counting on a slot that was asked; its answer is still welcome.
    pub fn late(&mut self, slot: usize) {
        self.late |= 1 << slot;
    }

    /// Returns true if every wanted cell is there or can be computed.
    pub fn is_settled(&self) -> bool {
        self.stripes
            .iter()
            .all(|stripe| self.is_stripe_settled(stripe, stripe.got))
    }

    /// Returns the fewest cells that any unsettled stripe has.
    pub fn fewest(&self) -> usize {
        let unsettled = self
            .stripes
            .iter()
            .filter(|stripe| !self.is_stripe_settled(stripe, stripe.got));
        unsettled
            .map(|stripe| (stripe.got | stripe.zero).count_ones() as usize)
            .min()
            .unwrap_or(0)
    }

    /// Returns the slots whose cells have arrived.
    pub fn contributors(&self) -> Mask {
        self.stripes
            .iter()
            .fold(0, |mask, stripe| mask | stripe.got)
    }

    /// Returns the stripes' numbers within the shards.
    pub fn range(&self) -> Range<u64> {
        self.first..self.first + self.stripes.len() as u64
    }

    /// Returns a slot's cell in a stripe, if it has arrived.
    pub fn cell(&self, stripe: u64, slot: usize) -> Option<&Bytes> {
        self.stripes
            .get((stripe - self.first) as usize)?
            .cells
            .get(&slot)
    }

    /// Returns the slots whose cell in the stripe has arrived or is known to be zeros.
    pub fn present(&self, stripe: u64) -> Mask {
        let stripe = &self.stripes[(stripe - self.first) as usize];
        stripe.got | stripe.zero
    }

    /// Returns the slots whose cells of the stripe are wanted and have not arrived.
    pub fn missing(&self, stripe: u64) -> Mask {
        let stripe = &self.stripes[(stripe - self.first) as usize];
        stripe.wanted & !stripe.got
    }

    fn is_stripe_settled(&self, stripe: &Stripe, have: Mask) -> bool {
        let wanted = stripe.wanted != 0 && stripe.wanted & !have == 0;
        wanted || (have | stripe.zero).count_ones() as usize >= self.needed
    }

    fn to_ask(&self, stripe: &Stripe, order: &[usize]) -> Mask {
        let counted = stripe.got | (stripe.asked & !self.failed & !self.late);
        if self.is_stripe_settled(stripe, counted) {
            return 0;
        }
        let may_ask = |slot: &usize| {
            let bit: Mask = 1 << *slot;
            bit & stripe.holders & !stripe.asked & !self.failed & !self.late != 0
        };
        let may: Vec<usize> = order.iter().copied().filter(may_ask).collect();
        let all = may.iter().fold(0, |mask, slot| mask | 1 << slot);
        let wanted = stripe.wanted & !counted;
        if wanted != 0 && wanted & !all == 0 {
            return wanted;
        }
        let have = (counted | stripe.zero).count_ones() as usize;
        let missing = self.needed.saturating_sub(have);
        may.into_iter()
            .take(missing)
            .fold(0, |mask, slot| mask | 1 << slot)
    }
}

/// Iterates over the slots of a mask, ascending.
pub fn slots(mask: Mask) -> impl Iterator<Item = usize> {
    (0..Mask::BITS as usize).filter(move |slot| mask >> slot & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use megalith_model::ids::BlobId;
    use megalith_model::profile::Profile;
    use megalith_model::shape::CELL_LEN;

    fn layout(shape: Shape, len: u64) -> SegmentLayout {
        let profile = Profile::new(4, 2).expect("valid");
        SegmentLayout::new(shape, profile, BlobId(0), len)
    }

    fn answer(stripes: &mut Stripes, layout: &SegmentLayout, request: CellRequest) {
        let len = |i| layout.shard_cell_len(request.slot, request.first + i) as usize;
        let cells = (0..request.count)
            .map(|i| Bytes::from(vec![0; len(i)]))
            .collect();
        assert!(stripes.arrived(layout, request, cells));
    }

    fn shown(requests: &[CellRequest]) -> Vec<(usize, u64, u64)> {
        requests
            .iter()
            .map(|r| (r.slot, r.first, r.count))
            .collect()
    }

    const ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];

    #[test]
    fn small_range_asks_one_slot() {
        let layout = layout(Shape::Coded, 64 * CELL_LEN);
        let mut stripes = Stripes::new(Shape::Coded, &layout, 9..10);
        let asked = stripes.next(&ALL);
        assert_eq!(shown(&asked), [(1, 2, 1)]);
        assert!(stripes.next(&ALL).is_empty());
        answer(&mut stripes, &layout, asked[0]);
        assert!(stripes.is_settled());
    }

    #[test]
    fn range_across_stripes_asks_each_slot_once() {
        let layout = layout(Shape::Coded, 64 * CELL_LEN);
        let mut stripes = Stripes::new(Shape::Coded, &layout, 3..13);
        let asked = shown(&stripes.next(&ALL));
        assert_eq!(asked, [(3, 0, 3), (0, 1, 3), (1, 1, 2), (2, 1, 2)]);
    }

    #[test]
    fn failure_is_made_up_for_by_parity_in_the_stripes_it_hits() {
        let layout = layout(Shape::Coded, 64 * CELL_LEN);
        let mut stripes = Stripes::new(Shape::Coded, &layout, 4..12);
        let asked = stripes.next(&ALL);
        assert_eq!(asked.len(), 4);
        stripes.failed(2);
        assert_eq!(shown(&stripes.next(&ALL)), [(4, 1, 2)]);
        stripes.late(0);
        assert_eq!(shown(&stripes.next(&ALL)), [(5, 1, 2)]);
        stripes.failed(4);
        assert!(stripes.next(&ALL).is_empty());
        for slot in [1, 3, 5] {
            let request = CellRequest {
                slot,
                first: 1,
                count: 2,
            };
            answer(&mut stripes, &layout, request);
        }
        assert!(!stripes.is_settled());
        assert_eq!(stripes.fewest(), 3);
        // The late answer is still welcome.
        answer(&mut stripes, &layout, asked[0]);
        assert!(stripes.is_settled());
    }

    #[test]
    fn owed_slot_is_never_asked() {
        let layout = layout(Shape::Coded, 64 * CELL_LEN);
        let mut stripes = Stripes::new(Shape::Coded, &layout, 0..2);
        let asked = shown(&stripes.next(&[1, 2, 3, 4, 5]));
        assert_eq!(asked, [(1, 0, 1), (2, 0, 1), (3, 0, 1), (4, 0, 1)]);
    }

    #[test]
    fn empty_cells_of_the_last_stripe_count_as_there() {
        let layout = layout(Shape::Coded, 4 * CELL_LEN + 10);
        let mut stripes = Stripes::new(Shape::Coded, &layout, 4..5);
        let asked = stripes.next(&[1, 2, 3, 4, 5]);
        assert_eq!(shown(&asked), [(4, 1, 1)]);
        answer(&mut stripes, &layout, asked[0]);
        assert!(stripes.is_settled());
    }

    #[test]
    fn one_copy_will_do() {
        let layout = layout(Shape::Copies, CELL_LEN + 10);
        let mut stripes = Stripes::new(Shape::Copies, &layout, 0..2);
        let holders: Vec<usize> = layout.slots().collect();
        assert_eq!(holders, [0, 1, 2]);
        assert_eq!(shown(&stripes.next(&[2, 0, 1])), [(2, 0, 2)]);
        stripes.failed(2);
        let again = stripes.next(&[2, 0, 1]);
        assert_eq!(shown(&again), [(0, 0, 2)]);
        answer(&mut stripes, &layout, again[0]);
        assert!(stripes.is_settled());
    }

    #[test]
    fn cells_of_wrong_length_are_a_failure() {
        let layout = layout(Shape::Coded, 64 * CELL_LEN);
        let mut stripes = Stripes::new(Shape::Coded, &layout, 0..1);
        let asked = stripes.next(&ALL);
        assert!(!stripes.arrived(&layout, asked[0], vec![Bytes::from_static(b"short")]));
        assert!(!stripes.is_settled());
        assert_eq!(stripes.next(&ALL).len(), 4);
    }
}
