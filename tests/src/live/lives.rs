//! How flows begin and end in the stream, and what TCP says of them in between.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{World, flow::Flow, stream::records, waiting};

const PATIENCE: Duration = Duration::from_secs(20);

/// A flow of a datagram socket that serves many ends when it is idle, and a new one begins with the
/// next datagram, counting from zero.
pub fn datagrams_idle(world: &World) -> Result<()> {
    let server = UdpSocket::bind("127.0.0.1:0")?;
    let client = UdpSocket::bind("127.0.0.1:0")?;
    let more = ["--udp-idle", "1s", "--interval", "200ms"];
    let flow = Flow::events_with(world, "datagrams_idle", &more)?;
    let ends = (server.local_addr()?, client.local_addr()?);
    let pass = |bytes: usize| -> Result<()> {
        client.send_to(&vec![0; bytes], ends.0)?;
        let (received, from) = server.recv_from(&mut [0; 100])?;
        ensure!((received, from) == (bytes, ends.1));
        Ok(())
    };
    let wait_for = |kind: &str, count: usize| {
        let what = format!("{count} {kind} of {} and {}", ends.0, ends.1);
        waiting::until(world.stretched(PATIENCE), &what, || {
            let all = of(&flow.output()?, ends.0, ends.1)?;
            let those = all.iter().filter(|it| it["type"] == kind);
            Ok((those.count() >= count).then_some(()))
        })
    };
    pass(10)?;
    wait_for("flow.close", 1)?;
    pass(23)?;
    wait_for("flow.open", 2)?;
    drop(server);
    wait_for("flow.close", 2)?;
    let ended = flow.stop(Signal::SIGINT)?;
    ended.expect_code(130)?;
    let all = of(&ended.stdout, ends.0, ends.1)?;
    let lives = all.iter().filter(|it| it["type"] != "flow.update");
    let lives: Vec<_> = lives
        .map(|it| (&it["type"], &it["reason"], &it["app"]["rx_bytes"]))
        .collect();
    let closes: Vec<_> = lives.iter().filter(|it| it.0 == "flow.close").collect();
    ensure!(
        lives.len() == 4
            && closes[0].1 == "idle"
            && closes[0].2 == 10
            && closes[1].1 == "closed"
            && closes[1].2 == 23,
        "the flow's lives are {lives:?}"
    );
    Ok(())
}

/// A connection that was there before has no beginning; what TCP says of it, and of a newer one.
pub fn tcp_info(world: &World) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let older = pair(&listener)?;
    let flow = Flow::events_with(world, "tcp_info", &["--tcp-info", "--interval", "200ms"])?;
    let newer = pair(&listener)?;
    for (is_older, (mut client, mut server)) in [(true, older), (false, newer)] {
        let (near, far) = (client.local_addr()?, client.peer_addr()?);
        // Until neither end has room.
        client.set_nonblocking(true)?;
        loop {
            match client.write(&[0; 1 << 16]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let what = format!("what TCP says of {near}");
        let said = |local, remote, field: &str| {
            let all = of(&flow.output()?, local, remote)?;
            let mut latest = all.iter().rev().map(|it| &it["tcp"][field]);
            Ok(latest.find_map(Value::as_u64).filter(|bytes| *bytes > 0))
        };
        waiting::until(world.stretched(PATIENCE), &what, || {
            // A record comes with what moves.
            server.read_exact(&mut [0; 1])?;
            let sending: Result<Option<u64>> = said(near, far, "send_queue_bytes");
            let receiving: Result<Option<u64>> = said(far, near, "receive_queue_bytes");
            Ok(sending?.zip(receiving?))
        })?;
        let all = of(&flow.output()?, near, far)?;
        let first = all.first().context("no record of it")?;
        ensure!(
            first["type"] == "flow.open" && first["flow"]["existed"].is_null() != is_older,
            "the connection begins with {first}"
        );
        let latest = all.last().context("no record of it")?;
        for field in [
            "congestion_control",
            "mss_bytes",
            "congestion_window_segments",
        ] {
            ensure!(!latest["tcp"][field].is_null(), "no {field} in {latest}");
        }
        let connected = first["tcp"]["connect_us"].as_u64();
        let later = all.iter().find_map(|it| it["tcp"]["connect_us"].as_u64());
        ensure!(
            connected.or(later).is_some() != is_older,
            "the time that connecting took: {later:?}"
        );
        // A close with unread bytes would be a reset.
        drop(client);
        server.read_to_end(&mut Vec::new())?;
    }
    flow.stop(Signal::SIGINT)?.expect_code(130)
}

fn pair(listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

/// The records of the flow with these ends.
fn of(stream: &[u8], local: SocketAddr, remote: SocketAddr) -> Result<Vec<Value>> {
    let is_end = |end: &Value, address: SocketAddr| {
        end["ip"] == address.ip().to_string() && end["port"] == address.port()
    };
    let mut all = records(stream)?;
    all.retain(|it| {
        let flow = &it["flow"];
        flow.is_object() && is_end(&flow["local"], local) && is_end(&flow["remote"], remote)
    });
    Ok(all)
}
