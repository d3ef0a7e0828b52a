//! Loads, attaches and detaches programs.

use std::{
    cell::OnceCell,
    collections::HashMap,
    fs::File,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, FExit, KProbe, Program, ProgramError, RawTracePoint,
    },
};
use aya_obj::{VerifierLog, generated::bpf_attach_type::BPF_CGROUP_INET_INGRESS};

use super::{
    attach_error::{AttachError, Missing, with_program},
    btf::Btf,
    hooks::{At, CLASSIFIERS, Hook, Need},
};
use crate::faults;

/// Threads that load programs at most: they wait for the kernel's verifier, and one of the programs
/// takes a quarter of all the time.
const LOADERS: usize = 4;
/// The programs that the verifier takes longest over, the longest last. They are loaded first, so
/// that no processor waits for the last one.
const LONGEST: [&str; 4] = [
    "sock_send_length",
    CLASSIFIERS[0],
    CLASSIFIERS[1],
    "cgroup_ingress",
];
/// Programs to be loaded before the others: the classifiers, and what two processors verify in the
/// same time besides.
pub const FIRST: [&str; 4] = [
    CLASSIFIERS[0],
    CLASSIFIERS[1],
    "cgroup_ingress",
    "tcp_rcv_space_adjust",
];

/// What hooks are looked for in.
pub struct Target<'a> {
    btf: &'a Btf,
    cgroup_root: Option<&'a Path>,
    /// The same types for aya, read once they are needed.
    types: OnceCell<aya::Btf>,
}

impl<'a> Target<'a> {
    /// Without the root of the cgroup v2 tree nothing is attached to that.
    pub const fn new(btf: &'a Btf, cgroup_root: Option<&'a Path>) -> Self {
        Self {
            btf,
            cgroup_root,
            types: OnceCell::new(),
        }
    }

    fn types(&self) -> Result<&aya::Btf, AttachError> {
        if let Some(types) = self.types.get() {
            return Ok(types);
        }
        let types = aya::Btf::from_sys_fs()?;
        Ok(self.types.get_or_init(|| types))
    }

    /// The functions of a hook that this kernel has.
    fn functions(&self, hook: &Hook) -> Vec<&'static str> {
        let functions = hook.functions().iter().copied();
        functions
            .filter(|function| self.btf.function(function).is_some())
            .collect()
    }

    /// Whether there is a place for a hook, or must be.
    fn has(&self, hook: &Hook) -> bool {
        match hook.at {
            At::Fexit(_) | At::Probes { .. } => {
                hook.need == Need::Required || !self.functions(hook).is_empty()
            }
            At::Cgroup(_) => self.cgroup_root.is_some(),
            At::Tracepoint(_) | At::Interface => true,
        }
    }
}

/// Programs of the object, by name.
#[derive(Default)]
pub struct Programs<'a>(HashMap<&'a str, &'a mut Program>);

impl<'a> Programs<'a> {
    /// All of them.
    pub fn of(ebpf: &'a mut Ebpf) -> Self {
        Self(ebpf.programs_mut().collect())
    }

    /// Takes some out.
    pub fn split_off(&mut self, names: &[&str]) -> Self {
        let taken = names.iter().filter_map(|name| self.0.remove_entry(*name));
        Self(taken.collect())
    }

    /// Takes others in.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    fn find(&mut self, name: &str) -> Result<&mut Program, AttachError> {
        let program = self.0.get_mut(name);
        program
            .map(|program| &mut **program)
            .ok_or_else(|| AttachError::NoProgram(name.to_owned()))
    }

    /// The program of this name, as the kind it is.
    ///
    /// # Errors
    /// There is none, or it is of another kind.
    pub fn get<'b, P>(&'b mut self, name: &str) -> Result<&'b mut P, AttachError>
    where
        &'b mut P: TryFrom<&'b mut Program, Error = ProgramError>,
    {
        with_program(name, self.find(name)?.try_into())
    }

    /// Whether a program is loaded.
    pub fn is_loaded(&self, name: &str) -> bool {
        let program = self.0.get(name);
        program.is_some_and(|program| program.fd().is_ok())
    }

    /// Loads those that are going to be attached, so that the attachments follow one another
    /// closely: of a process that runs meanwhile, some hooks see more than others. What is refused
    /// here is refused again, and reported, when it is attached.
    ///
    /// The kernel verifies each program in the thread that loads it, and that is most of a start.
    pub fn load_all<'h>(&mut self, hooks: impl IntoIterator<Item = &'h Hook>, target: &Target<'_>) {
        let mut wanted = HashMap::new();
        for hook in hooks.into_iter().filter(|hook| target.has(hook)) {
            for name in hook.programs() {
                wanted.insert(name, hook);
            }
        }
        let needs_types = wanted.values().any(|hook| matches!(hook.at, At::Fexit(_)));
        let types = needs_types.then(|| target.types().ok()).flatten();
        let programs = self.0.iter_mut().filter_map(|(name, program)| {
            let hook = wanted.get(name).copied()?;
            Some((*name, program, hook))
        });
        let mut waiting: Vec<_> = programs.collect();
        // Taken from the end.
        waiting.sort_by_key(|(name, ..)| LONGEST.iter().position(|longest| longest == name));
        let waiting = Mutex::new(waiting);
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = || {
            while let Some((name, program, hook)) = next() {
                // As said.
                let _ = load_program(name, program, hook, types);
            }
        };
        let processors = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 1..processors.min(LOADERS) {
                scope.spawn(work);
            }
            work();
        });
    }
}

/// Attaches each hook that this kernel has a place for; those that were refused.
pub fn attach(programs: &mut Programs<'_>, hooks: &[Hook], target: &Target<'_>) -> Vec<Missing> {
    hooks
        .iter()
        .filter_map(|hook| attach_hook(programs, hook, target))
        .collect()
}

/// The same for hooks that are of use only together; what of them was refused and can be done
/// without.
///
/// # Errors
/// One was refused that the others are nothing without, or, if it is to be `complete`, any. None
/// stays attached.
pub fn attach_together(
    programs: &mut Programs<'_>,
    hooks: &[Hook],
    target: &Target<'_>,
    complete: bool,
) -> Result<Vec<Missing>, AttachError> {
    let mut missing = Vec::new();
    for hook in hooks {
        match attach_hook(programs, hook, target) {
            Some(refused) if complete || hook.need == Need::Required => {
                hooks.iter().for_each(|hook| unload_hook(programs, hook));
                return Err(refused.error);
            }
            refused => missing.extend(refused),
        }
    }
    Ok(missing)
}

/// Attaches a hook, if there is a place for it. One that was refused does not stay loaded.
fn attach_hook(programs: &mut Programs<'_>, hook: &Hook, target: &Target<'_>) -> Option<Missing> {
    if !target.has(hook) {
        return None;
    }
    let error = load_hook(programs, hook, target)
        .and_then(|()| attach_loaded(programs, hook, target))
        .err()?;
    unload_hook(programs, hook);
    Some(Missing {
        unseen: hook.unseen(&target.functions(hook)),
        error,
    })
}

fn load_hook(
    programs: &mut Programs<'_>,
    hook: &Hook,
    target: &Target<'_>,
) -> Result<(), AttachError> {
    let types = match hook.at {
        At::Fexit(_) => Some(target.types()?),
        _ => None,
    };
    hook.programs()
        .try_for_each(|name| load_program(name, programs.find(name)?, hook, types))
}

fn attach_loaded(
    programs: &mut Programs<'_>,
    hook: &Hook,
    target: &Target<'_>,
) -> Result<(), AttachError> {
    let name = hook.program;
    match hook.at {
        At::Fexit(_) => {
            with_program(name, programs.get::<FExit>(name)?.attach())?;
        }
        At::Probes { .. } => {
            for name in hook.programs() {
                let program: &mut KProbe = programs.get(name)?;
                for function in target.functions(hook) {
                    with_program(name, program.attach(function, 0))?;
                }
            }
        }
        At::Tracepoint(tracepoint) => {
            let program: &mut RawTracePoint = programs.get(name)?;
            with_program(name, program.attach(tracepoint))?;
        }
        At::Cgroup(at) => {
            let root = File::open(target.cgroup_root.unwrap_or(Path::new("")));
            let root = root.map_err(AttachError::CgroupRoot)?;
            // The mode concerns the old way of attaching only: a link lives beside others, and is
            // refused with EINVAL when a mode is given.
            let mode = CgroupAttachMode::Single;
            let attached = match programs.find(name)? {
                Program::CgroupSock(program) => program.attach(&root, mode).map(drop),
                Program::CgroupSockAddr(program) => program.attach(&root, mode).map(drop),
                Program::SockOps(program) => program.attach(&root, mode).map(drop),
                Program::CgroupSkb(program) => {
                    let direction = if at == BPF_CGROUP_INET_INGRESS {
                        CgroupSkbAttachType::Ingress
                    } else {
                        CgroupSkbAttachType::Egress
                    };
                    program.attach(&root, direction, mode).map(drop)
                }
                _ => return Err(AttachError::NoProgram(name.to_owned())),
            };
            with_program(name, attached)?;
        }
        // By the classifiers.
        At::Interface => {}
    }
    Ok(())
}

/// Detaches every program, and gives it back.
pub fn detach(ebpf: &mut Ebpf) {
    for (_, program) in ebpf.programs_mut() {
        unload(program);
    }
}

/// Loads a program of a hook; one that is loaded already stays.
fn load_program(
    name: &str,
    program: &mut Program,
    hook: &Hook,
    types: Option<&aya::Btf>,
) -> Result<(), AttachError> {
    match (program, hook.at, types) {
        (Program::FExit(program), At::Fexit(function), Some(types)) => {
            loaded(name, || program.load(function, types))
        }
        (program, ..) => load_plain(name, program),
    }
}

/// Loads a program of a kind that needs no more than that; one that is loaded already stays.
pub fn load(programs: &mut Programs<'_>, name: &str) -> Result<(), AttachError> {
    load_plain(name, programs.find(name)?)
}

fn load_plain(name: &str, program: &mut Program) -> Result<(), AttachError> {
    loaded(name, || match program {
        Program::KProbe(program) => program.load(),
        Program::RawTracePoint(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    })
}

fn loaded(name: &str, load: impl FnOnce() -> Result<(), ProgramError>) -> Result<(), AttachError> {
    inject_refusal(name)?;
    match load() {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        result => with_program(name, result),
    }
}

/// Refuses a program as a kernel would, where a test wants it so.
fn inject_refusal(name: &str) -> Result<(), AttachError> {
    if !faults::refuses(name) {
        return Ok(());
    }
    let source = ProgramError::LoadError {
        io_error: io::Error::from_raw_os_error(libc::EACCES),
        verifier_log: VerifierLog::new("FLOW_REFUSE names it".to_owned()),
    };
    with_program(name, Err(source))
}

pub fn is_loaded(ebpf: &Ebpf, name: &str) -> bool {
    ebpf.program(name)
        .is_some_and(|program| program.fd().is_ok())
}

fn unload_hook(programs: &mut Programs<'_>, hook: &Hook) {
    for name in hook.programs() {
        if let Ok(program) = programs.find(name) {
            unload(program);
        }
    }
}

/// Gives back a program; one that was never loaded has nothing to give.
fn unload(program: &mut Program) {
    let _ = match program {
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        Program::RawTracePoint(program) => program.unload(),
        Program::CgroupSockAddr(program) => program.unload(),
        Program::CgroupSock(program) => program.unload(),
        Program::CgroupSkb(program) => program.unload(),
        Program::SockOps(program) => program.unload(),
        _ => Ok(()),
    };
}
