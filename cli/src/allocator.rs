//! The program's allocator: mimalloc. Ours is a program of many threads that hand large buffers to
//! each other, which costs glibc's arenas locks and, with each page that is given back and taken
//! again, the kernel's time.

#[cfg(feature = "count-allocations")]
mod counted;

use mimalloc::MiMalloc;

#[cfg(feature = "count-allocations")]
pub(crate) use counted::tell;

#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: counted::Counted = counted::Counted(MiMalloc);
