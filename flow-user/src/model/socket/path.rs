//! What TCP knows of a connection, where a consumer asks for it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Socket;
use crate::{
    event::{Instant, TcpInfo},
    model::snapshot::{Limits, Path},
};

/// A connection of which TCP's own view is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Watched {
    pub(super) path: Arc<Path>,
    /// Two earlier readings of how its sending was limited, see [`LIMITS_OF`].
    older: (Instant, Limits),
    newer: (Instant, Limits),
}

/// Limits are shown of the time since a reading that is this old, up to twice as old; at first since
/// the first one, once that is so old.
const LIMITS_OF: Duration = Duration::from_secs(10);
const LIMITS_LEAST: Duration = Duration::from_secs(3);

impl Socket {
    /// What TCP knows of it now.
    pub(in crate::model) fn tcp_info(&mut self, info: TcpInfo, time: Instant) {
        if self.closed.is_some() {
            return;
        }
        let total = Limits::since_the_beginning(&info).unwrap_or_default();
        let watched = self.rare.get_or_insert_default().watched.take();
        // One that was not asked for meanwhile begins anew.
        let watched = watched.filter(|it| time.since(it.newer.0) <= 2 * LIMITS_OF);
        let (older, newer) = match &watched {
            Some(it) if time.since(it.newer.0) >= LIMITS_OF => (it.newer, (time, total)),
            Some(it) => (it.older, it.newer),
            None => ((time, total), (time, total)),
        };
        let known = watched.as_ref().map(|it| &it.path);
        let waited = known.map_or(0, |path| path.info.receive_queue);
        let of = time.since(older.0);
        let has_clocks = info.busy.is_some() && of >= LIMITS_LEAST;
        let path = Path {
            waits: waited.min(info.receive_queue),
            limits: has_clocks.then(|| total.since(&older.1, of)),
            time,
            info,
        };
        // Of one that is still nothing changes but the time.
        let is_same = known.is_some_and(|known| known.says_the_same(&path));
        self.version += u32::from(!is_same);
        let path = Arc::new(path);
        let rare = self.rare.get_or_insert_default();
        rare.watched = Some(Watched { path, older, newer });
    }

    /// Forgets what TCP knew of it before this. Returns whether it is still watched.
    pub(in crate::model) fn forget_tcp_info(&mut self, before: Instant) -> bool {
        let Some(rare) = &mut self.rare else {
            return false;
        };
        let is_old = |it: &mut Watched| it.path.time < before;
        if rare.watched.take_if(is_old).is_some() {
            self.version += 1;
        }
        rare.watched.is_some()
    }
}
