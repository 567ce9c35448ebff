//! Clock and scales of the races.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mimalloc::MiMalloc;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The product's allocator, counting the bytes asked for and not given back.
pub struct Counting;

// SAFETY: every call is passed on unchanged to the allocator below, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

/// Bytes live on the heap at one moment.
pub struct Live(usize);

impl Live {
    /// At this moment.
    pub fn now() -> Live {
        Live(LIVE.load(Ordering::Relaxed))
    }

    /// How many megabytes (10^6) more there are than at an earlier moment.
    pub fn since(&self, earlier: &Live) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }
}

/// CPU time of this thread, which other work on the machine does not lengthen.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "every Linux has the clock of the own thread");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Letters of the races to run, as given on the command line; all if none.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect()
}
