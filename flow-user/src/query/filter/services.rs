//! Names of services and their ports, as `/etc/services` has them, and a few that every host knows.
//!
//! The file is read once, when the first name is looked up.

use std::{fs::File, io::Read as _, sync::OnceLock};

use crate::query::near::nearest;

const FILE: &str = "/etc/services";
/// The most that is read of it. The longest ones have some 700 kB.
const BYTES: u64 = 1 << 20;

/// What is known without the file, in its notation.
const BUILT_IN: &str = "\
ftp 21/tcp
ssh 22/tcp
telnet 23/tcp
smtp 25/tcp mail
domain 53/udp dns
bootps 67/udp
bootpc 68/udp
tftp 69/udp
http 80/tcp www
kerberos 88/tcp
pop3 110/tcp
sunrpc 111/tcp portmapper
ntp 123/udp
netbios-ns 137/udp
imap2 143/tcp imap
snmp 161/udp
snmp-trap 162/udp
bgp 179/tcp
ldap 389/tcp
https 443/tcp
microsoft-ds 445/tcp smb
submissions 465/tcp smtps
isakmp 500/udp
syslog 514/udp
submission 587/tcp
ldaps 636/tcp
domain-s 853/tcp
rsync 873/tcp
imaps 993/tcp
pop3s 995/tcp
socks 1080/tcp
openvpn 1194/udp
ms-sql-s 1433/tcp
mqtt 1883/tcp
nfs 2049/tcp
etcd-client 2379/tcp etcd
mysql 3306/tcp
ms-wbt-server 3389/tcp rdp
sip 5060/udp
xmpp-client 5222/tcp
mdns 5353/udp
postgresql 5432/tcp postgres
amqp 5672/tcp
redis 6379/tcp
kube-apiserver 6443/tcp
http-alt 8080/tcp
prometheus 9090/tcp
elasticsearch 9200/tcp
memcache 11211/tcp memcached
mongodb 27017/tcp
wireguard 51820/udp
";

/// The port of the service of this name, in any case. The file's names come first, then those that
/// are known without it.
pub(super) fn port(name: &str) -> Option<u16> {
    let mut all = all();
    all.find_map(|(it, port)| it.eq_ignore_ascii_case(name).then_some(port))
}

/// The well-known name that is nearest to a wrong one.
pub(super) fn near(name: &str) -> Option<&'static str> {
    let names: Vec<&str> = services(BUILT_IN).map(|(name, _)| name).collect();
    nearest(name, &names)
}

/// Every name with its port. A name may come more than once.
pub(super) fn all() -> impl Iterator<Item = (&'static str, u16)> {
    static LISTED: OnceLock<String> = OnceLock::new();
    services(LISTED.get_or_init(listed)).chain(services(BUILT_IN))
}

/// The file, or nothing where it cannot be read.
fn listed() -> String {
    let mut bytes = Vec::new();
    match File::open(FILE).and_then(|file| file.take(BYTES).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            log::debug!("{FILE}: {error}");
            String::new()
        }
    }
}

/// The names in a text of lines such as `http 80/tcp www # WorldWideWeb`, with their ports.
fn services(text: &str) -> impl Iterator<Item = (&str, u16)> {
    text.lines().flat_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let name = words.next();
        let port = words.next().and_then(|it| it.split_once('/'));
        let port: Option<u16> = port.and_then(|(port, _)| port.parse().ok());
        let names = name.into_iter().chain(words);
        names.filter_map(move |name| Some((name, port?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_name_a_port_and_other_names() {
        let text = "# x 1/tcp\n\nhttp\t80/tcp  www web # y 2/tcp\r\nodd 70000/tcp\nodd\nodd x/tcp\nz 9/udp";
        let read: Vec<_> = services(text).collect();
        let expected = [("http", 80), ("www", 80), ("web", 80), ("z", 9)];
        assert_eq!(read, expected);
    }

    #[test]
    fn well_known_services_are_known_without_the_file() {
        let built_in: Vec<_> = services(BUILT_IN).collect();
        assert!(built_in.len() > BUILT_IN.lines().count());
        for (name, port) in [("https", 443), ("ssh", 22), ("HTTPS", 443), ("dns", 53)] {
            assert_eq!(super::port(name), Some(port), "{name}");
        }
        assert_eq!(port("no-such-service"), None);
        assert_eq!(near("htpts"), Some("https"));
    }
}
