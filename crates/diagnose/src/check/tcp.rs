//! Connections to every address of both families at once; the conversation goes on with the first that works.

use std::net::SocketAddr;

use net::dial::dial;
use proto::transcript::{Failure, Stage};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::dns::{Candidate, with_port};
use super::probe::{Probe, Stop};
use super::summary::how;

/// What became of the addresses of the host that is probed.
pub(super) struct Dials {
    set: JoinSet<(usize, Result<TcpStream, Failure>)>,
    peers: Vec<SocketAddr>,
    failures: Vec<(usize, Failure)>,
    works: Option<SocketAddr>,
}

impl Probe<'_> {
    /// Connects to the first host that lets us.
    pub(super) async fn tcp(&mut self, candidates: Vec<Candidate>) -> Result<(), Stop> {
        self.begin(Stage::Tcp);
        let mut worst: Option<Failure> = None;
        let mut failed: Vec<(String, &'static str)> = Vec::new();
        for candidate in candidates {
            self.session.set_host(candidate.host.clone());
            self.way.host.clone_from(&candidate.host);
            let port = self.plan.connect_to.map_or(self.way.port, |to| to.port());
            let peers = with_port(&candidate.addresses, port);
            self.addresses.clone_from(&peers);
            match self.connect(peers).await {
                Ok(peer) => {
                    self.peer = Some(peer);
                    let provider = self.judge.rules().provider_of_host(&candidate.host).map(|one| one.id.clone());
                    self.judge.met(provider.as_deref());
                    self.pass(Stage::Tcp, peer.to_string(), None);
                    for (host, how) in failed {
                        let values = [("host", &*host), ("how", how), ("works", &*candidate.host)];
                        self.sign(Stage::Tcp, "mx_host_fails", &values);
                    }
                    return Ok(());
                }
                Err(failure) => {
                    failed.push((candidate.host, how(&failure)));
                    if worst.as_ref().is_none_or(|before| rank(&failure) > rank(before)) {
                        worst = Some(failure);
                    }
                }
            }
        }
        let failure = worst.unwrap_or_else(|| Failure::NoAddress { name: self.way.host.clone() });
        match failure {
            Failure::ConnectFailed { peer, .. } if how(&failure) == "reset" => Err(self.reset_at_once(peer)),
            failure => Err(self.fail(Stage::Tcp, failure)),
        }
    }

    /// Refusing answers a SYN with a reset; a reset of a connection comes behind its opening, and it is chance on which
    /// side of our looking at it.
    fn reset_at_once(&mut self, peer: SocketAddr) -> Stop {
        self.peer = Some(peer);
        self.pass(Stage::Tcp, format!("{peer}, and reset at once"), None);
        if !self.reaches(Stage::Banner) {
            return Stop { stage: Stage::Banner, failure: Failure::Disconnected };
        }
        self.begin(Stage::Banner);
        self.fail(Stage::Banner, Failure::Disconnected)
    }

    /// All addresses at once. With success, the slow ones are waited for at the end of the probe.
    async fn connect(&mut self, peers: Vec<SocketAddr>) -> Result<SocketAddr, Failure> {
        let began = self.session.now_us();
        let mut set = JoinSet::new();
        for (index, peer) in peers.iter().copied().enumerate() {
            let (source, limit) = (self.plan.source, self.plan.timeout);
            set.spawn(async move { (index, dial(peer, source, limit).await) });
        }
        let mut dials = Dials { set, peers, failures: Vec::new(), works: None };
        let mut first: Option<(usize, TcpStream)> = None;
        while let Some(joined) = if first.is_none() { dials.set.join_next().await } else { dials.set.try_join_next() } {
            match joined {
                Ok((index, Ok(stream))) if first.as_ref().is_none_or(|(before, _)| index < *before) => {
                    first = Some((index, stream));
                }
                Ok((_, Ok(_))) => {}
                Ok((index, Err(failure))) => {
                    self.session.note(Stage::Tcp, began, Err(&failure));
                    dials.failures.push((index, failure));
                }
                Err(_) => {}
            }
        }
        match first {
            Some((index, stream)) => {
                let peer = dials.peers[index];
                self.session.adopt(stream, peer, began);
                dials.works = Some(peer);
                self.dials = Some(dials);
                Ok(peer)
            }
            None => {
                let failures = dials.failures.into_iter().map(|(_, failure)| failure);
                let worst = failures.reduce(|best, next| if rank(&next) > rank(&best) { next } else { best });
                Err(worst.unwrap_or_else(|| Failure::NoAddress { name: self.way.host.clone() }))
            }
        }
    }

    /// Waits for the addresses that were slow, and tells of those that fail while another works.
    pub(super) async fn judge_addresses(&mut self) {
        let Some(mut dials) = self.dials.take() else { return };
        let Some(works) = dials.works else { return };
        // Every machine has both addresses under this name, whatever listens (RFC 6761 §6.3).
        if is_local(&self.way.host) {
            return;
        }
        if !dials.set.is_empty() {
            let began = self.net.clock.mono_us();
            while let Some(joined) = dials.set.join_next().await {
                if let Ok((index, Err(failure))) = joined {
                    dials.failures.push((index, failure));
                }
            }
            self.waited_us += self.net.clock.mono_us().saturating_sub(began);
        }
        dials.failures.sort_by_key(|(index, _)| *index);
        let (host, port) = self.place();
        let works_text = works.ip().to_string();
        for family_is_four in [false, true] {
            let of_family = |peer: &SocketAddr| peer.is_ipv4() == family_is_four;
            let failures: Vec<&(usize, Failure)> =
                dials.failures.iter().filter(|(index, _)| of_family(&dials.peers[*index])).collect();
            let Some((_, first)) = failures.first() else { continue };
            let all = failures.len() == dials.peers.iter().filter(|peer| of_family(peer)).count();
            let family = if family_is_four { "IPv4" } else { "IPv6" };
            if all && !of_family(&works) {
                if failures.iter().all(|(_, failure)| is_ours(failure)) {
                    let values = [("host", &*host), ("family", family), ("works", &*works_text)];
                    self.sign(Stage::Tcp, "family_not_here", &values);
                } else {
                    let values = [
                        ("host", &*host),
                        ("port", &*port),
                        ("family", family),
                        ("how", how(first)),
                        ("works", &*works_text),
                    ];
                    self.sign(Stage::Tcp, "family_fails", &values);
                }
                continue;
            }
            for (index, failure) in failures {
                let peer = dials.peers[*index].ip().to_string();
                let values = [
                    ("host", &*host),
                    ("peer", &*peer),
                    ("port", &*port),
                    ("how", how(failure)),
                    ("works", &*works_text),
                ];
                self.sign(Stage::Tcp, "address_fails", &values);
            }
        }
    }
}

fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// The network of this machine is the reason, not the server.
fn is_ours(failure: &Failure) -> bool {
    matches!(failure, Failure::ConnectFailed { reason, .. }
        if reason.contains("no route") || reason.contains("source address") || reason.contains("not supported"))
}

/// Which failure says most about the server.
fn rank(failure: &Failure) -> u8 {
    match failure {
        failure if how(failure) == "reset" => 4,
        Failure::ConnectRefused { .. } => 3,
        Failure::ConnectTimeout { .. } => 2,
        failure if is_ours(failure) => 0,
        _ => 1,
    }
}
