//! Settings that sites and routes inherit.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A value whose clones share memory until one of them is changed.
///
/// A site or route has a whole configuration, but only the settings that differ from its parent take memory.
#[derive(Clone, Default)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Returns an identifier that is equal for clones that share the value, as long as one of them exists.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Shared<T>
where
    T: Clone,
{
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> fmt::Debug for Shared<T>
where
    T: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_value_until_one_is_changed() {
        let one = Shared::from(vec![1]);
        let mut other = one.clone();
        assert_eq!(one.id(), other.id());
        other.push(2);
        assert_ne!(one.id(), other.id());
        assert_eq!((&*one, &*other), (&vec![1], &vec![1, 2]));
    }
}
