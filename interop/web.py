"""Small HTTP servers of the tests: one that answers by a function, and one that keeps what is posted to it."""

import http.server
import json
import ssl
import threading


class Web:
    """`answer(method, path, headers, body)` gives a status and an object that is sent as JSON, or None. Header names are in lower case."""

    def __init__(self, answer, place=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                status, what = answer(self.command, self.path, headers, body)
                data = b"" if what is None else json.dumps(what).encode()
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        if place:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(place.cert, place.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.base = f"{'https' if place else 'http'}://localhost:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Receiver(Web):
    """Keeps (path, headers, body) of what is posted."""

    def __init__(self, place=None, status=204):
        self.told, self.news, self.status = [], threading.Condition(), status
        super().__init__(self._keep, place)

    def _keep(self, _method, path, headers, body):
        with self.news:
            self.told.append((path, headers, body))
            self.news.notify_all()
        return self.status, None

    def wait(self, count, patience=30):
        with self.news:
            if not self.news.wait_for(lambda: len(self.told) >= count, patience):
                raise AssertionError(f"{len(self.told)} of {count} requests came")
            return list(self.told)
