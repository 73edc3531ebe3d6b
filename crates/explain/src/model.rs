//! One rule and the closed lists of what it may say. Reading TOML is [`crate::raw`]'s work, matching [`crate::judge`]'s.

use std::fmt;
use std::sync::OnceLock;

use proto::smtp::reply::EnhancedCode;
use proto::transcript::Stage;
use serde::{Deserialize, Serialize};

use crate::embedded;
use crate::pattern::Pattern;
use crate::reason::Reason;
use crate::sample::Sample;

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word used in files, JSON and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What a failure is about: who else it will hit.
    Scope {
        /// This recipient only.
        Recipient = "recipient",
        /// This message, whoever gets it.
        Message = "message",
        /// Everything from this sender address or domain.
        Sender = "sender",
        /// Everything that takes this route (account, credential, smart host).
        Route = "route",
        /// Everything for this destination.
        Destination = "destination",
        /// Everything from our IP address or host name.
        OurAddress = "our_address",
        /// Everything that leaves this machine.
        Everyone = "everyone",
    }
}

words! {
    /// Whose turn it is.
    Owner {
        /// The operator of this Pillarbox, or the author of the message.
        You = "you",
        /// The provider or network that carries the mail for us.
        YourProvider = "your_provider",
        /// The person the mail is for.
        Recipient = "recipient",
        /// Who runs the recipient's mail server.
        RecipientAdmin = "recipient_admin",
        /// Nobody: waiting solves it.
        Nobody = "nobody",
    }
}

words! {
    /// What to do with the mail. Advice: permanence is decided by the relay's verdict.
    Retry {
        /// The class of the reply decides.
        Class = "class",
        /// Try again with the normal pauses.
        Retry = "retry",
        /// Lower rate and connections for this destination, then try again.
        Slow = "slow",
        /// Keep the mail, stop this route or sender, probe with one message until it is repaired.
        HoldRoute = "hold_route",
        /// Trying again cannot help.
        Stop = "stop",
    }
}

words! {
    /// How bad a finding is.
    Severity {
        /// Mail fails or will fail because of it.
        Problem = "problem",
        /// Mail flows, and may stop flowing or be mistrusted because of it.
        Warning = "warning",
        /// Worth knowing.
        Note = "note",
    }
}

words! {
    /// The six result words of a test, and one for everything they do not cover.
    ResultWord {
        /// The server took it.
        Success = "Success",
        /// The server could not be reached.
        ConnectionFailed = "Connection Failed",
        /// The server does not accept how we sign in.
        AuthenticationFailed = "Authentication Failed",
        /// Encryption could not be set up as wanted.
        TlsError = "TLS Error",
        /// The server does not send on from or to these addresses for us.
        RelayDenied = "Relay Denied",
        /// An answer did not come in time.
        Timeout = "Timeout",
        /// None of the six.
        None = "none",
    }
}

impl ResultWord {
    /// What the word means, one sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "The server took responsibility for the message.",
            Self::ConnectionFailed => "The server could not be reached, or it ended the connection.",
            Self::AuthenticationFailed => "The server was reached and does not accept how we signed in.",
            Self::TlsError => "The server was reached and an encrypted connection could not be set up as wanted.",
            Self::RelayDenied => "The server does not send mail on for us from or to these addresses.",
            Self::Timeout => "An answer did not come in time.",
            Self::None => "The server was reached and refused for a reason of its own.",
        }
    }

    /// What to do next, one sentence.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::Success => "Look into the inbox and the spam folder: accepted is not yet read.",
            Self::ConnectionFailed => "Check host name and port, then the firewalls between here and there.",
            Self::AuthenticationFailed => "Check user name, password and the kind of sign-in the provider wants.",
            Self::TlsError => "Check that TLS mode and port belong together, then the server's certificate.",
            Self::RelayDenied => "Sign in, or have this sender address or IP address allowed on the server.",
            Self::Timeout => "Check firewalls that drop packets without a word, then the server's health.",
            Self::None => "Follow the fixes of the rule that was found.",
        }
    }
}

/// A reply code condition: one code or a whole class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Exactly this code.
    Exact(u16),
    /// Every code with this first digit.
    Class(u8),
}

impl Code {
    /// Whether the code fits.
    pub const fn matches(self, code: u16) -> bool {
        match self {
            Self::Exact(exact) => exact == code,
            Self::Class(class) => code / 100 == class as u16,
        }
    }
}

/// An enhanced code condition: `5.1.1`, `x.1.1` (any class), `5.7.*` (any detail).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedPattern {
    /// Class, or any.
    pub class: Option<u8>,
    /// Subject.
    pub subject: u16,
    /// Detail, or any.
    pub detail: Option<u16>,
}

impl EnhancedPattern {
    /// Reads the condition; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = match parts.next()? {
            "x" => None,
            digit => Some(digit.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?),
        };
        let subject = parts.next()?.parse().ok()?;
        let detail = match parts.next()? {
            "*" => None,
            digits => Some(digits.parse().ok()?),
        };
        parts.next().is_none().then_some(Self { class, subject, detail })
    }

    /// Whether the code fits.
    pub fn matches(self, code: EnhancedCode) -> bool {
        self.class.is_none_or(|class| class == code.0)
            && self.subject == code.1
            && self.detail.is_none_or(|detail| detail == code.2)
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// Who acts.
    pub who: Owner,
    /// What, full sentences; may hold `{value}` templates.
    pub text: String,
    /// The exact command, DNS record or setting; may hold `{value}` templates.
    pub run: Option<String>,
}

/// Where the knowledge is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Page, program or corpus.
    pub name: String,
    /// Date of the last check, `2026-11-21`.
    pub checked: String,
}

/// One rule: when it applies, what it means and what to do. Built only by [`crate::RuleBase`].
#[derive(Debug, Clone)]
pub struct Rule {
    /// Stable name, `google-mailbox-unknown`.
    pub id: String,
    /// The file it is from.
    pub file: String,
    /// Stages it belongs to, the usual one first; empty for any.
    pub stages: Vec<Stage>,
    /// Provider or program it belongs to.
    pub provider: Option<String>,
    /// Whether the texts are so common that they mean this only at that provider.
    pub provider_only: bool,
    /// Reply codes, any of them.
    pub codes: Vec<Code>,
    /// Enhanced codes, any of them.
    pub enhanced: Vec<EnhancedPattern>,
    /// Texts, any of them.
    pub texts: Vec<Pattern>,
    /// Whether the words are what a library says around a cause: any other words that are known say more.
    pub vague: bool,
    /// Kinds of failure, any of them ([`crate::judge::failure_kind`] names them).
    pub failures: Vec<String>,
    /// Signs a diagnosis notices, any of them.
    pub signs: Vec<String>,
    /// The precise reason.
    pub reason: Reason,
    /// Result word, from the reason unless the rule says otherwise.
    pub result: ResultWord,
    /// What it is about.
    pub scope: Scope,
    /// How bad it is.
    pub severity: Severity,
    /// Whose turn it is.
    pub owner: Owner,
    /// Advice.
    pub retry: Retry,
    /// Whether a 5yz reply under this rule may be tried again: set by hand, shown by a sample.
    pub softens: bool,
    /// One line.
    pub title: String,
    /// What it means, full sentences.
    pub meaning: String,
    /// Likely causes, the likeliest first.
    pub causes: Vec<String>,
    /// What to do, the least effort first.
    pub fixes: Vec<Fix>,
    /// A fact with a date that decides how long the rule is true, for example an announced end of support.
    pub dated: Option<String>,
    /// Where it is from.
    pub source: Source,
    /// Filled at the first use for a rule inside the program.
    pub(crate) samples: OnceLock<Vec<Sample>>,
}

impl Rule {
    /// Real texts that must hit this rule.
    pub fn samples(&self) -> &[Sample] {
        self.samples.get_or_init(|| embedded::samples(&self.id, self.stages.first().copied()))
    }

    /// The advice for a reply of class `class` at `stage`; `None` for a failure without a reply.
    ///
    /// A refusal of sender, recipient or message by 5yz keeps the meaning of its class (RFC 5321 §4.2.1) unless this
    /// rule softens it by hand.
    pub fn advice(&self, stage: Stage, class: Option<u8>) -> Retry {
        let about_the_message = matches!(stage, Stage::Sender | Stage::Recipient | Stage::Message);
        let soft = matches!(self.retry, Retry::Retry | Retry::Slow | Retry::HoldRoute);
        if class == Some(5) && about_the_message && soft && !self.softens { Retry::Class } else { self.retry }
    }
}
