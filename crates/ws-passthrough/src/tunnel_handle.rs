//! A handle that notifies an outer layer when a tunnel closes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::summary::TunnelSummary;

/// A response extension that notifies outer layers when the tunnel of the response closes.
///
/// Outer layers use it to learn when the tunnel closes, for example to write a log line.
#[derive(Clone, Default)]
pub struct TunnelHandle {
    callback: Arc<Mutex<Option<Box<Callback>>>>,
}

type Callback = dyn FnOnce(&TunnelSummary) + Send;

impl TunnelHandle {
    /// Sets the callback that is called when the tunnel closes. It replaces an earlier callback.
    ///
    /// The callback runs on the tunnel's task, so it must not block. If the runtime drops that task, the callback is
    /// dropped without a call.
    pub fn on_close(&self, callback: impl FnOnce(&TunnelSummary) + Send + 'static) {
        *self.callback.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(callback));
    }

    pub(crate) fn notify(&self, summary: &TunnelSummary) {
        let callback = self.callback.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(callback) = callback {
            callback(summary);
        }
    }
}

impl fmt::Debug for TunnelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelHandle").finish_non_exhaustive()
    }
}
