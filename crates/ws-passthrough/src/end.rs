//! Telling whoever asked of the end of one tunnel.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::summary::TunnelSummary;

/// The end of a tunnel: an extension of the response that opens it, for layers outside that have
/// something to say when it is over, such as a log.
#[derive(Clone, Default)]
pub struct TunnelEnd {
    tell: Arc<Mutex<Option<Box<Tell>>>>,
}

type Tell = dyn FnOnce(&TunnelSummary) + Send;

impl TunnelEnd {
    /// Calls `tell` at the end. It runs on the tunnel's task, and must not block; where that task is cut
    /// off, as by the end of a runtime, `tell` is dropped uncalled.
    pub fn then(&self, tell: impl FnOnce(&TunnelSummary) + Send + 'static) {
        *self.tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tell));
    }

    pub(crate) fn tell(&self, summary: &TunnelSummary) {
        let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tell) = tell {
            tell(summary);
        }
    }
}

impl fmt::Debug for TunnelEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelEnd").finish_non_exhaustive()
    }
}
