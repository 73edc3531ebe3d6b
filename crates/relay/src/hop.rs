//! An open connection to a next hop, whatever is spoken there: what the worker and an attempt need of it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use net::client::{Connection, Delivery};
use proto::smtp::capability::Capabilities;
use proto::smtp::client::Plan;
use proto::transcript::Transcript;

use crate::graph::GraphConnection;

/// A connection.
pub(crate) enum Hop {
    Smtp(Box<Connection>),
    Graph(Box<GraphConnection>),
}

impl Hop {
    pub(crate) fn capabilities(&self) -> &Arc<Capabilities> {
        match self {
            Self::Smtp(connection) => connection.capabilities(),
            Self::Graph(connection) => connection.capabilities(),
        }
    }

    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Smtp(connection) => connection.host(),
            Self::Graph(connection) => connection.host(),
        }
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        match self {
            Self::Smtp(connection) => connection.peer(),
            Self::Graph(connection) => connection.peer(),
        }
    }

    pub(crate) fn tls(&self) -> Option<&str> {
        match self {
            Self::Smtp(connection) => connection.tls(),
            Self::Graph(connection) => connection.tls(),
        }
    }

    pub(crate) fn transactions(&self) -> u32 {
        match self {
            Self::Smtp(connection) => connection.transactions(),
            Self::Graph(connection) => connection.transactions(),
        }
    }

    pub(crate) fn take_transcript(&mut self) -> Transcript {
        match self {
            Self::Smtp(connection) => connection.take_transcript(),
            Self::Graph(connection) => connection.take_transcript(),
        }
    }

    /// One transaction; as [`Connection::deliver`], also in that a connection whose `deliver` was dropped must be dropped.
    pub(crate) async fn deliver(
        &mut self,
        plan: &Plan<'_>,
        content: &[u8],
        before_end: impl Future<Output = bool>,
    ) -> Delivery {
        match self {
            Self::Smtp(connection) => connection.deliver(plan, content, before_end).await,
            Self::Graph(connection) => connection.deliver(plan, content, before_end).await,
        }
    }

    /// Resolves when the peer closes the idle connection or speaks unasked: drop it then. Cancel-safe.
    pub(crate) async fn closed(&mut self) {
        match self {
            Self::Smtp(connection) => connection.closed().await,
            Self::Graph(connection) => connection.closed().await,
        }
    }

    /// Takes leave.
    pub(crate) async fn quit(self) {
        match self {
            Self::Smtp(connection) => connection.quit().await,
            Self::Graph(connection) => connection.close().await,
        }
    }
}
