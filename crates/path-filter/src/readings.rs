//! Every reading that a server could make of a path.
//!
//! Servers differ in what they undo, and how often: one decodes twice, one takes a backslash for a
//! slash, one cuts `;` parameters. So each step below may or may not be taken, in the order in which
//! servers take them, and every outcome is a reading.

use std::borrow::Cow;

/// All the readings of one path, or that there are too many to judge.
pub(crate) enum Readings<'a> {
    /// There is one: nothing in the path has a second meaning. In lower case.
    One(Cow<'a, [u8]>),
    /// There are several, the path itself first. In lower case.
    Several(Vec<Vec<u8>>),
    /// More than [`MOST`]: nobody honest writes such a path.
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

/// More readings than an honest path has.
const MOST: usize = 128;

enum Spelling {
    Plain,
    UpperCase,
    Ambiguous,
}

impl Spelling {
    /// One scan that finds out whether any step could change the path.
    fn of(path: &[u8]) -> Self {
        let mut upper_case = false;
        let mut before = 0;
        for &byte in path {
            match (before, byte) {
                // `//`, `/.`, and a dot or a space at the end of a segment.
                (b'/', b'/' | b'.') | (b'.' | b' ', b'/') => return Self::Ambiguous,
                (_, b'%' | b'\\' | b';' | b':' | 0x80..) | (_, 0..=b' ' | 0x7f) => return Self::Ambiguous,
                (_, b'A'..=b'Z') => upper_case = true,
                _ => {}
            }
            before = byte;
        }
        match before {
            b'.' | b'/' if path.len() > 1 => Self::Ambiguous,
            _ if upper_case => Self::UpperCase,
            _ => Self::Plain,
        }
    }
}

fn several(path: &[u8]) -> Readings<'_> {
    let mut readings = vec![path.to_ascii_lowercase()];
    for step in STEPS {
        for index in 0..readings.len() {
            let Some(reading) = step(&readings[index]) else { continue };
            if !readings.contains(&reading) {
                if readings.len() == MOST {
                    return Readings::TooMany;
                }
                readings.push(reading);
            }
        }
    }
    Readings::Several(readings)
}

/// Gives the path after the step, or `None` where it does nothing.
type Step = fn(&[u8]) -> Option<Vec<u8>>;

const STEPS: [Step; 13] = [
    decode,
    decode,
    decode,
    fold_unicode,
    cut_at_nul,
    turn_backslashes,
    cut_parameters,
    trim_segments,
    merge_slashes,
    remove_dot_segments,
    // `/a//../b` is `/b` to who merges first, `/a/b` to who does it last.
    merge_slashes,
    trim_trailing_slash,
    // A name that only now stands at the end.
    trim_segments,
];

/// Percent-decodes once; `%u002e` as IIS does, too.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'%', path)?;
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            // Bytes, not characters: what they mean together is for a later step.
            if let Some(code) = after.get(..2).and_then(hex) {
                decoded.push((code as u8).to_ascii_lowercase());
                rest = &after[2..];
                continue;
            }
            if let (b'u', Some(code)) = (after.first().copied().unwrap_or(0), after.get(1..5).and_then(hex)) {
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

/// Folds what is not ASCII but may be taken for it: overlong UTF-8, fullwidth forms, and other
/// characters whose compatibility form is a letter, a dot or a slash.
fn fold_unicode(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    let mut folded = Vec::with_capacity(path.len());
    let mut rest = path;
    while !rest.is_empty() {
        let (ascii, length) = match *rest {
            // RFC 3629 §10: overlong forms of ASCII, in two, three and four bytes.
            [lead @ 0xc0..=0xc1, next, ..] => (Some((lead & 1) << 6 | next & 0x3f), 2),
            [0xe0, second, next, ..] if second & 0x3e == 0 => (Some((second & 1) << 6 | next & 0x3f), 3),
            [0xf0, 0x80, third, next, ..] if third & 0x3e == 0 => (Some((third & 1) << 6 | next & 0x3f), 4),
            // U+FF01 to U+FF5E: the fullwidth forms of `!` to `~`.
            [0xef, 0xbc, next @ 0x81..=0xbf, ..] => (Some(next - 0x81 + b'!'), 3),
            [0xef, 0xbd, next @ 0x80..=0x9e, ..] => (Some(next - 0x80 + b'`'), 3),
            // U+2024 one dot leader, U+3002 and U+FF61 ideographic full stops, U+FE52 small full stop.
            [0xe2, 0x80, 0xa4, ..] | [0xe3, 0x80, 0x82, ..] | [0xef, 0xbd, 0xa1, ..] | [0xef, 0xb9, 0x92, ..] => {
                (Some(b'.'), 3)
            }
            // U+2044 fraction slash, U+2215 division slash; U+FE68 small reverse solidus, U+2216 set minus.
            [0xe2, 0x81, 0x84, ..] | [0xe2, 0x88, 0x95, ..] => (Some(b'/'), 3),
            [0xef, 0xb9, 0xa8, ..] | [0xe2, 0x88, 0x96, ..] => (Some(b'\\'), 3),
            // U+017F long s and U+212A Kelvin sign, whose lower case is ASCII.
            [0xc5, 0xbf, ..] => (Some(b's'), 2),
            [0xe2, 0x84, 0xaa, ..] => (Some(b'k'), 3),
            // U+3000 ideographic space and U+00A0, which some trim.
            [0xe3, 0x80, 0x80, ..] => (Some(b' '), 3),
            [0xc2, 0xa0, ..] => (Some(b' '), 2),
            [byte, ..] => (Some(byte), 1),
            [] => (None, 1),
        };
        folded.extend(ascii.map(|ascii| ascii.to_ascii_lowercase()));
        rest = &rest[length..];
    }
    changed(folded, path)
}

/// As a C string ends.
fn cut_at_nul(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(0, path).map(|nul| path[..nul].to_vec())
}

fn turn_backslashes(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'\\', path)?;
    Some(path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect())
}

/// RFC 3986 §3.3: servlet containers take `/a;x=1/b` for `/a/b`.
fn cut_parameters(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b';', path)?;
    changed(map_segments(path, |segment| segment.split(|&byte| byte == b';').next().unwrap_or_default()), path)
}

/// As Windows opens files: `a. . ` is `a`, `a::$DATA` is `a`. `.` and `..` stay.
fn trim_segments(path: &[u8]) -> Option<Vec<u8>> {
    let trimmed = map_segments(path, |segment| {
        let segment = match memchr::memmem::find(segment, b"::$") {
            Some(stream) => &segment[..stream],
            None => segment,
        };
        let end = segment.iter().rposition(|byte| !matches!(byte, b'.' | b' ' | b'\t')).map_or(0, |last| last + 1);
        if end == 0 { segment.trim_ascii_end() } else { &segment[..end] }
    });
    changed(trimmed, path)
}

fn merge_slashes(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(path, b"//")?;
    let mut merged = path.to_vec();
    merged.dedup_by(|next, before| *next == b'/' && *before == b'/');
    Some(merged)
}

/// RFC 3986 §5.2.4.
fn remove_dot_segments(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(path, b"/.")?;
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|&byte| byte == b'/') {
        ends_in_folder = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => {
                segments.pop();
            }
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
