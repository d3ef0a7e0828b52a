//! The initramfs of a guest: flow, its tests, the tools they use and the kernel's modules.
//!
//! Its `/init` is `flow-live`, which runs `tests/src/guest.rs` as process 1; that file documents
//! what it reads in `/flow-vm`.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cpio::Archive,
    kernels::Unpacked,
    run::release,
    tools::{find_program, output},
};

/// Flow and its tests from the release build, installed in `/usr/bin`.
const PROGRAMS: [&str; 2] = ["flow", "flow-live"];

/// Tools of the host, installed in `/usr/sbin`. busybox provides everything else; not the shell,
/// because busybox's shell prefers its own `ip` and `tc`.
const TOOLS: [&str; 7] = ["busybox", "ethtool", "ip", "nft", "sh", "ss", "tc"];

/// Modules that flow or its tests use, as modules or built in. Their dependencies are added.
const MODULES: [&str; 60] = [
    "8021q",
    "act_mirred",
    "af_packet_diag",
    "bonding",
    "bridge",
    "cls_bpf",
    "cls_matchall",
    "cls_u32",
    "ctr",
    "drbg",
    "dummy",
    "esp4",
    "gcm",
    "geneve",
    "ghash_generic",
    "ifb",
    "inet_diag",
    "ip_gre",
    "ipip",
    "ipvlan",
    "macvlan",
    "macvtap",
    "mptcp_diag",
    "netlink_diag",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_limit",
    "nft_log",
    "nft_masq",
    "nft_nat",
    "nft_objref",
    "nft_quota",
    "nft_reject",
    "nft_reject_inet",
    "raw_diag",
    "sch_fq",
    "sch_ingress",
    "sch_netem",
    "sch_tbf",
    "sctp",
    "sctp_diag",
    "seqiv",
    "sha512_generic",
    "sit",
    "tcp_diag",
    "team",
    "team_mode_roundrobin",
    "tls",
    "tun",
    "udp_diag",
    "unix_diag",
    "veth",
    "vrf",
    "vxlan",
    "wireguard",
    "xfrm_interface",
    "xfrm_user",
];

/// Modules that newer kernels merged into another: into `nf_tables`, from 6.2.
const MERGED: [&str; 1] = ["nft_objref"];

/// Modules that create interfaces of their own, with names that a test would use.
const PARAMETERS: [(&str, &str); 3] = [
    ("bonding", "max_bonds=0"),
    ("dummy", "numdummies=0"),
    ("ifb", "numifbs=0"),
];

const ENVIRONMENT: &str = "HOME=/root\n\
    LC_ALL=C.UTF-8\n\
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\n\
    RUST_BACKTRACE=1\n\
    TERM=dumb\n";

/// Files that name lookups read.
const SYSTEM_FILES: [(&str, &str); 4] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/usr/sbin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/false\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\n",
    ),
];

/// Writes the initramfs of a guest that runs `command`.
///
/// # Errors
/// When the release build, a tool or a module is missing, or the file cannot be written.
pub fn write_initramfs(path: &Path, kernel: &Unpacked, command: &[String]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut image = Image {
        archive: Archive::new(BufWriter::new(file)),
    };
    image
        .fill(kernel, command)
        .with_context(|| format!("cannot make {}", path.display()))?;
    image
        .archive
        .finish()
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

struct Image {
    archive: Archive<BufWriter<File>>,
}

impl Image {
    fn fill(&mut self, kernel: &Unpacked, command: &[String]) -> Result<()> {
        for (link, target) in [
            ("/bin", "usr/bin"),
            ("/sbin", "usr/sbin"),
            ("/lib", "usr/lib"),
            ("/lib64", "usr/lib64"),
        ] {
            self.archive.folder(&format!("/{target}"))?;
            self.archive.symlink(link, target)?;
        }
        // The kernel opens /dev/console for process 1 before anything is mounted.
        self.archive.character_device("/dev/console", (5, 1))?;
        self.archive.folder("/root")?;
        self.archive.symlink("/var/run", "../run")?;
        self.archive.symlink("/init", "usr/bin/flow-live")?;
        for (path, content) in SYSTEM_FILES {
            self.archive.file(path, content.as_bytes())?;
        }
        for program in PROGRAMS {
            self.program(&release(program)?, "/usr/bin")?;
        }
        for tool in TOOLS {
            let path = find_program(tool)
                .with_context(|| format!("{tool} is missing; get it with: cargo xtask setup"))?;
            self.program(&path, "/usr/sbin")?;
        }
        self.applets()?;
        self.modules(kernel)?;
        self.archive
            .file("/flow-vm/environment", ENVIRONMENT.as_bytes())?;
        self.archive.file(
            "/flow-vm/command",
            format!("{}\n", command.join("\n")).as_bytes(),
        )?;
        Ok(())
    }

    /// Copies a program and the libraries it is linked to.
    fn program(&mut self, path: &Path, folder: &str) -> Result<()> {
        let name = path
            .file_name()
            .and_then(OsStr::to_str)
            .context("a program without a name")?;
        self.archive
            .file(&format!("{folder}/{name}"), &read(path)?)?;
        for library in libraries(path)? {
            // /lib and /lib64 are links, as with merged /usr.
            let place = if library.starts_with("/usr/") {
                library.clone()
            } else {
                format!("/usr{library}")
            };
            if !self.archive.contains(&place) {
                self.archive.file(&place, &read(Path::new(&library))?)?;
            }
        }
        Ok(())
    }

    /// Links busybox under the name of each applet for which there is no other tool.
    fn applets(&mut self) -> Result<()> {
        let busybox = find_program("busybox")
            .context("busybox is missing; get it with: cargo xtask setup")?;
        let list = output(Command::new(busybox).arg("--list"))?;
        for applet in String::from_utf8_lossy(&list).lines() {
            let place = format!("/usr/sbin/{applet}");
            if !self.archive.contains(&place) {
                self.archive.symlink(&place, "busybox")?;
            }
        }
        Ok(())
    }

    /// Copies the modules, unpacked, and lists them in the order in which they can be loaded.
    fn modules(&mut self, kernel: &Unpacked) -> Result<()> {
        let dependencies = read_text(&kernel.modules.join("modules.dep"))?;
        let builtin = read_text(&kernel.modules.join("modules.builtin"))?;
        let mut list = String::new();
        for module in load_order(&MODULES, &dependencies, &builtin)? {
            let place = format!("/flow-vm/{}.ko", module_name(module));
            self.archive
                .file(&place, &unpack(&kernel.modules.join(module))?)?;
            let name = module_name(module);
            let parameters = PARAMETERS.iter().find(|(module, _)| *module == name);
            let parameters = parameters.map_or("", |(_, parameters)| parameters);
            list.push_str(format!("{place} {parameters}").trim_end());
            list.push('\n');
        }
        self.archive.file("/flow-vm/modules", list.as_bytes())?;
        Ok(())
    }
}

/// The libraries and the loader of a program, from ldd.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let mut ldd = Command::new("ldd");
    let ldd = ldd.arg(program).output().context("cannot start ldd")?;
    // ldd fails for a static program, which has none.
    if !ldd.status.success() {
        return Ok(Vec::new());
    }
    parse_libraries(&String::from_utf8_lossy(&ldd.stdout))
        .with_context(|| format!("{} cannot run", program.display()))
}

fn parse_libraries(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let target = line.split_once(" => ").map_or(line, |(_, target)| target);
        if target.starts_with("not found") {
            bail!("a library is missing: {line}");
        }
        let path = target.split(" (").next().unwrap_or(target);
        if path.starts_with('/') {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

/// Paths of the wanted modules and their dependencies, dependencies first, as in `modules.dep`.
fn load_order<'a>(wanted: &[&str], dependencies: &'a str, builtin: &str) -> Result<Vec<&'a str>> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for module in wanted {
        let line = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| module_name(path) == *module);
        let Some((path, needed)) = line else {
            let is_built_in = builtin.lines().any(|path| module_name(path) == *module);
            if is_built_in || MERGED.contains(module) {
                continue;
            }
            bail!("this kernel has no module {module}");
        };
        // depmod lists the dependencies of a module, the deepest last.
        for path in needed.split_whitespace().rev().chain([path]) {
            if seen.insert(path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// `kernel/net/netfilter/nf-tables.ko.xz` -> `nf_tables`
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

fn unpack(module: &Path) -> Result<Vec<u8>> {
    match module.extension().and_then(OsStr::to_str) {
        Some("xz") => output(Command::new("xz").args(["-d", "-c"]).arg(module)),
        Some("zst") => output(Command::new("zstd").args(["-q", "-d", "-c"]).arg(module)),
        Some("gz") => output(Command::new("gzip").args(["-d", "-c"]).arg(module)),
        _ => read(module),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_text(path: &PathBuf) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse_libraries(text).unwrap(), expected);
        assert!(parse_libraries("\tstatically linked\n").unwrap().is_empty());
        let error = parse_libraries("\tlibz.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libz.so.1"));
    }

    #[test]
    fn modules_come_after_those_they_need() {
        let dependencies =
            "k/a.ko.xz: k/b-x.ko.xz k/c.ko.xz\nk/b-x.ko.xz: k/c.ko.xz\nk/c.ko.xz:\nk/d.ko.xz:\n";
        let order = load_order(&["c", "a", "b_x", "e"], dependencies, "k/e.ko\n").unwrap();
        assert_eq!(order, ["k/c.ko.xz", "k/b-x.ko.xz", "k/a.ko.xz"]);
        assert!(load_order(&MERGED, dependencies, "").unwrap().is_empty());
        let error = load_order(&["f"], dependencies, "").unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no module f");
    }
}
