//! The limits of a request head.

/// The limits on the size of a request head, of its target and of its number of fields.
///
/// # Examples
///
/// ```
/// use rproxy_http1::HeadLimits;
///
/// let limits = HeadLimits { fields: 50, ..HeadLimits::default() };
/// assert_eq!((limits.size, limits.target), (32 * 1024, 8 * 1024));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The maximum size of a request head in bytes, including the request line. Default: 32 KiB.
    pub size: usize,
    /// The maximum size of a request target in bytes. Default: 8 KiB.
    pub target: usize,
    /// The maximum number of fields. Default: 100.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { size: 32 * 1024, target: 8 * 1024, fields: 100 }
    }
}
