//! What sources provide, and by which means.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Something that sources provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    AppBytes,
    Sockets,
    WireBytes,
    Interfaces,
    Processes,
    /// Sockets that were there before the source began.
    Existing,
}

impl Capability {
    /// Every capability, in the order in which they are reported.
    pub const ALL: [Self; 6] = [
        Self::AppBytes,
        Self::Sockets,
        Self::WireBytes,
        Self::Interfaces,
        Self::Processes,
        Self::Existing,
    ];

    /// Name as it stands in outputs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AppBytes => "app bytes by process",
            Self::Sockets => "socket identity and life",
            Self::WireBytes => "wire bytes by socket",
            Self::Interfaces => "interface totals",
            Self::Processes => "process life",
            Self::Existing => "sockets that existed before",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        let mut all = Self::ALL.into_iter();
        all.find(|capability| capability.name() == name)
            .ok_or_else(|| D::Error::custom("no capability has this name"))
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
