//! The way to the server: its control socket, a URL with an API key, or, when no server runs, its router in this process.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use net::Clock;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::Fault;
use super::args::Global;
use crate::config::Loaded;
use crate::http::problem::Problem;
use crate::serve;

/// Largest answer: a captured message of the largest size, and then some.
const LARGEST_ANSWER: usize = 3 << 30;

/// What a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A running server.
    Server,
    /// The store: without a server it is opened here.
    Store,
}

/// A way to the server.
pub enum Client {
    /// Over HTTP.
    Http {
        /// With the socket set, if it is the control socket.
        client: reqwest::Client,
        /// `http://host:port`.
        base: String,
        /// API key.
        key: Option<SecretString>,
    },
    /// In this process.
    Offline(axum::Router),
}

/// A request.
pub struct Call<'a> {
    /// Method.
    pub method: Method,
    /// Path below `/api/v1`, with its query.
    pub path: &'a str,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body with its type.
    pub body: Option<(&'static str, Bytes)>,
}

/// A POST of lines that are still being made.
pub struct Lines<'a> {
    /// Path below `/api/v1`, with its query.
    pub path: &'a str,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The lines, in pieces; an error breaks the request off.
    pub body: mpsc::Receiver<Result<Bytes, std::io::Error>>,
}

/// An answer.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: Bytes,
}

impl Client {
    /// Finds the way: `--server`, then the control socket, then `client.server`, then the store itself.
    pub async fn find(global: &Global, loaded: &Loaded, need: Need) -> Result<Self, Fault> {
        let configured = &loaded.config.client;
        if let Some(server) = &global.server {
            let file = global.key_file.as_deref().or(configured.key_file.as_deref());
            return trusted(server, file, loaded).map_err(Fault::cannot);
        }
        let socket = loaded.config.data_dir.join(serve::CONTROL);
        if tokio::net::UnixStream::connect(&socket).await.is_ok() {
            return local(&socket).map_err(Fault::cannot);
        }
        if let Some(server) = &configured.server {
            return trusted(server, configured.key_file.as_deref(), loaded).map_err(Fault::cannot);
        }
        match need {
            Need::Server => Err(Fault::cannot(anyhow!("no server can be reached at {}", socket.display()))),
            Need::Store => offline(loaded).map_err(Fault::cannot),
        }
    }

    /// Posts JSON lines as they come.
    pub async fn lines(&self, lines: Lines<'_>) -> Result<Value, Fault> {
        let Self::Http { client, base, key } = self else {
            return Err(Fault::cannot(anyhow!("this needs a running server")));
        };
        let mut request = client.post(format!("{base}/api/v1{}", lines.path));
        if let Some(key) = key {
            request = request.bearer_auth(key.expose_secret());
        }
        for (name, value) in lines.headers {
            request = request.header(name, value);
        }
        let body = futures_util::stream::unfold(lines.body, async |mut from| Some((from.recv().await?, from)));
        let request = request.header(header::CONTENT_TYPE, "application/x-ndjson");
        let exchange = async {
            let answer = request.body(reqwest::Body::wrap_stream(body)).send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>(Answer { status, body: answer.bytes().await? })
        };
        let answer = exchange.await.context("the server cannot be reached, or broke off").map_err(Fault::cannot)?;
        let answer = Self::good(answer)?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| Fault::cannot(anyhow!(error).context("the answer is not JSON")))
    }

    /// Sends a request; an answer of 4xx or 5xx is a fault.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, Fault> {
        Self::good(self.exchange(call).await.map_err(Fault::cannot)?)
    }

    fn good(answer: Answer) -> Result<Answer, Fault> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let unknown = || Problem::new(answer.status, format!("the server answered {}", answer.status));
        Err(Fault::Refused(Box::new(serde_json::from_slice(&answer.body).unwrap_or_else(|_| unknown()))))
    }

    async fn exchange(&self, call: Call<'_>) -> anyhow::Result<Answer> {
        match self {
            Self::Http { client, base, key } => {
                let mut request = client.request(call.method, format!("{base}/api/v1{}", call.path));
                if let Some(key) = key {
                    request = request.bearer_auth(key.expose_secret());
                }
                for (name, value) in call.headers {
                    request = request.header(name, value);
                }
                if let Some((kind, body)) = call.body {
                    request = request.header(header::CONTENT_TYPE, kind).body(body);
                }
                let answer = request.send().await.context("the server cannot be reached")?;
                let status = answer.status();
                Ok(Answer { status, body: answer.bytes().await.context("the answer broke off")? })
            }
            Self::Offline(router) => {
                let mut request = Request::builder().method(call.method).uri(format!("/api/v1{}", call.path));
                for (name, value) in call.headers {
                    request = request.header(name, value);
                }
                let (kind, body) = call.body.unwrap_or(("application/json", Bytes::new()));
                let request = request.header(header::CONTENT_TYPE, kind).body(Body::from(body))?;
                let answer = router.clone().oneshot(request).await?;
                let (parts, body) = answer.into_parts();
                Ok(Answer { status: parts.status, body: axum::body::to_bytes(body, LARGEST_ANSWER).await? })
            }
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Value, Fault> {
        self.json(Method::GET, path, None).await
    }
    /// POST, PUT or PATCH with JSON, or DELETE without.
    pub async fn send(&self, method: Method, path: &str, body: Value) -> Result<Value, Fault> {
        self.json(method, path, Some(body)).await
    }
    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Value, Fault> {
        self.json(Method::DELETE, path, None).await
    }

    async fn json(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Fault> {
        let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
        let answer = self.call(Call { method, path, headers: Vec::new(), body }).await?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            Fault::cannot(anyhow!(error).context("the answer is not JSON: is this a Pillarbox server?"))
        })
    }
}

/// Reads an answer as what it should be.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_json::from_value(value)
        .map_err(|error| Fault::cannot(anyhow!(error).context("the answer is not understood: versions may differ")))
}

/// A value for a path or a query.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(octet)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// `?a=1&b=2` of the values that are there.
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", escaped(value))))
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}

fn local(socket: &Path) -> anyhow::Result<Client> {
    let client = builder().unix_socket(socket).build()?;
    Ok(Client::Http { client, base: "http://localhost".into(), key: None })
}

/// The way to a server by its URL.
pub fn at(server: &str, key_file: Option<&Path>) -> anyhow::Result<Client> {
    remote(server, key_file)
}

/// A server whose certificate is checked with the authorities of `tls.roots`, as those of mail servers are.
fn trusted(server: &str, key_file: Option<&Path>, loaded: &Loaded) -> anyhow::Result<Client> {
    let Client::Http { base, key, .. } = remote(server, key_file)? else {
        return Err(anyhow!("the server has to begin with http:// or https://"));
    };
    let tls = serve::parts::https(&loaded.config, Clock::system())?;
    Ok(Client::Http { client: builder().tls_backend_preconfigured(tls).build()?, base, key })
}

fn remote(server: &str, key_file: Option<&Path>) -> anyhow::Result<Client> {
    let named = std::env::var("PILLARBOX_API_KEY").or_else(|_| std::env::var("PILLARBOX_TOKEN"));
    let key = match (named, key_file) {
        (_, Some(path)) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Some(SecretString::from(text.trim()))
        }
        (Ok(key), None) => Some(SecretString::from(key.trim())),
        (Err(_), None) => None,
    };
    if !server.starts_with("http://") && !server.starts_with("https://") {
        return Err(anyhow!("the server has to begin with http:// or https://"));
    }
    Ok(Client::Http { client: builder().build()?, base: server.trim_end_matches('/').to_owned(), key })
}

/// The router over the store, in this process. The store's lock keeps a server from starting meanwhile.
fn offline(loaded: &Loaded) -> anyhow::Result<Client> {
    let directory = &loaded.config.data_dir;
    if loaded.config.store.is_none() && !directory.join("queue.db").exists() {
        return Err(anyhow!(
            "no server runs, and there is no data in {}: start `pillarbox serve` first, or name the configuration",
            directory.display()
        ));
    }
    let clock = Clock::system();
    let (store, _) = serve::parts::store(&loaded.config, &clock)?;
    let tokens = serve::parts::tokens(&loaded.config, store.clone(), clock.clone()).ok();
    let app = serve::app(&loaded.config, store, None, tokens, clock);
    Ok(Client::Offline(crate::http::control(Arc::new(app))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_place_in_a_url() {
        assert_eq!(escaped("a+b@c.example/../x?y&z ü"), "a%2Bb%40c.example%2F..%2Fx%3Fy%26z%20%C3%BC");
        assert_eq!(query(&[("a", Some("1&2".into())), ("b", None)]), "?a=1%262");
    }
}
