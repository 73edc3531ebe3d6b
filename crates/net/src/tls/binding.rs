//! What ties an authentication to its TLS connection, so that nobody in between can pass it on.

use proto::smtp::sasl::client::Binding;
use rustls::ProtocolVersion;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::chain;

/// `tls-exporter` (RFC 9266) with TLS 1.3, else `tls-server-end-point` (RFC 5929 §4): with TLS 1.2 the exporter is only
/// safe with an extension that cannot be asked for afterwards.
pub(crate) fn binding(stream: &TlsStream<TcpStream>) -> Option<Binding> {
    let TlsStream::Client(client) = stream else { return None };
    let connection = client.get_ref().1;
    if connection.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
        let data = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).ok()?;
        return Some(Binding { name: "tls-exporter", data: data.to_vec() });
    }
    let data = chain::end_point(connection.peer_certificates()?.first()?)?;
    Some(Binding { name: "tls-server-end-point", data })
}
