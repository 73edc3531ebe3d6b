"""A Pillarbox with a configuration of its own, set up through its command line as a person would do it."""

import os
import pathlib

from common import REPOSITORY, Process, free_port, run, wait_banner

SENDER, PASSWORD = "interop", "interop-secret"


def binary():
    path = pathlib.Path(os.environ.get("PILLARBOX", REPOSITORY / "target" / "debug" / "pillarbox"))
    if not path.exists():
        raise RuntimeError(f"{path} is missing: build it first, or set PILLARBOX")
    return path


class Pillarbox:
    """STARTTLS on `port`, implicit TLS on `tls_port`, everything to one route; `more`: further sections of the configuration;
    `process`: how the server is run."""

    def __init__(self, place, *route, more="", data=None, **process):
        self.place, self.process = place, process
        self.dir = place.path / "relay"
        self.dir.mkdir()
        data = data or self.dir / "data"
        self.port, self.tls_port, http = free_port(), free_port(), free_port()
        self.config = self.dir / "pillarbox.toml"
        listener = '[[listener]]\nname = "{}"\naddress = "127.0.0.1:{}"\nmode = "{}"\ncertificate = "{}"\nkey = "{}"\n'
        self.config.write_text(
            f'hostname = "relay.test"\ndata_dir = "{data}"\n'
            + f'[http]\naddress = "127.0.0.1:{http}"\n'
            + more
            + '[retry]\nintervals = ["1s", "2s"]\n'
            + listener.format("submission", self.port, "starttls", place.cert, place.key)
            + listener.format("submissions", self.tls_port, "implicit", place.cert, place.key)
        )
        try:
            self.start()
            password = self.dir / "password"
            password.write_text(PASSWORD)
            password.chmod(0o600)
            self.cli("sender", "add", SENDER, "--password-from", f"file:{password}", "--allow-from", "*")
            self.cli("route", "add", "out", *route, "--default")
        except Exception as error:
            self.stop()
            raise RuntimeError(f"{error}\n{self.log()}") from None

    def start(self):
        self.server = Process([binary(), "serve", "--config", self.config], self.dir / "out.log", **self.process)
        wait_banner(self.port, self.server.process)

    def cli(self, *arguments):
        return run(binary(), *arguments, "--config", self.config)

    def log(self):
        try:
            queue = self.cli("queue", "ls")
        except Exception as error:
            queue = str(error)
        return f"--- pillarbox\n{self.server.output()}\n--- queue\n{queue}"

    def stop(self):
        self.server.stop(30)
