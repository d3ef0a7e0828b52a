//! The connections of which the screen asks TCP's own view: those that it shows.

use super::state::State;
use crate::{
    event::{Protocol, State as SocketState},
    model::snapshot::Flow,
    query::{entry::Subject, history::Watched},
    source::tcp_info::{Connection, Wanted},
};

/// The column of what waits to be sent or received.
const QUEUE: &str = "queue_bytes";
/// Connections at most, so that a tick stays short.
const MOST: usize = 256;

impl State {
    /// The connections of the rows and the details on the screen.
    pub fn wanted_connections(&self) -> Wanted {
        // What is not on the screen may have the longest queue.
        if self.here().sort.is_some_and(|(by, _)| by.name == QUEUE) {
            return Wanted::All;
        }
        let mut connections = Vec::new();
        let mut watched = Watched::default();
        for popup in &self.popups {
            popup.watch(&mut watched);
        }
        for flow in &self.live.flows {
            let of_process = |process| watched.processes.contains(&process);
            let of_remote = || {
                let mut groups = watched.groups.iter();
                groups.any(|group| group.are_flows() && group.have_flow(flow))
            };
            if watched.flows.contains(&flow.key)
                || flow.key.process.is_some_and(of_process)
                || of_remote()
            {
                connections.extend(connection(flow));
            }
        }
        let first = self.here().offset;
        let lines = self.rows.lines.iter().skip(first).take(self.size.1.into());
        for line in lines {
            if let Subject::Flow(flow) = &self.rows.entries[line.at as usize].subject {
                connections.extend(connection(flow));
            }
        }
        connections.truncate(MOST);
        if connections.is_empty() {
            Wanted::None
        } else {
            Wanted::These(connections)
        }
    }
}

/// A flow as a connection that TCP knows.
fn connection(flow: &Flow) -> Option<Connection> {
    let is_connected = !matches!(flow.state, SocketState::Listen | SocketState::Closed);
    let is_there = flow.protocol == Protocol::Tcp && flow.closed.is_none() && is_connected;
    Some(Connection {
        cookie: flow.key.socket,
        netns: flow.netns,
        local: flow.local,
        remote: flow.key.remote.filter(|_| is_there)?,
    })
}
