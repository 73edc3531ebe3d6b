"""Certificates of every kind of wrong, and TLS contexts that serve them: for the tests of `pillarbox check`."""

import ssl

from common import KEY, run

LONG, PAST, FUTURE = ("250101000000Z", "400101000000Z"), ("240101000000Z", "250101000000Z"), ("390101000000Z", "400101000000Z")
CA_CONF = """[ca]
default_ca = own
[own]
dir = {dir}
database = {dir}/index
serial = {dir}/serial
new_certs_dir = {dir}
default_md = sha256
policy = any
unique_subject = no
email_in_dn = no
[any]
commonName = optional
"""


class Authority:
    """A certificate authority that signs whatever it is told."""

    def __init__(self, where, name, subject=None, parent=None, span=LONG):
        self.dir = where / name
        self.dir.mkdir()
        (self.dir / "index").touch()
        (self.dir / "serial").write_text("1001\n")
        (self.dir / "conf").write_text(CA_CONF.format(dir=self.dir))
        self.cert, self.key = self.dir / "cert.pem", self.dir / "key.pem"
        subject = subject or f"/CN={name}"
        request = self.request("self", subject, KEY, self.key)
        self.sign(request, self.cert, "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n", span, parent)

    def request(self, name, subject, key, path):
        csr = self.dir / f"{name}.csr"
        run("openssl", "req", "-new", "-newkey", *key, "-nodes", "-utf8", "-subj", subject, "-keyout", path, "-out", csr)
        return csr

    def sign(self, csr, out, extensions, span, issuer=None, md="sha256"):
        by = issuer or self
        ext = out.with_suffix(".ext")
        ext.write_text(extensions)
        sign = ("-selfsign", "-keyfile", by.key) if by is self and not self.cert.exists() else ("-cert", by.cert, "-keyfile", by.key)
        run("openssl", "ca", "-batch", "-notext", "-config", by.dir / "conf", *sign, "-in", csr, "-out", out, "-extfile", ext,
            "-startdate", span[0], "-enddate", span[1], "-md", md, "-utf8")

    def leaf(self, name, san="DNS:mx.test,DNS:localhost,IP:127.0.0.1", subject="/CN=mx.test", span=LONG, key=KEY, md="sha256",
             usage="serverAuth", chain=(), ca=False):
        """Paths of the chain as served, and of the key."""
        cert, path, served = (self.dir / f"{name}.{kind}" for kind in ("pem", "key", "chain"))
        csr = self.request(name, subject, key, path)
        extensions = f"basicConstraints=CA:{'TRUE' if ca else 'FALSE'}\nextendedKeyUsage={usage}\n"
        if san:
            extensions += f"subjectAltName={san}\n" if len(san) < 4000 else "subjectAltName=@names\n[names]\n" + "".join(
                f"DNS.{n} = {one.removeprefix('DNS:')}\n" for n, one in enumerate(san.split(","), 1))
        self.sign(csr, cert, extensions, span, md=md)
        served.write_text(cert.read_text() + "".join(one.read_text() for one in chain))
        path.chmod(0o644)
        return served, path


def server(pair, low=None, high=None, ciphers=None):
    """A context that serves a chain."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(ciphers or "ALL:@SECLEVEL=0")
    context.minimum_version = low or ssl.TLSVersion.TLSv1_2
    if high:
        context.maximum_version = high
    context.load_cert_chain(*map(str, pair))
    return context


class Certs:
    """All of them, made once. `pair(name)` gives files, `tls(name)` a context."""

    def __init__(self, where, now):
        where.mkdir()
        date = lambda days: (now + days * 86400)
        import datetime
        at = lambda days: datetime.datetime.fromtimestamp(date(days), datetime.timezone.utc).strftime("%y%m%d%H%M%SZ")
        self.root = Authority(where, "root", "/CN=Check test authority")
        middle = Authority(where, "middle", "/CN=Check test intermediate", self.root)
        stale = Authority(where, "stale", "/CN=Check test old intermediate", self.root, PAST)
        other = Authority(where, "other", "/CN=Authority nobody trusts")
        shield = Authority(where, "shield", "/O=Avast/CN=Avast Web/Mail Shield Root" .replace("Web/Mail", "Web\\/Mail"))
        weak = ("rsa:1024",)
        names = lambda count: ",".join(f"DNS:host-number-{n}.mx.test" for n in range(count)) + ",DNS:mx.test"
        self.pairs = {
            "good": self.root.leaf("good"),
            "wild": self.root.leaf("wild", san="DNS:*.example.test"),
            "chain": middle.leaf("chain", chain=(middle.cert,)),
            "whole": middle.leaf("whole", chain=(middle.cert, self.root.cert)),
            "rsa": self.root.leaf("rsa", key=("rsa:2048",)),
            "expired": self.root.leaf("expired", span=PAST),
            "yesterday": self.root.leaf("yesterday", span=(at(-90), at(-1))),
            "future": self.root.leaf("future", span=FUTURE),
            "name": self.root.leaf("name", san="DNS:mail.elsewhere.test,DNS:www.elsewhere.test", subject="/CN=mail.elsewhere.test"),
            "cn": self.root.leaf("cn", san=None),
            "missing": middle.leaf("missing"),
            "stale": stale.leaf("stale", chain=(stale.cert,)),
            "unknown": other.leaf("unknown"),
            "unknownroot": other.leaf("unknownroot", chain=(other.cert,)),
            "shield": shield.leaf("shield", chain=(shield.cert,)),
            "weak": self.root.leaf("weak", key=weak),
            "sha1": self.root.leaf("sha1", md="sha1"),
            "soon": self.root.leaf("soon", span=(at(-80), at(6))),
            "short": self.root.leaf("short", span=(at(-1), at(6))),
            "client": self.root.leaf("client", usage="clientAuth"),
            "authority": self.root.leaf("authority", ca=True),
            "colours": self.root.leaf("colours", san="DNS:mail.elsewhere.test", subject="/CN=\x1b[31mred\x1b[0m\x07"),
            "many": self.root.leaf("many", san=names(1500)),
            "toomany": self.root.leaf("toomany", san=names(10_000)),
            "long": self.root.leaf("long", chain=(middle.cert,) * 99),
        }
        own, key = where / "own.pem", where / "own.key"
        run("openssl", "req", "-x509", "-newkey", *KEY, "-nodes", "-days", "365", "-subj", "/CN=mx.test", "-addext", "subjectAltName=DNS:mx.test",
            "-keyout", key, "-out", own)
        key.chmod(0o644)
        self.pairs["own"] = (own, key)
        self.contexts = {}

    def tls(self, name, **options):
        key = (name, *sorted(options.items()))
        if key not in self.contexts:
            self.contexts[key] = server(self.pairs[name], **options)
        return self.contexts[key]
