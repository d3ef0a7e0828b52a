//! One run of `flow events --json`, the traffic during it, and the checks.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::Signal;

use super::{
    Backend, World,
    cases::{Case, Net},
    check,
    counters::{self, Counter, Readings},
    difference::{Difference, difference},
    expected::{limits, sees},
    flow::{Ended, Flow},
    generator::Generator,
    peer::Peer,
    recording,
    report::{self, Report},
    stream::Stream,
    waiting, wire,
};
use crate::{
    guest,
    truth::{Blind, Feature, Truth},
};

/// Runs a case with a Flow of its own.
pub fn single(world: &World, case: &Case) -> Result<()> {
    let observed = observe(world, case.name, &[case])?;
    let (_, truths) = observed.traffic.into_iter().next().context("no traffic")?;
    let mut differences = observed.session.differences(world);
    differences.extend(observed.session.of_case(world, case, &truths?));
    let session = &observed.session;
    for link in &session.links {
        differences.extend(check::interface(
            &session.stream,
            &link.name,
            case.interface,
        ));
    }
    report::expect_none(&differences)?;
    session.replay(world, case.name)
}

/// Runs cases with one Flow. Reports each, and the session as a test of its own.
pub fn shared(world: &World, cases: &[&Case], report: &mut Report) -> Result<()> {
    let started = Instant::now();
    match report::catch(|| observe(world, "session", cases)) {
        Ok(observed) => {
            for (case, (took, truths)) in cases.iter().zip(observed.traffic) {
                let result = truths.and_then(|truths| {
                    report::expect_none(&observed.session.of_case(world, case, &truths))
                });
                report.record(case.name, took, result)?;
            }
            let result = report::expect_none(&observed.session.differences(world));
            let result = result.and_then(|()| observed.session.replay(world, "session"));
            report.record("session", started.elapsed(), result)
        }
        Err(error) => {
            for case in cases {
                let error = anyhow!("the session failed: {error:#}");
                report.record(case.name, Duration::ZERO, Err(error))?;
            }
            report.record("session", started.elapsed(), Err(error))
        }
    }
}

/// The two ends of a case's traffic. Both end on drop.
#[derive(Debug)]
pub struct Ends {
    far: Option<Generator>,
    near: Generator,
    waits: bool,
}

impl Ends {
    /// Starts both ends. A case whose sockets must exist before Flow is ready afterwards.
    pub fn start(world: &World, case: &Case, peer: &Peer) -> Result<Self> {
        let listen = match case.net {
            Net::Peer4 | Net::PeerMapped => Some((peer.far4, Some(peer))),
            Net::Peer6 => Some((peer.far6, Some(peer))),
            Net::Loopback4 => Some((Ipv4Addr::LOCALHOST.into(), None)),
            Net::Loopback6 => Some((Ipv6Addr::LOCALHOST.into(), None)),
            Net::Alone => None,
        };
        let mut arguments = vec![
            "--bytes".to_owned(),
            world.scaled(case.bytes).to_string(),
            "--count".to_owned(),
            world.scaled(case.count).to_string(),
        ];
        let mut far = None;
        if let Some((ip, netns)) = listen {
            let name = format!("{}.far", case.name);
            let at = ["--listen".to_owned(), SocketAddr::new(ip, 0).to_string()];
            let mut server = Generator::start(world, &name, "serve", &at, netns)?;
            let mut address = server.listening()?;
            if let (Net::PeerMapped, IpAddr::V4(ip)) = (case.net, address.ip()) {
                address.set_ip(ip.to_ipv6_mapped().into());
            }
            arguments.extend(["--peer".to_owned(), address.to_string()]);
            far = Some(server);
        }
        let name = format!("{}.near", case.name);
        let mut near = Generator::start(world, &name, case.mode, &arguments, None)?;
        if case.before {
            near.ready()?;
        }
        Ok(Self {
            far,
            near,
            waits: case.before,
        })
    }

    /// Lets the traffic run to its end; returns what its processes moved.
    pub fn finish(mut self) -> Result<Vec<Truth>> {
        if self.waits {
            self.near.go()?;
        }
        let mut truths = self.near.join()?;
        if let Some(far) = self.far {
            truths.extend(far.finish()?);
        }
        Ok(truths)
    }
}

/// Results that are known after Flow ended.
struct Observed {
    session: Session,
    /// Duration and traffic of each case.
    traffic: Vec<(Duration, Result<Vec<Truth>>)>,
}

struct Session {
    stream: Stream,
    readings: Readings,
    ended: Ended,
    /// Flow's recording.
    recording: PathBuf,
    /// Near ends of veth pairs that carry only the test's traffic.
    links: Vec<Link>,
    /// Whether in some case more calls wait than every backend can follow.
    had_many_waiting: bool,
}

/// The near end of a veth pair.
struct Link {
    name: String,
    ports: wire::Ports,
    is_whole: bool,
}

fn observe(world: &World, name: &str, cases: &[&Case]) -> Result<Observed> {
    // The second is for cases whose packets must not be segmented or merged.
    let mut peers = vec![new_peer(world)?];
    if cases.iter().any(|case| case.whole) {
        peers.push(new_peer(world)?);
        peers[1].keep_whole()?;
    }
    let mut before = Vec::new();
    for case in cases {
        let ends = case.before.then(|| Ends::start(world, case, &peers[0]));
        before.push(ends.transpose()?);
    }
    let mut readings = Readings {
        before_start: counters::read()?,
        ..Readings::default()
    };
    let recording = world.scratch.join(format!("{name}.recording"));
    // Remove the file of an earlier run.
    let _ = fs::remove_file(&recording);
    let flow = Flow::events_with(world, name, &recording::recording(&recording)?)?;
    readings.after_start = counters::read()?;
    let ports = peers.iter().map(|peer| wire::ports(&peer.namespace));
    let mut ports = ports.collect::<Result<Vec<_>>>()?;
    let mut traffic = Vec::new();
    for (case, ends) in cases.iter().zip(before) {
        let started = Instant::now();
        let truths = report::catch(|| {
            let mut peer = usize::from(case.whole);
            if case.late {
                peer = peers.len();
                peers.push(new_peer(world)?);
                ports.push(wire::Ports::default());
                wait_until_seen(world, &flow, &peers[peer], &mut readings)?;
            }
            let ends = match ends {
                Some(ends) => ends,
                None => Ends::start(world, case, &peers[peer])?,
            };
            ends.finish()
        });
        traffic.push((started.elapsed(), truths));
    }
    readings.before_stop = counters::read()?;
    let ended = flow.stop(Signal::SIGINT)?;
    readings.after_stop = counters::read()?;
    let links = peers.iter().zip(&ports).enumerate();
    let links = links.map(|(number, (peer, before))| {
        Ok(Link {
            name: peer.link.clone(),
            ports: wire::ports(&peer.namespace)?.since(before),
            is_whole: number == 1 && cases.iter().any(|case| case.whole),
        })
    });
    let had_many_waiting = traffic
        .iter()
        .filter_map(|(_, truths): &(_, Result<Vec<Truth>>)| truths.as_ref().ok())
        .flatten()
        .any(|truth| truth.blind.contains_key(&Blind::ReturnProbesExhausted));
    let session = Session {
        links: links.collect::<Result<_>>()?,
        stream: Stream::parse(&ended.stdout),
        readings,
        ended,
        recording,
        had_many_waiting,
    };
    Ok(Observed { session, traffic })
}

/// Waits until Flow reports a veth pair that was created while it ran. Earlier traffic of the pair
/// does not matter.
fn wait_until_seen(world: &World, flow: &Flow, peer: &Peer, readings: &mut Readings) -> Result<()> {
    let what = format!("a ledger of the new interface {}", peer.link);
    waiting::until(world.patience(), &what, || {
        let stream = Stream::parse(&flow.output()?);
        Ok(stream.interfaces.contains_key(&peer.link).then_some(()))
    })?;
    let counter = counters::read()?.get(&peer.link).copied();
    let counter = counter.context("the new interface is gone")?;
    readings.after_start.insert(peer.link.clone(), counter);
    readings
        .before_start
        .insert(peer.link.clone(), Counter::default());
    Ok(())
}

/// A peer with a name that is unique in this process.
pub fn new_peer(world: &World) -> Result<Peer> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let peer = Peer::new(NUMBER.fetch_add(1, Ordering::Relaxed), world.patience())?;
    peer.be_patient()?;
    Ok(peer)
}

impl Session {
    /// Differences in the run as a whole.
    fn differences(&self, world: &World) -> Vec<Difference> {
        let backend = used(&self.stream, world);
        let misses = self.had_many_waiting && !sees(backend, Blind::ReturnProbesExhausted);
        let mut differences = check::stream(&self.stream, misses);
        let mut quiet: Vec<_> = self.links.iter().map(|link| &*link.name).collect();
        quiet.push("lo");
        differences.extend(check::ledgers(&self.stream, &self.readings, &quiet));
        for link in &self.links {
            let Link {
                name,
                ports,
                is_whole,
            } = link;
            let found = wire::differences(&self.stream, name, ports, *is_whole);
            differences.extend(found);
        }
        if let Err(error) = self.ended.expect_code(130) {
            differences.push(difference(
                "flow",
                "its end",
                "code 130",
                format!("{error:#}"),
            ));
        }
        for blind in limits(backend) {
            if !self.stream.limits.contains(blind.words()) {
                let seen = &self.stream.limits;
                differences.push(difference("status", "limits", blind, seen));
            }
        }
        let asked = world.options.backend;
        if asked != Backend::Auto && used(&self.stream, world) != asked {
            let seen = self.stream.backend.as_deref().unwrap_or("none");
            differences.push(difference("status", "backend", asked.name(), seen));
        }
        differences
    }

    /// A replay must print the same stream.
    fn replay(&self, world: &World, name: &str) -> Result<()> {
        let arguments = ["events", "--json"];
        recording::same(world, name, &arguments, &self.recording, &self.ended.stdout)?;
        fs::remove_file(&self.recording).context("removing the recording")
    }

    fn of_case(&self, world: &World, case: &Case, truths: &[Truth]) -> Vec<Difference> {
        let lacking = truths.iter().find_map(|truth| truth.lacks);
        if let Some(feature) = lacking {
            return lacks(case, feature).into_iter().collect();
        }
        let backend = used(&self.stream, world);
        let mut differences = check::processes(&self.stream, truths, backend);
        differences.extend((case.also)(&self.stream, truths, backend));
        for blind in case.proves {
            if !truths.iter().any(|truth| truth.has(*blind)) {
                let what = format!("{blind:?}");
                differences.push(difference(case.name, what, "some", "none"));
            }
        }
        differences
    }
}

/// The backend that Flow reports, else the one that was requested.
pub fn used(stream: &Stream, world: &World) -> Backend {
    let reported = stream.backend.as_deref().unwrap_or_default();
    [Backend::Fexit, Backend::Kprobe, Backend::Tracepoint]
        .into_iter()
        .find(|backend| reported.contains(backend.name()))
        .unwrap_or(world.options.backend)
}

/// The differences for a case that could not run: none only if the table permits kernels to lack
/// what it needs. The guests' kernels lack nothing.
fn lacks(case: &Case, feature: Feature) -> Option<Difference> {
    if case.needs == Some(feature) && !guest::is_here() {
        eprintln!("{}: not here, this kernel has no {feature:?}", case.name);
        return None;
    }
    let expected = format!("{feature:?}");
    Some(difference("kernel", "has", expected, "it has not"))
}
