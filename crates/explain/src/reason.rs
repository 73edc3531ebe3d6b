//! The precise reasons, named like RFC 3463 and Sisimai where those have a name, and the texts that go with each.
//!
//! The texts are in `rules/reasons.toml`; a rule takes over what it does not say itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Fix, Owner, ResultWord, Retry, Scope, words};

words! {
    /// Why a message is not delivered, precisely.
    Reason {
        /// The server took it.
        Accepted = "accepted",
        // Names
        /// The host or domain does not exist (X.1.2, `hostunknown`).
        HostUnknown = "host_unknown",
        /// The name exists and leads nowhere (X.4.4).
        NoAddress = "no_address",
        /// The domain says that it takes no mail (X.1.10, `notaccept`).
        NullMx = "null_mx",
        /// The DNS gave no usable answer (X.4.3).
        DnsFailure = "dns_failure",
        /// The message goes round (X.4.6).
        MailLoop = "mail_loop",
        // Connection
        /// Nothing listens there (X.4.1).
        ConnectionRefused = "connection_refused",
        /// No answer to a connection attempt (X.4.1).
        ConnectionTimeout = "connection_timeout",
        /// No way to the network (X.4.4).
        NetworkUnreachable = "network_unreachable",
        /// The connection broke (X.4.2, `networkerror`).
        Disconnected = "disconnected",
        /// An answer did not come in time (X.4.2).
        SessionTimeout = "session_timeout",
        /// The connection broke after the message was sent; nobody knows whether it was taken (RFC 1047).
        OutcomeUnknown = "outcome_unknown",
        /// Another service than mail answers.
        WrongService = "wrong_service",
        /// Implicit TLS on a STARTTLS port, or the reverse.
        WrongTlsMode = "wrong_tls_mode",
        /// Something between here and the server changes the conversation.
        Middlebox = "middlebox",
        /// The server is reached and will not talk to us (`blocked`).
        ConnectionRejected = "connection_rejected",
        /// The receiving server is busy, starting or shutting down (X.3.2, X.4.5).
        ServerBusy = "server_busy",
        /// The receiving server has a fault (X.3.0, X.3.5, `systemerror`).
        ServerError = "server_error",
        /// The receiving server's disk is full (X.3.1, `systemfull`).
        StorageFull = "storage_full",
        /// Too many connections at once, or too fast (X.4.5).
        TooManyConnections = "too_many_connections",
        /// The name given at EHLO is refused.
        BadHelo = "bad_helo",
        // TLS
        /// The server offers no encryption.
        StartTlsMissing = "starttls_missing",
        /// The server wants encryption and we had none (X.7.10, X.7.29).
        TlsRequired = "tls_required",
        /// The handshake failed.
        TlsHandshake = "tls_handshake",
        /// No common TLS version.
        TlsVersion = "tls_version",
        /// No common cipher or key size.
        TlsCipher = "tls_cipher",
        /// The certificate is out of date.
        CertificateExpired = "certificate_expired",
        /// The certificate is not valid yet.
        CertificateNotYetValid = "certificate_not_yet_valid",
        /// No trusted authority vouches for the certificate.
        CertificateUntrusted = "certificate_untrusted",
        /// The certificate is for another name.
        CertificateName = "certificate_name",
        /// DANE, MTA-STS or REQUIRETLS is not met (X.7.10).
        TlsPolicy = "tls_policy",
        // Signing in
        /// User name or password is wrong (X.7.8).
        CredentialsInvalid = "credentials_invalid",
        /// The account password never works here, an app password does (X.7.9).
        AppPasswordRequired = "app_password_required",
        /// The provider wants a person to sign in by browser first.
        LoginChallenge = "login_challenge",
        /// Too many failed attempts, or the account is locked.
        AccountLocked = "account_locked",
        /// Signing in for sending is switched off for this account or organisation.
        AuthDisabled = "auth_disabled",
        /// Passwords are no longer taken, only OAuth.
        BasicAuthRetired = "basic_auth_retired",
        /// The OAuth token is refused.
        OauthToken = "oauth_token",
        /// The OAuth application is not set up right.
        OauthSetup = "oauth_setup",
        /// No mechanism in common (X.7.4, X.7.9).
        MechanismUnsupported = "mechanism_unsupported",
        /// The server offers no signing in.
        AuthNotOffered = "auth_not_offered",
        /// Signing in only after encryption (X.7.11).
        AuthNeedsTls = "auth_needs_tls",
        /// The server wants us to sign in first (X.7.0).
        AuthRequired = "auth_required",
        /// The server cannot check credentials at the moment (X.7.0).
        AuthTemporary = "auth_temporary",
        /// The credential may not be used from this IP address.
        LoginAddressRefused = "login_address_refused",
        /// The exchange of signing in was malformed.
        AuthProtocol = "auth_protocol",
        // Sender and account
        /// This account may not send as this address (X.7.60 at Microsoft).
        SenderNotAllowed = "sender_not_allowed",
        /// The sender identity is not verified at the provider.
        SenderUnverified = "sender_unverified",
        /// The account is restricted to tests.
        Sandbox = "sandbox",
        /// The account is suspended or blocked from sending.
        AccountSuspended = "account_suspended",
        /// The sender's domain does not exist or cannot receive (X.1.8).
        SenderDomain = "sender_domain",
        /// The sender's address is malformed (X.1.7).
        SenderSyntax = "sender_syntax",
        /// The sender's address is refused (X.7.1, `rejected`).
        SenderRejected = "sender_rejected",
        /// The sender's own mailbox is full.
        SenderMailboxFull = "sender_mailbox_full",
        /// The allowance of the account is used up.
        QuotaExceeded = "quota_exceeded",
        /// Too much in too short a time (X.7.28, `ratelimited`).
        RateLimited = "rate_limited",
        /// The server does not send on for us (X.7.1, `norelaying`).
        RelayDenied = "relay_denied",
        // Authentication of the domain
        /// SPF did not pass (X.7.23).
        SpfFail = "spf_fail",
        /// DKIM did not pass (X.7.20, X.7.30).
        DkimFail = "dkim_fail",
        /// DMARC did not pass (`authfailure`).
        DmarcFail = "dmarc_fail",
        /// Neither SPF nor DKIM passed (X.7.26).
        Unauthenticated = "unauthenticated",
        // Our address
        /// Our IP address or its name is on a blocklist.
        IpBlocklisted = "ip_blocklisted",
        /// This receiver blocks our IP address (`blocked`).
        IpBlocked = "ip_blocked",
        /// Our IP address has a poor name with this receiver (`badreputation`).
        IpReputation = "ip_reputation",
        /// Our IP address looks like a home connection.
        DynamicIp = "dynamic_ip",
        /// No reverse DNS, or it does not lead back (X.7.25, `requireptr`).
        ReverseDns = "reverse_dns",
        /// IPv6 is refused, or only with authentication.
        Ipv6Refused = "ipv6_refused",
        /// A domain in the message or of the sender is on a blocklist or has a poor name.
        DomainBlocklisted = "domain_blocklisted",
        // Recipient
        /// No such mailbox (X.1.1, `userunknown`).
        MailboxUnknown = "mailbox_unknown",
        /// The mailbox is full (X.2.2, `mailboxfull`).
        MailboxFull = "mailbox_full",
        /// The mailbox is disabled or given up (X.2.1, `suspend`).
        MailboxDisabled = "mailbox_disabled",
        /// The mailbox has moved (X.1.6, `hasmoved`).
        MailboxMoved = "mailbox_moved",
        /// The recipient's address is malformed (X.1.3).
        RecipientSyntax = "recipient_syntax",
        /// The recipient gets too much mail at the moment.
        RecipientRate = "recipient_rate",
        /// Recipient, group or its administrator does not want this sender (X.7.1, `policyviolation`).
        RecipientPolicy = "recipient_policy",
        /// The provider keeps this recipient on its suppression list (`suppressed`).
        RecipientSuppressed = "recipient_suppressed",
        /// Deferred on purpose at the first attempt (X.7.1, `greylisting`).
        Greylisted = "greylisted",
        /// Too many recipients in one transaction or message (X.5.3).
        TooManyRecipients = "too_many_recipients",
        /// Too many of our recipients do not exist.
        TooManyUnknownRecipients = "too_many_unknown_recipients",
        // Message
        /// The message is too large (X.3.4, X.2.3, `emailtoolarge`).
        TooLarge = "too_large",
        /// The content looks like spam (`spamdetected`).
        SpamContent = "spam_content",
        /// The content is infected (`virusdetected`).
        Virus = "virus",
        /// A kind of content that is not allowed (`contenterror`).
        BannedContent = "banned_content",
        /// Refused by a policy that is not explained (X.7.1).
        ContentPolicy = "content_policy",
        /// A header is missing, doubled or malformed (X.6.0, `notcompliantrfc`).
        HeaderInvalid = "header_invalid",
        /// Line ends or line lengths are wrong.
        LineFormat = "line_format",
        /// A character set or address form the server cannot take (X.6.7).
        ExtensionMissing = "extension_missing",
        // Conversation
        /// A command was not understood (X.5.2).
        CommandSyntax = "command_syntax",
        /// A command came at the wrong time (X.5.1): an earlier reply is the cause.
        CommandSequence = "command_sequence",
        /// The next server gave up after its own attempts (X.4.7, `expired`).
        Expired = "expired",
        /// The cause is in a reply further in.
        InnerReply = "inner_reply",
        /// A server sends mail on for strangers.
        OpenRelay = "open_relay",
        /// Our own side failed.
        LocalFailure = "local_failure",
        /// Refused for now without a known reason.
        RefusedTemporarily = "refused_temporarily",
        /// Refused for good without a known reason.
        RefusedPermanently = "refused_permanently",
    }
}

/// The texts and defaults of a reason.
#[derive(Debug, Clone)]
pub struct ReasonText {
    /// The reason.
    pub reason: Reason,
    /// One line.
    pub title: String,
    /// What it means, full sentences.
    pub meaning: String,
    /// Result word.
    pub result: ResultWord,
    /// What it is about.
    pub scope: Scope,
    /// Whose turn it is.
    pub owner: Owner,
    /// Advice.
    pub retry: Retry,
    /// Likely causes, the likeliest first.
    pub causes: Vec<String>,
    /// What to do, the least effort first.
    pub fixes: Vec<Fix>,
}
