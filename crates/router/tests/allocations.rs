//! The lookup of an ASCII path allocates no memory, even if route paths are not ASCII.
#![allow(clippy::unwrap_used)]

use http::Method;
use rproxy_router::{Found, Route, RouteTable};
use rproxy_test_support::{CountingAllocator, allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn find(table: &RouteTable, path: &str) -> (usize, Found) {
    let mut found = None;
    let count = allocations(|| found = Some(table.find("example.org", &Method::GET, path)));
    (count, found.unwrap())
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
        assert_eq!(find(&table, path), (0, Found::Route { site, route }), "{path}");
    }
    // The counter works.
    let (count, found) = find(&table, "/caf%C3%A9/x");
    assert!(count > 0);
    assert_eq!(found, Found::Route { site, route: Some(1) });
}
