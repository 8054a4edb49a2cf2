//! The names of settings in messages, as the operator writes them.

use std::sync::{PoisonError, RwLock};

use super::source::ValueSource;
use super::{Config, find};
use crate::setting::PREFIX;

/// The configuration whose spelling messages of this process use, without its sites.
static OF_PROCESS: RwLock<Option<Config>> = RwLock::new(None);

impl Config {
    /// Replaces the environment variables of settings in a message by the names that their sources use.
    ///
    /// A setting from the file gets its key, and one from the command line its flag. A setting without a value is spelled as
    /// in the configuration file if there is one, else as an environment variable. A name
    /// with a colon at the start of the message also gets the file and line.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy::config::Sources;
    ///
    /// let config = Sources::new().set("listen", "127.0.0.1:80").load()?;
    /// assert_eq!(config.spell("set RPROXY_LISTEN or RPROXY_UPSTREAM"), "set --listen or RPROXY_UPSTREAM");
    /// # Ok::<(), rproxy::ConfigError>(())
    /// ```
    pub fn spell(&self, message: &str) -> String {
        let mut text = String::with_capacity(message.len());
        let mut rest = message;
        while let Some(at) = rest.find(PREFIX) {
            let (before, name) = rest.split_at(at);
            text.push_str(before);
            let is_name_byte = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            let end = name.bytes().position(|byte| !is_name_byte(byte)).unwrap_or(name.len());
            let (name, after) = name.split_at(end);
            match find(&name[PREFIX.len()..].to_ascii_lowercase()) {
                Some(setting) if text.is_empty() && after.starts_with(':') => {
                    text.push_str(&self.source_of_name(setting.key).locate(setting.key).to_string())
                }
                Some(setting) => text.push_str(&self.source_of_name(setting.key).name(setting.key)),
                None => text.push_str(name),
            }
            rest = after;
        }
        text + rest
    }

    /// Returns the source in whose spelling messages name a setting.
    fn source_of_name(&self, key: &str) -> ValueSource {
        match self.value_source(key) {
            ValueSource::Default if !self.sources.has_file() => ValueSource::Environment,
            source => source,
        }
    }

    /// Makes [`spelled`] use the spelling of this configuration.
    pub(crate) fn spell_messages_of_process(&self) {
        *OF_PROCESS.write().unwrap_or_else(PoisonError::into_inner) = Some(self.without_sites());
    }
}

/// Replaces the environment variables of settings in a message by the names in the configuration of this process.
pub(crate) fn spelled(message: &str) -> String {
    match &*OF_PROCESS.read().unwrap_or_else(PoisonError::into_inner) {
        Some(config) => config.spell(message),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Sources;

    #[test]
    fn message_names_each_setting_as_its_source_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        std::fs::write(&path, "workers = 1\nlisten = \"127.0.0.1:81\"\n").unwrap();
        let sources = || Sources::new().env([("RPROXY_RATE_LIMIT", "5")]).set("http_port", "82");
        let message = "RPROXY_LISTEN: RPROXY_HTTP_PORT=8080, RPROXY_RATE_LIMIT, RPROXY_UPSTREAM; RPROXY_NONE, RPROXY_";
        let with_file = sources().file(&path).load().unwrap().spell(message);
        let file = path.display();
        assert_eq!(
            with_file,
            format!("{file}:2: listen: --http-port=8080, RPROXY_RATE_LIMIT, upstream; RPROXY_NONE, RPROXY_")
        );
        let without_file = sources().load().unwrap().spell(message);
        assert_eq!(without_file, message.replace("RPROXY_HTTP_PORT", "--http-port"));
    }
}
