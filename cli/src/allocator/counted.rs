//! Counts what the process allocates, for benchmarks. Built only with `count-allocations`.

#![allow(
    unsafe_code,
    reason = "an allocator is handed to the compiler by an unsafe trait"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};
use tikv_jemallocator::Jemalloc;

/// Counters that threads share few of, so that counting does not show in what is measured.
const STRIPES: usize = 64;

/// One stripe, alone in its cache lines.
#[repr(align(128))]
struct Stripe {
    pieces: AtomicU64,
    bytes: AtomicU64,
}

static STRIPED: [Stripe; STRIPES] = [const {
    Stripe {
        pieces: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    }
}; STRIPES];

thread_local! {
    /// Its address tells threads apart.
    static PLACE: u8 = const { 0 };
}

fn count(bytes: usize) {
    let at = PLACE.try_with(|place| std::ptr::from_ref(place).addr() >> 12);
    let stripe = &STRIPED[at.unwrap_or_default() % STRIPES];
    stripe.pieces.fetch_add(1, Ordering::Relaxed);
    stripe.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Shows the counts among the metrics.
pub(crate) fn tell() {
    let sum = |of: fn(&Stripe) -> &AtomicU64| {
        let each = STRIPED.iter().map(of);
        each.map(|count| count.load(Ordering::Relaxed)).sum()
    };
    metrics::counter!("megalith_allocations_total").absolute(sum(|stripe| &stripe.pieces));
    metrics::counter!("megalith_allocated_bytes_total").absolute(sum(|stripe| &stripe.bytes));
}

/// The allocator that counts.
pub(super) struct Counted(pub(super) Jemalloc);

// SAFETY: every call goes on, unchanged, to the allocator within.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those that the allocator within asks for.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(piece, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count(len);
        // SAFETY: as above.
        unsafe { self.0.realloc(piece, layout, len) }
    }
}
