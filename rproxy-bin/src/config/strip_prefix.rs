//! Checks that every path of a route starts with the `strip_prefix` of the route.

use rproxy_router::Route;

/// Returns the reason that `prefix` cannot be stripped from every path of the route, if any.
///
/// A request whose path does not start with the prefix would get 400.
pub(super) fn conflict(route: &Route, prefix: &str) -> Option<String> {
    let wanted = segments(prefix);
    let outside = route.paths().iter().find(|path| !starts_with(&literal_segments(path), &wanted))?;
    let accepted = match accepted(route).as_slice() {
        [] => "none".to_owned(),
        all => format!("{}, or none", all.join(", ")),
    };
    Some(format!("{prefix:?} is not the start of the route's path {outside:?}; accepted: {accepted}"))
}

/// Returns the prefixes that can be stripped from all paths of the route.
fn accepted(route: &Route) -> Vec<String> {
    let mut paths = route.paths().iter().map(|path| literal_segments(path));
    let mut common = paths.next().unwrap_or_default();
    for path in paths {
        let shared = common.iter().zip(&path).take_while(|(one, other)| one.eq_ignore_ascii_case(other)).count();
        common.truncate(shared);
    }
    (1..=common.len()).map(|count| format!("/{}", common[..count].join("/"))).collect()
}

/// Returns the path segments that precede the first segment with a wildcard.
fn literal_segments(pattern: &str) -> Vec<&str> {
    segments(pattern).into_iter().take_while(|segment| !segment.contains(['*', '?', '[', '{'])).collect()
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

fn starts_with(path: &[&str], prefix: &[&str]) -> bool {
    path.len() >= prefix.len() && path.iter().zip(prefix).all(|(one, other)| one.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(paths: &[&str]) -> Route {
        paths.iter().fold(Route::new(), |route, path| route.path(*path))
    }

    #[test]
    fn accepts_strip_prefix_that_starts_every_path() {
        for (paths, prefix) in [
            (&["/api/**"][..], "/api"),
            (&["/API"], "/api"),
            (&["/api/v1/**", "/api/v2/*"], "/api"),
            (&["/api/{x,y}/**"], "/api"),
            (&["/api/v1/**"], "/api/v1"),
        ] {
            assert_eq!(conflict(&route(paths), prefix), None, "{paths:?} {prefix}");
        }
    }

    #[test]
    fn strip_prefix_error_names_the_path_and_the_accepted_prefixes() {
        for (paths, prefix, path, accepted) in [
            (&["/api/v1/**"][..], "/ap", "/api/v1/**", "/api, /api/v1, or none"),
            (&["/api/**", "/v2"], "/api", "/v2", "none"),
            (&["/api/a/**", "/api/b"], "/api/a", "/api/b", "/api, or none"),
            (&["/api*/**"], "/api", "/api*/**", "none"),
            (&["/{a,b}/**"], "/a", "/{a,b}/**", "none"),
            (&["/**"], "/api", "/**", "none"),
            (&["/api"], "/api/v1", "/api", "/api, or none"),
        ] {
            let expected = format!("{prefix:?} is not the start of the route's path {path:?}; accepted: {accepted}");
            assert_eq!(conflict(&route(paths), prefix), Some(expected));
        }
    }
}
