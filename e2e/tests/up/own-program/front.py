"""Answers with what the service `echo` says. HTTP_PROXY leads to the sidecar, so `echo` needs no address."""

import http.server
import os
import urllib.request


class Front(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with urllib.request.urlopen("http://echo:8080" + self.path) as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-pod", os.environ["POD_NAME"])
        self.end_headers()
        self.wfile.write(body)


address = (os.environ["NAVARCH_ADDRESS"], int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, Front).serve_forever()
