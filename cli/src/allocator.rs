//! The program's allocator: jemalloc. Ours is a program of many threads that hand large buffers to
//! each other, which costs glibc's arenas locks, and the kernel's time with each page that is given
//! back and taken again. `docs/decisions/allocator.md` has the figures.

#[cfg(feature = "count-allocations")]
mod counted;

use tikv_jemallocator::Jemalloc;

#[cfg(feature = "count-allocations")]
pub(crate) use counted::tell;

#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: counted::Counted = counted::Counted(Jemalloc);
