//! Every reading that a server could make of a path.
//!
//! Servers differ in what they undo, and how often: one decodes twice, one takes a backslash for a
//! slash, one cuts `;` parameters. So each step below may or may not be taken, any number of times and
//! in any order, and every outcome is a reading.

use std::borrow::Cow;

use crate::unicode;

/// All the readings of one path, or that there are too many to judge.
pub(crate) enum Readings<'a> {
    /// There is one: nothing in the path has a second meaning. In lower case.
    One(Cow<'a, [u8]>),
    /// There are several, the path itself first. In lower case.
    Several(Vec<Vec<u8>>),
    /// More than [`MOST`], or [`MOST_BYTES`] of them: nobody honest writes such a path.
    TooMany,
}

/// Reads `path` in every way.
pub(crate) fn of(path: &[u8]) -> Readings<'_> {
    match Spelling::of(path) {
        Spelling::Plain => Readings::One(Cow::Borrowed(path)),
        Spelling::UpperCase => Readings::One(Cow::Owned(path.to_ascii_lowercase())),
        Spelling::Ambiguous => several(path),
    }
}

/// Whether two servers could take `path` for two paths. A slash at its end makes none.
pub(crate) fn is_ambiguous(path: &[u8]) -> bool {
    let without_slash = |reading: &[u8]| reading.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    match of(path) {
        Readings::One(_) => false,
        Readings::Several(readings) => {
            let mut readings = readings.iter().map(|reading| &reading[..without_slash(reading)]);
            let first = readings.next();
            readings.any(|reading| Some(reading) != first)
        }
        Readings::TooMany => true,
    }
}

/// More readings than an honest path has.
const MOST: usize = 256;

/// What they may come to, so that a long path can't make us work for long.
const MOST_BYTES: usize = 64 << 10;

enum Spelling {
    Plain,
    UpperCase,
    Ambiguous,
}

impl Spelling {
    /// One scan that finds out whether any step could change the path.
    fn of(path: &[u8]) -> Self {
        // To the end without a jump: nearly all paths are plain.
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

/// What there is to a byte. Two that stand side by side are ambiguous where they have a bit in common.
#[derive(Clone, Copy)]
struct Meaning {
    alone: u8,
    before: u8,
    after: u8,
}

const UPPER_CASE: u8 = 1;
const AMBIGUOUS: u8 = 2;
/// `//` and `/.`
const BEGINS_SEGMENT: u8 = 1;
/// A dot, or what may be a space, before a slash.
const ENDS_SEGMENT: u8 = 2;

static MEANINGS: [Meaning; 256] = {
    let mut meanings = [Meaning { alone: 0, before: 0, after: 0 }; 256];
    let mut byte = 0;
    while byte < 256 {
        let meaning = &mut meanings[byte];
        meaning.alone = match byte as u8 {
            b'%' | b'\\' | b';' | b':' | 0x80.. | 0..=b' ' | 0x7f => AMBIGUOUS,
            // What Windows takes for wildcards, or for nothing.
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

fn several(path: &[u8]) -> Readings<'_> {
    let written = decode_presentation(path).unwrap_or_else(|| path.to_vec());
    let mut readings = vec![written.to_ascii_lowercase()];
    let mut bytes = path.len();
    let mut next = 0;
    while next < readings.len() {
        for step in STEPS {
            let Some(reading) = step(&readings[next]) else { continue };
            if readings.contains(&reading) {
                continue;
            }
            bytes += reading.len();
            if readings.len() == MOST || bytes > MOST_BYTES {
                return Readings::TooMany;
            }
            readings.push(reading);
        }
        next += 1;
    }
    Readings::Several(readings)
}

/// Gives the path after the step, or `None` where it does nothing.
type Step = fn(&[u8]) -> Option<Vec<u8>>;

const STEPS: [Step; 19] = [
    decode,
    decode_between_slashes,
    cut_parameters,
    cut_at_parameter,
    cut_at_query,
    cut_at_nul,
    cut_at_last_nul,
    drop_controls,
    turn_backslashes,
    turn_pluses,
    trim_segments,
    merge_slashes,
    remove_dot_segments,
    climb_dot_segments,
    trim_trailing_slash,
    unicode::fold,
    unicode::best_fit,
    unicode::decode_overlong,
    unicode::drop_invalid,
];

fn decode(path: &[u8]) -> Option<Vec<u8>> {
    percent_decode(path, |_| true)
}

/// As servers do that keep `%2f` within a segment: to them `x%2f..` is one segment, and a `%2e%2e`
/// after it removes all of it.
fn decode_between_slashes(path: &[u8]) -> Option<Vec<u8>> {
    percent_decode(path, |byte| !matches!(byte, b'/' | b'\\'))
}

/// Decodes what can't change the structure of the path, so that it is the same path: RFC 3986 §6.2.2.2.
pub(crate) fn decode_presentation(path: &[u8]) -> Option<Vec<u8>> {
    let structure = |byte| matches!(byte, b'/' | b'\\' | b';' | b'%' | b'?' | b'#' | b'.' | b':' | b'$');
    percent_decode(path, |byte| !structure(byte) && !byte.is_ascii_control())
}

/// Percent-decodes once, what is `wanted`; `%u002e` as IIS does, too.
fn percent_decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    memchr::memchr(b'%', path)?;
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            // Bytes, not characters: what they mean together is for another step.
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

/// As a C string ends, and a line.
fn cut_at_nul(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr3(0, b'\r', b'\n', path).map(|nul| path[..nul].to_vec())
}

/// Where those before it were dropped.
fn cut_at_last_nul(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memrchr(0, path).map(|nul| path[..nul].to_vec())
}

/// As URL parsers drop tabs and line ends (WHATWG URL, basic parser) and others any control.
fn drop_controls(path: &[u8]) -> Option<Vec<u8>> {
    changed(path.iter().copied().filter(|byte| !byte.is_ascii_control()).collect(), path)
}

/// A decoded `?` or `#`, where the path is parsed as a URL once more.
fn cut_at_query(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr2(b'?', b'#', path).map(|query| path[..query].to_vec())
}

/// RFC 1738 §3.1 had parameters at the end of the path only.
fn cut_at_parameter(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b';', path).map(|parameter| path[..parameter].to_vec())
}

fn turn_backslashes(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\\', path)?;
    Some(path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect())
}

/// As forms are decoded, by those who take a path for one.
fn turn_pluses(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'+', path)?;
    Some(path.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect())
}

/// RFC 3986 §3.3: servlet containers take `/a;x=1/b` for `/a/b`.
fn cut_parameters(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b';', path)?;
    changed(map_segments(path, |segment| segment.split(|&byte| byte == b';').next().unwrap_or_default()), path)
}

/// As Windows opens files: `a. . ` is `a`, `a::$DATA` is `a`; as PHP finds them there, to whom `a<<` and `a"` are what
/// begins with `a`; and as frameworks trim white space. `.` and `..` stay.
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

/// RFC 3986 §5.2.4: above the root is the root.
fn remove_dot_segments(path: &[u8]) -> Option<Vec<u8>> {
    without_dot_segments(path, |_| {})
}

/// As a file system does that joins the path to a folder: above the root is somewhere else.
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

fn changed(reading: Vec<u8>, path: &[u8]) -> Option<Vec<u8>> {
    (reading != path).then_some(reading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reads(path: &str, as_: &str) -> bool {
        match of(path.as_bytes()) {
            Readings::One(reading) => *reading == *as_.as_bytes(),
            Readings::Several(readings) => readings.iter().any(|reading| reading == as_.as_bytes()),
            Readings::TooMany => false,
        }
    }

    #[test]
    fn every_way_to_read_a_path_is_among_its_readings() {
        for (path, reading) in [
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
        ] {
            assert!(reads(path, reading), "{path} as {reading}");
        }
    }

    #[test]
    fn ordinary_paths_are_not_copied() {
        for path in ["/", "/a", "/static/app.3f2a.css", "/a/b-c_d~e/1.2.3", "/@vite/client", "/a.b.c,d=e+f!"] {
            assert!(matches!(of(path.as_bytes()), Readings::One(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn two_readings_are_more_than_one() {
        for path in ["/", "/a", "/A/b/", "/a//", "/a%20b", "/caf%C3%A9/", "/%61", "/a:b", "/~a", "/a+b", "/..a"] {
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
    fn a_path_made_to_have_endless_readings_has_too_many_or_few() {
        let hostile = "/%25252e;%255c//..;a%c0%ae%2500".repeat(200);
        match of(hostile.as_bytes()) {
            Readings::Several(readings) => assert!(readings.len() <= MOST),
            Readings::TooMany => {}
            Readings::One(_) => panic!("it has more than one"),
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(path in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = of(&path);
        }

        #[test]
        fn encoding_letters_hides_nothing(cut in proptest::collection::vec(0u8..3, 12)) {
            let mut path = String::from("/");
            for (byte, how) in b"secret/files".iter().zip(cut) {
                match how {
                    0 => path.push(*byte as char),
                    1 => path.push_str(&format!("%{byte:02X}")),
                    _ => path.push_str(&format!("%25{byte:02x}")),
                }
            }
            prop_assert!(reads(&path, "/secret/files"), "{}", path);
        }
    }
}
