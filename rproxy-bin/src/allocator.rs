//! The global allocator: mimalloc without an explicit alignment wherever the default alignment suffices.
//!
//! The `mimalloc` crate passes an alignment with each allocation. Since version 3, mimalloc then allocates more than
//! needed and searches for an aligned place, unless the size is a power of two. This affects a quarter of the
//! allocations of a request. But every block of mimalloc is aligned to its size, up to [`ALIGNED`] bytes, so the
//! plain functions suffice for nearly all allocations. This is the only unsafe code of the project.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

pub(crate) struct Mimalloc;

/// The maximum alignment that mimalloc guarantees by default, `MI_MAX_ALIGN_SIZE`.
const ALIGNED: usize = 16;

/// Returns whether mimalloc aligns every block of `size` bytes to at least `align`.
const fn is_aligned(size: usize, align: usize) -> bool {
    align <= ALIGNED && align <= size
}

// SAFETY: each method calls mimalloc's function for the same purpose. Blocks come from mimalloc and return to it, and
// their alignment is guaranteed by `is_aligned` or by the function that takes an alignment.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: mimalloc allows every size and alignment of a `Layout`.
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
        // SAFETY: the caller guarantees that this allocator allocated the block, and gives it up.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the caller guarantees that this allocator allocated the block; both functions accept blocks of
        // either kind.
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

/// Returns to the operating system the memory that this thread has freed. Otherwise mimalloc does so during later
/// calls, which an idle thread does not make.
pub(crate) fn collect() {
    // SAFETY: the function may be called at any time and frees no memory in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocated_blocks_are_aligned_and_keep_their_content() {
        for align in (0..=8).map(|power| 1 << power) {
            for size in (1..300).chain([1000, 2500, 4096, 100_000, 3 << 20]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout is not empty, and only memory that was written is read.
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
