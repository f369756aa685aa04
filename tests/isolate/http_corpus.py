"""Requests for the differential test of the two HTTP implementations: valid, odd and hostile ones, by family.

`CASES` maps a name to the bytes of a connection. Where the implementations are meant to differ, `STRICTER` and `RIGHT`
say why; a family's reason covers every case whose name begins with it.
"""

HOST = b"Host: localhost\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"\r\n"


def head(line, *headers, host=True):
    lines = [line, *([b"Host: localhost"] if host else []), *headers]
    return b"\r\n".join([*lines, b"", b""])


def get(*headers, host=True, target=b"/"):
    return head(b"GET " + target + b" HTTP/1.1", *headers, host=host)


def post(body, *headers, version=b"HTTP/1.1"):
    return head(b"POST /body " + version, *headers) + body


def chunked(body, *headers):
    return post(body, b"Transfer-Encoding: chunked", *headers)


METHODS = {
    name: head(name.encode() + b" /m HTTP/1.1")
    for name in (
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW", "M-SEARCH", "PROPFIND",
        "SOURCE", "PURGE", "QUERY", "GETX", "GE", "G", "PRI", "X" * 32, "!#$%&'*+-.^_`|~", "0",
    )
}  # fmt: skip
METHODS_MALFORMED = {
    "lower case": head(b"get /m HTTP/1.1"),
    "mixed case": head(b"Get /m HTTP/1.1"),
    "33 characters": head(b"X" * 33 + b" /m HTTP/1.1"),
    "none": head(b" /m HTTP/1.1"),
    "with a colon": head(b"GET: /m HTTP/1.1"),
    "with a slash": head(b"GET/ /m HTTP/1.1"),
    "with a bracket": head(b"(GET) /m HTTP/1.1"),
    "quoted": head(b'"GET" /m HTTP/1.1'),
    "with NUL": head(b"G\x00ET /m HTTP/1.1"),
    "with a high byte": head(b"G\xc9T /m HTTP/1.1"),
    "after a space": b" " + get(),
    "after a tab": b"\t" + get(),
    "then a tab": head(b"GET\t/m HTTP/1.1"),
}
TARGETS = (
    b"/a/b/c", b"/?", b"/?a=b&c=d", b"/a?b?c", b"/a%20b", b"/%41", b"/a%2Fb", b"/a%", b"/a%zz", b"/a%00b",
    b"//a//b", b"/./a",
    b"/a/../b", b"/../../etc/passwd", b"/a/%2e%2e/b", b"/a/.%2E/b", b"/a;b=c", b"/a,b", b"/a+b", b"/a|b", b"/a{b}",
    b"/a[b]",
    b"/a^b", b"/a`b", b"/a'b", b'/a"b', b"/a\\b", b"/<a>", b"/~a", b"/@a", b"/:a", b"/a:80", b"/a#b", b"/a?b#c",
    b"/#", b"/a=b",
    b"/a*b", b"/$a!b(c)", b"/" + b"x" * 500, b"http://localhost/a", b"http://localhost", b"http://other.example/a?b",
    b"https://localhost/a", b"HTTP://localhost/a", b"http://user@localhost/a", b"http://localhost:99999/", b"http:///a",
    b"ftp://localhost/a", b"http://[::1]/a", b"http://[::1/a", b"http://a b/", b"*", b"?a", b"a", b"a/b", b"",
    b"//", b"///",
    b"/\\", b"javascript:1", b"http:", b"://", b"localhost:80",
)  # fmt: skip
TARGETS_RAW = (b"/\xc3\xa9", b"/?q=\xe2\x82\xac", b"/\xff", b"/a\x80b?\xf0\x9f\x98\x80")
TARGETS_CONTROL = (
    b"/a\tb",
    b"/a\x00b",
    b"/a\x01b",
    b"/a\x7fb",
    b"/a\x0cb",
    b"/a\x0bb",
    b"/a\rb",
    b"/a\nb",
    b"/a b",
    b"/a  b",
)
VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/2", b"HTTP/1",
    b"HTTP/11",
    b"HTTP/1.", b"HTTP/.1", b"HTTP/1.1.1", b"HTTP/01.1", b"HTTP/1.01", b"http/1.1", b"HTTPS/1.1", b"HTTP 1.1",
    b"HTTP/1,1",
    b"HTTP/-1.1", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/1.1x", b"RTSP/1.0", b"ICE/1.0", b"", b"HTTP", b"HTTP/x.y",
    b"HTTP/1.1\x00",
)  # fmt: skip
HEADERS = (
    b"X: y", b"x:y", b"X:  y  ", b"X:\ty\t", b"X:", b"X: ", b"X:\t", b"X: a:b", b"X: a, b", b"X: \xe9",
    b"X: \xc3\xa9", b"X: \xff",
    b"X-" + b"n" * 300 + b": y", b"X: " + b"v" * 600, b"X_Y: z", b"X.Y: z", b"!#$%&'*+-.^_`|~: z", b"1: 2", b"X: y\tz",
    b'X: "quoted"', b"X: (comment)", b"X: \"un", b"Cookie: a=b; c=d", b"Cookie: a=b\r\nCookie: c=d",
    b"X: 1\r\nX: 2\r\nx: 3",
    b"Accept: */*\r\nAccept-Encoding: gzip\r\nUser-Agent: t", b"TE: trailers", b"Trailer: X", b"Via: 1.1 a",
    b"Keep-Alive: 5",
    b"Proxy-Connection: close", b"Upgrade: foo", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    b"Content-Type: text/plain",
    b"Authorization: Basic YTpi", b"X-Forwarded-For: 1.2.3.4", b"Range: bytes=0-", b"If-None-Match: *",
    b"Content-Length-X: 5",
    b"X-Content-Length: 5", b"Transfer_Encoding: chunked", b"Content_Length: 5", b"Date: now",
)  # fmt: skip
HEADERS_BAD = (
    b"X : y", b"X\t: y", b" X: y", b"\tX: y", b"X y: z", b"X", b": y", b":", b" ", b"\t", b"X: y\r\n z",
    b"X: y\r\n\tz", b"X:\r\n y",
    b"X: a\x00b", b"X: a\x01b", b"X: a\x7fb", b"X: a\x1bb", b"X: a\x0bb", b"X: a\x0cb", b"X: a\rb", b"X: a\nb",
    b"X: a\r\r\nY: b",
    b"X\x00: y", b"X\xe9: y", b"X\x7f: y", b"(X): y", b"X/Y: z", b"X=Y: z", b"X@Y: z", b"X[]: z", b'"X": y',
    b"X;Y: z", b"X,Y: z",
    b"X{Y}: z", b"<X>: z", b"X?: z", b"X\\Y: z", b"X: y\n", b"X: y\r", b"\x00", b"\xff: y", b"GET / HTTP/1.1",
)  # fmt: skip
HOSTS = (
    b"localhost", b"localhost:8080", b"LOCALHOST", b"a.example", b"a.example.", b"127.0.0.1", b"[::1]", b"[::1]:80",
    b"a_b", b"a-b",
    b"localhost:80", b"localhost:443", b"localhost:", b"localhost:0", b"localhost:65536", b"localhost:x",
    b"localhost:-1",
    b"a b", b"a/b", b"a?b", b"a#b", b"a@b", b"user:pw@b", b"a\\b", b"<a>", b"a\"b", b"a'b", b"\xe9", b"a\xc3\xa9",
    b"", b" ", b"a,b",
    b"[::1", b"::1", b"%61", b"xn--a", b"a..b", b".", b"*", b"http://a", b"a\tb", b"a;b",
)  # fmt: skip
LENGTHS = (
    b"5", b"05", b"0005", b" 5", b"5 ", b"\t5\t", b"0", b"00", b"+5", b"-5", b"-0", b"+0", b"5.0", b"5e0", b"0x5",
    b"5h", b"5 5", b"5,5",
    b"5, 5", b"5, 6", b"", b" ", b"five", b"\xb5", b"5;", b"'5'", b"9" * 19, b"9" * 25, b"18446744073709551621",
    b"5\x00", b"5\x0b",
    b"100000000000",
)  # fmt: skip
CODINGS = (
    b"chunked", b"Chunked", b"CHUNKED", b" chunked ", b"chunked\t", b"chunked,", b",chunked", b"chunked, chunked",
    b"gzip", b"gzip, chunked",
    b"chunked, gzip", b"identity", b"identity, chunked", b"deflate", b"x", b"", b" ", b"chunke", b"chunkedd",
    b"xchunked", b"chunked x",
    b'"chunked"', b"chunked;q=1", b"chun ked", b"chunked\x0b", b"chunked\x00", b"\x0bchunked", b"trailers",
    b"chunked, identity",
)  # fmt: skip
CHUNKS = {
    "one": b"5\r\nhello\r\n0\r\n\r\n",
    "none": b"0\r\n\r\n",
    "two": b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "hex": b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
    "leading zeros": b"0005\r\nhello\r\n0\r\n\r\n",
    "last of many zeros": b"5\r\nhello\r\n0000\r\n\r\n",
    "extension": b"5;a\r\nhello\r\n0\r\n\r\n",
    "extension with value": b"5;a=b\r\nhello\r\n0;c=d\r\n\r\n",
    "quoted extension": b'5;a="b c"\r\nhello\r\n0\r\n\r\n',
    "empty lines in the data": b"8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
    "a message in the data": b"e\r\n0\r\n\r\nGET / HTT\r\n0\r\n\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "two trailers": b"0\r\nX: y\r\nZ: w\r\n\r\n",
    "trailer that frames": b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n",
    "trailer with a host": b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n",
    "trailer and another request": b"1\r\na\r\n0\r\nX-Smuggled: yes\r\n\r\n" + LAST,
    "and another request": b"5\r\nhello\r\n0\r\n\r\n" + LAST,
}
CHUNKS_BAD = {
    "no digits": b"\r\nhello\r\n0\r\n\r\n",
    "not hex": b"g\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "space before": b" 5\r\nhello\r\n0\r\n\r\n",
    "space after": b"5 \r\nhello\r\n0\r\n\r\n",
    "tab after": b"5\t\r\nhello\r\n0\r\n\r\n",
    "underscore": b"1_0\r\nhello\r\n0\r\n\r\n",
    "bare LF after size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF after data": b"5\r\nhello\n0\r\n\r\n",
    "bare LF at the end": b"5\r\nhello\r\n0\r\n\n",
    "bare CR after size": b"5\rhello\r\n0\r\n\r\n",
    "CR CR LF after size": b"5\r\r\nhello\r\n0\r\n\r\n",
    "too short": b"3\r\nhello\r\n0\r\n\r\n",
    "too long": b"7\r\nhello\r\n0\r\n\r\n",
    "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "21 digits": b"000000000000000000005\r\nhello\r\n0\r\n\r\n",
    "LF in extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "NUL in extension": b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
    "folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "bad trailer": b"0\r\nX y\r\n\r\n",
    "trailer with space before colon": b"0\r\nX : y\r\n\r\n",
    "trailer that chunks": b"0\r\nTransfer-Encoding: x\r\n\r\n",
    "trailer with NUL": b"0\r\nX: a\x00\r\n\r\n",
    "cut in size": b"5",
    "cut in data": b"5\r\nhel",
    "cut before the last": b"5\r\nhello\r\n",
    "cut in the end": b"0\r\n",
    "nothing": b"",
}
FRAMING = {
    "length": post(b"hello", b"Content-Length: 5"),
    "length 0": post(b"", b"Content-Length: 0"),
    "length and another request": post(b"hello", b"Content-Length: 5") + LAST,
    "no length and a body": post(b"hello"),
    "no length and a request as body": post(LAST),
    "body on GET": head(b"GET / HTTP/1.1", b"Content-Length: 5") + b"hello",
    "body on HEAD": head(b"HEAD / HTTP/1.1", b"Content-Length: 5") + b"hello" + LAST,
    "body on DELETE": head(b"DELETE / HTTP/1.1", b"Content-Length: 5") + b"hello" + LAST,
    "body on OPTIONS": head(b"OPTIONS / HTTP/1.1", b"Content-Length: 5") + b"hello" + LAST,
    "too short": post(b"hel", b"Content-Length: 5"),
    "too long": post(b"hello!", b"Content-Length: 5"),
    "same length twice": post(b"hello", b"Content-Length: 5", b"Content-Length: 5"),
    "two lengths": post(b"hello", b"Content-Length: 5", b"Content-Length: 6"),
    "length then chunked": post(b"0\r\n\r\n", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunked then length": post(b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "chunked then a request for the length": post(
        b"0\r\n\r\n" + LAST, b"Content-Length: %d" % (5 + len(LAST)), b"Transfer-Encoding: chunked"
    ),
    "chunked twice": chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"),
    "chunked and identity": chunked(b"0\r\n\r\n", b"Transfer-Encoding: identity"),
    "identity and chunked": post(b"0\r\n\r\n", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
    "chunked in 1.0": post(b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", version=b"HTTP/1.0"),
    "length in 1.0": post(b"hello", b"Content-Length: 5", version=b"HTTP/1.0"),
    "space before the length's colon": post(b"hello", b"Content-Length : 5"),
    "folded length": post(b"hello", b"Content-Length:\r\n 5"),
    "folded chunked": post(b"0\r\n\r\n", b"Transfer-Encoding:\r\n chunked"),
    "length after a NUL": post(b"hello", b"X: \x00", b"Content-Length: 5"),
    "length with CR in its name": post(b"hello", b"\rContent-Length: 5"),
    "bare CR hides chunked": post(b"0\r\n\r\n", b"X: y\rTransfer-Encoding: chunked"),
    "LF hides chunked": post(b"0\r\n\r\n", b"X: y\nTransfer-Encoding: chunked"),
    "empty lines in the body": post(b"\r\n\r\n\r\n\r\n" + LAST, b"Content-Length: 8"),
}
CONNECTIONS = {
    "two": get() + LAST,
    "three": get() + get(target=b"/2") + LAST,
    "twenty": b"".join(get(target=b"/%d" % i) for i in range(20)),
    "a body between": get() + post(b"hello", b"Content-Length: 5") + LAST,
    "chunks between": get() + chunked(b"1\r\na\r\n0\r\n\r\n") + LAST,
    "HEAD first": head(b"HEAD / HTTP/1.1") + LAST,
    "close": get(b"Connection: close") + LAST,
    "Close": get(b"Connection: Close") + LAST,
    "close among others": get(b"Connection: foo, close, bar") + LAST,
    "keep-alive": get(b"Connection: keep-alive") + LAST,
    "keep-alive and close": get(b"Connection: keep-alive", b"Connection: close") + LAST,
    "unknown": get(b"Connection: foo") + LAST,
    "empty": get(b"Connection:") + LAST,
    "1.0": head(b"GET / HTTP/1.0") + LAST,
    "1.0 without host": head(b"GET / HTTP/1.0", host=False),
    "1.0 keep-alive": head(b"GET / HTTP/1.0", b"Connection: keep-alive") + LAST,
    "1.0 close": head(b"GET / HTTP/1.0", b"Connection: close") + LAST,
    "1.0 HEAD": head(b"HEAD / HTTP/1.0"),
    "bad second": get() + b"nonsense\r\n\r\n",
    "bad second header": get() + get(b"X : y"),
    "unknown method second": get() + head(b"BREW / HTTP/1.1"),
    "preface second": get() + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "cut second": get() + b"GET / HT",
    "TLS second": get() + b"\x16\x03\x01",
    "body nobody announced": get() + b"hello\r\n\r\n",
}
LINES = {
    "bare LF": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "bare LF after the line": b"GET / HTTP/1.1\n" + HOST + b"\r\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: localhost\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\n" + HOST + b"\n",
    "bare CR": b"GET / HTTP/1.1\rHost: localhost\r\r",
    "CR CR LF": b"GET / HTTP/1.1\r\r\n" + HOST + b"\r\n",
    "LF CR": b"GET / HTTP/1.1\n\r" + HOST + b"\r\n",
    "two spaces before the target": head(b"GET  / HTTP/1.1"),
    "two spaces after the target": head(b"GET /  HTTP/1.1"),
    "tab after the target": head(b"GET /\tHTTP/1.1"),
    "only a method": b"GET\r\n\r\n",
    "method and target": b"GET /\r\n\r\n",
    "method, target and headers": b"GET /\r\n" + HOST + b"\r\n",
    "four words": head(b"GET / a HTTP/1.1"),
}
EMPTY_LINES = {"one": b"\r\n" + get(), "two": b"\r\n\r\n" + get(), "between": get() + b"\r\n" + LAST}
EMPTY_LINES_BAD = {
    "three": b"\r\n\r\n\r\n" + get(),
    "LF": b"\n" + get(),
    "CR": b"\r" + get(),
    "only": b"\r\n",
    "LF between": get() + b"\n" + LAST,
}
STARTS = {
    "nothing": b"",
    "cut method": b"GE",
    "cut target": b"GET /a",
    "cut version": b"GET / HTTP/1.",
    "cut header": b"GET / HTTP/1.1\r\nHost: loc",
    "cut end": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r",
    "zeros": b"\x00" * 40,
    "high bytes": b"\xff\xfe\xfd" * 10,
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "SMTP": b"EHLO localhost\r\n",
    "JSON": b'{"a": 1}\r\n\r\n',
    "XML": b"<?xml version='1.0'?>\r\n\r\n",
    "a proxy's line": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + get(),
    "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
    "half a preface": b"PRI * HT",
    "byte order mark": b"\xef\xbb\xbf" + get(),
}
EXPECTATIONS = {
    "continue": post(b"hello", b"Content-Length: 5", b"Expect: 100-continue"),
    "Continue": post(b"hello", b"Content-Length: 5", b"Expect: 100-Continue"),
    "continue chunked": chunked(b"5\r\nhello\r\n0\r\n\r\n", b"Expect: 100-continue"),
    "continue without a body": get(b"Expect: 100-continue"),
    "continue in 1.0": post(b"hello", b"Content-Length: 5", b"Expect: 100-continue", version=b"HTTP/1.0"),
}
EXPECTATIONS_BAD = {
    "another": post(b"hello", b"Content-Length: 5", b"Expect: 200-ok"),
    "two": post(b"hello", b"Content-Length: 5", b"Expect: 100-continue, x"),
    "empty": get(b"Expect:"),
}
WEBSOCKET = (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
UPGRADES = {
    "websocket": get(b"Connection: Upgrade", b"Upgrade: websocket", *WEBSOCKET),
    "websocket second": get() + get(b"Connection: Upgrade", b"Upgrade: websocket", *WEBSOCKET),
    "unknown": get(b"Connection: Upgrade", b"Upgrade: foo") + LAST,
    "unknown with a body": post(b"hello", b"Content-Length: 5", b"Connection: Upgrade", b"Upgrade: foo") + LAST,
    "unknown with chunks": chunked(b"1\r\na\r\n0\r\n\r\n", b"Connection: Upgrade", b"Upgrade: foo") + LAST,
    "without Connection": get(b"Upgrade: websocket") + LAST,
    "Connection alone": get(b"Connection: upgrade") + LAST,
    "HTTP/1.1": get(b"Connection: Upgrade", b"Upgrade: HTTP/1.1") + LAST,
}
LIMITS = {
    "URL of 16 KiB": get(target=b"/" + b"a" * 16383),
    "longer URL": get(target=b"/" + b"a" * 16384),
    "much longer URL": get(target=b"/" + b"a" * 40_000),
    "endless URL": b"GET /" + b"a" * 60_000,
    "headers of 120 KB": get(b"X: " + b"y" * 120_000),
    "1000 headers": get(*[b"X: y"] * 998),
    "huge length": post(b"hello", b"Content-Length: 104857601"),
}
LIMITS_BAD = {
    "headers of 140 KB": get(b"X: " + b"y" * 140_000),
    "endless headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 40_000,
    "2000 headers": get(*[b"X: y"] * 2000),
}


def _cases():
    named = {
        "method": METHODS,
        "malformed method": METHODS_MALFORMED,
        "target": {repr(target): get(target=target) for target in TARGETS},
        "raw target": {repr(target): get(target=target) for target in TARGETS_RAW},
        "control in target": {repr(target): get(target=target) for target in TARGETS_CONTROL},
        "version": {repr(version): head(b"GET / " + version) for version in VERSIONS},
        "header": {repr(header[:40]): get(header) + LAST for header in HEADERS},
        "bad header": {repr(header): get(header) + LAST for header in HEADERS_BAD},
        "host": {repr(host): get(b"Host: " + host, host=False) for host in HOSTS},
        "hosts": {"none": get(host=False), "two": get(b"Host: a"), "two alike": get(b"Host: localhost")},
        "length": {repr(length): post(b"hello", b"Content-Length: " + length) for length in LENGTHS},
        "coding": {repr(coding): post(CHUNKS["one"], b"Transfer-Encoding: " + coding) for coding in CODINGS},
        "chunks": {name: chunked(body) for name, body in CHUNKS.items()},
        "bad chunks": {name: chunked(body) for name, body in CHUNKS_BAD.items()},
        "framing": FRAMING,
        "connection": CONNECTIONS,
        "line": LINES,
        "empty lines": EMPTY_LINES,
        "bad empty lines": EMPTY_LINES_BAD,
        "start": STARTS,
        "expect": EXPECTATIONS,
        "bad expect": EXPECTATIONS_BAD,
        "upgrade": UPGRADES,
        "limit": LIMITS,
        "bad limit": LIMITS_BAD,
    }
    return {f"{family}: {name}": data for family, cases in named.items() for name, data in cases.items()}


CASES = _cases()

STRICTER = {
    "malformed method": "methods are case-sensitive (RFC 9110, 9.1); hypercorn raises them to upper case",
    "target: b'?a'": "a target begins with / or a scheme (RFC 9112, 3.2); hypercorn takes anything for /",
    "target: b'a'": "as above",
    "target: b'a/b'": "as above",
    "target: b'javascript:1'": "as above",
    "target: b'http:'": "as above",
    "target: b'://'": "as above",
    "target: b'localhost:80'": "as above; this form belongs to CONNECT",
    "version": "only 1.0 and 1.1 are framed as this loop frames; hypercorn answers any digits as 1.1",
    "header: b'Proxy-Connection: close'": "llhttp takes it for Connection, as proxies do that do not know better",
    "bad header: b' '": "a line of white space before the headers hides what follows (RFC 9112, 2.2)",
    "bad header: b'\\t'": "as above",
    "bad header: b'X: y\\r\\n": "folding is obsolete, and proxies differ about it (RFC 9112, 5.2)",
    "bad header: b'X:\\r\\n y'": "as above",
    "bad header: b'X: a\\x": "control characters are in no header's value (RFC 9110, 5.5)",
    "bad header: b'X: y\\n'": "a line ends with CR LF: proxies differ about a bare LF (RFC 9112, 2.2)",
    "line": "as above",
    "framing: LF hides chunked": "as above",
    "bad chunks: bare LF at the end": "as above",
    "length: b'5,5'": "repeated lengths are refused, alike or not: a proxy may count them otherwise",
    "length: b'5, 5'": "as above",
    "framing: same length twice": "as above",
    "framing: folded": "as above, for folding",
    "framing: chunked in 1.0": "HTTP/1.0 has no transfer codings: proxies take the body for the next request",
    "coding: b'chunked\\t'": "llhttp knows the coding with spaces around it only",
    "chunks: trailer that frames": "a trailer cannot frame the message that it ends (RFC 9110, 6.5.1)",
    "bad chunks: space after": "white space after a chunk's size is not in the grammar (RFC 9112, 7.1)",
    "bad chunks: tab after": "as above",
    "bad chunks: NUL in extension": "as above, for NUL",
    "bad chunks: folded trailer": "as above, for folding",
    "connection: preface second": "HTTP/2 begins with the connection, or with an upgrade",
    "bad expect": "an expectation that cannot be met is answered 417 (RFC 9110, 10.1.1)",
}
"""Where the loop refuses, or closes, and hypercorn serves: a family or a case, and why refusing is right."""

RIGHT = {
    "coding: b'CHUNKED'": "only hypercorn gives the worker this value in lower case",
    "coding: b'Chunked'": "as above",
    "raw target": "browsers and scripts do send raw UTF-8; it becomes percent-encoded, as on Cloudflare",
    "target: b'/?'": "the target is what the client sent; hypercorn does not keep that there was a query, an empty one",
    "bad chunks: 21 digits": "zeros before a size are in the grammar, and llhttp notices an overflow",
    "empty lines": "a server ignores an empty line before a request (RFC 9112, 2.2)",
    "connection: close": "what follows a request that closes is not read; hypercorn may refuse it before it answers",
    "connection: Close": "as above",
    "connection: keep-alive and close": "as above",
    "connection: 1.0": "as above; and clients of HTTP/1.0 may keep connections (RFC 9112, C.2.2)",
}
"""Where the loop serves more than hypercorn does, and why that is right."""
