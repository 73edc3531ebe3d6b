//! After a failure of the connection, its greeting or its encryption: what the port is, and which way works.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use explain::{PortBlock, blocked_ports};
use futures_util::future::join_all;
use net::client::Session;
use net::dial::dial;
use net::lookup::{Data, Kind};
use net::tls::Verify;
use proto::policy::dns::reverse_name;
use proto::transcript::{Failure, Stage};

use super::peek::{self, Service};
use super::plan::Tls;
use super::probe::{Probe, Stop, mode_word};
use super::report::Way;

/// Longest look at one way.
const LIMIT: Duration = Duration::from_secs(4);
/// Most hosts of others that are asked.
const MAX_LANDMARKS: usize = 3;

impl Probe<'_> {
    /// Whether another mode than the one the port stands for may be taken.
    pub(super) fn may_switch(&self) -> bool {
        self.plan.tls == Tls::Auto && self.plan.explore
    }

    /// Finds the reason of a failure beyond its own words.
    pub(super) async fn explore(&mut self, stop: &Stop) {
        if matches!(stop.stage, Stage::Dns | Stage::Tcp) {
            self.note_slip(stop.stage);
        }
        if stop.stage == Stage::Banner
            && let Failure::BadReply { text } = &stop.failure
            && let Service::Other(service) = peek::service_of(text.as_bytes())
        {
            self.not_mail(service, text);
        }
        if !self.plan.explore {
            return;
        }
        let began = self.net.clock.mono_us();
        self.judge_peek(stop);
        if looks_elsewhere(stop) {
            self.siblings(stop).await;
        }
        if self.plan.outside && stop.stage == Stage::Tcp && !matches!(stop.failure, Failure::ConnectRefused { .. }) {
            self.landmarks().await;
        }
        self.waited_us += self.net.clock.mono_us().saturating_sub(began);
    }

    /// What the other looks at the same port say.
    fn judge_peek(&mut self, stop: &Stop) {
        let Some(peeked) = self.peeked.clone() else { return };
        let implicit = self.tls == Tls::Implicit;
        let (mode, other, kind) = if implicit {
            ("implicit", Tls::StartTls, "wrong_tls_mode_implicit")
        } else {
            (mode_word(self.tls), Tls::Implicit, "wrong_tls_mode_starttls")
        };
        let works = if implicit { peeked.clear == Service::Smtp } else { peeked.inside == Some(Service::Smtp) };
        if works {
            let (host, port) = self.place();
            let other = mode_word(other);
            let values =
                [("host", &*host), ("port", &*port), ("mode", mode), ("try_port", &*port), ("try_mode", other)];
            self.sign(stop.stage, kind, &values);
            self.working = Some(Way { host, port: self.way.port, tls: other });
            return;
        }
        let text = peeked.text.clone();
        match (peeked.clear, peeked.inside) {
            (_, Some(Service::Other("HTTP"))) => self.not_mail("HTTPS", &text),
            (_, Some(Service::Other(service))) => self.not_mail(&format!("{service} over TLS"), &text),
            (Service::Other(service), _) => self.not_mail(service, &text),
            _ => {}
        }
    }

    /// Other mail ports of the same host, all at once; the first of the plan's order that works is the way.
    async fn siblings(&mut self, stop: &Stop) {
        let mut addresses: Vec<SocketAddr> = self.peer.into_iter().collect();
        if addresses.is_empty() {
            let first = |is: fn(&SocketAddr) -> bool| self.addresses.iter().copied().find(is);
            addresses.extend([first(SocketAddr::is_ipv4), first(SocketAddr::is_ipv6)].into_iter().flatten());
        }
        let port = addresses.first().map_or(self.way.port, SocketAddr::port);
        let others: Vec<(u16, Tls)> = self.plan.siblings.iter().copied().filter(|(other, _)| *other != port).collect();
        let tries = others.iter().map(|&(port, tls)| {
            let peers: Vec<SocketAddr> = addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
            self.try_way(peers, tls)
        });
        let results = join_all(tries).await;
        let (host, port) = self.place();
        let mode = mode_word(self.tls);
        let works = others.iter().zip(&results).find_map(|((port, _), found)| found.works.map(|tls| (*port, tls)));
        if let Some((try_port, tls)) = works {
            let try_port_text = try_port.to_string();
            let values = [
                ("host", &*host),
                ("port", &*port),
                ("mode", mode),
                ("try_port", &*try_port_text),
                ("try_mode", mode_word(tls)),
            ];
            self.sign(stop.stage, "other_port_works", &values);
            if self.working.is_none() {
                self.working = Some(Way { host, port: try_port, tls: mode_word(tls) });
            }
        } else if stop.stage == Stage::Tcp && !others.is_empty() && results.iter().all(|found| !found.answers) {
            let ports = others.iter().map(|(port, _)| port.to_string()).collect::<Vec<_>>().join(", ");
            self.sign(stop.stage, "no_port_answers", &[("host", &host), ("port", &port), ("ports", &ports)]);
        }
    }

    /// Greeting, EHLO and TLS without secrets at the first address that connects.
    async fn try_way(&self, peers: Vec<SocketAddr>, tls: Tls) -> Tried {
        let settings = peek::short(self.settings, LIMIT);
        let verify = if self.plan.insecure { Verify::Opportunistic } else { Verify::Full };
        let mut tried = Tried { answers: false, works: None };
        for peer in peers {
            let mut session = Session::new(self.net, self.way.host.as_str(), &settings);
            if session.dial(peer).await.is_err() {
                continue;
            }
            tried.answers = true;
            let limit = LIMIT.min(self.plan.timeout) * 2;
            tried.works =
                tokio::time::timeout(limit, converse(&mut session, tls, verify, self.plan.tls)).await.ok().flatten();
            session.hang_up();
            break;
        }
        tried
    }

    /// Hosts of others on the same port, to tell a network that blocks it from a server that is down.
    async fn landmarks(&mut self) {
        let port = self.way.port;
        let known: Vec<(String, Vec<u16>)> = if self.plan.landmarks.is_empty() {
            let target = self.judge.provider().map(str::to_owned);
            let providers = self.judge.rules().providers().iter();
            let others = providers.filter(|provider| Some(&provider.id) != target.as_ref());
            let ways = others.filter_map(|provider| {
                provider.submission.iter().find_map(|way| {
                    let ports: Vec<u16> = way.starttls.iter().chain(&way.implicit).copied().collect();
                    let real = !way.host.bytes().any(|octet| octet.is_ascii_uppercase());
                    (real && ports.contains(&port) && ports.len() > 1).then(|| (way.host.clone(), ports))
                })
            });
            ways.take(MAX_LANDMARKS).collect()
        } else {
            let all: Vec<u16> = self.plan.siblings.iter().map(|(port, _)| *port).collect();
            self.plan.landmarks.iter().take(MAX_LANDMARKS).map(|host| (host.clone(), all.clone())).collect()
        };
        let looks = known.iter().map(|(host, ports)| self.landmark(host, port, ports));
        let looked: Vec<(bool, bool)> = join_all(looks).await.into_iter().flatten().collect();
        if looked.is_empty() || looked.iter().any(|(same, _)| *same) {
            return;
        }
        let tried = known.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>().join(", ");
        let elsewhere = looked.iter().any(|(_, other)| *other) || self.working.is_some();
        let kind = if elsewhere { "network_blocks_port" } else { "network_down" };
        let (host, port) = self.place();
        let here = self.own_network().await;
        let mut values = vec![("host", &*host), ("port", &*port), ("tried", &*tried)];
        values.extend(here.map(|here| known_of(here, self.way.port)).unwrap_or_default());
        self.sign(Stage::Tcp, kind, &values);
    }

    /// The cloud, hoster or provider whose network this machine is in, if the name of our own address tells.
    async fn own_network(&self) -> Option<&'static PortBlock> {
        let ours = self.plan.source.or_else(|| local_address(self.addresses.first().copied()?))?;
        let name = reverse_name(ours);
        let asked = tokio::time::timeout(LIMIT.min(self.plan.timeout), self.net.resolver.query(&name, Kind::Ptr));
        asked.await.ok()?.records.iter().find_map(|data| match data {
            Data::Ptr(name) => blocked_ports(name),
            _ => None,
        })
    }

    /// Whether a host of others answers on this port, and on any other; `None` if its name is not known.
    async fn landmark(&self, host: &str, port: u16, ports: &[u16]) -> Option<(bool, bool)> {
        let addresses = self.net.resolver.addresses(host).await.ok()?;
        let wanted =
            |address: &&std::net::IpAddr| self.plan.source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
        let address =
            *addresses.iter().filter(wanted).find(|one| one.is_ipv4()).or_else(|| addresses.iter().find(wanted))?;
        let limit = LIMIT.min(self.plan.timeout);
        let others = ports.iter().copied().filter(|other| *other != port);
        let dials = std::iter::once(port).chain(others).map(|port| async move {
            let answered = dial(SocketAddr::new(address, port), self.plan.source, limit).await;
            // Refusing is an answer: the network let the question through.
            matches!(answered, Ok(_) | Err(Failure::ConnectRefused { .. }))
        });
        let answers = join_all(dials).await;
        let (same, rest) = answers.split_first()?;
        Some((*same, rest.iter().any(|answer| *answer)))
    }
}

/// Values of a sign: what is known of our own network, and of its blocking this port.
fn known_of(here: &'static PortBlock, port: u16) -> Vec<(&'static str, &'static str)> {
    let mut values = vec![("network", here.name.as_str())];
    if here.blocked.contains(&port) {
        values.extend([
            ("how", here.how.as_str()),
            ("instead", &here.instead),
            ("ask", &here.ask),
            ("form", &here.url),
        ]);
    }
    // What is not known has a stand-in in the words.
    values.retain(|(_, text)| !text.is_empty());
    // They stand where a sentence ends.
    values.into_iter().map(|(name, text)| (name, text.trim_end_matches('.'))).collect()
}

/// Our address towards a peer; nothing is sent.
fn local_address(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// What became of another way.
struct Tried {
    answers: bool,
    works: Option<Tls>,
}

/// The mode that works, if the way is as safe as what was asked for.
async fn converse(session: &mut Session<'_>, tls: Tls, verify: Verify, asked: Tls) -> Option<Tls> {
    if tls == Tls::Implicit {
        session.handshake(verify).await.ok()?;
    }
    session.greeting().await.ok()?;
    let hello = session.hello().await.ok()?;
    match tls {
        Tls::Implicit => Some(Tls::Implicit),
        Tls::None => Some(Tls::None),
        Tls::Auto | Tls::StartTls if hello.capabilities.starttls => {
            session.start_tls().await.ok()?;
            session.handshake(verify).await.ok()?;
            Some(Tls::StartTls)
        }
        Tls::Auto | Tls::StartTls => matches!(asked, Tls::Auto | Tls::None).then_some(Tls::None),
    }
}

/// Whether other ports of the host may do better. A refused certificate is the same on all.
fn looks_elsewhere(stop: &Stop) -> bool {
    match stop.stage {
        Stage::Tcp | Stage::Banner => true,
        Stage::Tls => !matches!(stop.failure, Failure::Certificate { .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_named_and_what_it_does_is_told_of_the_ports_it_blocks() {
        let google = blocked_ports("4.2.0.192.bc.googleusercontent.com").unwrap();
        let names = |port| known_of(google, port).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(25), ["network", "how", "instead"], "nobody opens it, so there is nobody to ask");
        assert_eq!(names(587), ["network"]);
        let aws = blocked_ports("ec2-192-0-2-4.compute.amazonaws.com").unwrap();
        assert!(known_of(aws, 25).iter().any(|(name, text)| *name == "form" && text.starts_with("https://")));
    }

    #[test]
    fn the_address_towards_this_machine_is_its_own() {
        assert_eq!(local_address(([127, 0, 0, 1], 9).into()), Some([127, 0, 0, 1].into()));
    }
}
