//! Whether strangers may send to strangers: asked with MAIL and RCPT only, never with DATA.
//!
//! On a connection of its own and without signing in. Forms that end in a local address say something only at a
//! server that refuses local addresses it does not have.

use net::client::{ClientSettings, Expect, Session};
use net::tls::Verify;
use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage};

use super::peek::short;
use super::plan::Tls;
use super::probe::Probe;

/// A way of asking for relaying.
struct Form {
    name: &'static str,
    from: String,
    to: String,
    /// The recipient is, read literally, an address of the server itself.
    local: bool,
}

/// What a form came to.
enum Asked {
    Accepted,
    Refused,
    Over,
}

impl Probe<'_> {
    /// The test. Leaves a transcript of its own and one sign.
    pub(super) async fn open_relay(&mut self) {
        let Some(peer) = self.peer else { return };
        let began = self.net.clock.mono_us();
        let settings = ClientSettings { auth: None, ..short(self.settings, self.plan.timeout) };
        let mut session = Session::new(self.net, self.way.host.as_str(), &settings);
        let mut accepted: Vec<&'static str> = Vec::new();
        let mut done = 0;
        let forms = forms(&self.way.host, peer.ip());
        if session.dial(peer).await.is_ok() && open(&mut session, self.tls, self.session_was_secure()).await.is_ok() {
            let mut any_local = false;
            for form in &forms {
                match ask(&mut session, form).await {
                    Asked::Accepted if form.name == CONTROL => any_local = true,
                    Asked::Accepted if form.local && any_local => {}
                    Asked::Accepted => accepted.push(form.name),
                    Asked::Refused => {}
                    Asked::Over => break,
                }
                done += 1;
            }
            session.quit(self.plan.timeout).await;
        }
        self.further.push(session.take_transcript());
        self.waited_us += self.net.clock.mono_us().saturating_sub(began);
        let (host, count) = (self.way.host.clone(), forms.len().saturating_sub(1).to_string());
        if !accepted.is_empty() {
            self.sign(Stage::Recipient, "open_relay", &[("host", &host), ("forms", &accepted.join(", "))]);
        } else if done < forms.len() {
            let done = usize::saturating_sub(done, 1).to_string();
            self.sign(Stage::Recipient, "relay_test_cut", &[("host", &host), ("done", &done), ("count", &count)]);
        } else {
            self.sign(Stage::Recipient, "relay_closed", &[("host", &host), ("count", &count)]);
        }
    }

    fn session_was_secure(&self) -> bool {
        self.before_tls.is_some()
    }
}

/// Greeting, EHLO and TLS as the probe had them.
async fn open(session: &mut Session<'_>, tls: Tls, starttls: bool) -> Result<(), Failure> {
    if tls == Tls::Implicit {
        session.handshake(Verify::Opportunistic).await?;
    }
    session.greeting().await?;
    session.hello().await?;
    if starttls {
        session.start_tls().await?;
        session.handshake(Verify::Opportunistic).await?;
        session.hello().await?;
    }
    Ok(())
}

async fn ask(session: &mut Session<'_>, form: &Form) -> Asked {
    let over = |reply: &Reply| reply.code == 421;
    let mail = format!("MAIL FROM:<{}>", form.from);
    let outcome = match session.command(Stage::Sender, &mail, Expect::Class(2)).await {
        Err(Failure::Refused(reply)) if !over(&reply) => Asked::Refused,
        Err(_) => return Asked::Over,
        Ok(_) => match session.command(Stage::Recipient, &format!("RCPT TO:<{}>", form.to), Expect::Class(2)).await {
            Ok(_) => Asked::Accepted,
            Err(Failure::Refused(reply)) if !over(&reply) => Asked::Refused,
            Err(_) => return Asked::Over,
        },
    };
    match session.command(Stage::Quit, "RSET", Expect::Class(2)).await {
        Ok(_) => outcome,
        Err(_) if matches!(outcome, Asked::Accepted) => outcome,
        Err(_) => Asked::Over,
    }
}

/// Asks for a local part that nobody has: a server that takes it takes any.
const CONTROL: &str = "control";

/// The classical forms; the names are reserved ones (RFC 2606 §3) that belong to nobody's server.
fn forms(host: &str, address: std::net::IpAddr) -> Vec<Form> {
    let literal = if address.is_ipv4() { format!("[{address}]") } else { format!("[IPv6:{address}]") };
    let own = if host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[') {
        literal.clone()
    } else {
        host.to_owned()
    };
    let (from, to) = ("relay-test@example.org", "relay-test@example.com");
    let form = |name, from: &str, to: String, local| Form { name, from: from.to_owned(), to, local };
    vec![
        form(CONTROL, from, format!("no-such-user-7f3a9c@{own}"), true),
        form("plain", from, to.into(), false),
        form("null sender", "", to.into(), false),
        form("own domain as sender", &format!("postmaster@{own}"), to.into(), false),
        form("address literal as sender", &format!("postmaster@{literal}"), to.into(), false),
        form("sender without domain", "postmaster", to.into(), false),
        form("percent hack", from, format!("relay-test%example.com@{own}"), true),
        form("percent hack at the address", from, format!("relay-test%example.com@{literal}"), true),
        form("bang path", from, format!("example.com!relay-test@{own}"), true),
        form("quoted local part", from, format!("\"relay-test@example.com\"@{own}"), true),
        form("quoted without domain", from, "\"relay-test@example.com\"".into(), true),
        form("source route", from, format!("@{own}:{to}"), false),
        form("source route by address", from, format!("@{literal}:{to}"), false),
    ]
}
