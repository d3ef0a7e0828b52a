//! Evaluates an expression on a flow, process or interface.
//!
//! Flows answer every question. A process cannot say by itself which port it talks to, nor an
//! interface who used it: there the answer is "that depends", and the logic is Kleene's, in which
//! `false and unknown` is false.

use std::net::SocketAddr;

use super::{
    ast::{Expr, Primitive},
    told::Subject,
    words::{Side, Test},
};
use crate::{event::Direction, model::snapshot::Flow};

/// Whether `expr` is true of `subject`; `None` where the subject alone does not decide.
pub(super) fn holds(expr: &Expr, subject: Subject<'_>) -> Option<bool> {
    match expr {
        Expr::And(parts) => decide(parts, subject, false),
        Expr::Or(parts) => decide(parts, subject, true),
        Expr::Not(inner) => holds(inner, subject).map(|held| !held),
        Expr::Is(primitive) => match (subject, primitive.word.test) {
            (subject, Test::Any(is)) => is(subject, &primitive.operand),
            (Subject::Flow(flow), _) => Some(flow_is(primitive, flow)),
            (Subject::Process(process), Test::Process(is)) => Some(is(process, &primitive.operand)),
            (Subject::Interface(interface), Test::Interface(is)) => {
                Some(is(&interface.name, &primitive.operand))
            }
            (Subject::Process(_) | Subject::Interface(_), _) => None,
        },
    }
}

/// One part with the answer `decisive` decides; else the answer is the other one, if all know it.
fn decide(parts: &[Expr], subject: Subject<'_>, decisive: bool) -> Option<bool> {
    let mut answer = Some(!decisive);
    for part in parts {
        match holds(part, subject) {
            Some(held) if held == decisive => return Some(decisive),
            Some(_) => {}
            None => answer = None,
        }
    }
    answer
}

fn flow_is(primitive: &Primitive, flow: &Flow) -> bool {
    let Primitive {
        word,
        side,
        operand,
    } = primitive;
    match word.test {
        // The parser makes no primitive of it alone.
        Test::Side(_) => false,
        Test::Any(is) => is(Subject::Flow(flow), operand).unwrap_or(false),
        Test::End(is) => any_end(flow, *side, |end| is(flow, end, operand)),
        Test::Protocol(protocol) => flow.protocol == protocol,
        Test::Version(is) => is(&flow.local.ip().to_canonical()),
        Test::Flow(is) => is(flow, operand),
        Test::Process(is) => {
            let process = flow.process.as_deref();
            process.is_some_and(|process| is(process, operand))
        }
        Test::Interface(is) => {
            let name = flow.interface.as_deref();
            name.is_some_and(|name| is(name, operand))
        }
    }
}

fn any_end(flow: &Flow, side: Side, is: impl Fn(SocketAddr) -> bool) -> bool {
    let local = Some(flow.local);
    let remote = flow.key.remote;
    let remote_opened = flow.direction == Some(Direction::Inbound);
    let ends = match side {
        Side::Any => [local, remote],
        Side::Local => [local, None],
        Side::Remote => [remote, None],
        Side::Source if remote_opened => [remote, None],
        Side::Source => [local, None],
        Side::Destination if remote_opened => [local, None],
        Side::Destination => [remote, None],
    };
    ends.into_iter().flatten().any(is)
}
