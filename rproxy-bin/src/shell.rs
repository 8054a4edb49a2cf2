//! Quoting of words for shell commands.

use std::ffi::OsStr;

/// Quotes a word for use in a shell command.
pub(crate) fn shell_quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:,=@".contains(&byte);
    match text.bytes().all(is_plain) && !text.is_empty() {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_words_for_a_shell() {
        for (word, quoted_word) in
            [("/a/ca.pem", "/a/ca.pem"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("$x", "'$x'")]
        {
            assert_eq!(shell_quoted(OsStr::new(word)), quoted_word);
        }
    }
}
