//! DNS for tests: zones given in code, served over UDP and TCP on one port of the loopback address.
//!
//! Answers are what the test says, with the failures resolvers meet: SERVFAIL, REFUSED, silence. Not signed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
pub use hickory_server::proto::rr::RecordType;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SOA, TXT};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use parking_lot::Mutex;
use tokio::net::{TcpListener, UdpSocket};

/// What a name answers instead of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// NXDOMAIN, even if there are records below.
    NxDomain,
    /// No answer at all.
    Silent,
}

#[derive(Default)]
struct Data {
    records: HashMap<(String, RecordType), Vec<RData>>,
    names: HashMap<String, u32>,
    trouble: HashMap<(String, Option<RecordType>), Trouble>,
    queries: HashMap<(String, RecordType), u32>,
}

/// A name server on the loopback address. Stops when dropped.
pub struct Zones {
    data: Arc<Mutex<Data>>,
    address: SocketAddr,
    _server: Server<Handler>,
}

struct Handler(Arc<Mutex<Data>>);

impl Zones {
    /// Starts a server without any name: everything is NXDOMAIN.
    pub async fn start() -> Self {
        let (udp, tcp) = same_port().await;
        let address = udp.local_addr().expect("address");
        let data = Arc::new(Mutex::new(Data::default()));
        let mut server = Server::new(Handler(Arc::clone(&data)));
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 4096);
        Self { data, address, _server: server }
    }

    /// Where it listens, UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds an MX record; `"."` is the null MX (RFC 7505 §3).
    pub fn mx(&self, name: &str, preference: u16, host: &str) -> &Self {
        self.add(name, RData::MX(MX::new(preference, parse(host))))
    }
    /// Adds an A or AAAA record.
    pub fn address_of(&self, name: &str, address: IpAddr) -> &Self {
        self.add(
            name,
            match address {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            },
        )
    }
    /// Adds A records of 127.0.0.1: most tests need no other host.
    pub fn loopback(&self, name: &str) -> &Self {
        self.address_of(name, IpAddr::from([127, 0, 0, 1]))
    }
    /// Adds a CNAME record.
    pub fn cname(&self, name: &str, target: &str) -> &Self {
        self.add(name, RData::CNAME(CNAME(parse(target))))
    }
    /// Adds a TXT record.
    pub fn txt(&self, name: &str, text: &str) -> &Self {
        let pieces = text.as_bytes().chunks(255).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
        self.add(name, RData::TXT(TXT::new(pieces)))
    }
    /// Adds any other record.
    pub fn add(&self, name: &str, data: RData) -> &Self {
        let mut guard = self.data.lock();
        *guard.names.entry(key(name)).or_default() += 1;
        guard.records.entry((key(name), data.record_type())).or_default().push(data);
        drop(guard);
        self
    }
    /// Adds a record as a zone file has it: `mail.example.com A 192.0.2.1`. Names are absolute, with or without a final
    /// dot; a first label `*` is a wildcard.
    pub fn line(&self, line: &str) -> &Self {
        let mut words = line.splitn(3, ' ');
        let (Some(name), Some(kind), Some(data)) = (words.next(), words.next(), words.next()) else {
            panic!("{line}: not `name TYPE data`");
        };
        let kind: RecordType = kind.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        // Host names that hosts cannot have are refused by the parser of zone files, and published by people.
        match kind {
            RecordType::TXT => return self.txt(name, data.trim_matches('"')),
            RecordType::CNAME => return self.cname(name, data),
            RecordType::MX => {
                let (preference, host) = data.split_once(' ').unwrap_or_else(|| panic!("{line}: no preference"));
                return self.mx(name, preference.parse().unwrap_or_else(|error| panic!("{line}: {error}")), host);
            }
            _ => {}
        }
        self.add(name, rdata(kind, data))
    }
    /// Makes the name exist without any record (NODATA).
    pub fn empty(&self, name: &str) -> &Self {
        self.data.lock().names.insert(key(name), 1);
        self
    }
    /// Removes all records and troubles of a name.
    pub fn remove(&self, name: &str) -> &Self {
        let name = key(name);
        let mut guard = self.data.lock();
        guard.records.retain(|(owner, _), _| *owner != name);
        guard.trouble.retain(|(owner, _), _| *owner != name);
        guard.names.remove(&name);
        drop(guard);
        self
    }
    /// Makes every query for a name fail.
    pub fn fail(&self, name: &str, trouble: Trouble) -> &Self {
        self.data.lock().trouble.insert((key(name), None), trouble);
        self
    }
    /// Makes queries for one type of a name fail.
    pub fn fail_type(&self, name: &str, kind: RecordType, trouble: Trouble) -> &Self {
        self.data.lock().trouble.insert((key(name), Some(kind)), trouble);
        self
    }
    /// How often a name and type was asked for.
    pub fn queries(&self, name: &str, kind: RecordType) -> u32 {
        self.data.lock().queries.get(&(key(name), kind)).copied().unwrap_or(0)
    }
}

impl Data {
    fn answer(&mut self, name: &str, kind: RecordType) -> Result<(ResponseCode, Vec<Record>), Trouble> {
        *self.queries.entry((name.to_owned(), kind)).or_default() += 1;
        let mut answers = Vec::new();
        let mut owner = name.to_owned();
        for _ in 0..16 {
            let trouble = self.trouble.get(&(owner.clone(), Some(kind))).or(self.trouble.get(&(owner.clone(), None)));
            if let Some(trouble) = trouble {
                return Err(*trouble);
            }
            if let Some(found) = self.records.get(&(owner.clone(), kind)) {
                answers.extend(found.iter().map(|data| Record::from_rdata(parse(&owner), 60, data.clone())));
                return Ok((ResponseCode::NoError, answers));
            }
            if let Some(found) = self.wildcard(&owner, kind) {
                answers.extend(found.iter().map(|data| Record::from_rdata(parse(&owner), 60, data.clone())));
                return Ok((ResponseCode::NoError, answers));
            }
            let Some([RData::CNAME(target), ..]) =
                self.records.get(&(owner.clone(), RecordType::CNAME)).map(Vec::as_slice)
            else {
                break;
            };
            answers.push(Record::from_rdata(parse(&owner), 60, RData::CNAME(target.clone())));
            owner = key(&target.0.to_ascii());
        }
        let below = format!(".{owner}");
        let exists = self.names.keys().any(|known| *known == owner || known.ends_with(&below));
        Ok((if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }, answers))
    }
}

impl Data {
    /// What `*` above a name that is not there has (RFC 4592 §3.3).
    fn wildcard(&self, name: &str, kind: RecordType) -> Option<&Vec<RData>> {
        let below = format!(".{name}");
        if self.names.keys().any(|known| known == name || known.ends_with(&below)) {
            return None;
        }
        let mut parent = name.split_once('.')?.1;
        loop {
            if let Some(found) = self.records.get(&(format!("*.{parent}"), kind)) {
                return Some(found);
            }
            parent = parent.split_once('.')?.1;
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        metadata.recursion_available = true;
        let (code, answers) = match request.request_info() {
            Err(_) => (ResponseCode::FormErr, Vec::new()),
            Ok(info) => {
                let name = key(&info.query.name().to_string());
                let outcome = self.0.lock().answer(&name, info.query.query_type());
                match outcome {
                    Ok(answer) => answer,
                    Err(Trouble::ServFail) => (ResponseCode::ServFail, Vec::new()),
                    Err(Trouble::Refused) => (ResponseCode::Refused, Vec::new()),
                    Err(Trouble::NxDomain) => (ResponseCode::NXDomain, Vec::new()),
                    Err(Trouble::Silent) => {
                        return ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
                    }
                }
            }
        };
        metadata.response_code = code;
        let soa = if answers.is_empty() && matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
            vec![authority()]
        } else {
            Vec::new()
        };
        let message = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            answers.iter(),
            std::iter::empty(),
            soa.iter(),
            std::iter::empty(),
        );
        match response.send_response(message).await {
            Ok(info) => info,
            Err(_) => ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() }),
        }
    }
}

/// The SOA that negative answers carry, so that resolvers know how long to keep them (RFC 2308 §5).
fn authority() -> Record {
    let soa = SOA::new(parse("ns.test."), parse("hostmaster.test."), 1, 3600, 600, 86400, 1);
    Record::from_rdata(Name::root(), 1, RData::SOA(soa))
}

async fn same_port() -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let address = udp.local_addr().expect("address");
        if let Ok(tcp) = TcpListener::bind(address).await {
            return (udp, tcp);
        }
    }
    panic!("no port that is free for both UDP and TCP");
}

fn parse(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    name.set_fqdn(true);
    name
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The data of a record as a zone file has it.
pub fn rdata(kind: RecordType, data: &str) -> RData {
    RData::try_from_str(kind, data).unwrap_or_else(|error| panic!("{kind} {data}: {error}"))
}

/// Name server records, for tests of delegation.
pub fn ns(host: &str) -> RData {
    RData::NS(NS(parse(host)))
}
