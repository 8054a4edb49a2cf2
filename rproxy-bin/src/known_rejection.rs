//! The declaration of a rejection by one of the layers.

use rproxy_core::Rejection;

/// The declaration of a rejection: its reason, its cause and an explanation.
#[derive(Debug)]
pub(crate) struct KnownRejection {
    pub(crate) reason: &'static str,
    cause: &'static str,
    pub(crate) explanation: Option<&'static str>,
    pub(crate) is_logged: bool,
}

impl KnownRejection {
    /// Declares a rejection by its reason and, if there are several with this reason, by its cause.
    pub(crate) const fn new(reason: &'static str, cause: &'static str) -> Self {
        Self { reason, cause, explanation: None, is_logged: false }
    }

    /// Sets the cause of the rejection and the setting that decides, in words.
    ///
    /// The detail of the rejection replaces the text in braces, if there is a detail.
    pub(crate) const fn explained(self, explanation: &'static str) -> Self {
        Self { explanation: Some(explanation), ..self }
    }

    /// Logs the rejection, at most once per minute.
    pub(crate) const fn logged(self) -> Self {
        Self { is_logged: true, ..self }
    }

    /// Returns whether this is the declaration of `rejection`.
    pub(crate) fn is(&self, rejection: &Rejection) -> bool {
        self.reason == rejection.reason() && self.cause == rejection.cause()
    }
}
