//! What a user can choose about a start.

use super::{backends::Backend, sizes::Sizes};

/// What to attach.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only backend to try for app bytes.
    pub backend: Option<Backend>,
    /// The only interfaces to classify packets of; all where absent.
    pub interfaces: Option<Vec<String>>,
    pub sizes: Sizes,
}
