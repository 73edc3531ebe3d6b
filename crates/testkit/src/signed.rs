//! A signed tree of zones for tests: a root with `secure.` (signed), `plain.` (not signed) and `bogus.` (signed with
//! another key than the root says).
//!
//! One server plays the root, the zones and the recursive resolver in front of them. Unlike [`crate::Zones`] it has no
//! troubles to set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_server::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS};
use hickory_server::proto::dnssec::{DigestType, DnssecSigner, PublicKey, PublicKeyBuf, SigningKey};
use hickory_server::proto::rr::rdata::{NS, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// The name server. Stops when dropped.
pub struct SignedTree {
    address: SocketAddr,
    anchors: String,
    _server: Server<Split>,
}

/// The catalog would ask the child for DS records, which only the parent has.
struct Split {
    all: Catalog,
    root: Catalog,
}

#[async_trait::async_trait]
impl RequestHandler for Split {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, response: R) -> ResponseInfo {
        let ds = request.request_info().is_ok_and(|info| info.query.query_type() == RecordType::DS);
        let catalog = if ds { &self.root } else { &self.all };
        catalog.handle_request::<R, T>(request, response).await
    }
}

type Zone = InMemoryZoneHandler<TokioRuntimeProvider>;

impl SignedTree {
    /// Starts a server with these records; names end in `secure`, `plain` or `bogus`.
    pub async fn start(records: &[(&str, RData)]) -> Self {
        let mut root = zone(".");
        let mut all = Catalog::new();
        for origin in ["secure.", "plain.", "bogus."] {
            let mut child = zone(origin);
            for (name, data) in records {
                let name = name_of(name);
                if name_of(origin).zone_of(&name) {
                    child.upsert_mut(Record::from_rdata(name, 60, data.clone()), 0);
                }
            }
            let delegation = RData::NS(NS(name_of(&format!("ns.{origin}"))));
            root.upsert_mut(Record::from_rdata(name_of(origin), 60, delegation), 0);
            if origin != "plain." {
                let (key, public) = new_key();
                sign(&mut child, origin, key, &public);
                let promised = if origin == "bogus." { new_key().1 } else { public };
                let ds = DS::from_key(&promised, &name_of(origin), DigestType::SHA256).expect("a digest");
                let ds = RData::DNSSEC(DNSSECRData::DS(ds));
                root.upsert_mut(Record::from_rdata(name_of(origin), 60, ds), 0);
            }
            all.upsert(LowerName::new(&name_of(origin)), vec![Arc::new(child)]);
        }
        let (key, public) = new_key();
        sign(&mut root, ".", key, &public);
        let packed = base64::engine::general_purpose::STANDARD.encode(public.public_bytes());
        let anchors = format!(". 3600 IN DNSKEY 257 3 15 {packed}\n");
        let root = Arc::new(root);
        let mut only_root = Catalog::new();
        only_root.upsert(LowerName::new(&Name::root()), vec![root.clone()]);
        all.upsert(LowerName::new(&Name::root()), vec![root]);
        let (udp, tcp) = same_port().await;
        let address = udp.local_addr().expect("address");
        let mut server = Server::new(Split { all, root: only_root });
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 4096);
        Self { address, anchors, _server: server }
    }

    /// Where it listens, UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root's key as a zone file has it.
    pub fn anchors(&self) -> &str {
        &self.anchors
    }
}

fn zone(origin: &str) -> Zone {
    let mut zone = Zone::empty(name_of(origin), ZoneType::Primary, AxfrPolicy::Deny, Some(NxProofKind::Nsec));
    let soa = SOA::new(name_of("ns.secure."), name_of("hostmaster.secure."), 1, 3600, 600, 86400, 60);
    zone.upsert_mut(Record::from_rdata(name_of(origin), 60, RData::SOA(soa)), 0);
    let ns = RData::NS(NS(name_of("ns.secure.")));
    zone.upsert_mut(Record::from_rdata(name_of(origin), 60, ns), 0);
    zone
}

fn sign(zone: &mut Zone, origin: &str, key: Ed25519SigningKey, public: &PublicKeyBuf) {
    let day = Duration::from_secs(86400);
    let signer = DnssecSigner::new(DNSKEY::from_key(public), Box::new(key), name_of(origin), day);
    zone.add_zone_signing_key_mut(signer).expect("a key");
    zone.secure_zone_mut().expect("signatures");
}

fn new_key() -> (Ed25519SigningKey, PublicKeyBuf) {
    let pkcs8 = Ed25519SigningKey::generate_pkcs8().expect("a key");
    let key = Ed25519SigningKey::from_pkcs8(&pkcs8).expect("a key");
    let public = key.to_public_key().expect("a public key");
    (key, public)
}

async fn same_port() -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("address")).await {
            return (udp, tcp);
        }
    }
    panic!("no port that is free for both UDP and TCP");
}

fn name_of(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    name.set_fqdn(true);
    name
}

/// A TXT record, for tests that need any data.
pub fn txt(text: &str) -> RData {
    RData::TXT(hickory_server::proto::rr::rdata::TXT::new(vec![text.to_owned()]))
}
