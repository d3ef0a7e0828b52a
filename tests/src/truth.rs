//! What a process of the generator says on its standard output, one JSON object a line.
//!
//! The numbers are what its system calls *returned*. They are the truth that Flow is measured by.

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

/// What a backend does not see: the table that `flow doctor` prints.
pub use flow_user::source::kernel::blind_spots::BlindSpot as Blind;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Line {
    /// The far end takes connections and datagrams here.
    Listening { address: SocketAddr },
    /// Everything that must happen before Flow starts has happened; a line on standard input
    /// lets it go on.
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

/// What a process moved, and how it is to be named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    pub pid: u32,
    /// When it started, in ticks since boot: a pid may be used again.
    pub start: u64,
    pub ppid: u32,
    pub mode: String,
    /// Its program's path, invalid UTF-8 replaced.
    pub exe: String,
    /// The kernel's name of its first thread.
    pub comm: String,
    /// Its arguments, invalid UTF-8 replaced.
    pub argv: Vec<String>,
    /// Bytes of its arguments, with the zero byte that ends each.
    pub argv_bytes: usize,
    #[serde(flatten)]
    pub moved: Moved,
    /// Parts of `moved` that not every backend sees.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blind: BTreeMap<Blind, Moved>,
    /// The part of `moved` in datagrams, by remote endpoint; empty where the mode does not report
    /// it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remotes: BTreeMap<String, Moved>,
    /// As `remotes`, of datagrams received by calls that did not ask whom they came from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unasked: BTreeMap<String, Moved>,
    /// As `remotes`, of datagrams that waited at a raw socket beside those of other senders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mixed: BTreeMap<String, Moved>,
    /// Sockets from before Flow started that nobody used since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<Idle>,
    /// Ends of connections that did not come about, this process's first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<[SocketAddr; 2]>,
    /// Sends that failed, of modes that go on then. The packet may have got as far as an interface's classifier.
    #[serde(default)]
    pub failed_sends: u64,
    /// This kernel lacks it; so the mode moved nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Feature>,
}

impl Truth {
    /// Whether something in it is of this kind.
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

/// Sums of what calls returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Calls that did not fail.
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

/// A socket that is open, and moved nothing while Flow looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    pub protocol: String,
    pub local: SocketAddr,
    /// Why a list of sockets may not hold it.
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

/// What a kernel may have been built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    Sctp,
    Ktls,
}

/// Counts one process's calls; its threads share it.
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

    /// As [`Self::sent`], a datagram to a remote. A mode reports all remotes of its datagrams or
    /// none.
    pub fn sent_to(&self, remote: SocketAddr, bytes: usize) {
        self.sent(bytes);
        let mut remotes = lock(&self.remotes);
        let moved = remotes.entry(remote).or_default();
        moved.tx_bytes += bytes as u64;
        moved.tx_calls += 1;
    }

    /// As [`Self::received`], a datagram from a remote.
    pub fn received_from(&self, remote: SocketAddr, bytes: usize) {
        self.received(bytes);
        let mut remotes = lock(&self.remotes);
        let moved = remotes.entry(remote).or_default();
        moved.rx_bytes += bytes as u64;
        moved.rx_calls += 1;
    }

    /// Nothing moved to or from this remote.
    pub fn nothing_with(&self, remote: SocketAddr) {
        lock(&self.remotes).entry(remote).or_default();
    }

    /// A connection from here to there did not come about.
    pub fn attempted(&self, local: SocketAddr, remote: SocketAddr) {
        lock(&self.attempts).push([local, remote]);
    }

    /// These sockets were open and moved nothing.
    pub fn idle(&self, sockets: Vec<Idle>) {
        lock(&self.idle).extend(sockets);
    }

    /// A send failed.
    pub fn send_failed(&self) {
        self.failed_sends.fetch_add(1, Relaxed);
    }

    /// This kernel has no such thing.
    pub fn lacks(&self, feature: Feature) {
        self.lacks.get_or_init(|| feature);
    }

    /// As [`Self::received_from`], by a call that did not ask for the remote.
    pub fn received_unasked(&self, remote: SocketAddr, bytes: usize) {
        self.received(bytes);
        let mut unasked = lock(&self.unasked);
        let moved = unasked.entry(remote).or_default();
        moved.rx_bytes += bytes as u64;
        moved.rx_calls += 1;
    }

    /// As [`Self::received_from`], while datagrams of others waited as well.
    pub fn received_mixed(&self, remote: SocketAddr, bytes: usize) {
        self.received(bytes);
        let mut mixed = lock(&self.mixed);
        let moved = mixed.entry(remote).or_default();
        moved.rx_bytes += bytes as u64;
        moved.rx_calls += 1;
    }

    /// As [`Self::received`], in a way that not every backend sees.
    pub fn received_unseen(&self, blind: Blind, bytes: usize) {
        self.received(bytes);
        let mut parts = lock(&self.blind);
        let moved = parts.entry(blind).or_default();
        moved.rx_bytes += bytes as u64;
        moved.rx_calls += 1;
    }

    /// What was counted so far, and who this process is.
    pub fn truth(&self, mode: &str) -> Result<Truth> {
        // Of the thread: once a process's first thread has ended, `self` shows neither.
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

/// When this process started, in ticks since boot.
pub fn start() -> Result<u64> {
    let path = "/proc/self/stat";
    let stat = fs::read(path).with_context(|| format!("reading {path}"))?;
    let stat = String::from_utf8_lossy(&stat);
    // The name, in parentheses, may hold anything; the start is the 22nd field, the state the third.
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

/// A v4-mapped address is the IPv4 address it stands for.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(_) => address,
        v4 => SocketAddr::new(v4, address.port()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counters are whole after each statement, so a panic elsewhere does not spoil them.
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
