//! The allocator of the binary: mimalloc, called as it is fastest.
//!
//! The `mimalloc` crate asks for an alignment with each allocation. Since version 3 mimalloc then takes more memory than
//! it needs and looks for an aligned place in it, unless the size is a power of two: a quarter of the allocations of a
//! request. But whatever it hands out is aligned for all that its size can hold, up to [`ALIGNED`] bytes, so that nearly
//! nobody has to ask. This is the only unsafe code of the project.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

pub(crate) struct Mimalloc;

/// mimalloc's `MI_MAX_ALIGN_SIZE`: how its blocks are aligned that are at least as large.
const ALIGNED: usize = 16;

/// Whether a block of `size` bytes is aligned so without being asked to.
const fn is_aligned(size: usize, align: usize) -> bool {
    align <= ALIGNED && align <= size
}

// SAFETY: each method hands on to mimalloc's function of that purpose; a block comes from mimalloc and goes back to it,
// and is aligned as asked for: by `is_aligned`, or by the function that takes an alignment.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size and any alignment that a `Layout` has is allowed.
        unsafe { if is_aligned(size, align) { mi_malloc(size) } else { mi_malloc_aligned(size, align) } }.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        unsafe { if is_aligned(size, align) { mi_zalloc(size) } else { mi_zalloc_aligned(size, align) } }.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller vouches that it is a block of ours, and gives it up.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the caller vouches that it is a block of ours; both functions take those of either kind.
        unsafe {
            if is_aligned(size, align) {
                mi_realloc(block.cast(), size)
            } else {
                mi_realloc_aligned(block.cast(), size, align)
            }
        }
        .cast()
    }
}

/// Gives back what this thread has freed: without being asked to, mimalloc does so with later calls, and whoever is idle
/// makes none.
pub(crate) fn collect() {
    // SAFETY: it may be called at any time, and takes nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_keep_what_is_in_them() {
        for align in (0..=8).map(|power| 1 << power) {
            for size in (1..300).chain([1000, 2500, 4096, 100_000, 3 << 20]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout is not empty, and what is read was allocated or written before.
                unsafe {
                    let block = Mimalloc.alloc(layout);
                    assert!(block.addr().is_multiple_of(align), "{layout:?}");
                    block.write_bytes(7, size);
                    let larger = Mimalloc.realloc(block, layout, size * 2 + 1);
                    assert!(larger.addr().is_multiple_of(align), "{layout:?}");
                    assert!((0..size).all(|at| larger.add(at).read() == 7), "{layout:?}");
                    let smaller = Mimalloc.realloc(larger, Layout::from_size_align(size * 2 + 1, align).unwrap(), size);
                    assert!(smaller.addr().is_multiple_of(align), "{layout:?}");
                    Mimalloc.dealloc(smaller, layout);
                    let zeroed = Mimalloc.alloc_zeroed(layout);
                    assert!(zeroed.addr().is_multiple_of(align), "{layout:?}");
                    assert!((0..size).all(|at| zeroed.add(at).read() == 0), "{layout:?}");
                    Mimalloc.dealloc(zeroed, layout);
                }
            }
        }
    }
}
