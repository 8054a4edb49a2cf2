//! The client's preference among error formats, from its `Accept` (RFC 9110 §12.5.1).

use http::{HeaderMap, HeaderValue, header};

/// The `Accept` fields of a request, parsed only if an error response depends on them.
///
/// A copy costs one reference count, and nothing if any format is acceptable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accept {
    first: Option<HeaderValue>,
    /// The other field lines, boxed because almost all requests have a single one.
    further: Option<Box<[HeaderValue]>>,
}

impl Accept {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(header::ACCEPT).into_iter().take(MAX_LINES);
        match (lines.next(), lines.next()) {
            (None, _) => Self::default(),
            (Some(first), None) if first == "*/*" => Self::default(),
            (Some(first), second) => {
                let further = second.map(|second| std::iter::once(second).chain(lines).cloned().collect());
                Self { first: Some(first.clone()), further }
            }
        }
    }

    /// Returns whether the client prefers a format.
    pub(crate) fn is_specific(&self) -> bool {
        self.first.is_some()
    }

    /// Returns the format that the client prefers for an error.
    ///
    /// Plain text is the default. JSON and HTML win if their weight is higher, or if the weights are equal and `Accept`
    /// names them more explicitly. Many clients send `application/json, text/plain, */*`: if both are equal, the first
    /// one wins.
    ///
    /// Reads the list once, and only the beginning of a long one.
    pub(crate) fn error_format(&self) -> ErrorFormat {
        let mut left = MAX_BYTES;
        let lines = self.first.iter().chain(self.further.iter().flatten()).map_while(|line| {
            let read = line.as_bytes().get(..left.min(line.len()))?;
            left -= read.len();
            (left > 0 || !read.is_empty()).then(|| str::from_utf8(read).ok())
        });
        let ranges = lines.flatten().flat_map(members).take(MAX_MEMBERS).filter_map(MediaRange::parse);
        let (mut problem, mut json, mut text, mut html) = Default::default();
        for (place, range) in ranges.enumerate() {
            range.weigh(place, "application", "problem+json", &mut problem);
            range.weigh(place, "application", "json", &mut json);
            range.weigh(place, "text", "plain", &mut text);
            range.weigh(place, "text", "html", &mut html);
        }
        // A client that accepts JSON also accepts `problem+json`, unless it states otherwise.
        let json = match problem.precision {
            Precision::Exact => problem,
            _ => json.max(problem),
        };
        match () {
            () if html.weight > 0 && html > text && html > json => ErrorFormat::Html,
            () if json.weight > 0 && json > text => ErrorFormat::ProblemJson,
            () => ErrorFormat::PlainText,
        }
    }
}

/// The format of an error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorFormat {
    PlainText,
    /// RFC 9457.
    ProblemJson,
    Html,
}

/// The maximum length of `Accept` to parse. Browsers send 120 bytes with eight members, some API clients twice as much.
const MAX_BYTES: usize = 2048;
const MAX_MEMBERS: usize = 32;
const MAX_LINES: usize = 8;

/// The preference for a type. Ordered by weight, then precision, then position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    weight: u16,
    precision: Precision,
    earliness: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    #[default]
    Unmatched,
    Anything,
    Kind,
    Exact,
}

/// One member of the list. Parameters other than the weight are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MediaRange<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// The weight in thousandths.
    weight: u16,
}

impl<'a> MediaRange<'a> {
    fn parse(member: &'a str) -> Option<Self> {
        let mut parts = split_unquoted(member, b';');
        let (kind, subtype) = parts.next()?.trim().split_once('/')?;
        let mut weight = 1000;
        for parameter in parts {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("q") {
                weight = parse_weight(value.trim())?;
                break;
            }
        }
        Some(Self { kind: kind.trim(), subtype: subtype.trim(), weight })
    }

    /// Applies this range to a type if it is more specific than the ranges so far, regardless of its weight.
    fn weigh(&self, place: usize, kind: &str, subtype: &str, found: &mut Preference) {
        let precision = self.precision(kind, subtype);
        if precision > found.precision {
            *found = Preference { weight: self.weight, precision, earliness: usize::MAX - place };
        }
    }

    fn precision(&self, kind: &str, subtype: &str) -> Precision {
        match (self.kind, self.subtype) {
            ("*", "*") => Precision::Anything,
            (range, "*") if range.eq_ignore_ascii_case(kind) => Precision::Kind,
            (range, sub) if range.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => Precision::Exact,
            _ => Precision::Unmatched,
        }
    }
}

/// Parses a weight: `0` or `1` with up to three decimals (RFC 9110 §12.4.2).
fn parse_weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let decimals = decimals.bytes().chain(*b"000").take(3).fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        "0" => Some(decimals),
        "1" if decimals == 0 => Some(1000),
        _ => None,
    }
}

fn members(line: &str) -> impl Iterator<Item = &str> {
    split_unquoted(line, b',')
}

/// Splits at `separator`, except within quoted strings (RFC 9110 §5.6.4).
fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return !quoted && c == char::from(separator),
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::ErrorFormat::*;
    use super::*;
    use proptest::prelude::*;

    fn accept(lines: &[&str]) -> Accept {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT, HeaderValue::from_str(line).unwrap());
        }
        Accept::of(&headers)
    }

    #[test]
    fn detects_the_preferred_format() {
        for (accepted, format) in [
            ("application/json", ProblemJson),
            ("application/problem+json", ProblemJson),
            ("APPLICATION/JSON", ProblemJson),
            ("application/*", ProblemJson),
            ("application/json, */*;q=0.1", ProblemJson),
            ("application/json, */*", ProblemJson),
            // Values of common clients.
            ("application/json, text/plain, */*", ProblemJson),
            ("text/plain, application/json", PlainText),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", Html),
            ("*/*", PlainText),
            ("", PlainText),
            ("text/html, */*; q=0.01", Html),
            ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", PlainText),
            ("text/css,*/*;q=0.1", PlainText),
            ("text/html", Html),
            ("TEXT/HTML;charset=utf-8", Html),
            ("text/html, application/json", Html),
            ("application/json, text/html", ProblemJson),
            ("text/html;q=0.8, application/json", ProblemJson),
            ("text/html;q=0.8, text/plain", PlainText),
            ("text/plain, text/html", PlainText),
            ("text/html, text/plain", Html),
            ("text/html;q=0, */*", PlainText),
            ("text/*", PlainText),
            ("text/html;q=0", PlainText),
            // Weights.
            ("text/plain;q=0.5, application/json;q=0.6", ProblemJson),
            ("text/plain;q=0.7, application/json;q=0.6", PlainText),
            ("application/json;q=0.6, text/*;q=0.7", PlainText),
            ("application/json ; q=0.2 , text/plain ; q=0.1", ProblemJson),
            ("application/json;q=0.001, text/plain;q=0", ProblemJson),
            // The most specific range decides.
            ("application/*;q=0.1, application/json;q=0.9, text/plain;q=0.5", ProblemJson),
            ("application/*, application/json;q=0.1, application/problem+json;q=0.2, text/plain;q=0.5", PlainText),
            ("*/*, application/json;q=0", PlainText),
            ("application/problem+json;q=0, application/json", PlainText),
            ("application/problem+json;q=0.3, application/json, text/plain;q=0.5", PlainText),
            ("text/plain;q=0, */*", ProblemJson),
            // Neither is accepted.
            ("image/png", PlainText),
            // Separators within parameters do not count.
            ("application/json;profile=\"a,b;q=0\";q=0.9, text/plain;q=0.5", ProblemJson),
            ("text/plain;x=\"\\\",application/json\"", PlainText),
            // Invalid members are ignored.
            ("application/json;q=2, text/plain", PlainText),
            ("application/json;q=x", PlainText),
            ("application/json;q=0.1234", PlainText),
            ("application/json;q=-1", PlainText),
            ("json, application", PlainText),
            (",,application/json,,", ProblemJson),
        ] {
            assert_eq!(accept(&[accepted]).error_format(), format, "{accepted}");
        }
    }

    #[test]
    fn combines_several_field_lines() {
        for (lines, format) in [
            (&["text/plain;q=0.5", "application/json"][..], ProblemJson),
            (&["text/plain", "application/json;q=0.5"], PlainText),
            (&["*/*", "application/json"], ProblemJson),
            (&["*/*;q=0.1", "text/html"], Html),
            (&[], PlainText),
        ] {
            assert_eq!(accept(lines).error_format(), format, "{lines:?}");
        }
    }

    #[test]
    fn reads_the_beginning_of_a_long_list() {
        for (lines, is_json) in [
            (&[&*("application/json,".to_owned() + &"a/b,".repeat(8000))][..], true),
            (&[&*("a/b,".repeat(8000) + "application/json")], false),
            (&[&*("a/b;c=\"".to_owned() + &"d".repeat(30_000) + "\",application/json")], false),
            (&["a/b"; 7].iter().copied().chain(["application/json"]).collect::<Vec<_>>(), true),
            (&["a/b"; 8].iter().copied().chain(["application/json"]).collect::<Vec<_>>(), false),
        ] {
            let format = if is_json { ProblemJson } else { PlainText };
            assert_eq!(accept(lines).error_format(), format, "{:.30}", lines[0]);
        }
    }

    proptest! {
        #[test]
        fn any_field_value_is_handled(bytes in prop::collection::vec(prop_oneof![
            prop::sample::select(b"application/json;q=0.,*\"\\ ".to_vec()), 0x80..=0xffu8, 0x20..0x7fu8,
        ], 0..80)) {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_bytes(&bytes).unwrap());
            Accept::of(&headers).error_format();
        }
    }
}
