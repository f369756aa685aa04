"""Services outside of the platform that apps call by HTTP."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class OutsideServer(ThreadingHTTPServer):
    """On a port of its own, until the block it is the context of ends."""

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *ended):
        self.shutdown()
        super().__exit__(*ended)


class OutsideHandler(BaseHTTPRequestHandler):
    def received(self):
        return self.rfile.read(int(self.headers["content-length"]))

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        pass
