//! The far end of a load, in the peer's namespace, and what a load needs of it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

use super::{Bench, Process, load::Done};
use crate::{live::peer::Peer, truth::Line};

/// A far end that receives everything.
#[derive(Debug)]
pub struct Sink {
    process: Process,
    pub address: String,
}

impl Sink {
    /// `before`: options of every load, such as its core.
    pub fn start(bench: &Bench, peer: &Peer, before: &[&str], after: &[&str]) -> Result<Self> {
        let listen = any_port(peer.far4);
        let arguments = [before, &["sink", "--listen", &listen], after].concat();
        let mut process = bench.load(&arguments, Some(peer))?;
        let address = listening(bench, &mut process)?.to_string();
        Ok(Self { process, address })
    }

    /// Sends to it for so long. Returns what was sent, and what it had received in the end.
    pub fn send(self, bench: &Bench, load: &[&str], time: Duration) -> Result<(Done, Done)> {
        let sent = send(bench, load, &self.address, time)?;
        let received = self.process.finish(bench)?;
        Ok((sent, received))
    }
}

/// Sends to an address for so long.
pub fn send(bench: &Bench, load: &[&str], address: &str, time: Duration) -> Result<Done> {
    let seconds = time.as_secs_f64().to_string();
    let arguments = [load, &["--peer", address, "--seconds", &seconds]].concat();
    bench.load(&arguments, None)?.json(bench)
}

/// The address at which a process reports to listen.
pub fn listening(bench: &Bench, process: &mut Process) -> Result<SocketAddr> {
    match process.json(bench)? {
        Line::Listening { address } => Ok(address),
        other => bail!("an address was expected, not {other:?}"),
    }
}

/// Any port of an address.
pub fn any_port(ip: IpAddr) -> String {
    SocketAddr::new(ip, 0).to_string()
}

/// A core for senders and one for receivers; the same where there is only one.
pub fn cores() -> Result<[String; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true));
    let near = cores.next().context("no core is allowed")?;
    let far = cores.next().unwrap_or(near);
    Ok([near, far].map(|core| core.to_string()))
}
