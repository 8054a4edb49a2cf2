//! The lookup of an ASCII path allocates no memory, even if route paths are not ASCII.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use http::Method;
use rproxy_router::{Found, Route, RouteTable};

/// The system allocator with a counter of allocations per thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all calls are forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(table: &RouteTable, path: &str) -> (usize, Found) {
    let before = ALLOCATIONS.get();
    let found = table.find("example.org", &Method::GET, path);
    (ALLOCATIONS.get() - before, found)
}

#[test]
fn looks_up_ascii_path_without_allocation() {
    let mut table = RouteTable::new();
    let site = table.add_site();
    table.add_host(site, &"example.org".parse().unwrap()).unwrap();
    for path in ["/admin/**", "/caf\u{e9}/**", "/\u{43f}\u{440}/x"] {
        table.add_route(site, &Route::new().path(path)).unwrap();
    }
    for (path, route) in [("/", None), ("/admin/users", Some(0)), ("/static/app.3f2a.css", None), ("/caf", None)] {
        assert_eq!(allocations(&table, path), (0, Found::Route { site, route }), "{path}");
    }
    // The counter works.
    let (count, found) = allocations(&table, "/caf%C3%A9/x");
    assert!(count > 0);
    assert_eq!(found, Found::Route { site, route: Some(1) });
}
