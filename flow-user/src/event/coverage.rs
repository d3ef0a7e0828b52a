//! What sources provide, and by which means.

use serde::{Deserialize, Serialize};

/// Something that sources provide. They are reported in this order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumIter,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(into = "&'static str", try_from = "&str")]
#[strum(const_into_str)]
pub enum Capability {
    #[strum(serialize = "app bytes by process")]
    AppBytes,
    #[strum(serialize = "socket identity and life")]
    Sockets,
    #[strum(serialize = "wire bytes by socket")]
    WireBytes,
    #[strum(serialize = "interface totals")]
    Interfaces,
    #[strum(serialize = "process life")]
    Processes,
    /// Sockets that were there before the source began.
    #[strum(serialize = "sockets that existed before")]
    Existing,
}

impl Capability {
    /// Name as it stands in outputs.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }
}

/// How a capability is provided, for the header of each view and `flow doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Coverage {
    /// What is provided, such as "app bytes by process".
    #[schemars(with = "String")]
    pub capability: Capability,
    /// The backend in use; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What it cannot see, in words; empty when it sees everything.
    pub limits: String,
}
