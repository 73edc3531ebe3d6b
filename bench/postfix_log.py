#!/usr/bin/env python3
"""Writes a Postfix log of a given size for measuring `pillarbox explain`.

    python3 bench/postfix_log.py 1000000000 mail.log
    time target/release/pillarbox explain mail.log

The mix of a busy relay: per message a connection, cleanup, qmgr, delivery and removal; 8 % of deliveries are deferred or
bounced by servers of many kinds, some clients are refused. Host names, recipients, addresses and queue ids differ from
line to line. The same size gives the same file.
"""
import random
import sys

HOSTS = [
    ("gmail.com", "gmail-smtp-in.l.google.com"), ("outlook.com", "outlook-com.olc.protection.outlook.com"),
    ("yahoo.com", "mta5.am0.yahoodns.net"), ("icloud.com", "mx01.mail.icloud.com"),
]
BAD = [
    ("5.1.1", "bounced", "host {mx}[{ip}] said: 550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1 double-checking the recipient's email address for typos or 550-5.1.1 unnecessary spaces. For more information, go to 550 5.1.1  https://support.google.com/mail/?p=NoSuchUser {token} - gsmtp (in reply to RCPT TO command)"),
    ("4.2.2", "deferred", "host {mx}[{ip}] said: 452-4.2.2 The recipient's inbox is out of storage space. Please direct the 452-4.2.2 recipient to 452 4.2.2  https://support.google.com/mail/?p=OverQuotaTemp {token} - gsmtp (in reply to RCPT TO command)"),
    ("5.7.1", "bounced", "host {mx}[{ip}] said: 550 5.7.1 Service unavailable; Client host [{ip}] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/{ip} (in reply to RCPT TO command)"),
    ("4.7.1", "deferred", "host {mx}[{ip}] said: 450 4.7.1 <{to}>: Recipient address rejected: Greylisted, please try again later (in reply to RCPT TO command)"),
    ("4.4.1", "deferred", "connect to {mx}[{ip}]:25: Connection timed out"),
    ("4.4.1", "deferred", "connect to {mx}[{ip}]:25: Connection refused"),
    ("5.4.4", "bounced", "Host or domain name not found. Name service error for name={domain} type=AAAA: Host not found"),
    ("5.1.10", "bounced", "host {mx}[{ip}] said: 550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient {to} not found by SMTP address lookup [{token}.eurprd{n}.prod.outlook.com 2026-05-03T00:00:00.000Z {token}] (in reply to RCPT TO command)"),
    ("4.4.2", "deferred", "lost connection with {mx}[{ip}] while receiving the initial server greeting"),
    ("4.7.0", "deferred", "host {mx}[{ip}] said: 421-4.7.0 [{ip}] Our system has detected an unusual rate of 421-4.7.0 unsolicited mail originating from your IP address. {token} - gsmtp (in reply to end of DATA command)"),
    ("5.2.2", "bounced", "host {mx}[{ip}] said: 552 5.2.2 <{to}>: Mailbox full (in reply to RCPT TO command)"),
    ("4.3.2", "deferred", "host {mx}[{ip}] refused to talk to me: 421 4.3.2 {mx} system not accepting network messages"),
]


def main() -> None:
    size, path = int(sys.argv[1]), sys.argv[2]
    rng = random.Random(7)
    written, second = 0, 0
    letters = "bcdfghjkmnpqrstvwxyzBCDFGHJKMNPQRSTVWXYZ0123456789"
    with open(path, "w", buffering=1 << 22) as out:
        while written < size:
            lines = []
            for _ in range(1000):
                second += rng.random() < 0.25
                day, rest = divmod(second, 86400)
                time = f"May {3 + day % 28:2} {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
                head = f"{time} mail postfix/"
                pid = rng.randrange(1000, 99999)
                queue = "4" + "".join(rng.choices(letters, k=11))
                client = f"app{rng.randrange(40)}.example.net[10.0.{rng.randrange(256)}.{rng.randrange(256)}]"
                if rng.random() < 0.02:
                    lines.append(f"{head}smtpd[{pid}]: NOQUEUE: reject: RCPT from {client}: 554 5.7.1 <u{pid}@elsewhere.example>: Relay access denied; from=<app@example.net> to=<u{pid}@elsewhere.example> proto=ESMTP helo=<app>\n")
                    continue
                if rng.random() < 0.4:
                    domain, mx = rng.choice(HOSTS)
                else:
                    domain = f"customer{rng.randrange(5000)}.example"
                    mx = f"mx{rng.randrange(4)}.{domain}"
                to = f"user{rng.randrange(10**6)}@{domain}"
                ip = f"{rng.randrange(1, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
                lines.append(f"{head}smtpd[{pid}]: connect from {client}\n")
                lines.append(f"{head}smtpd[{pid}]: {queue}: client={client}, sasl_method=PLAIN, sasl_username=app\n")
                lines.append(f"{head}cleanup[{pid + 1}]: {queue}: message-id=<{queue}.{pid}@app.example.net>\n")
                lines.append(f"{head}qmgr[912]: {queue}: from=<bounce-{pid}@example.net>, size={rng.randrange(900, 90000)}, nrcpt=1 (queue active)\n")
                lines.append(f"{head}smtpd[{pid}]: disconnect from {client} ehlo=2 starttls=1 auth=1 mail=1 rcpt=1 data=1 quit=1 commands=8\n")
                fields = f"{head}smtp[{pid + 2}]: {queue}: to=<{to}>, relay={mx}[{ip}]:25, delay={rng.random() * 9:.2f}, delays=0.01/0/0.5/0.7, dsn="
                if rng.random() < 0.40:
                    dsn, status, words = rng.choice(BAD)
                    token = "".join(rng.choices(letters, k=14)) + f"-{pid}si{pid}.{rng.randrange(100)}"
                    words = words.format(mx=mx, ip=ip, to=to, domain=domain, token=token, n=rng.randrange(20))
                    lines.append(f"{fields}{dsn}, status={status} ({words})\n")
                else:
                    lines.append(f"{fields}2.0.0, status=sent (250 2.0.0 OK  {pid}{pid} {queue} - gsmtp)\n")
                lines.append(f"{head}qmgr[912]: {queue}: removed\n")
            text = "".join(lines)
            out.write(text)
            written += len(text)


if __name__ == "__main__":
    main()
