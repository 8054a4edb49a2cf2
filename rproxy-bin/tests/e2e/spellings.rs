//! Spellings of paths: the corpora of the path filter, and random variations of a path.

/// A corpus of evasions of the default list of blocked paths.
pub(crate) const BLOCKED: &str = include_str!("../../../crates/path-filter/tests/corpus/blocked.txt");
/// A corpus of evasions of the strict list of blocked paths.
pub(crate) const BLOCKED_STRICT: &str = include_str!("../../../crates/path-filter/tests/corpus/blocked_strict.txt");

/// Returns the paths that a corpus contains.
pub(crate) fn corpus(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| line.starts_with('/'))
}

/// A deterministic random number generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// Returns the path of a secret file or of a file outside the served directory, with up to five random changes.
    pub(crate) fn disguise(&mut self, secrets: &[&str], outside: Option<&str>) -> String {
        let before =
            self.pick(&["/", "/x/../", "/x/y/../../", "/static/../", "/.well-known/../", "/../", "/..", "/x/.."]);
        let mut path = format!("{before}{}", self.pick(secrets));
        if let Some(outside) = outside.filter(|_| self.below(12) == 0) {
            path = format!("/..{outside}outside.sql");
        }
        for _ in 0..=self.below(4) {
            path = self.change(path);
        }
        // A line end would end the request line, and a space the target.
        path.replace(['\r', '\n', '\0', '\t'], "%00").replace(' ', "%20").replace('#', "%23").replace('?', "%3f")
    }

    fn change(&mut self, path: String) -> String {
        let places: Vec<_> = path.char_indices().skip(1).collect();
        let (at, c) = places[self.below(places.len())];
        let with = |text: &str| format!("{}{text}{}", &path[..at], &path[at + c.len_utf8()..]);
        match self.below(14) {
            // One character in another encoding,
            0..=2 => with(&self.spell(c)),
            // all equal characters in another encoding,
            3 => {
                let kind = *['.', '/', c].get(self.below(3)).unwrap_or(&c);
                let how = self.below(9);
                let changed: String = path
                    .char_indices()
                    .map(
                        |(i, other)| {
                            if i > 0 && other == kind { Self::spelled(other, how) } else { other.to_string() }
                        },
                    )
                    .collect();
                changed
            }
            // something between segments,
            4..=6 => {
                let put = self.pick(&[
                    "/",
                    "./",
                    "x/../",
                    "%2e/",
                    "x/%2e%2e/",
                    "x/..%2f",
                    "x/..;/",
                    ";/",
                    ".;/",
                    "x%2f../",
                    "\\",
                    "%5c",
                    "x/.%2e/",
                    "x\\..\\",
                    "%00/",
                    "%20/",
                    "x//../",
                    "..;/../",
                    "%252e/",
                    "x/%252e%252e/",
                ]);
                let slashes: Vec<_> = path.match_indices('/').map(|(at, _)| at + 1).collect();
                let at = slashes[self.below(slashes.len())];
                format!("{}{put}{}", &path[..at], &path[at..])
            }
            // a suffix,
            7..=9 => {
                let put = self.pick(&[
                    "/",
                    "//",
                    "/.",
                    ".",
                    "..",
                    "%2e",
                    "%20",
                    "+",
                    ";",
                    ";x=y",
                    ";.css",
                    "%3b.css",
                    "%00",
                    "%00.html",
                    "%3f",
                    "%3fx",
                    "%23",
                    "::$DATA",
                    "%3a%3a$DATA",
                    "%ff",
                    "%c0%80",
                    "%e2%80%8b",
                    "\\",
                    "%5c",
                    "%2f",
                    "%252f",
                    "%0a",
                    "%2500",
                    "%253f",
                    "/x/..",
                    "<",
                    "\"",
                    "%c2%a0",
                ]);
                format!("{path}{put}")
            }
            // something in the middle that servers may drop,
            10 => {
                let put = self.pick(&["%00", "%0d", "%ff", "%e2%80%8b", "%c2%ad", "%ef%bb%bf", "%09", "%7f"]);
                format!("{}{put}{}", &path[..at], &path[at..])
            }
            // another case,
            11 => path.to_ascii_uppercase(),
            // or percent signs encoded again.
            12 => path.replace('%', "%25"),
            _ => path.replace('%', "%ef%bc%85"),
        }
    }

    fn spell(&mut self, c: char) -> String {
        let how = self.below(9);
        Self::spelled(c, how)
    }

    pub(crate) fn spelled(c: char, how: usize) -> String {
        let code = u32::from(c);
        match how {
            _ if !c.is_ascii_graphic() => c.to_string(),
            0 => format!("%{code:02x}"),
            1 => format!("%25{code:02X}"),
            2 => format!("%2525{code:02x}"),
            3 => format!("%u00{code:02x}"),
            4 => format!("%{:02x}%{:02x}", 0xc0 | code >> 6, 0x80 | code & 0x3f),
            5 => format!("%e0%{:02x}%{:02x}", 0x80 | code >> 6, 0x80 | code & 0x3f),
            6 => char::from_u32(code - 0x21 + 0xff01).unwrap_or(c).to_string(),
            7 => {
                let wide = char::from_u32(code - 0x21 + 0xff01).unwrap_or(c);
                wide.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02x}")).collect()
            }
            // `%%32%65` is decoded to `%2e` first.
            _ => format!("%{code:02x}")
                .bytes()
                .enumerate()
                .map(|(at, digit)| match at {
                    0 => "%".to_owned(),
                    _ => format!("%{digit:02x}"),
                })
                .collect(),
        }
    }
}
