"""Asks for a host that only DNS knows, through HTTP_PROXY, and answers with what that says. It serves that host itself."""

import http.server
import os
import threading
import urllib.request


class Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("elsewhere is " + self.headers["host"]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


elsewhere = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
threading.Thread(target=elsewhere.serve_forever, daemon=True).start()


class Front(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with urllib.request.urlopen(f"http://some.host.localhost:{elsewhere.server_port}/") as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


address = (os.environ["NAVARCH_ADDRESS"], int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, Front).serve_forever()
