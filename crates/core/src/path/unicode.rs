//! Decoding steps for Unicode characters and invalid bytes that some servers treat as other characters.
//!
//! Each function returns `None` if it changes nothing.

use unicode_normalization::char::decompose_compatible;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Replaces compatibility forms of ASCII characters, such as fullwidth letters, and removes zero-width characters.
///
/// Also converts all letters to lower case.
pub(super) fn fold(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    let mut folded = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            match fold_char(character) {
                Some(text) => folded.extend_from_slice(text.as_bytes()),
                None => fold_compatible(character, &mut folded),
            }
        }
        folded.extend_from_slice(chunk.invalid());
    }
    (folded != path).then_some(folded)
}

/// Appends the compatibility decomposition of a character if it is ASCII (Unicode §3.7, as in NFKC).
///
/// Such characters are fullwidth, mathematical, circled and superscript letters, and ligatures. Appends any other
/// character in lower case.
fn fold_compatible(character: char, folded: &mut Vec<u8>) {
    let (start, mut is_ascii) = (folded.len(), true);
    decompose_compatible(character, |part| match u8::try_from(part).ok().filter(u8::is_ascii) {
        Some(byte) => folded.push(byte.to_ascii_lowercase()),
        None => is_ascii = false,
    });
    if is_ascii {
        return;
    }
    folded.truncate(start);
    for lower in character.to_lowercase() {
        folded.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Returns the ASCII replacement of a character that has no compatibility decomposition to ASCII.
fn fold_char(character: char) -> Option<&'static str> {
    Some(match character {
        '\0'..='\x7f' => return None,
        // Ideographic full stops, which are dots in names of hosts (UTS #46).
        '\u{3002}' | '\u{ff61}' => ".",
        // Fraction slash, division slash, big solidus.
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => "/",
        // Set minus, reverse solidus operator, big reverse solidus.
        '\u{2216}' | '\u{29f5}' | '\u{29f9}' => "\\",
        // Arabic percent sign.
        '\u{066a}' => "%",
        // Letters whose other case is ASCII, without a decomposition to it.
        '\u{00df}' | '\u{1e9e}' => "ss",
        '\u{0130}' | '\u{0131}' => "i",
        // Default ignorable code points: no width, and HFS+ ignores them in names.
        '\u{00ad}'
        | '\u{034f}'
        | '\u{061c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e0fff}' => "",
        character if character.is_control() => "",
        character if character.is_whitespace() => " ",
        _ => return None,
    })
}

/// Composes characters (Unicode normalization form C): `e` with a combining accent becomes `é`.
///
/// Some file systems and frameworks use this form.
pub(super) fn compose(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() || path.utf8_chunks().all(|chunk| is_nfc(chunk.valid())) {
        return None;
    }
    let mut composed = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().nfc() {
            composed.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        composed.extend_from_slice(chunk.invalid());
    }
    (composed != path).then_some(composed)
}

/// Replaces characters with the similar characters that Windows substitutes in a code page ("best fit").
///
/// Also replaces the currency signs that Japanese and Korean code pages have in the place of the backslash.
pub(super) fn best_fit(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    let mut fitted = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\u{a5}' | '\u{20a9}' | '\u{ffe5}' | '\u{ffe6}' => fitted.push(b'\\'),
                '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2212}' => fitted.push(b'-'),
                '\u{2236}' | '\u{0589}' => fitted.push(b':'),
                '\u{2217}' => fitted.push(b'*'),
                '\u{203a}' => fitted.push(b'>'),
                '\u{2039}' => fitted.push(b'<'),
                _ => fitted.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        fitted.extend_from_slice(chunk.invalid());
    }
    (fitted != path).then_some(fitted)
}

/// Decodes overlong UTF-8 sequences of two to six bytes, which RFC 3629 §3 forbids.
///
/// Ignores the upper two bits of continuation bytes, as some decoders do.
pub(super) fn decode_overlong(path: &[u8]) -> Option<Vec<u8>> {
    if path.is_ascii() {
        return None;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&lead, after)) = rest.split_first() {
        match overlong(lead, after) {
            Some((character, length)) => {
                let lower = character.to_ascii_lowercase();
                decoded.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &after[length..];
            }
            None => {
                decoded.push(lead);
                rest = after;
            }
        }
    }
    (decoded.len() != path.len()).then_some(decoded)
}

/// Decodes an overlong UTF-8 sequence into its character and its number of continuation bytes.
fn overlong(lead: u8, after: &[u8]) -> Option<(char, usize)> {
    // The length, and the first character that is not overlong with it.
    let (length, end) = match lead {
        0xc0 | 0xc1 => (1, 0x80),
        0xe0 => (2, 0x800),
        0xf0 => (3, 0x1_0000),
        0xf8 => (4, 0x20_0000),
        0xfc => (5, 0x20_0000),
        _ => return None,
    };
    let fold = |value: u32, byte: &u8| value << 6 | u32::from(byte & 0x3f);
    let value = after.get(..length)?.iter().fold(u32::from(lead & 1), fold);
    let character = char::from_u32(value).filter(|_| value < end)?;
    Some((character, length))
}

/// Removes invalid UTF-8 bytes from the path.
pub(super) fn drop_invalid(path: &[u8]) -> Option<Vec<u8>> {
    if std::str::from_utf8(path).is_ok() {
        return None;
    }
    Some(path.utf8_chunks().flat_map(|chunk| chunk.valid().bytes()).collect())
}

/// Decodes bytes that are not valid UTF-8 as Windows-1252, the superset of Latin-1.
pub(super) fn decode_latin1(path: &[u8]) -> Option<Vec<u8>> {
    if std::str::from_utf8(path).is_ok() {
        return None;
    }
    let mut decoded = Vec::with_capacity(path.len() * 2);
    for chunk in path.utf8_chunks() {
        decoded.extend_from_slice(chunk.valid().as_bytes());
        for &byte in chunk.invalid() {
            let character = match byte {
                0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
                _ => char::from(byte),
            };
            decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Some(decoded)
}

/// The characters that Windows-1252 assigns to the bytes 0x80 to 0x9f (WHATWG Encoding).
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}', '\u{2030}',
    '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}',
    '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}',
    '\u{17e}', '\u{178}',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_compatibility_characters_with_ascii() {
        let cases: [(&str, Option<&str>); 17] = [
            ("/．．／．ｅｎｖ", Some("/../.env")),
            ("/a＼b％２ｅ；c", Some(r"/a\b%2e;c")),
            ("/.g\u{200c}it", Some("/.git")),
            ("/‥/\u{2215}a\u{29f5}", Some(r"/..//a\")),
            ("/backup.ſql", Some("/backup.sql")),
            ("/a\u{a0}", Some("/a ")),
            ("/東京/É", Some("/東京/é")),
            ("/plain", None),
            ("/a\u{85}", Some("/a")),
            ("/𝖻𝖺𝖼𝗄𝗎𝗉.ⓢⓠⓛ", Some("/backup.sql")),
            ("/con\u{fb01}g", Some("/config")),
            ("/ᵂᴾ-ᶜonfig", Some("/wp-config")),
            ("/\u{212a}ey", Some("/key")),
            ("/pa\u{df}wd", Some("/passwd")),
            ("/a\u{fe52}b\u{2024}c\u{2026}", Some("/a.b.c...")),
            ("/a\u{fe68}b\u{37e}c\u{fe6a}", Some(r"/a\b;c%")),
            ("/½ café", None),
        ];
        for (path, expected) in cases {
            let folded = fold(path.as_bytes()).map(|folded| String::from_utf8(folded).unwrap());
            assert_eq!(folded.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn replaces_characters_with_the_best_fit_of_windows_code_pages() {
        let cases: [(&str, Option<&str>); 4] = [
            ("/a\u{a5}..\u{20a9}b", Some(r"/a\..\b")),
            ("/wp\u{ad}config\u{2010}x", Some("/wp-config-x")),
            ("/é", None),
            ("/a", None),
        ];
        for (path, expected) in cases {
            let fitted = best_fit(path.as_bytes()).map(|fitted| String::from_utf8(fitted).unwrap());
            assert_eq!(fitted.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn decodes_overlong_utf8_sequences() {
        let cases: [(&[u8], Option<&[u8]>); 10] = [
            (b"/\xc0\xae", Some(b"/.")),
            (b"\xc0\xafa", Some(b"/a")),
            (b"/\xc1\x9c", Some(b"/\\")),
            (b"/\xe0\x80\xae", Some(b"/.")),
            (b"/\xf0\x80\x80\xae\xfc\x80\x80\x80\x80\xae", Some(b"/..")),
            (b"/\xc0\x2e\xc0\x6e", Some(b"/..")),
            (b"/\xe0\x83\xa9", Some(b"/\xc3\xa9")),
            (b"/\xc3\xa9\xe2\x82\xac", None),
            ("/\u{905}\u{1f600}".as_bytes(), None),
            (b"/\xc0", None),
        ];
        for (path, expected) in cases {
            assert_eq!(decode_overlong(path).as_deref(), expected, "{path:x?}");
        }
    }

    #[test]
    fn removes_bytes_that_are_not_utf8() {
        assert_eq!(drop_invalid(b"/.e\xffnv\x80").as_deref(), Some(&b"/.env"[..]));
        assert_eq!(drop_invalid("/é".as_bytes()), None);
    }

    #[test]
    fn composes_characters_and_keeps_invalid_utf8_bytes() {
        let cases: [(&[u8], Option<&[u8]>); 5] = [
            ("/cafe\u{301}".as_bytes(), Some("/caf\u{e9}".as_bytes())),
            ("/\u{438}\u{306}\u{1112}\u{1161}\u{11ab}".as_bytes(), Some("/\u{439}\u{d55c}".as_bytes())),
            (b"/e\xcc\x81\xff", Some(b"/\xc3\xa9\xff")),
            ("/caf\u{e9}".as_bytes(), None),
            (b"/cafe", None),
        ];
        for (path, expected) in cases {
            assert_eq!(compose(path).as_deref(), expected, "{path:x?}");
        }
    }

    #[test]
    fn decodes_bytes_that_are_not_utf8_as_latin1() {
        let cases: [(&[u8], Option<&str>); 6] = [
            (b"/caf\xe9", Some("/caf\u{e9}")),
            (b"/\xfcber\xdf", Some("/\u{fc}ber\u{df}")),
            (b"/\x9cuvre\x80", Some("/\u{153}uvre\u{20ac}")),
            (b"/\xe9/\xc3\xa9", Some("/\u{e9}/\u{e9}")),
            (b"/caf\xc3\xa9", None),
            (b"/cafe", None),
        ];
        for (path, expected) in cases {
            assert_eq!(decode_latin1(path).as_deref(), expected.map(str::as_bytes), "{path:x?}");
        }
    }
}
