//! What a process of the generator prints on its standard output: one JSON object on each line.
//!
//! The numbers are what its system calls *returned*: the truth that Flow's numbers are compared
//! with.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// A blind spot of a backend, from the table that `flow doctor` prints.
pub use flow_user::source::kernel::blind_spots::BlindSpot as Blind;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Line {
    /// The far end accepts connections and datagrams here.
    Listening { address: SocketAddr },
    /// Everything that must happen before Flow starts has happened; a line on standard input
    /// continues.
    Ready,
    /// The process is done.
    Moved(Box<Truth>),
}

impl Line {
    /// Writes the line with one system call, so that lines of several processes do not mix.
    pub fn print(&self) -> Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let written = nix::unistd::write(io::stdout(), rest).context("writing to stdout")?;
            rest = &rest[written..];
        }
        Ok(())
    }
}

/// What a process moved, and its names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    pub pid: u32,
    /// Its start, in ticks since boot: pids are reused.
    pub start: u64,
    pub ppid: u32,
    pub mode: String,
    /// Its program's path, invalid UTF-8 replaced.
    pub exe: String,
    /// The comm of its first thread.
    pub comm: String,
    /// Its arguments, invalid UTF-8 replaced.
    pub argv: Vec<String>,
    /// Bytes of its arguments, with their terminating zero bytes.
    pub argv_bytes: usize,
    #[serde(flatten)]
    pub moved: Moved,
    /// Parts of `moved` that not every backend sees.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blind: BTreeMap<Blind, Moved>,
    /// The part of `moved` in datagrams, by remote endpoint; empty if the mode does not report it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remotes: BTreeMap<String, Moved>,
    /// As `remotes`, for datagrams received by calls without `msg_name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unasked: BTreeMap<String, Moved>,
    /// As `remotes`, for datagrams that waited at a raw socket together with those of other
    /// senders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mixed: BTreeMap<String, Moved>,
    /// Sockets that existed before Flow and were not used since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<Idle>,
    /// Endpoints of connections that failed, this process's first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<[SocketAddr; 2]>,
    /// Failed sends, of modes that continue then. The packet may have reached an interface's
    /// classifier.
    #[serde(default)]
    pub failed_sends: u64,
    /// A feature that this kernel lacks, so that the mode moved nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Feature>,
}

impl Truth {
    /// Whether a part of it is in this blind spot.
    pub fn has(&self, blind: Blind) -> bool {
        match blind {
            Blind::UnaskedSenders => !self.unasked.is_empty(),
            Blind::MixedSenders => !self.mixed.is_empty(),
            _ => {
                self.blind.contains_key(&blind)
                    || self.idle.iter().any(|socket| socket.blind == Some(blind))
            }
        }
    }
}

/// Totals of what calls returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Calls that succeeded.
    pub tx_calls: u64,
    pub rx_calls: u64,
}

impl std::ops::AddAssign for Moved {
    fn add_assign(&mut self, other: Self) {
        self.tx_bytes += other.tx_bytes;
        self.rx_bytes += other.rx_bytes;
        self.tx_calls += other.tx_calls;
        self.rx_calls += other.rx_calls;
    }
}

/// An open socket that moved nothing while Flow ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    pub protocol: String,
    pub local: SocketAddr,
    /// Why a listing of sockets may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<Blind>,
}

impl Idle {
    pub fn new(protocol: &str, local: SocketAddr, blind: Option<Blind>) -> Self {
        Self {
            protocol: protocol.to_owned(),
            local,
            blind,
        }
    }
}

/// Features that a kernel may be built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    Sctp,
    Ktls,
}

/// Counts the calls of one process; its threads share this.
#[derive(Debug, Default)]
pub struct Tally {
    tx_bytes: AtomicU64,
    rx_bytes: AtomicU64,
    tx_calls: AtomicU64,
    rx_calls: AtomicU64,
    blind: Mutex<BTreeMap<Blind, Moved>>,
    remotes: Mutex<BTreeMap<SocketAddr, Moved>>,
    unasked: Mutex<BTreeMap<SocketAddr, Moved>>,
    mixed: Mutex<BTreeMap<SocketAddr, Moved>>,
    idle: Mutex<Vec<Idle>>,
    attempts: Mutex<Vec<[SocketAddr; 2]>>,
    failed_sends: AtomicU64,
    lacks: OnceLock<Feature>,
}

impl Tally {
    /// A send call returned `bytes`.
    pub fn sent(&self, bytes: usize) {
        self.tx_bytes.fetch_add(bytes as u64, Relaxed);
        self.tx_calls.fetch_add(1, Relaxed);
    }

    /// A receive call returned `bytes`.
    pub fn received(&self, bytes: usize) {
        self.rx_bytes.fetch_add(bytes as u64, Relaxed);
        self.rx_calls.fetch_add(1, Relaxed);
    }

    /// As [`Self::sent`], for a datagram to a remote. A mode reports all remotes of its datagrams
    /// or none.
    pub fn sent_to(&self, remote: SocketAddr, bytes: usize) {
        self.sent(bytes);
        let mut remotes = lock(&self.remotes);
        let moved = remotes.entry(remote).or_default();
        moved.tx_bytes += bytes as u64;
        moved.tx_calls += 1;
    }

    /// As [`Self::received`], for a datagram from a remote.
    pub fn received_from(&self, remote: SocketAddr, bytes: usize) {
        self.received(bytes);
        let mut remotes = lock(&self.remotes);
        let moved = remotes.entry(remote).or_default();
        moved.rx_bytes += bytes as u64;
        moved.rx_calls += 1;
    }

    /// Records a remote without bytes.
    pub fn nothing_with(&self, remote: SocketAddr) {
        lock(&self.remotes).entry(remote).or_default();
    }

    /// Records a connection that failed.
    pub fn attempted(&self, local: SocketAddr, remote: SocketAddr) {
        lock(&self.attempts).push([local, remote]);
    }

    /// Records open sockets that moved nothing.
    pub fn idle(&self, sockets: Vec<Idle>) {
        lock(&self.idle).extend(sockets);
    }

    /// Records a failed send.
    pub fn send_failed(&self) {
        self.failed_sends.fetch_add(1, Relaxed);
    }

    /// Records a missing feature of the kernel.
    pub fn lacks(&self, feature: Feature) {
        self.lacks.get_or_init(|| feature);
    }

    /// As [`Self::received_from`], by a call without `msg_name`.
    pub fn received_unasked(&self, remote: SocketAddr, bytes: usize) {
        self.received(bytes);
        let mut unasked = lock(&self.unasked);
        let moved = unasked.entry(remote).or_default();
        moved.rx_bytes += bytes as u64;
        moved.rx_calls += 1;
    }

    /// As [`Self::received_from`], while datagrams of other senders waited as well.
    pub fn received_mixed(&self, remote: SocketAddr, bytes: usize) {
        self.received(bytes);
        let mut mixed = lock(&self.mixed);
        let moved = mixed.entry(remote).or_default();
        moved.rx_bytes += bytes as u64;
        moved.rx_calls += 1;
    }

    /// As [`Self::received`], in a blind spot of some backends.
    pub fn received_unseen(&self, blind: Blind, bytes: usize) {
        self.received(bytes);
        let mut parts = lock(&self.blind);
        let moved = parts.entry(blind).or_default();
        moved.rx_bytes += bytes as u64;
        moved.rx_calls += 1;
    }

    /// The counts so far, and the identity of this process.
    pub fn truth(&self, mode: &str) -> Result<Truth> {
        // Of this thread: if the first thread of a process has ended, `self` shows neither.
        let (arguments, exe) = ("/proc/thread-self/cmdline", "/proc/thread-self/exe");
        let arguments = fs::read(arguments).with_context(|| format!("reading {arguments}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Truth {
            pid: std::process::id(),
            start: start()?,
            ppid: std::os::unix::process::parent_id(),
            mode: mode.to_owned(),
            exe: fs::read_link(exe)
                .with_context(|| format!("reading the link {exe}"))?
                .to_string_lossy()
                .into_owned(),
            comm: fs::read("/proc/self/comm")
                .map(|name| text(name.strip_suffix(b"\n").unwrap_or(&name)))
                .context("reading /proc/self/comm")?,
            argv: arguments
                .strip_suffix(b"\0")
                .unwrap_or(&arguments)
                .split(|byte| *byte == 0)
                .map(text)
                .collect(),
            argv_bytes: arguments.len(),
            moved: Moved {
                tx_bytes: self.tx_bytes.load(Relaxed),
                rx_bytes: self.rx_bytes.load(Relaxed),
                tx_calls: self.tx_calls.load(Relaxed),
                rx_calls: self.rx_calls.load(Relaxed),
            },
            blind: lock(&self.blind).clone(),
            remotes: by_name(&self.remotes),
            unasked: by_name(&self.unasked),
            mixed: by_name(&self.mixed),
            idle: lock(&self.idle).clone(),
            attempts: lock(&self.attempts).clone(),
            failed_sends: self.failed_sends.load(Relaxed),
            lacks: self.lacks.get().copied(),
        })
    }

    /// Prints it.
    pub fn print(&self, mode: &str) -> Result<()> {
        Line::Moved(Box::new(self.truth(mode)?)).print()
    }
}

/// The start of this process, in ticks since boot.
pub fn start() -> Result<u64> {
    let path = "/proc/self/stat";
    let stat = fs::read(path).with_context(|| format!("reading {path}"))?;
    let stat = String::from_utf8_lossy(&stat);
    // The name, in parentheses, may contain anything; the start is field 22, the state field 3.
    let start = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(22 - 3)?.parse().ok());
    start.with_context(|| format!("no start in {path}"))
}

fn by_name(remotes: &Mutex<BTreeMap<SocketAddr, Moved>>) -> BTreeMap<String, Moved> {
    let mut by_name = BTreeMap::<String, Moved>::new();
    for (remote, moved) in lock(remotes).iter() {
        *by_name.entry(canonical(*remote).to_string()).or_default() += *moved;
    }
    by_name
}

/// Converts a v4-mapped address to IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(_) => address,
        v4 => SocketAddr::new(v4, address.port()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counters are consistent after each statement, so a panic elsewhere does not matter.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_its_json() {
        let tally = Tally::default();
        tally.sent_to("10.0.0.1:5".parse().unwrap(), 7);
        tally.received_unseen(Blind::SpliceFromTls, 9);
        let truth = tally.truth("tcp-up").unwrap();
        assert_eq!(truth.moved.tx_bytes, 7);
        assert_eq!(truth.moved.rx_bytes, 9);
        assert_eq!(truth.blind[&Blind::SpliceFromTls].rx_bytes, 9);
        let json = serde_json::to_string(&Line::Moved(Box::new(truth.clone()))).unwrap();
        let Line::Moved(read) = serde_json::from_str(&json).unwrap() else {
            panic!("{json}");
        };
        assert_eq!(*read, truth);
    }
}
