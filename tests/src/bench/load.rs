//! `flow-live load KIND`: traffic by time or by rate, for benchmarks. Prints what it moved as one
//! JSON line. The modes of `flow-live generate` move a given amount instead, to be compared byte
//! for byte.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout},
    sched::{CpuSet, sched_setaffinity},
    sys::{
        resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
        time::{TimeVal, TimeValLike as _},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::truth::Line;

/// Most bytes moved by one call.
const CHUNK: usize = 128 << 10;
/// Calls between two readings of the clock.
const BATCH: u32 = 64;
/// Listeners of `hold`: a single one has too few ports, as closed connections stay in TIME_WAIT.
const LISTENERS: usize = 16;
/// Bytes that a held connection moves each way when it is opened, and when it is used.
const WORD: usize = 100;

/// How far the schedule of a paced sender is from step to step: no multiple of the kernel's ticks,
/// which would find it at work always or never.
const STEP: Duration = Duration::from_micros(1370);

/// Command line of `flow-live load`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Run on this core only
    #[arg(long)]
    core: Option<usize>,
    /// The cgroup to run in
    #[arg(long)]
    cgroup: Option<PathBuf>,
    #[command(subcommand)]
    load: Load,
}

/// A kind of load.
#[derive(Clone, Debug, Subcommand)]
pub enum Load {
    /// Receive everything by TCP and UDP, until standard input ends
    Sink {
        #[arg(long)]
        listen: SocketAddr,
        /// Request the sender of each datagram
        #[arg(long)]
        ask: bool,
        /// Connect to the sender of the first datagram
        #[arg(long, conflicts_with = "ask")]
        connect: bool,
    },
    /// Send by TCP, as fast as possible or at a rate
    Tcp {
        #[arg(long)]
        peer: SocketAddr,
        #[arg(long, default_value_t = 1)]
        streams: usize,
        /// Bytes of one call
        #[arg(long, default_value_t = CHUNK)]
        size: usize,
        /// Calls each second, of each stream
        #[arg(long)]
        rate: Option<u32>,
        #[arg(long)]
        seconds: f64,
    },
    /// Send datagrams, as fast as possible
    Udp {
        #[arg(long)]
        peer: SocketAddr,
        /// Name the destination in each call, instead of connecting
        #[arg(long)]
        to: bool,
        #[arg(long, default_value_t = 64)]
        size: usize,
        #[arg(long)]
        seconds: f64,
    },
    /// Keep connections to itself open, until standard input ends; both ends are its own
    Hold {
        /// Address to listen at
        #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
        ip: Ipv4Addr,
        #[arg(long)]
        connections: usize,
        /// New connections each second; the oldest one ends for each
        #[arg(long, default_value_t = 0)]
        rate: u64,
        /// Move bytes on every connection once a second
        #[arg(long)]
        talk: bool,
        /// New processes each second; each opens a connection to this one, uses it and ends
        #[arg(long, default_value_t = 0)]
        visitors: u64,
    },
    /// Open a connection, use it and end
    Visit {
        #[arg(long)]
        peer: SocketAddr,
    },
}

/// The result of a load.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    pub bytes: u64,
    pub calls: u64,
    /// Connections opened at the given rate.
    pub opened: u64,
    pub seconds: f64,
    /// CPU time of the process; of a sender of datagrams only while it sent.
    pub cpu_seconds: f64,
}

/// Runs a load and prints its result.
pub fn run(options: &Options) -> Result<()> {
    let Options { core, cgroup, load } = options;
    if let Some(core) = *core {
        pin(core)?;
    }
    if let Some(cgroup) = cgroup {
        let path = cgroup.join("cgroup.procs");
        // 0: the process that writes.
        fs::write(&path, "0").with_context(|| format!("writing to {}", path.display()))?;
    }
    let started = Instant::now();
    let mut done = match *load {
        Load::Sink {
            listen,
            ask,
            connect,
        } => sink(listen, ask, connect)?,
        Load::Tcp {
            peer,
            streams,
            size,
            rate,
            seconds,
        } => tcp(peer, streams, size, rate, Duration::from_secs_f64(seconds))?,
        Load::Udp {
            peer,
            to,
            size,
            seconds,
        } => udp(peer, to, size, Duration::from_secs_f64(seconds))?,
        Load::Hold {
            ip,
            connections,
            rate,
            talk,
            visitors,
        } => hold(ip, connections, rate, talk, visitors)?,
        Load::Visit { peer } => visit(peer)?,
    };
    if done.seconds == 0.0 {
        done.seconds = started.elapsed().as_secs_f64();
    }
    if done.cpu_seconds == 0.0 {
        done.cpu_seconds = cpu_seconds()?;
    }
    println_json(&done)
}

/// Keeps this process and its threads on a core, as long as it has no other thread.
fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).with_context(|| format!("pinning to core {core}"))
}

/// The number of connections of which one process can hold both ends.
pub fn most_held() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(hard).map_or(500, |hard| hard.saturating_sub(200) / 2)
}

/// One system call, so that a reader never sees a partial line.
fn println_json(done: &Done) -> Result<()> {
    let mut line = serde_json::to_vec(done)?;
    line.push(b'\n');
    io::stdout().write_all(&line).context("writing to stdout")
}

fn sink(listen: SocketAddr, ask: bool, connect: bool) -> Result<Done> {
    let listener = TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Line::Listening { address }.print()?;

    let (bytes, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 2048];
            let mut is_connected = !connect;
            loop {
                let received = if ask {
                    socket.recv_from(&mut buffer).map(|(received, _)| received)
                } else if !is_connected {
                    socket.recv_from(&mut buffer).map(|(received, from)| {
                        is_connected = socket.connect(from).is_ok();
                        received
                    })
                } else {
                    socket.recv(&mut buffer)
                };
                match received {
                    Ok(received) => {
                        bytes.fetch_add(received as u64, Relaxed);
                        calls.fetch_add(1, Relaxed);
                    }
                    // Nothing arrived for a while: the queue is empty.
                    Err(_) if stop.load(Relaxed) => return,
                    Err(_) => {}
                }
            }
        });
        loop {
            let stdin = io::stdin();
            let mut fds = [
                PollFd::new(listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            nix::poll::poll(&mut fds, PollTimeout::NONE).context("poll")?;
            if fds[1].any() == Some(true) {
                stop.store(true, Relaxed);
                return Ok::<_, anyhow::Error>(());
            }
            let (mut stream, _) = listener.accept()?;
            let (bytes, calls) = (&bytes, &calls);
            scope.spawn(move || {
                let mut buffer = vec![0; CHUNK];
                while let Ok(received @ 1..) = stream.read(&mut buffer) {
                    bytes.fetch_add(received as u64, Relaxed);
                    calls.fetch_add(1, Relaxed);
                }
            });
        }
    })?;
    Ok(Done {
        bytes: bytes.into_inner(),
        calls: calls.into_inner(),
        ..Done::default()
    })
}

fn tcp(
    peer: SocketAddr,
    streams: usize,
    size: usize,
    rate: Option<u32>,
    time: Duration,
) -> Result<Done> {
    let connections = (0..streams)
        .map(|_| TcpStream::connect(peer).context("connecting"))
        .collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let (bytes, calls) = thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .map(|stream| scope.spawn(move || send(stream, size, rate, time)))
            .collect();
        let mut sum = (0, 0);
        for thread in threads {
            let (bytes, calls) = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            sum = (sum.0 + bytes, sum.1 + calls);
        }
        Ok::<_, anyhow::Error>(sum)
    })?;
    Ok(Done {
        bytes,
        calls,
        seconds: started.elapsed().as_secs_f64(),
        ..Done::default()
    })
}

/// Sends for so long, then waits until the far end has read everything.
fn send(
    mut stream: TcpStream,
    size: usize,
    rate: Option<u32>,
    time: Duration,
) -> Result<(u64, u64)> {
    let buffer = vec![0; size];
    let (mut bytes, mut calls) = (0, 0);
    // Large calls are slow enough to read the clock after each.
    let batch = if size < CHUNK { BATCH } else { 1 };
    let started = Instant::now();
    loop {
        let elapsed = started.elapsed();
        if elapsed >= time {
            break;
        }
        if rate.is_some_and(|rate| calls >= due(rate, elapsed)) {
            thread::sleep(STEP);
            continue;
        }
        for _ in 0..batch {
            bytes += stream.write(&buffer)? as u64;
            calls += 1;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let answer = stream.read(&mut [0])?;
    ensure!(answer == 0, "the far end sent something");
    Ok((bytes, calls))
}

/// How many calls are due by now.
fn due(rate: u32, elapsed: Duration) -> u64 {
    (elapsed.as_secs_f64() * f64::from(rate)) as u64
}

fn udp(peer: SocketAddr, to: bool, size: usize, time: Duration) -> Result<Done> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    if !to {
        socket.connect(peer)?;
    }
    let buffer = vec![0; size];
    let (started, cpu) = (Instant::now(), cpu_seconds()?);
    let mut done = Done::default();
    while started.elapsed() < time {
        for _ in 0..BATCH {
            let sent = if to {
                socket.send_to(&buffer, peer)
            } else {
                socket.send(&buffer)
            };
            done.bytes += sent? as u64;
            done.calls += 1;
        }
    }
    done.seconds = started.elapsed().as_secs_f64();
    done.cpu_seconds = cpu_seconds()? - cpu;
    Ok(done)
}

/// User and system time of this process so far.
fn cpu_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn hold(ip: Ipv4Addr, connections: usize, rate: u64, talk: bool, visitors: u64) -> Result<Done> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit")?;
    let listeners = (0..LISTENERS)
        .map(|_| TcpListener::bind((IpAddr::from(ip), 0)).context("listening"))
        .collect::<Result<Vec<_>>>()?;
    let mut next = listeners.iter().cycle();
    let mut open = || -> Result<Pair> {
        let listener = next.next().context("no listener")?;
        let near = TcpStream::connect(listener.local_addr()?).context("connecting")?;
        let (far, _) = listener.accept().context("accepting")?;
        let mut pair = Pair { near, far };
        pair.talk()?;
        Ok(pair)
    };
    let mut held = (0..connections)
        .map(|_| open())
        .collect::<Result<VecDeque<_>>>()?;
    let mut visitors = Visitors::at(ip, visitors)?;
    Line::Ready.print()?;

    let started = Instant::now();
    let mut done = Done::default();
    let (mut talked, mut speaker) = (0, 0);
    let stdin = io::stdin();
    loop {
        let elapsed = started.elapsed().as_secs_f64();
        while done.opened < (elapsed * rate as f64) as u64 {
            held.push_back(open()?);
            held.pop_front();
            done.opened += 1;
        }
        while talk && talked < (elapsed * connections as f64) as u64 {
            held[speaker].talk()?;
            speaker = (speaker + 1) % held.len();
            talked += 1;
        }
        visitors.come(elapsed)?;
        let mut input = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut input, 10_u8).context("poll")? > 0 {
            done.seconds = started.elapsed().as_secs_f64();
            return Ok(done);
        }
    }
}

/// The most visitors at a time: on a machine that is too slow for the rate there are fewer a second.
const VISITORS: usize = 64;

/// Processes that come by rate.
struct Visitors {
    rate: u64,
    address: SocketAddr,
    came: u64,
    present: Vec<Child>,
}

impl Visitors {
    /// A thread serves them, one after the other.
    fn at(ip: Ipv4Addr, rate: u64) -> Result<Self> {
        let listener = TcpListener::bind((IpAddr::from(ip), 0)).context("listening")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for visitor in listener.incoming().flatten() {
                // One that has ended early is as good.
                let _ = answer(visitor);
            }
        });
        Ok(Self {
            rate,
            address,
            came: 0,
            present: Vec::new(),
        })
    }

    /// Starts those that are due so many seconds after the beginning.
    fn come(&mut self, elapsed: f64) -> Result<()> {
        self.present
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let due = (elapsed * self.rate as f64) as u64;
        while self.came < due && self.present.len() < VISITORS {
            let mut command =
                Command::new(std::env::current_exe().context("finding this program")?);
            command
                .args(["load", "visit", "--peer", &self.address.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            self.present
                .push(command.spawn().context("starting a visitor")?);
            self.came += 1;
        }
        Ok(())
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        for child in &mut self.present {
            // The listener is still served: it ends by itself.
            let _ = child.wait();
        }
    }
}

fn visit(peer: SocketAddr) -> Result<Done> {
    let mut near = TcpStream::connect(peer).context("connecting")?;
    let mut buffer = [0; WORD];
    near.write_all(&buffer)?;
    near.read_exact(&mut buffer)?;
    Ok(Done::default())
}

fn answer(mut visitor: TcpStream) -> io::Result<()> {
    let mut buffer = [0; WORD];
    visitor.read_exact(&mut buffer)?;
    visitor.write_all(&buffer)
}

/// Both ends of a connection.
struct Pair {
    near: TcpStream,
    far: TcpStream,
}

impl Pair {
    fn talk(&mut self) -> io::Result<()> {
        let mut buffer = [0; WORD];
        self.near.write_all(&buffer)?;
        self.far.read_exact(&mut buffer)?;
        self.far.write_all(&buffer)?;
        self.near.read_exact(&mut buffer)
    }
}
