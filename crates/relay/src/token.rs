//! Access tokens, as the relay needs them. Who asks for them, over HTTP, is another part's affair.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use proto::transcript::Failure;
use secrecy::SecretString;

use crate::route::Route;

/// A future in a box, as a trait object gives it.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An access token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The token itself.
    pub secret: SecretString,
    /// It was issued for this very request: a server that refuses it refuses every other as well.
    pub fresh: bool,
}

/// Where a route's access tokens come from.
pub trait Tokens: Send + Sync + Debug {
    /// A token that is good for a while. One renewal serves all that ask at the same time.
    ///
    /// The failure is [`Failure::TokenRefused`], [`Failure::TokenUnavailable`] or [`Failure::Local`].
    fn token<'a>(&'a self, route: &'a Route) -> Boxed<'a, Result<Token, Failure>>;

    /// The server did not accept this token: it is not given out again.
    fn refused(&self, route: &Route, token: &SecretString);
}
