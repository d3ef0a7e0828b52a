//! Examples for the help of each command.

pub(super) const FLOW: &str = "\
Examples:
  sudo flow                                     full-screen view; ? shows its keys
  sudo flow -i eth0 --filter 'not port 22'      one interface, without ssh
  sudo flow top --once --by remote              busiest remote addresses, once
  sudo flow events --only flow.close            a line for each connection that ends
  flow doctor                                   what works on this host
  flow help filter                              the filter language

Counting needs root. `flow config` lists the settings of the full-screen view.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not permitted, 129 ended with SIGHUP,
130 with Ctrl-C, 143 with SIGTERM.";

pub(super) const TOP: &str = "\
Examples:
  sudo flow top                                 busiest processes; q ends it
  sudo flow top --once --by host -n 10          ten busiest remote addresses, once
  sudo flow top --by flow --sort rtt            flows by round trip time
  sudo flow top --filter 'user www-data'        processes of one user
  sudo flow top --json -d 10 | jq .             a JSON document every ten seconds";

pub(super) const EVENTS: &str = "\
Examples:
  sudo flow events                              everything, as it happens
  sudo flow events --only flow.open,flow.close  connections that begin and end
  sudo flow events --only process               programs that start and exit
  sudo flow events --filter 'dst port 443'      one kind of traffic
  sudo flow events --json --duration 60s        JSON, for a minute";

pub(super) const SNAPSHOT: &str = "\
Examples:
  sudo flow snapshot                            ten seconds, to standard output
  sudo flow snapshot --duration 5m -o out.json  five minutes, to a file
  sudo flow snapshot --filter 'net 10.0.0.0/8'  the traffic of a network";

pub(super) const CONFIG: &str = "\
Examples:
  flow config                                   what is in effect
  flow config --theme light                     what would be, with this option
  flow config > my.toml                         a file with these settings";

pub(super) const COMPLETIONS: &str = "\
Examples:
  flow completions bash > /etc/bash_completion.d/flow
  flow completions zsh > /usr/local/share/zsh/site-functions/_flow
  flow completions fish > ~/.config/fish/completions/flow.fish";

pub(super) const MAN: &str = "\
Examples:
  flow man | man -l -                           read it
  flow man > /usr/local/share/man/man1/flow.1   install it
  flow man events | man -l -                    the page of a command";
