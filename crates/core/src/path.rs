//! Lists all paths to which known servers may decode a request path.
//!
//! Servers differ in how they normalise a path, and how often: one decodes twice, one treats a backslash as a slash, one
//! removes `;` parameters. [`Decodings::of`] applies each known step any number of times and in any order. A rule that
//! holds for every result holds for any server.
//!
//! ```
//! use rproxy_core::path::{Decodings, is_ambiguous};
//!
//! let Decodings::Several(decodings) = Decodings::of(b"/a/..%2fb") else { panic!("the path is ambiguous") };
//! assert!(decodings.iter().any(|path| path == b"/b"));
//! assert!(is_ambiguous(b"/a/..%2fb"));
//! assert!(!is_ambiguous(b"/caf%C3%A9"));
//! ```

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

mod unicode;

/// All decodings of one request path, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decodings<'a> {
    /// The only decoding of the path: no decoding step changes it.
    One(Cow<'a, [u8]>),
    /// Several different decodings of the path, starting with the path itself.
    Several(Vec<Vec<u8>>),
    /// The path has more than 256 decodings, or decodings of more than 64 KiB in total. Ordinary paths have a handful.
    TooMany,
}

impl<'a> Decodings<'a> {
    /// Returns every decoding of the request path `path`.
    ///
    /// A path without an ambiguous character costs one scan and is not copied.
    pub fn of(path: &'a [u8]) -> Self {
        match Spelling::of(path) {
            Spelling::Plain => Self::One(Cow::Borrowed(path)),
            Spelling::UpperCase => Self::One(Cow::Owned(path.to_ascii_lowercase())),
            Spelling::Ambiguous => several(path),
        }
    }
}

/// Returns whether two servers can resolve `path` to different paths. A trailing slash, the case of letters and the
/// composition of characters do not count.
pub fn is_ambiguous(path: &[u8]) -> bool {
    match Decodings::of(path) {
        Decodings::One(_) => false,
        Decodings::Several(decodings) => {
            let mut decodings = decodings.iter().map(|decoding| comparable(decoding));
            let first = decodings.next();
            decodings.any(|decoding| Some(decoding) != first)
        }
        Decodings::TooMany => true,
    }
}

/// Returns a decoded path in the form that rules compare: [normalized], without trailing slashes. ASCII is not copied.
pub fn comparable(decoding: &[u8]) -> Cow<'_, [u8]> {
    let trimmed = without_trailing_slash(decoding);
    if trimmed.is_ascii() {
        return Cow::Borrowed(trimmed);
    }
    let mut text = Vec::with_capacity(trimmed.len());
    for chunk in trimmed.utf8_chunks() {
        text.extend_from_slice(normalized(chunk.valid()).as_bytes());
        text.extend_from_slice(chunk.invalid());
    }
    Cow::Owned(text)
}

/// Returns `text` in lower case and with composed characters (Unicode normalization form C).
///
/// A rule with non-ASCII names is compared in this form: `É` is `é`, whether it is one character or two.
///
/// ```
/// assert_eq!(rproxy_core::path::normalized("/CAFE\u{301}/**"), "/caf\u{e9}/**");
/// ```
pub fn normalized(text: &str) -> String {
    let lower = text.to_lowercase();
    match lower.is_ascii() {
        true => lower,
        false => lower.nfc().collect(),
    }
}

/// Returns `path` without its trailing slashes.
pub fn without_trailing_slash(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1)]
}

/// The maximum number of decodings of a path.
const MAX_DECODINGS: usize = 256;

/// The maximum total length of the decodings of a path, which bounds the CPU time for a long path.
const MAX_BYTES: usize = 64 << 10;

enum Spelling {
    Plain,
    UpperCase,
    Ambiguous,
}

impl Spelling {
    /// Determines in one scan whether any decoding step can change the path.
    fn of(path: &[u8]) -> Self {
        // No early return: nearly all paths are plain, and a loop without branches is faster.
        let (mut alone, mut pairs, mut before) = (0, 0, 0);
        for &byte in path {
            let meaning = &MEANINGS[usize::from(byte)];
            alone |= meaning.alone;
            pairs |= before & meaning.after;
            before = meaning.before;
        }
        let ends_ambiguously = before != 0 && path.len() > 1;
        if alone & AMBIGUOUS != 0 || pairs != 0 || ends_ambiguously {
            Self::Ambiguous
        } else if alone & UPPER_CASE != 0 {
            Self::UpperCase
        } else {
            Self::Plain
        }
    }
}

/// Whether a byte makes a path ambiguous, alone or together with an adjacent byte. Two neighbours are ambiguous if
/// `before` of the first and `after` of the second share a bit.
#[derive(Clone, Copy)]
struct Meaning {
    alone: u8,
    before: u8,
    after: u8,
}

const UPPER_CASE: u8 = 1;
const AMBIGUOUS: u8 = 2;
/// The bit shared by the byte pairs that make the start of a segment ambiguous: `//` and `/.`.
const BEGINS_SEGMENT: u8 = 1;
/// The bit shared by the byte pairs that make the end of a segment ambiguous: a dot, space or `+` before a slash.
const ENDS_SEGMENT: u8 = 2;

static MEANINGS: [Meaning; 256] = {
    let mut meanings = [Meaning { alone: 0, before: 0, after: 0 }; 256];
    let mut byte = 0;
    while byte < 256 {
        let meaning = &mut meanings[byte];
        meaning.alone = match byte as u8 {
            b'%' | b'\\' | b';' | b':' | 0x80.. | 0..=b' ' | 0x7f => AMBIGUOUS,
            // Windows treats these as wildcards or ignores them.
            b'"' | b'*' | b'<' | b'>' | b'|' => AMBIGUOUS,
            b'A'..=b'Z' => UPPER_CASE,
            _ => 0,
        };
        (meaning.before, meaning.after) = match byte as u8 {
            b'/' => (BEGINS_SEGMENT, BEGINS_SEGMENT | ENDS_SEGMENT),
            b'.' => (ENDS_SEGMENT, BEGINS_SEGMENT),
            b' ' | b'+' => (ENDS_SEGMENT, 0),
            _ => (0, 0),
        };
        byte += 1;
    }
    meanings
};

fn several(path: &[u8]) -> Decodings<'_> {
    let presented = decode_presentation(path).unwrap_or_else(|| path.to_vec());
    let mut decodings = vec![presented.to_ascii_lowercase()];
    let mut bytes = path.len();
    let mut next = 0;
    while next < decodings.len() {
        for step in STEPS {
            let Some(decoding) = step(&decodings[next]) else { continue };
            if decodings.contains(&decoding) {
                continue;
            }
            bytes += decoding.len();
            if decodings.len() == MAX_DECODINGS || bytes > MAX_BYTES {
                return Decodings::TooMany;
            }
            decodings.push(decoding);
        }
        next += 1;
    }
    Decodings::Several(decodings)
}

/// A decoding step, which returns the decoded path, or `None` if the path does not change.
type Step = fn(&[u8]) -> Option<Vec<u8>>;

const STEPS: [Step; 21] = [
    decode,
    decode_between_slashes,
    cut_parameters,
    cut_at_parameter,
    cut_at_query,
    cut_at_nul,
    cut_at_last_nul,
    drop_controls,
    replace_backslashes,
    replace_pluses,
    trim_segments,
    merge_slashes,
    remove_dot_segments,
    climb_dot_segments,
    trim_trailing_slash,
    unicode::fold,
    unicode::best_fit,
    unicode::decode_overlong,
    unicode::drop_invalid,
    unicode::decode_latin1,
    unicode::compose,
];

fn decode(path: &[u8]) -> Option<Vec<u8>> {
    percent_decode(path, |_| true)
}

/// Percent-decodes a path except for slashes and backslashes, like servers that keep `%2f` in a segment.
///
/// For such servers, `x%2f..` is one segment, and a following `%2e%2e` removes it.
fn decode_between_slashes(path: &[u8]) -> Option<Vec<u8>> {
    percent_decode(path, |byte| !matches!(byte, b'/' | b'\\'))
}

/// Percent-decodes the characters that do not change the structure of the path (RFC 3986 §6.2.2.2).
fn decode_presentation(path: &[u8]) -> Option<Vec<u8>> {
    let structure = |byte| matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#' | b'.' | b':' | b'$');
    percent_decode(path, |byte| !structure(byte) && !byte.is_ascii_control())
}

/// Percent-decodes, once, the bytes for which `wanted` returns `true`. Decodes `%u002e` as well, like IIS.
fn percent_decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    memchr::memchr(b'%', path)?;
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            // Bytes, not characters: other steps decode UTF-8.
            if let Some(code) = after.get(..2).and_then(hex).map(|code| code as u8).filter(|&code| wanted(code)) {
                decoded.push(code.to_ascii_lowercase());
                rest = &after[2..];
                continue;
            }
            if let (Some(b'u' | b'U'), Some(code)) = (after.first(), after.get(1..5).and_then(hex))
                && u8::try_from(code).map_or(true, &wanted)
            {
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).to_ascii_lowercase();
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &after[5..];
                continue;
            }
        }
        decoded.push(byte);
    }
    changed(decoded, path)
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | (digit as char).to_digit(16)?))
}

/// Truncates the path at its first NUL, CR or LF, where a C string or a line ends.
fn cut_at_nul(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr3(0, b'\r', b'\n', path).map(|nul| path[..nul].to_vec())
}

/// Truncates the path at its last NUL, like servers that have removed all earlier NULs.
fn cut_at_last_nul(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memrchr(0, path).map(|nul| path[..nul].to_vec())
}

/// Removes control characters from the path, as URL parsers do (WHATWG URL: tabs and newlines).
fn drop_controls(path: &[u8]) -> Option<Vec<u8>> {
    changed(path.iter().copied().filter(|byte| !byte.is_ascii_control()).collect(), path)
}

/// Truncates the path at a decoded `?` or `#`, like servers that parse the decoded path as a URL.
fn cut_at_query(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr2(b'?', b'#', path).map(|query| path[..query].to_vec())
}

/// Truncates the path at its first `;`, because RFC 1738 §3.1 allows parameters only at the end of a path.
fn cut_at_parameter(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b';', path).map(|parameter| path[..parameter].to_vec())
}

fn replace_backslashes(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\\', path)?;
    Some(path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect())
}

/// Replaces each `+` in the path with a space, as in form data.
fn replace_pluses(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'+', path)?;
    Some(path.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect())
}

/// Removes the `;` parameters of each segment: servlet containers resolve `/a;x=1/b` to `/a/b` (RFC 3986 §3.3).
fn cut_parameters(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b';', path)?;
    changed(map_segments(path, |segment| segment.split(|&byte| byte == b';').next().unwrap_or_default()), path)
}

/// Removes the white space around each segment, and the characters that Windows or PHP ignores at its end.
///
/// Windows opens `a` for `a. . ` and `a::$DATA`. PHP on Windows opens names that begin with `a` for `a<<` and `a"`. Keeps
/// the segments `.` and `..`.
fn trim_segments(path: &[u8]) -> Option<Vec<u8>> {
    let trimmed = map_segments(path, |segment| {
        let stream = segment.windows(2).position(|pair| matches!(pair, b"::" | b":$"));
        let segment = segment[..stream.unwrap_or(segment.len())].trim_ascii();
        let end =
            segment.iter().rposition(|&byte| byte > b' ' && !b".\"*<>|".contains(&byte)).map_or(0, |last| last + 1);
        if end == 0 { segment } else { &segment[..end] }
    });
    changed(trimmed, path)
}

fn merge_slashes(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(path, b"//")?;
    let mut merged = path.to_vec();
    merged.dedup_by(|next, before| *next == b'/' && *before == b'/');
    Some(merged)
}

/// Removes dot segments, and ignores `..` at the root (RFC 3986 §5.2.4).
fn remove_dot_segments(path: &[u8]) -> Option<Vec<u8>> {
    without_dot_segments(path, |_| {})
}

/// Removes dot segments, but keeps `..` at the root, like a file system that joins the path to a directory.
fn climb_dot_segments(path: &[u8]) -> Option<Vec<u8>> {
    without_dot_segments(path, |segments| segments.push(b".."))
}

fn without_dot_segments<'a>(path: &'a [u8], above_root: impl Fn(&mut Vec<&'a [u8]>)) -> Option<Vec<u8>> {
    memchr::memmem::find(path, b"/.")?;
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|&byte| byte == b'/') {
        ends_in_folder = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => match segments.last() {
                None | Some(&b"..") => above_root(&mut segments),
                Some(_) => drop(segments.pop()),
            },
            _ => segments.push(segment),
        }
    }
    if ends_in_folder {
        segments.push(b"");
    }
    let mut removed = Vec::with_capacity(path.len());
    for segment in segments {
        removed.push(b'/');
        removed.extend_from_slice(segment);
    }
    if removed.is_empty() {
        removed.push(b'/');
    }
    changed(removed, path)
}

fn trim_trailing_slash(path: &[u8]) -> Option<Vec<u8>> {
    let end = path.iter().rposition(|&byte| byte != b'/')? + 1;
    (end < path.len()).then(|| path[..end].to_vec())
}

fn map_segments(path: &[u8], map: impl Fn(&[u8]) -> &[u8]) -> Vec<u8> {
    let mut mapped = Vec::with_capacity(path.len());
    for (index, segment) in path.split(|&byte| byte == b'/').enumerate() {
        if index > 0 {
            mapped.push(b'/');
        }
        mapped.extend_from_slice(map(segment));
    }
    mapped
}

fn changed(decoding: Vec<u8>, path: &[u8]) -> Option<Vec<u8>> {
    (decoding != path).then_some(decoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decodes_to(path: &str, as_: &str) -> bool {
        match Decodings::of(path.as_bytes()) {
            Decodings::One(decoding) => *decoding == *as_.as_bytes(),
            Decodings::Several(decodings) => decodings.iter().any(|decoding| decoding == as_.as_bytes()),
            Decodings::TooMany => false,
        }
    }

    #[test]
    fn decodings_include_the_result_of_every_known_server() {
        for (path, decoding) in [
            ("/a/b", "/a/b"),
            ("/A/b", "/a/b"),
            ("/%61", "/a"),
            ("/%2561", "/a"),
            ("/%252561", "/a"),
            ("/%2E%45nv", "/.env"),
            ("/%u002eenv", "/.env"),
            ("/%c0%ae%c0%ae/a", "/../a"),
            ("/%e0%80%aeenv", "/.env"),
            ("/%f0%80%80%aeenv", "/.env"),
            ("/x/%ef%bc%8e%ef%bc%8e%ef%bc%8fa", "/a"),
            ("/%ef%bc%8e\u{ff45}nv", "/.env"),
            ("/%E2%80%A4env", "/.env"),
            ("/a%e2%88%95b", "/a/b"),
            ("/pa\u{17f}\u{17f}", "/pass"),
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/..;/b", "/b"),
            ("/a/..;x=1/b", "/b"),
            ("/a//../b", "/b"),
            ("/a//../b", "/a/b"),
            ("//b", "/b"),
            ("/a///b", "/a/b"),
            ("/a\\b", "/a/b"),
            ("/a%5cb", "/a/b"),
            ("/a%5c..%5cb", "/b"),
            ("/a;jsessionid=1/b;c", "/a/b"),
            ("/a%3bc/b", "/a/b"),
            ("/.env%00.png", "/.env"),
            ("/.env%2500.png", "/.env"),
            ("/.env.", "/.env"),
            ("/.env%20", "/.env"),
            ("/.env...%20.", "/.env"),
            ("/.env::$data", "/.env"),
            ("/.env/", "/.env"),
            ("/.env//", "/.env"),
            ("/.env/.", "/.env"),
            ("/../../a", "/a"),
            ("/a%2fb", "/a/b"),
            ("/a%252fb", "/a/b"),
            ("/%2525252525252525252e", "/."),
            ("/a%2f../%2e%2e/b", "/b"),
            ("/x/a%2f../%2e%2e/b", "/x/b"),
            ("/a%ef%bc%852fb", "/a/b"),
            ("/a%3fb/c", "/a"),
            ("/a%23b", "/a"),
            ("/a;b/c", "/a"),
            ("/a%09%0ab", "/ab"),
            ("/a%ffb", "/ab"),
            ("/%20a%20/b", "/a/b"),
            ("/a:$data", "/a"),
            ("/a/../../b", "/../b"),
            ("/%c3%89", "/é"),
            ("/a+", "/a"),
            ("/a+b.", "/a b"),
            ("/a%22", "/a"),
            ("/a<<", "/a"),
            ("/a%3e/b", "/a/b"),
            ("/%F0%9D%96%BA", "/a"),
            ("/a%c2%a5..%c2%a5b", "/b"),
            ("/cafe%cc%81", "/caf\u{e9}"),
            ("/CAFE%CC%81", "/caf\u{e9}"),
            ("/cafe%25cc%2581", "/caf\u{e9}"),
            ("/caf%E9", "/caf\u{e9}"),
            ("/CAF%C9", "/caf\u{e9}"),
            ("/caf%25e9", "/caf\u{e9}"),
            ("/%9cuvre", "/\u{153}uvre"),
        ] {
            assert!(decodes_to(path, decoding), "{path} as {decoding}");
        }
    }

    #[test]
    fn returns_ordinary_paths_without_a_copy() {
        for path in ["/", "/a", "/static/app.3f2a.css", "/a/b-c_d~e/1.2.3", "/@vite/client", "/a.b.c,d=e+f!"] {
            assert!(matches!(Decodings::of(path.as_bytes()), Decodings::One(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn is_ambiguous_detects_paths_that_servers_resolve_differently() {
        for path in [
            "/",
            "/a",
            "/A/b/",
            "/a//",
            "/a%20b",
            "/caf%C3%A9/",
            "/CAF%C3%89",
            "/cafe%CC%81",
            "/%61",
            "/a:b",
            "/~a",
            "/a+b",
            "/..a",
        ] {
            assert!(!is_ambiguous(path.as_bytes()), "{path}");
        }
        for path in
            ["/a%2Fb", "/a//b", "/a/./b", "/a/../b", "/a;b", "/a\\b", "/a%00", "/a.", "/a%20", "/%252e", "/a%3fb"]
        {
            assert!(is_ambiguous(path.as_bytes()), "{path}");
        }
        assert!(is_ambiguous("/%25252e;%255c//..;a%c0%ae%2500".repeat(200).as_bytes()));
    }

    #[test]
    fn limits_the_number_of_decodings_of_a_hostile_path() {
        let hostile = "/%25252e;%255c//..;a%c0%ae%2500".repeat(200);
        match Decodings::of(hostile.as_bytes()) {
            Decodings::Several(decodings) => assert!(decodings.len() <= MAX_DECODINGS),
            Decodings::TooMany => {}
            Decodings::One(_) => panic!("it has more than one"),
        }
    }

    proptest! {
        #[test]
        fn decoding_any_path_never_panics(path in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decodings::of(&path);
        }

        #[test]
        fn decodes_letters_that_are_percent_encoded_several_times(cut in proptest::collection::vec(0u8..3, 12)) {
            let mut path = String::from("/");
            for (byte, how) in b"secret/files".iter().zip(cut) {
                match how {
                    0 => path.push(*byte as char),
                    1 => path.push_str(&format!("%{byte:02X}")),
                    _ => path.push_str(&format!("%25{byte:02x}")),
                }
            }
            prop_assert!(decodes_to(&path, "/secret/files"), "{}", path);
        }
    }
}
