//! The zones of a socket's peers: interfaces, whose names change.

use std::{net::SocketAddr, sync::Arc};

use super::{NamedZone, Socket};
use crate::model::snapshot::zone_index;

impl Socket {
    /// Gives a zone of its peers a name.
    pub(in crate::model) fn name_zone(&mut self, zone: Option<NamedZone>) {
        let Some((index, name)) = zone else { return };
        let zones = &mut self.rare.get_or_insert_default().zones;
        match zones.iter_mut().find(|(known, _)| *known == index) {
            Some((_, known)) if *known == name => return,
            Some((_, known)) => *known = name,
            None => zones.push((index, name)),
        }
        self.version += 1;
    }

    /// An interface has a new name.
    pub(in crate::model) fn rename_zone(&mut self, index: u32, name: &Arc<str>) {
        if self.zones().iter().any(|(known, _)| *known == index) {
            self.name_zone(Some((index, name.clone())));
        }
    }

    fn zones(&self) -> &[NamedZone] {
        self.rare.as_deref().map_or(&[], |rare| &rare.zones)
    }

    /// Name of the interface of a peer's zone.
    pub(super) fn zone_of(&self, remote: Option<SocketAddr>) -> Option<Arc<str>> {
        let index = zone_index(remote?).filter(|_| self.host)?;
        let mut zones = self.zones().iter();
        zones
            .find(|(known, _)| *known == index)
            .map(|(_, name)| name.clone())
    }
}
