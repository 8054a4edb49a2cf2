//! Formats an error together with its sources.

use std::error::Error;
use std::fmt;

/// Displays an error followed by its sources, separated by colons.
///
/// # Examples
///
/// The message of each error describes its own level only, so that this prints each level once:
///
/// ```
/// use rproxy::ErrorChain;
///
/// let mut config = rproxy::Config::default();
/// config.upstream.health_path = Some("/ /".to_owned());
/// let error = config.try_build().unwrap_err();
/// assert_eq!(ErrorChain(&error).to_string(), "bad upstream_health_path \"/ /\": invalid uri character");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RunError, StackError};
    use rproxy_server::ServerError;
    use std::io;

    #[test]
    fn error_chain_prints_each_error_once() {
        let bind = ServerError::Bind { address: "192.0.2.1:80".parse().unwrap(), source: io::Error::other("no route") };
        for (error, message) in [
            (RunError::Server(bind), "cannot listen on 192.0.2.1:80: no route"),
            (RunError::Signals(io::Error::other("no signals")), "cannot install signal handlers: no signals"),
            (
                RunError::Stack(StackError::AccessLog(io::Error::other("no thread"))),
                "cannot start the access log thread: no thread",
            ),
        ] {
            assert_eq!(ErrorChain(&error).to_string(), message);
        }
    }
}
