//! What can be typed for `provider-events`.

use clap::{Args, Subcommand};

use super::args_settings::{SOURCE_HELP, Source};

/// Commands on providers that tell of bounces and complaints by HTTP.
#[derive(Debug, Subcommand)]
pub enum InletCommand {
    /// List them with the paths their requests go to.
    #[command(after_help = "Examples:\n  pillarbox provider-events ls\n  pillarbox provider-events ls --json")]
    Ls,
    /// Take events of a provider.
    #[command(
        after_help = "Examples:\n  pillarbox provider-events add main --provider ses --topic arn:aws:sns:eu-west-1:123456789012:ses-events\n  pillarbox provider-events add main --provider sendgrid --secret-from file:verification-key\n  pillarbox provider-events add main --provider postmark --username hooks --secret-from prompt\n  pillarbox provider-events add main --provider mailgun --secret-from env:MAILGUN_SIGNING_KEY\n  pillarbox provider-events add main --provider brevo --secret-from stdin\n\nThe secret: SendGrid's verification key, Mailgun's HTTP webhook signing key, the password for Postmark, the token for Brevo. SES needs none."
    )]
    Add {
        /// Its name, part of the path.
        name: String,
        /// Whose events.
        #[arg(long, value_name = "PROVIDER", value_parser = ["ses", "sendgrid", "postmark", "mailgun", "brevo"])]
        provider: String,
        /// Settings.
        #[command(flatten)]
        options: InletOptions,
    },
    /// Change one.
    #[command(
        after_help = "Examples:\n  pillarbox provider-events set main --secret-from prompt\n  pillarbox provider-events set main --disabled=true"
    )]
    Set {
        /// Its name.
        name: String,
        /// Settings.
        #[command(flatten)]
        options: InletOptions,
    },
    /// Take them no more.
    #[command(after_help = "Examples:\n  pillarbox provider-events rm main")]
    Rm {
        /// Its name.
        name: String,
    },
}

/// Settings of a way in.
#[derive(Debug, Clone, Default, Args)]
pub struct InletOptions {
    /// SES: ARN of the SNS topic, the only one that is listened to.
    #[arg(long, value_name = "ARN")]
    pub topic: Option<String>,
    /// Postmark and Brevo: user name of HTTP Basic.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Where the secret comes from.
    #[arg(long, value_name = "SOURCE", help = SOURCE_HELP)]
    pub secret_from: Option<Source>,
    /// Nothing is taken while true.
    #[arg(long, value_name = "BOOL")]
    pub disabled: Option<bool>,
}
