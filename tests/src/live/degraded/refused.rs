//! Programs of the kernel side that the kernel refuses: what Flow does without each of them.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    APP_BYTES, INTERFACES, PROCESSES, Run, SOCKETS, SYMBOLS, WIRE_BYTES, ended, expect_text,
    has_symbol,
};
use crate::live::{Backend, World, qdisc};

/// A kernel that refuses one of the programs that all backends share, for each of these.
pub fn each_program_refused(world: &World) -> Result<()> {
    each_refused(world, &AROUND)
}

/// A kernel that refuses one of the backend's programs, for each of these.
pub fn each_counter_refused(world: &World) -> Result<()> {
    let (needed, helpful) = counting(world.options.backend)?;
    let symbols = fs::read_to_string(SYMBOLS)?;
    let helpful = helpful
        .iter()
        .filter(|program| has_function(&symbols, program));
    let helpful: Vec<_> = helpful.map(|program| (*program, APP_BYTES)).collect();
    each_refused(world, &helpful)?;
    // On a slow machine only the last one is refused, which is attached after others.
    let first = if world.is_slow() { needed.len() - 1 } else { 0 };
    for program in &needed[first..] {
        needed_refused(world, program).with_context(|| format!("without {program}"))?;
    }
    Ok(())
}

/// A kernel that refuses the program that reports the release of sockets: for TCP another program
/// does, unless that is refused as well.
pub fn releases_refused(world: &World) -> Result<()> {
    let modes = ["forked-listener", "tcp-late-reader", "inherited"];
    let without = |programs: &str| {
        let run = Run::of_modes(world, "refused", &modes, |command| {
            command.env("FLOW_REFUSE", programs);
        });
        run.with_context(|| format!("without {programs}"))
    };
    let run = without("sock_release")?;
    run.covers(SOCKETS, "cgroup hooks", "sock_release")?;
    run.follows_connections()?;
    without("sock_release,tcp_destroy_sock")?.covers(
        SOCKETS,
        "cgroup hooks",
        "tcp_destroy_sock",
    )?;
    let all = "sock_create,sock_release,post_bind4,post_bind6,connect4,connect6,connection_made";
    without(all)?.covers(SOCKETS, "tracepoint", "connection_made")
}

fn each_refused(world: &World, programs: &[(&str, &str)]) -> Result<()> {
    for round in rounds(world, programs) {
        refused(world, &round).with_context(|| format!("without {round:?}"))?;
    }
    Ok(())
}

/// Programs of the backend under test: the essential ones, and the others.
fn counting(backend: Backend) -> Result<(&'static [&'static str], &'static [&'static str])> {
    Ok(match backend {
        Backend::Fexit => (
            &["fexit_inet_sendmsg", "fexit_inet_recvmsg"],
            &[
                "fexit_inet6_sendmsg",
                "fexit_packet_sendmsg",
                "fexit_inet_sendpage",
                "fexit_inet6_recvmsg",
                "fexit_sock_common_recvmsg",
                "fexit_inet_csk_accept",
                "tcp_rcv_space_adjust",
            ],
        ),
        Backend::Kprobe => (
            &[
                "kprobe_sendmsg",
                "kretprobe_sendmsg",
                "kprobe_recvmsg",
                "kretprobe_recvmsg",
            ],
            &[
                "kprobe_sendpage",
                "kretprobe_sendpage",
                "kprobe_splice_read",
                "kretprobe_splice_read",
                "kretprobe_accept",
                "tcp_rcv_space_adjust",
            ],
        ),
        Backend::Tracepoint => (
            &["sock_send_length", "sock_recv_length"],
            &[
                "tcp_rcv_space_adjust",
                "sendmsg4",
                "sendmsg6",
                "recvmsg4",
                "recvmsg6",
            ],
        ),
        Backend::Auto => bail!("which programs there are depends on the backend: name one"),
    })
}

/// Programs that all backends share, with the capability that lacks something without them.
const AROUND: [(&str, &str); 16] = [
    ("sock_create", SOCKETS),
    ("sock_release", SOCKETS),
    ("post_bind4", SOCKETS),
    ("post_bind6", SOCKETS),
    ("connect4", SOCKETS),
    ("connect6", SOCKETS),
    ("connection_made", SOCKETS),
    ("inet_sock_set_state", SOCKETS),
    ("set_state_nested", SOCKETS),
    ("cgroup_ingress", WIRE_BYTES),
    ("cgroup_egress", WIRE_BYTES),
    ("flow_tc_ingress", INTERFACES),
    ("flow_tc_egress", INTERFACES),
    ("sched_process_exec", PROCESSES),
    ("sched_process_fork", PROCESSES),
    ("sched_process_exit", PROCESSES),
];

/// Refuses shared programs; the coverage must name each of them.
fn refused(world: &World, round: &[(&str, &str)]) -> Result<()> {
    let names: Vec<&str> = round.iter().map(|(program, _)| *program).collect();
    let run = Run::counted(world, "refused", |command| {
        command.env("FLOW_REFUSE", names.join(","));
    })?;
    for (program, capability) in round {
        let (backend, limits) = run.coverage_of(capability)?;
        expect_text(limits, program)?;
        let expected = match *capability {
            INTERFACES => backend == "counters",
            _ => backend != "none",
        };
        ensure!(expected, "{capability} is provided by {backend}");
    }
    Ok(())
}

/// Refuses an essential program of the backend under test: another backend takes over if permitted,
/// else Flow ends and names the program.
fn needed_refused(world: &World, program: &str) -> Result<()> {
    let refuse = |command: &mut Command| {
        command.env("FLOW_REFUSE", program);
    };
    let before = qdisc::read()?;
    let forced = world.options.backend.name();
    let arguments = ["events", "--json", "--backend", forced];
    let ended = ended(world, "refused", &arguments, refuse)?;
    ended.expect_complaint(1)?;
    expect_text(&ended.stderr, program)?;
    // Classifiers were attached by then.
    before.is_all_there_is()?;
    // Of the other backends, guests have at least kprobe.
    if world.options.backend == Backend::Fexit {
        let any = world.with_backend(Backend::Auto);
        let run = Run::counted(&any, "refused", refuse)?;
        run.covers(APP_BYTES, "kprobe", "")?;
    }
    Ok(())
}

/// The rounds of refusals: one program each, or on a slow machine every other one, then all others.
fn rounds<'a>(world: &World, programs: &[(&'a str, &'a str)]) -> Vec<Vec<(&'a str, &'a str)>> {
    let every = if world.is_slow() { 2 } else { programs.len() };
    let round = |first: usize| programs.iter().skip(first).step_by(every).copied();
    (0..every).map(|first| round(first).collect()).collect()
}

/// Whether this kernel has the attach point of the program.
fn has_function(symbols: &str, program: &str) -> bool {
    let function = match program {
        "kprobe_sendpage" | "kretprobe_sendpage" => "inet_sendpage",
        "kprobe_splice_read" | "kretprobe_splice_read" => "mptcp_splice_read",
        "kretprobe_accept" => "inet_csk_accept",
        name => match name.strip_prefix("fexit_") {
            Some(function) => function,
            None => return true,
        },
    };
    has_symbol(symbols, function)
}
